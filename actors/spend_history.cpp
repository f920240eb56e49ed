#include "actors/spend_history.hpp"

#include <algorithm>

namespace outlast::actors {

// An entry of the future (the clock was set back) is of now, one of long ago of the beginning.
std::int64_t SpendHistory::time_of(const storage::StoredEntry& entry) const {
  return std::clamp<std::int64_t>(entry.header.time_ms + offset_ms_, 0, now_ms_);
}

std::optional<gateway::SpendEvent> SpendHistory::read(const storage::StoredEntry& entry) {
  if (const auto* reservation = std::get_if<Reservation>(&entry.body)) {
    auto& key = keys_[reservation->key_id];
    if (!key) {
      auto made = std::make_shared<VirtualKey>();
      made->id = reservation->key_id;
      made->tenant = reservation->tenant;
      key = std::move(made);
    }
    open_[reservation->request_id] = {key, reservation->tags, reservation->session, time_of(entry)};
  } else if (const auto* attempt = std::get_if<AttemptLine>(&entry.body)) {
    return paid(entry, *attempt, false);
  } else if (const auto* settled = std::get_if<proto::Settled>(&entry.body)) {
    return paid(entry, settled->settlement.attempt, true);
  } else if (const auto* voided = std::get_if<proto::Voided>(&entry.body)) {
    open_.erase(voided->reservation.request_id);
  }
  return std::nullopt;
}

std::optional<gateway::SpendEvent> SpendHistory::paid(const storage::StoredEntry& entry, const AttemptLine& attempt,
                                                      bool ended) {
  const auto found = open_.find(attempt.request_id);
  if (found == open_.end()) return std::nullopt;
  gateway::SpendEvent event;
  event.key = found->second.key;
  event.tags = found->second.tags;
  event.session = found->second.session;
  event.provider = attempt.provider;
  event.model = attempt.model;
  event.cost = attempt.cost;
  event.started_ms = found->second.started_ms;
  event.time_ms = time_of(entry);
  event.ended = ended;
  if (ended) open_.erase(found);
  return event;
}

}  // namespace outlast::actors
