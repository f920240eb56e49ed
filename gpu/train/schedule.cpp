#include "gpu/train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace outlast::gpu {

std::optional<ScheduleKind> parse_schedule(std::string_view name) {
  if (name == "constant") return ScheduleKind::constant;
  if (name == "cosine") return ScheduleKind::cosine;
  if (name == "wsd") return ScheduleKind::warm_up_stable_decay;
  return std::nullopt;
}

double rate_at(const Schedule& schedule, std::uint64_t step) {
  if (step < schedule.warm_up_steps) return schedule.peak * static_cast<double>(step) / static_cast<double>(schedule.warm_up_steps);
  const double least = schedule.peak * schedule.least_share;
  const auto share_of = [step](std::uint64_t from, std::uint64_t to) {
    if (to <= from) return 1.0;
    return std::clamp((static_cast<double>(step) - static_cast<double>(from)) / static_cast<double>(to - from), 0.0, 1.0);
  };
  switch (schedule.kind) {
    case ScheduleKind::constant: return schedule.peak;
    case ScheduleKind::cosine:
      return least + (schedule.peak - least) * 0.5 * (1 + std::cos(std::numbers::pi * share_of(schedule.warm_up_steps, schedule.steps)));
    case ScheduleKind::warm_up_stable_decay: {
      const std::uint64_t from = schedule.steps - std::min(schedule.steps, schedule.decay_steps);
      return step <= from ? schedule.peak : schedule.peak + (least - schedule.peak) * share_of(from, schedule.steps);
    }
  }
  return schedule.peak;
}

}  // namespace outlast::gpu
