#include "actors/ledger_meter.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/log.hpp"

namespace outlast::actors {

namespace asio = boost::asio;

namespace {

// What the caller is told, and a log would only repeat for each request of a used-up budget.
bool is_callers(const Error& error) {
  using storage::LedgerError;
  return is(error, LedgerError::budget_exhausted) || is(error, LedgerError::in_progress) ||
         is(error, LedgerError::mismatch) || is(error, LedgerError::duplicate);
}

}  // namespace

LedgerMeter::LedgerMeter(asio::io_context& context, storage::LedgerStore& ledger)
    : context_(context), shared_(std::make_shared<Shared>(ledger.ticket_groups())) {
  shared_->owner = this;
  const auto on_durable = [shared = shared_](std::uint64_t ticket) {
    shared->durable[storage::ticket_group(ticket)].store(ticket, std::memory_order_release);
    if (shared->wake_pending.exchange(true)) return;
    const std::lock_guard lock(shared->mutex);
    if (shared->owner == nullptr) return;
    asio::post(shared->owner->context_, [shared] {
      shared->wake_pending.exchange(false);  // sees every ticket whose committer saw it pending
      if (shared->owner != nullptr) shared->owner->wake();
    });
  };
  const auto on_refused = [shared = shared_](std::uint64_t ticket, const storage::Refused& refusal) {
    if (!is_callers(refusal.error)) log::warning("ledger_refused", {{"ticket", ticket}, {"error", refusal.error.message}});
    const std::lock_guard lock(shared->mutex);
    shared->any_refused.store(true, std::memory_order_relaxed);  // `durable` publishes it
    shared->refused.emplace(ticket, refusal);
    shared->refused_order.push_back(ticket);
    if (shared->refused_order.size() <= refusals_max) return;
    const std::uint64_t oldest = shared->refused_order.front();
    shared->refused_order.pop_front();
    if (shared->refused.erase(oldest) > 0) shared->forgotten[storage::ticket_group(oldest)] = oldest;
  };
  submitter_ = ledger.make_submitter(on_durable, on_refused);
}

LedgerMeter::~LedgerMeter() {
  const std::lock_guard lock(shared_->mutex);
  shared_->owner = nullptr;
}

Result<std::uint64_t> LedgerMeter::submit(MeteringOperation operation, bool urgent) {
  return submitter_->submit(std::move(operation), urgent);
}

bool LedgerMeter::is_durable(std::uint64_t ticket) const {
  if (!shared_->is_durable(ticket)) return false;
  if (!shared_->any_refused.load(std::memory_order_relaxed)) return true;
  const std::lock_guard lock(shared_->mutex);
  return !shared_->is_forgotten(ticket) && !shared_->refused.contains(ticket);
}

asio::awaitable<Result<void>> LedgerMeter::durable(std::uint64_t ticket) {
  if (!shared_->is_durable(ticket)) {
    submitter_->hasten();
    auto initiate = [this, ticket](auto handler) {
      struct Typed final : Waiter {
        Typed(std::uint64_t awaited, decltype(handler) waiting) : Waiter(awaited), completion(std::move(waiting)) {}
        void complete() override { completion(); }
        decltype(handler) completion;
      };
      auto waiter = std::make_unique<Typed>(ticket, std::move(handler));
      const auto place = std::upper_bound(waiters_.begin(), waiters_.end(), ticket,
                                          [](std::uint64_t value, const auto& other) { return value < other->ticket; });
      waiters_.insert(place, std::move(waiter));
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(initiate, asio::use_awaitable);
  }
  if (!shared_->any_refused.load(std::memory_order_relaxed)) co_return Result<void>{};
  const std::lock_guard lock(shared_->mutex);
  const auto refused = shared_->refused.find(ticket);
  if (refused == shared_->refused.end()) {
    if (!shared_->is_forgotten(ticket)) co_return Result<void>{};
    co_return fail(storage::LedgerError::overloaded, "the ledger refused more than the lane can remember");
  }
  told_ = std::move(refused->second);
  told_ticket_ = ticket;
  shared_->refused.erase(refused);
  co_return fail(told_.error);
}

gateway::MeterRefusal LedgerMeter::refusal(std::uint64_t ticket) const {
  using gateway::RefusalKind;
  using storage::LedgerError;
  if (ticket != told_ticket_) return {};
  constexpr std::pair<LedgerError, RefusalKind> kinds[] = {
      {LedgerError::budget_exhausted, RefusalKind::budget_exhausted},
      {LedgerError::in_progress, RefusalKind::key_in_progress},
      {LedgerError::duplicate, RefusalKind::key_used},
      {LedgerError::mismatch, RefusalKind::key_mismatch}};
  for (const auto& [error, kind] : kinds) {
    if (is(told_.error, error)) return {kind, told_.shortfall};
  }
  return {};
}

void LedgerMeter::wake() {
  const auto waits = [this](const auto& waiter) { return !shared_->is_durable(waiter->ticket); };
  // Out of the list first: who is completed may wait again.
  const auto done = std::stable_partition(waiters_.begin(), waiters_.end(), waits);
  std::vector<std::unique_ptr<Waiter>> woken(std::make_move_iterator(done), std::make_move_iterator(waiters_.end()));
  waiters_.erase(done, waiters_.end());
  for (const auto& waiter : woken) waiter->complete();
}

}  // namespace outlast::actors
