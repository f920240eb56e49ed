// SpendReporter: the way of spend to the spend breakers' actor, which the node knows: of this node's lanes, or of its
// peers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "actors/interfaces.hpp"
#include "gateway/spend_watch.hpp"

namespace outlast::actors {

// More than so many batches on their way are dropped and counted: an overloaded node may trip late, but does not run
// out of memory.
class SpendReporter final : public gateway::SpendSink {
 public:
  static constexpr std::uint64_t batches_max = 4'096;

  SpendReporter(Node node, SpendCounters& counters, SpendOrigin origin = SpendOrigin::lanes)
      : node_(std::move(node)), counters_(counters), origin_(origin) {}
  void report(std::vector<gateway::SpendEvent> events) override;

 private:
  Node node_;
  SpendCounters& counters_;
  const SpendOrigin origin_;
  std::shared_ptr<std::atomic<std::uint64_t>> under_way_ = std::make_shared<std::atomic<std::uint64_t>>(0);
};

}  // namespace outlast::actors
