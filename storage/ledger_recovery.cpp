// The part of LedgerState that has to do with restarts: rows of open reservations, replay, and what
// is in doubt.
#include <algorithm>

#include "core/check.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::storage {
namespace {

template <class T, class... Others>
constexpr bool one_of = (std::is_same_v<T, Others> || ...);

}  // namespace

void LedgerState::restore(const OpenRow& row) {
  const Result<Open*> begun =
      begin(row.reservation, {1, row.reserve_index, 0}, nullptr, true);
  check(begun.has_value(), "what is charged already reads nothing");
  Open& open = **begun;
  open.attempts_cost = row.attempts_cost;
  open.attempts = row.attempts;
  open.extensions = row.extensions;
  open.row = RowState::current;
  for (const OpenRow::BudgetHold& hold : row.budgets) {
    BudgetAccount* const budget = budgets_.restore_hold(hold.budget);
    if (budget == nullptr) continue;
    const SliceAccount* const slice = BudgetState::slice_of(*budget, open.holder);
    open.budgets.push_back(
        {budget, hold.from_slice, hold.charged, slice == nullptr ? 0 : slice->opened});
  }
  for (const OpenRow::CommitmentHold& hold : row.commitments) {
    CommitmentAccount* const commitment = commitments_.find(hold.commitment);
    if (commitment != nullptr) open.commitments.push_back({commitment, hold.units});
  }
}

bool LedgerState::restore_standing(std::string_view key, std::string_view value) {
  switch (key.empty() ? '\0' : key.front()) {
    case key_prefix: {
      VirtualKey row;
      if (!decode(value, row)) return false;
      std::string id = row.id;
      keys_.emplace(std::move(id), std::move(row));
      return true;
    }
    case breaker_prefix: return breakers_.restore(key, value);
    case member_prefix: return nodes_.restore(key, value);
    default: return false;
  }
}

// An operation on a reservation that is not open here is older than the checkpoint, and the
// reservation ended since.
Result<void> LedgerState::replay(const proto::LedgerEntry& entry, bool charged) {
  const proto::EntryHeader& header = entry.header;
  if (const auto* reservation = std::get_if<Reservation>(&entry.body)) {
    if (Result<Open*> open = begin(*reservation, header, plan_of(*reservation), charged); !open)
      return fail(std::move(open.error()));
  } else if (const auto* extension = std::get_if<ReservationExtension>(&entry.body)) {
    const auto at = open_.find(extension->request_id);
    if (at != open_.end()) return extend(at->second, header, *extension, charged);
  } else if (const auto* attempt = std::get_if<AttemptLine>(&entry.body)) {
    const auto at = open_.find(attempt->request_id);
    if (at != open_.end()) return take_attempt(at->second, header, *attempt, charged);
  } else if (const auto* settled = std::get_if<proto::Settled>(&entry.body)) {
    const auto at = open_.find(settled->settlement.attempt.request_id);
    if (at == open_.end()) return {};
    Result<PicoUsd> overrun = settle(at, header, settled->settlement.attempt, charged);
    if (!overrun) return fail(std::move(overrun.error()));
    forget(at);
  } else if (const auto* voided = std::get_if<proto::Voided>(&entry.body)) {
    const auto at = open_.find(voided->reservation.request_id);
    if (at == open_.end()) return {};
    Result<PicoUsd> overrun = release(at, header, charged);
    if (!overrun) return fail(std::move(overrun.error()));
    forget(at);
  } else {
    return replay_money(entry);
  }
  return {};
}

// What changes budgets, slices, holders, commitments and allotments, whose rows are as of where the replay starts.
Result<void> LedgerState::replay_money(const proto::LedgerEntry& entry) {
  return std::visit(
      [this, &entry]<class Body>(const Body& body) -> Result<void> {
        if constexpr (one_of<Body, proto::IncarnationStarted, proto::BudgetSet,
                             proto::BudgetRemoved, proto::BudgetRolled, proto::SliceGranted,
                             proto::SliceReturned, proto::CommitmentAdded,
                             proto::CommitmentEnded, proto::HolderEnded,
                             proto::AllotmentGranted, proto::AllotmentReturned>) {
          const Result<Applied> applied = apply(entry.header, body);
          if (!applied) return fail(applied.error());
          if (applied->outcome != Outcome::applied) {
            return fail(LedgerError::corrupt,
                        "entry " + std::to_string(entry.header.index) +
                            " does not follow from the rows and entries before it");
          }
        }
        return {};
      },
      entry.body);
}

OpenRow LedgerState::row_of(const RequestId& id, const Open& open) const {
  OpenRow row;
  row.reserve_index = open.reserve_index;
  row.reservation = {
      id,          open.payer->tenant, open.payer->key_id,    open.payer->route,
      open.amount, open.price_known,   open.input_tokens_max, open.output_tokens_max};
  row.reservation.holder = open.holder;
  if (open.labels != nullptr) {
    row.reservation.tags = open.labels->tags;
    row.reservation.session = open.labels->session;
  }
  row.attempts_cost = open.attempts_cost;
  row.attempts = open.attempts;
  row.extensions = open.extensions;
  for (const BudgetHold& hold : open.budgets) {
    if (hold.budget->removed) continue;
    row.budgets.push_back(
        {hold.budget->status.budget.id, hold.live_slice(open.holder), hold.charged});
  }
  for (const CommitmentHold& hold : open.commitments) {
    row.commitments.push_back({hold.commitment->status.commitment.id, hold.units});
  }
  return row;
}

void LedgerState::checkpoint() {
  for (auto& [id, open] : open_) {
    if (open.row == RowState::current) continue;
    row_.clear();
    encode(row_, row_of(id, open));
    changes_.put(Table::meta, open_key(id), row_);
    open.row = RowState::current;
  }
}

void LedgerState::copy_rows(TableChanges& changes) {
  changes_.for_each([&changes](Table table, std::string_view key, std::string_view value) {
    if (value.data() == nullptr) changes.erase(table, key);
    else changes.put(table, key, value);
  });
  cache_.copy_changed(changes);
  budgets_.copy_rows(changes);
  commitments_.copy_rows(changes);
  holders_.copy_rows(changes);
  for (const auto& [id, open] : open_) {
    row_.clear();
    encode(row_, row_of(id, open));
    changes.put(Table::meta, open_key(id), row_);
  }
}

PicoUsd LedgerState::open_amount() const {
  PicoUsd sum;
  for (const auto& [id, open] : open_) sum += open.amount;
  return sum;
}

std::map<std::string, __int128> LedgerState::budget_holds() const {
  std::map<std::string, __int128> holds;
  for (const auto& [id, open] : open_) {
    for (const BudgetHold& hold : open.budgets) {
      if (hold.budget->removed) continue;
      holds[hold.budget->status.budget.id] += open.amount.value - hold.charged.value;
    }
  }
  return holds;
}

std::map<std::string, __int128> LedgerState::commitment_holds() const {
  std::map<std::string, __int128> holds;
  for (const auto& [id, open] : open_) {
    for (const CommitmentHold& hold : open.commitments) {
      if (hold.units != 0) holds[hold.commitment->status.commitment.id] += hold.units;
    }
  }
  return holds;
}

Settlement LedgerState::in_doubt(const RequestId& id, const Open& open) const {
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
  return {std::move(line)};
}

// Null: of all.
std::vector<Settlement> LedgerState::in_doubt_of(const Incarnation* holder) const {
  std::vector<std::pair<std::uint64_t, const OpenMap::value_type*>> order;
  for (const auto& entry : open_) {
    if (holder == nullptr || entry.second.holder == *holder)
      order.emplace_back(entry.second.reserve_index, &entry);
  }
  std::sort(order.begin(), order.end());
  std::vector<Settlement> settlements;
  settlements.reserve(order.size());
  for (const auto& [index, entry] : order)
    settlements.push_back(in_doubt(entry->first, entry->second));
  return settlements;
}

std::vector<Settlement> LedgerState::in_doubt() const { return in_doubt_of(nullptr); }

std::vector<Settlement> LedgerState::in_doubt(const Incarnation& holder) const {
  return in_doubt_of(&holder);
}

}  // namespace outlast::storage
