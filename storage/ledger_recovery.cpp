// The part of LedgerState that has to do with restarts: rows of open reservations, replay, and what
// is in doubt.
#include <algorithm>

#include "core/check.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::storage {

void LedgerState::restore(const OpenRow& row) {
  const Result<Open*> open = begin(row.reservation, row.reserve_index, true);
  check(open.has_value(), "what is charged already reads nothing");
  (*open)->attempts_cost = row.attempts_cost;
  (*open)->attempts = row.attempts;
  (*open)->row = RowState::current;
}

void LedgerState::restore(VirtualKey key) {
  std::string id = key.id;
  keys_.emplace(std::move(id), std::move(key));
}

// An operation on a reservation that is not open here is older than the checkpoint, and the
// reservation ended since.
Result<void> LedgerState::replay(const proto::LedgerEntry& entry, bool charged) {
  const proto::EntryHeader& header = entry.header;
  if (const auto* reservation = std::get_if<Reservation>(&entry.body)) {
    if (Result<Open*> open = begin(*reservation, header.index, charged); !open)
      return fail(std::move(open.error()));
  } else if (const auto* attempt = std::get_if<AttemptLine>(&entry.body)) {
    const auto at = open_.find(attempt->request_id);
    if (at != open_.end()) return take_attempt(at->second, header, *attempt, charged);
  } else if (const auto* settled = std::get_if<proto::Settled>(&entry.body)) {
    const auto at = open_.find(settled->settlement.attempt.request_id);
    if (at == open_.end()) return {};
    Result<PicoUsd> overrun = charged ? PicoUsd{} : settle(at, header, settled->settlement.attempt);
    if (!overrun) return fail(std::move(overrun.error()));
    forget(at);
  } else if (const auto* voided = std::get_if<proto::Voided>(&entry.body)) {
    const auto at = open_.find(voided->reservation.request_id);
    if (at == open_.end()) return {};
    Result<PicoUsd> overrun = charged ? PicoUsd{} : release(at, header);
    if (!overrun) return fail(std::move(overrun.error()));
    forget(at);
  }
  return {};
}

void LedgerState::checkpoint() {
  for (auto& [id, open] : open_) {
    if (open.row == RowState::current) continue;
    OpenRow row;
    row.reserve_index = open.reserve_index;
    row.reservation = {
        id,          open.payer->tenant, open.payer->key_id,    open.payer->route,
        open.amount, open.price_known,   open.input_tokens_max, open.output_tokens_max};
    if (open.labels != nullptr) {
      row.reservation.tags = open.labels->tags;
      row.reservation.session = open.labels->session;
    }
    row.attempts_cost = open.attempts_cost;
    row.attempts = open.attempts;
    row_.clear();
    encode(row_, row);
    changes_.put(Table::meta, open_key(id), row_);
    open.row = RowState::current;
  }
}

PicoUsd LedgerState::open_amount() const {
  PicoUsd sum;
  for (const auto& [id, open] : open_) sum += open.amount;
  return sum;
}

std::vector<Settlement> LedgerState::in_doubt() const {
  std::vector<std::pair<std::uint64_t, const OpenMap::value_type*>> order;
  order.reserve(open_.size());
  for (const auto& entry : open_) order.emplace_back(entry.second.reserve_index, &entry);
  std::sort(order.begin(), order.end());
  std::vector<Settlement> settlements;
  settlements.reserve(order.size());
  for (const auto& [index, entry] : order) {
    const auto& [id, open] = *entry;
    AttemptLine line;
    line.request_id = id;
    for (const AttemptRef& attempt : open.attempts)
      line.number = std::max(line.number, attempt.number);
    ++line.number;
    line.status = AttemptStatus::in_doubt;
    line.usage.input_uncached = open.input_tokens_max;
    line.usage.output_text = open.output_tokens_max;
    line.usage.source = UsageSource::estimated;
    line.price_known = open.price_known;
    if (open.amount > open.attempts_cost) line.cost = open.amount - open.attempts_cost;
    settlements.push_back({std::move(line)});
  }
  return settlements;
}

}  // namespace outlast::storage
