// LedgerMeter: a lane's Meter on the ledger's committer. The lane submits without waiting; the committer wakes it once
// per durable batch. Owned by the lane; only the two call-backs run on the committer's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/seams.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::actors {

class LedgerMeter final : public gateway::Meter {
 public:
  LedgerMeter(boost::asio::io_context& context, storage::LedgerStore& ledger);
  ~LedgerMeter() override;

  Result<std::uint64_t> submit(MeteringOperation operation, bool urgent) override;
  boost::asio::awaitable<Result<void>> durable(std::uint64_t ticket) override;
  [[nodiscard]] bool is_durable(std::uint64_t ticket) const override;
  [[nodiscard]] gateway::MeterRefusal refusal(std::uint64_t ticket) const override;

 private:
  // A coroutine that waits; its handler's type is erased by one virtual call.
  struct Waiter {
    explicit Waiter(std::uint64_t awaited) : ticket(awaited) {}
    virtual ~Waiter() = default;
    virtual void complete() = 0;
    std::uint64_t ticket;
  };
  // Shared with the committer's call-backs, which may come while the lane goes away.
  struct Shared {
    explicit Shared(std::size_t groups) : durable(groups), forgotten(groups) {}
    [[nodiscard]] bool is_durable(std::uint64_t ticket) const {
      return durable[storage::ticket_group(ticket)].load(std::memory_order_acquire) >= ticket;
    }
    [[nodiscard]] bool is_forgotten(std::uint64_t ticket) const {
      return ticket <= forgotten[storage::ticket_group(ticket)];
    }

    std::vector<std::atomic<std::uint64_t>> durable;  // by group: the newest ticket
    std::atomic<bool> wake_pending{false};
    std::atomic<bool> any_refused{false};  // false: nothing was ever refused, and nobody need look
    std::mutex mutex;                      // guards what follows
    std::map<std::uint64_t, storage::Refused> refused;  // until durable() takes it
    std::deque<std::uint64_t> refused_order;  // as they came, those that were taken too
    std::vector<std::uint64_t> forgotten;    // by group: the newest ticket that had to go from `refused`
    LedgerMeter* owner = nullptr;
  };
  // Most refusals are of what nobody waits for (settlements): the oldest go first.
  static constexpr std::size_t refusals_max = 16'384;

  void wake();

  boost::asio::io_context& context_;
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<storage::LedgerSubmitter> submitter_;
  std::deque<std::unique_ptr<Waiter>> waiters_;  // by ticket, so that each group's stand together
  std::uint64_t told_ticket_ = 0;                // of the last error of durable()
  storage::Refused told_;
};

}  // namespace outlast::actors
