// The part of LedgerState that has to do with budgets, commitments and idempotency keys.
#include <algorithm>
#include <limits>

#include "core/check.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::storage {
namespace {

// A duplicate changes nothing: success without an entry.
Applied outcome_of(std::optional<LedgerError> error) {
  if (!error) return {};
  if (*error == LedgerError::duplicate) return {Outcome::duplicate, {}, {}};
  return refused(*error);
}

bool short_enough(const std::string& text) { return text.size() <= text_bytes_max; }

__int128 tokens_of(const Usage& usage) {
  __int128 tokens = 0;
  for (const UsageBucket& bucket : usage_buckets) tokens += usage.*bucket.member;
  return tokens;
}

}  // namespace

const SpendPlan* LedgerState::plan_of(const Reservation& reservation) {
  if (budgets_.size() == 0 && commitments_.size() == 0) return nullptr;
  return &planner_.plan(cache_.payer_of(reservation).plans, reservation);
}

Applied LedgerState::exhausted(BudgetAccount& budget, PicoUsd needed) {
  short_budget_ = &budget;
  short_amount_ = needed;
  return refused(LedgerError::budget_exhausted);
}

BudgetShortfall LedgerState::shortfall() const {
  check(short_budget_ != nullptr, "a budget was exhausted");
  const BudgetStatus& status = short_budget_->status;
  const Budget& budget = status.budget;
  return {budget.id,     budget.name.empty() ? budget.scope.to_string() : budget.name,
          budget.amount, status.left(),
          short_amount_, budget.period,
          status.period_end_ms};
}

void LedgerState::hold_funds(Open& open, const Reservation& reservation, const SpendPlan& plan,
                             std::int64_t time_ms) {
  open.budgets.reserve(plan.budgets.size());
  for (BudgetAccount* budget : plan.budgets) {
    open.budgets.push_back(budgets_.hold(*budget, {open.holder, open.amount, reservation.from_slices}));
  }
  if (plan.commitments.empty()) return;
  const __int128 tokens = static_cast<__int128>(open.input_tokens_max) + open.output_tokens_max;
  commitments_.hold(open.commitments, plan.commitments, open.amount, tokens, time_ms);
}

Result<RowCache::Leg*> LedgerState::fund(Open& open, const proto::EntryHeader& header,
                                         const AttemptLine& attempt, bool charged) {
  RowCache::Leg& leg = cache_.leg_of(attempt);
  if (leg.commitments_version != commitments_.version()) {
    leg.commitments_version = commitments_.version();
    leg.commitments.clear();
    commitments_.match(leg.provider, leg.model, leg.commitments);
  }
  FundingChain chain{attempt.cost, attempt.cost, {}, {}};
  if (!leg.commitments.empty()) {
    chain = commitments_.draw(open.commitments, leg.commitments, attempt.cost,
                              tokens_of(attempt.usage), header.time_ms);
  }
  check(chain.balanced(), "the chain of an attempt sums to zero");
  chain_ = chain;
  for (BudgetHold& hold : open.budgets) budgets_.charge(hold, open.amount, attempt);
  if (charged) return &leg;
  if (Result<void> paid = cache_.charge(*open.payer, leg, chain.cost, chain.on_demand); !paid)
    return fail(std::move(paid.error()));
  return &leg;
}

void LedgerState::release_funds(Open& open) {
  for (BudgetHold& hold : open.budgets) budgets_.release(hold, open.amount, open.holder);
  open.budgets.clear();
  commitments_.release(open.commitments);
}

Result<void> LedgerState::extend(Open& open, const proto::EntryHeader& header,
                                 const ReservationExtension& extension, bool charged) {
  open.extensions.push_back({extension.number, header.index});
  if (open.row == RowState::current) open.row = RowState::stale;
  for (BudgetHold& hold : open.budgets) {
    budgets_.hold_more(hold, {open.holder, extension.amount, extension.from_slices});
  }
  commitments_.hold_more(open.commitments, extension.amount, extension.output_tokens,
                         header.time_ms);
  open.amount += extension.amount;
  if (__builtin_add_overflow(open.output_tokens_max, extension.output_tokens,
                             &open.output_tokens_max)) {
    open.output_tokens_max = std::numeric_limits<std::uint64_t>::max();
  }
  return charged ? Result<void>() : cache_.hold(*open.payer, extension.amount);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const ReservationExtension& operation) {
  const auto at = open_.find(operation.request_id);
  if (at == open_.end()) {
    const Result<std::optional<DedupRow>> ended = find_ended(operation.request_id);
    if (!ended) return fail(ended.error());
    return refused(ended->has_value() ? LedgerError::already_ended : LedgerError::unknown_request);
  }
  Open& open = at->second;
  for (const AttemptRef& extension : open.extensions) {
    if (extension.number != operation.number) continue;
    const Result<std::optional<proto::EntryBody>> body = entry_at(extension.index);
    if (!body) return fail(body.error());
    const auto* const first =
        body->has_value() ? std::get_if<ReservationExtension>(&**body) : nullptr;
    if (first == nullptr)
      return fail(LedgerError::corrupt, "entry " + std::to_string(extension.index) +
                                            " is missing or cannot be read");
    return *first == operation ? Applied{Outcome::duplicate, {}, {}}
                               : refused(LedgerError::duplicate);
  }
  if (operation.amount.value < 0 || operation.amount > amount_max - open.amount ||
      operation.number == 0 || open.extensions.size() == extensions_per_request_max) {
    return refused(LedgerError::invalid);
  }
  BudgetAccount* const budget = BudgetState::short_of(
      open.budgets, {open.holder, operation.amount, operation.from_slices});
  if (budget != nullptr) return exhausted(*budget, operation.amount);
  if (const Result<void> extended = extend(open, header, operation, false); !extended)
    return fail(extended.error());
  return Applied{};
}

Result<std::optional<LedgerError>> LedgerState::key_used(const proto::EntryHeader& header,
                                                         const Reservation& operation) const {
  const std::string_view key = idempotency_key(operation.idempotency->key);
  IdempotencyRow row;
  if (const auto at = batch_keys_.find(std::string(key)); at != batch_keys_.end()) {
    row = at->second;
  } else {
    std::string value;
    const Result<bool> found = view_.get(Table::idempotency, key, value);
    if (!found) return fail(found.error());
    if (!*found) return std::nullopt;
    if (!decode(value, row))
      return fail(LedgerError::corrupt, "the row of an idempotency key cannot be read");
  }
  if (row.request_id.unix_ms() < header.time_ms - dedup_age_ms_max) return std::nullopt;
  if (row.parameters != operation.idempotency->parameters) return LedgerError::mismatch;
  return open_.contains(row.request_id) ? LedgerError::in_progress : LedgerError::duplicate;
}

void LedgerState::remember_key(const proto::EntryHeader& header, const Reservation& operation) {
  const IdempotencyRow row{operation.request_id, operation.idempotency->parameters, header.index};
  const std::string_view key = idempotency_key(operation.idempotency->key);
  row_.clear();
  encode(row_, row);
  changes_.put(Table::idempotency, key, row_);
  batch_keys_.insert_or_assign(std::string(key), row);
}

// The budget, or its slice, may end: rows of open reservations that hold of it say what is past.
void LedgerState::expect_new_rows(std::string_view budget_id) {
  const BudgetAccount* const budget = budgets_.find(budget_id);
  if (budget == nullptr || budget->open == 0) return;
  for (auto& [id, open] : open_) {
    const bool holds = std::any_of(open.budgets.begin(), open.budgets.end(),
                                   [budget](const BudgetHold& hold) { return hold.budget == budget; });
    if (holds && open.row == RowState::current) open.row = RowState::stale;
  }
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::BudgetSet& operation) {
  if (!short_enough(operation.by)) return refused(LedgerError::invalid);
  if (operation.budget.soft) expect_new_rows(operation.budget.id);
  return outcome_of(budgets_.set(operation, header.time_ms));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::BudgetRemoved& operation) {
  if (!short_enough(operation.by)) return refused(LedgerError::invalid);
  expect_new_rows(operation.id);
  return outcome_of(budgets_.remove(operation));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::BudgetRolled& operation) {
  return outcome_of(budgets_.roll(operation, header.time_ms));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::SliceGranted& operation) {
  if (holders_.has_ended(operation.holder)) return refused(LedgerError::unknown_holder);
  return outcome_of(budgets_.grant(operation, header.index));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::SliceReturned& operation) {
  if (holders_.has_ended(operation.holder)) return refused(LedgerError::unknown_holder);
  return outcome_of(budgets_.take_back(operation));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::CommitmentAdded& operation) {
  if (!short_enough(operation.by)) return refused(LedgerError::invalid);
  const std::optional<LedgerError> error = commitments_.add(operation);
  if (error == LedgerError::duplicate && !commitments_.stands(operation))
    return refused(LedgerError::duplicate);
  return outcome_of(error);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::AllotmentGranted& operation) {
  return outcome_of(operation.commitment ? commitments_.grant(operation, header.index)
                                         : budgets_.grant(operation, header.index));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::AllotmentReturned& operation) {
  return outcome_of(operation.commitment ? commitments_.take_back(operation)
                                         : budgets_.take_back(operation));
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::CommitmentEnded& operation) {
  if (!short_enough(operation.by)) return refused(LedgerError::invalid);
  return outcome_of(commitments_.end(operation));
}

}  // namespace outlast::storage
