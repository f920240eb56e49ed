// Snapshot: everything that a lane needs to serve a request without asking anybody. Immutable; the router publishes
// a new one whenever routes, keys or prices change, and a lane picks it up at its next request.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/budget_book.hpp"
#include "core/price_book.hpp"
#include "core/virtual_key.hpp"
#include "gateway/deployment_gauge.hpp"
#include "gateway/rate_limit.hpp"
#include "gateway/routing_table.hpp"

namespace outlast::gateway {

struct ServingPolicy {
  std::uint64_t default_output_tokens_max = 4'096;
  bool refuse_unpriced = false;
};

struct Snapshot {
  std::shared_ptr<const RoutingTable> routing;
  std::vector<std::shared_ptr<DeploymentGauge>> gauges;  // by index of routing->deployments()
  std::shared_ptr<const KeyTable> keys;
  std::shared_ptr<const PriceBook> prices;
  ServingPolicy serving;
  std::shared_ptr<const BudgetBook> budgets;  // null: none are known
  std::shared_ptr<const RateLimiter> rates;  // null: no limits
};

// Any thread.
class SnapshotBoard {
 public:
  void publish(std::shared_ptr<const Snapshot> snapshot) {
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
    version_.fetch_add(1, std::memory_order_release);
  }
  [[nodiscard]] std::shared_ptr<const Snapshot> get() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
  }
  [[nodiscard]] std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::atomic<std::uint64_t> version_{0};
};

// A lane's view: one atomic load per request while nothing changes. One owner.
class SnapshotReader {
 public:
  explicit SnapshotReader(const SnapshotBoard& board) : board_(board) {}
  const std::shared_ptr<const Snapshot>& get() {
    if (const std::uint64_t version = board_.version(); version != version_) {
      snapshot_ = board_.get();
      version_ = version;
    }
    return snapshot_;
  }

 private:
  const SnapshotBoard& board_;
  std::uint64_t version_ = 0;
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace outlast::gateway
