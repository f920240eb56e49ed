#include "gateway/outcome_recorder.hpp"

#include <algorithm>
#include <utility>

namespace outlast::gateway {

void OutcomeRecorder::record(const DeploymentGauge& gauge, AttemptStatus status,
                             std::optional<std::uint32_t> retry_after_ms, bool probe) {
  if (probe) flush();  // what was gathered before says nothing of the probe
  auto found = std::find_if(gathered_.begin(), gathered_.end(),
                            [&gauge](const auto& entry) { return entry.first == gauge.name(); });
  if (found == gathered_.end()) found = gathered_.insert(gathered_.end(), {gauge.name(), Outcome{}});
  Outcome& outcome = found->second;
  bool urgent = probe;
  bool neutral = false;
  switch (status) {
    case AttemptStatus::ok:
    case AttemptStatus::refused: ++outcome.successes; break;  // it answered: it is healthy
    case AttemptStatus::credential: ++outcome.credential_failures; urgent = true; break;
    case AttemptStatus::throttled:
      if (retry_after_ms) {
        outcome.throttled_ms = std::max(outcome.throttled_ms.value_or(0), *retry_after_ms);
        urgent = true;
      }
      neutral = true;
      break;
    case AttemptStatus::overloaded:
    case AttemptStatus::model_gone:
    case AttemptStatus::cut: ++outcome.failures; urgent = true; break;
    case AttemptStatus::caller_gone:
    case AttemptStatus::in_doubt: neutral = true; break;
  }
  outcome.probe |= probe;
  outcome.probe_neutral |= probe && neutral;
  if (urgent) flush();
}

void OutcomeRecorder::flush() {
  if (gathered_.empty()) return;
  sink_.report(std::exchange(gathered_, {}));
}

}  // namespace outlast::gateway
