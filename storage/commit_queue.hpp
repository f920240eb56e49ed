// CommitQueue: where submitters leave operations and the committer finds them, and when it is worth
// to commit.
//
// One mutex. An urgent operation starts a commit at once while little arrives; when much arrives,
// commits are paced so that each one carries many operations, which is what keeps the processor's
// time per operation small.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <variant>
#include <vector>

#include "core/metering.hpp"
#include "core/result.hpp"
#include "core/virtual_key.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/accounts.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

struct Refused;

// The callbacks of one submitter. Once closed, none of them runs any more.
struct Recipient {
  std::function<void(std::uint64_t ticket)> on_durable;
  std::function<void(std::uint64_t ticket, const Refused& refused)> on_refused;
  std::mutex mutex;  // held during callbacks
  bool closed = false;
  std::uint64_t batch_ticket =
      0;  // the committer's: the last of the batch; 0 when it has none in it
};

// A reader waits for a snapshot of one moment; fulfilled by the committer between two batches.
struct SnapshotWanted {
  std::shared_ptr<std::promise<std::unique_ptr<LedgerView>>> promise;
};

// A reader waits for where budgets and commitments stand; with the view of the same moment where it
// wants balances too.
struct MoneyMoment {
  MoneyStatus money;
  std::unique_ptr<LedgerView> view;
};
struct MoneyWanted {
  std::shared_ptr<std::promise<MoneyMoment>> promise;
  bool with_view = false;
};

// An operation that is no request's: rare, with its own callback.
struct ControlOperation {
  std::variant<VirtualKey, proto::KeyRevoked, proto::PricesRecorded, proto::BudgetSet,
               proto::BudgetRemoved, proto::CommitmentAdded, proto::CommitmentEnded, BreakerTripped,
               BreakerReset, BreakerRuleChange, NodeEnrolled, NodeChanged, JoinTokenMade, SettingSet,
               SnapshotWanted, MoneyWanted>
      operation;
  std::function<void(Result<void>)> done;
};

struct Submission {
  MeteringOperation operation;
  std::shared_ptr<Recipient>
      farewell;  // the last submission of a recipient keeps it until all others are through
  Recipient* recipient = nullptr;  // null for control operations and farewells
  std::uint64_t ticket = 0;
  std::unique_ptr<ControlOperation> control;
};

class CommitQueue {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // The time from one commit to the next grows with the rate, from nothing at the first to its
  // largest at the second: a sync costs the processor as much as some ten operations.
  static constexpr double paced_from_operations_per_s = 5'000;
  static constexpr double slowest_from_operations_per_s = 15'000;
  static constexpr std::chrono::microseconds pace_max{2'000};
  static constexpr std::chrono::milliseconds rate_window{10};
  static constexpr std::size_t paced_batch_operations = 128;  // so many need not wait for more
  static constexpr std::size_t kept_capacity = 4'096;         // of operations, after a rush

  CommitQueue(std::size_t operations_max, std::chrono::milliseconds lazy)
      : operations_max_(operations_max), lazy_(lazy) {}

  // Any thread. Errors: overloaded (reservations at the limit, others at twice that), stopped.
  // Farewells are always taken.
  Result<void> push(Submission&& submission, bool urgent);
  // Any thread: what has been pushed is urgent from now on.
  void hasten();
  // The committer's: waits until a commit is due; swaps what has arrived into `batch`, which must
  // be empty. False when the queue is stopped and drained.
  bool take(std::vector<Submission>& batch);
  // From now on nothing is taken in.
  void stop();
  [[nodiscard]] std::size_t size() const;

 private:
  enum class Waiting : std::uint8_t { no, idle, lazy, paced };
  [[nodiscard]] std::size_t limit_of(const Submission& submission) const;
  [[nodiscard]] bool wakes(bool urgent) const;
  void measure(Time now);

  const std::size_t operations_max_;
  const std::chrono::milliseconds lazy_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Submission> operations_;
  bool urgent_ = false;  // whether any of them is
  bool stopped_ = false;
  Waiting waiting_ = Waiting::no;
  Time oldest_{};  // when the committer saw the first of them
  Time last_take_{};
  std::chrono::microseconds pace_{0};
  Time window_start_{};
  std::size_t window_operations_ = 0;
};

}  // namespace outlast::storage
