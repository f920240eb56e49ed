// The part of ShardOwner that has to do with reservations that are short: they wait while other holders are asked for what
// their slices have left.
#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/shard_owner.hpp"
#include "core/check.hpp"
#include "storage/ledger_error_text.hpp"

namespace outlast::cluster {

using storage::Applied;
using storage::BudgetAccount;
using storage::LedgerError;
using storage::Outcome;

std::int64_t ShardOwner::next_wake_ns() const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  for (const auto& [budget, round] : rounds_) next = std::min(next, round.deadline_ns);
  for (const auto& [id, waiting] : waiting_) next = std::min(next, waiting.deadline_ns);
  return std::min({next, allotments_.next_wake_ns(), parts_.next_wake_ns()});
}

bool ShardOwner::may_get_room(const std::string& budget, PicoUsd short_by) {
  const BudgetAccount* const account = writer_.state().budgets().find(budget);
  if (account == nullptr) return false;
  const bool holders = ask_holders(budget);
  const bool shards = account->status.away ? parts_.ask(budget, short_by.value) : allotments_.recall(budget, short_by.value);
  urgent_ = urgent_ || shards;
  return holders || shards;
}

bool ShardOwner::is_asking(const std::string& budget) const {
  return rounds_.contains(budget) || allotments_.is_recalling(budget) || parts_.is_asking(budget);
}

// Other shards ask their own holders first.
std::int64_t ShardOwner::wait_ns(const std::string& budget) const {
  const BudgetAccount* const account = writer_.state().budgets().find(budget);
  const bool crosses = account != nullptr && (account->status.away || !account->allotments.empty());
  return crosses ? allotment_wait_ns : std::int64_t{options_.recall_ms} * 1'000'000;
}

// Whether somebody is being asked, or can be, for slices of the budget.
bool ShardOwner::ask_holders(const std::string& budget) {
  const auto at = rounds_.find(budget);
  if (at != rounds_.end() && !at->second.unanswered.empty()) return true;
  const BudgetAccount* const account = writer_.state().budgets().find(budget);
  if (account == nullptr) return false;
  Round round;
  for (const auto& [holder, slice] : account->slices) {
    if (slice.left.value > 0 && !silent_.contains(holder)) round.unanswered.insert(holder);
  }
  if (round.unanswered.empty()) return false;
  round.to_ask = round.unanswered;
  round.number = next_recall_++;
  round.deadline_ns = clock_.monotonic_ns() + std::int64_t{options_.recall_ms} * 1'000'000;
  rounds_.insert_or_assign(budget, std::move(round));
  urgent_ = true;
  return true;
}

// What the pool lacks for it.
PicoUsd ShardOwner::short_by(const BudgetShortfall& shortfall) const {
  const BudgetAccount* const account = writer_.state().budgets().find(shortfall.budget_id);
  return account == nullptr ? shortfall.needed : shortfall.needed - account->pool();
}

bool ShardOwner::may_wait(const HolderSession& session, const proto::EntryBody& body, const Applied& applied) {
  const bool asks = std::holds_alternative<Reservation>(body) || std::holds_alternative<ReservationExtension>(body);
  if (!asks || applied.error != LedgerError::budget_exhausted || waiting_.size() >= options_.waiting_max ||
      session.waiting() >= shard::waiting_max) {
    return false;
  }
  const BudgetShortfall shortfall = writer_.state().shortfall();
  return may_get_room(shortfall.budget_id, short_by(shortfall));
}

void ShardOwner::end_rounds() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto at = rounds_.begin(); at != rounds_.end();) {
    Round& round = at->second;
    const bool late = now_ns >= round.deadline_ns;
    if (late) silent_.insert(round.unanswered.begin(), round.unanswered.end());
    at = late || round.unanswered.empty() ? rounds_.erase(at) : std::next(at);
  }
}

void ShardOwner::forget_waiting(WaitingMap::iterator at) {
  waiting_requests_.erase(at->second.request);
  waiting_.erase(at);
}

void ShardOwner::drop_waiting(const Incarnation& holder) {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto next = std::next(at);
    if (at->second.holder == holder) forget_waiting(at);
    at = next;
  }
}

Result<void> ShardOwner::decide_waiting_of(const RequestId& request) {
  const auto at = waiting_requests_.find(request);
  if (at == waiting_requests_.end()) return {};
  return decide(at->second, true);
}

Result<void> ShardOwner::decide_waiting() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  std::vector<std::uint64_t> due;
  for (const auto& [id, waiting] : waiting_) {
    const BudgetAccount* const budget = writer_.state().budgets().find(waiting.shortfall.budget_id);
    const bool room =
        budget == nullptr || budget->status.budget.soft || budget->pool() >= waiting.shortfall.needed;
    const bool hopeless = !is_asking(waiting.shortfall.budget_id);
    if (room || hopeless || now_ns >= waiting.deadline_ns) due.push_back(id);
  }
  for (const std::uint64_t id : due) {
    if (Result<void> decided = decide(id, now_ns >= waiting_.at(id).deadline_ns); !decided) return decided;
  }
  return {};
}

Result<void> ShardOwner::decide(std::uint64_t id, bool last_try) {
  const auto at = waiting_.find(id);
  Waiting& waiting = at->second;
  const Result<Applied> applied = writer_.add(waiting.body);
  if (!applied) return fail(applied.error());
  const bool refused = applied->outcome == Outcome::refused;
  std::optional<BudgetShortfall> shortfall;
  if (refused && applied->error == LedgerError::budget_exhausted) {
    shortfall = writer_.state().shortfall();
    if (!last_try && may_get_room(shortfall->budget_id, short_by(*shortfall))) {
      waiting.deadline_ns = std::max(waiting.deadline_ns, waiting.since_ns + wait_ns(shortfall->budget_id));
      waiting.shortfall = std::move(*shortfall);
      return {};
    }
  }
  const auto session = sessions_.find(waiting.holder);
  check(session != sessions_.end(), "who waits was heard");
  if (refused) {
    ++counters_.refused;
    session->second.refuse(waiting.sequence, applied->error, text_of(applied->error), std::move(shortfall));
  }
  session->second.decided(waiting.sequence);
  due_.insert(waiting.holder);
  forget_waiting(at);
  return {};
}

}  // namespace outlast::cluster
