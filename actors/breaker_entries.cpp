#include "actors/breaker_entries.hpp"

#include <algorithm>
#include <variant>

namespace outlast::actors {
namespace {

const std::string& id_of(const BreakerOperation& operation) {
  if (const auto* trip = std::get_if<BreakerTripped>(&operation)) return trip->id;
  if (const auto* reset = std::get_if<BreakerReset>(&operation)) return reset->id;
  return std::get<BreakerRuleChange>(operation).name;
}

}  // namespace

void BreakerEntries::restore(const std::vector<BreakerRecord>& open, std::int64_t wall_ms, std::int64_t now_ms) {
  for (const BreakerRecord& record : open) {
    open_[record.trip.id] = record;
    const std::int64_t age_ms = std::max<std::int64_t>(0, wall_ms - record.tripped_ms);
    if (age_ms < tell_wait_ms) keep({"tripped", record.trip, {}, {}, record.tripped_ms}, now_ms - age_ms);
  }
}

void BreakerEntries::changed(BreakerChange change, std::int64_t now_ms) {
  const std::string id = id_of(change.operation);
  waiting_.insert_or_assign(id, Waiting{std::move(change), now_ms + record_wait_ms});
}

void BreakerEntries::not_recorded(BreakerChange change, std::int64_t now_ms) {
  const std::string id = id_of(change.operation);
  const bool opens = std::holds_alternative<BreakerTripped>(change.operation);
  if (opens == open_.contains(id)) return;
  waiting_.try_emplace(id, Waiting{std::move(change), now_ms + retry_ms, true});
}

std::vector<BreakerChange> BreakerEntries::due(bool leads, std::int64_t now_ms) {
  std::vector<BreakerChange> due;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if ((!leads || at->second.again) && at->second.due_ms > now_ms) {
      ++at;
      continue;
    }
    due.push_back(std::move(at->second.change));
    at = waiting_.erase(at);
  }
  return due;
}

std::optional<BreakerChange> BreakerEntries::take(const std::string& id) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return std::nullopt;
  BreakerChange change = std::move(found->second.change);
  waiting_.erase(found);
  return change;
}

bool BreakerEntries::entered(const BreakerEntry& entry, std::uint32_t half_open_after_s, std::int64_t now_ms) {
  if (std::holds_alternative<BreakerRuleChange>(entry.operation)) return true;
  const std::string& id = id_of(entry.operation);
  waiting_.erase(id);
  const auto known = open_.find(id);
  if (const auto* trip = std::get_if<BreakerTripped>(&entry.operation)) {
    // Open already: it was tried half-open meanwhile and tripped again, or a second node recorded the same trip. The
    // first comes no sooner than its time, but for the moments that entries took; the second within seconds.
    const std::int64_t tried_ms = std::int64_t{half_open_after_s} * 1'000 / 2;
    if (known != open_.end()) {
      const bool tried = tried_ms > 0 && entry.time_ms - known->second.tripped_ms >= tried_ms;
      if (!tried) return false;
    }
    open_[id] = {*trip, entry.time_ms};
    keep({"tripped", *trip, {}, {}, entry.time_ms}, now_ms);
    return true;
  }
  if (known == open_.end()) return false;  // what restore() read tells it already
  const auto& reset = std::get<BreakerReset>(entry.operation);
  const std::string_view event = reset.by == closed_by_itself ? "closed" : "reset";
  keep({event, std::move(known->second.trip), reset.by, reset.reason, entry.time_ms}, now_ms);
  open_.erase(known);
  return true;
}

void BreakerEntries::told(const std::string& delivery) {
  if (told_.size() == untold_max) told_.pop_front();
  told_.push_back(delivery);
  std::erase_if(untold_, [&delivery](const Untold& untold) { return untold.event.id() == delivery; });
}

void BreakerEntries::keep(BreakerEvent event, std::int64_t since_ms) {
  if (std::find(told_.begin(), told_.end(), event.id()) != told_.end()) return;
  if (untold_.size() == untold_max) untold_.pop_front();
  untold_.push_back({std::move(event), since_ms});
}

std::vector<BreakerEvent> BreakerEntries::to_tell(bool leads, std::int64_t now_ms) {
  std::vector<BreakerEvent> events;
  std::erase_if(untold_, [now_ms](const Untold& untold) { return now_ms - untold.since_ms > tell_wait_ms; });
  if (!leads) return events;
  for (Untold& untold : untold_) events.push_back(std::move(untold.event));
  untold_.clear();
  return events;
}

std::optional<std::int64_t> BreakerEntries::next_due_ms() const {
  std::optional<std::int64_t> due;
  for (const auto& [id, waiting] : waiting_) due = due ? std::min(*due, waiting.due_ms) : waiting.due_ms;
  return due;
}

}  // namespace outlast::actors
