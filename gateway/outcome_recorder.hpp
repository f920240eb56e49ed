// OutcomeRecorder: gathers what a lane saw of each deployment. Good news travels with the lane's sweep, bad news and
// the fate of a probe (alone) at once. One per lane.
#pragma once

#include <cstdint>
#include <optional>

#include "core/metering.hpp"
#include "gateway/deployment_gauge.hpp"
#include "gateway/seams.hpp"

namespace outlast::gateway {

class OutcomeRecorder {
 public:
  explicit OutcomeRecorder(OutcomeSink& sink) : sink_(sink) {}

  void record(const DeploymentGauge& gauge, AttemptStatus status, std::optional<std::uint32_t> retry_after_ms, bool probe);
  // Sends what was gathered, if anything.
  void flush();

 private:
  OutcomeSink& sink_;
  OutcomeBatch gathered_;
};

}  // namespace outlast::gateway
