// The learning rate by step.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace outlast::gpu {

enum class ScheduleKind : std::uint8_t {
  constant,
  cosine,              // to the least rate at the last step
  warm_up_stable_decay,  // the peak until the last `decay_steps`, then in a straight line to the least rate
};
std::optional<ScheduleKind> parse_schedule(std::string_view name);  // constant, cosine, wsd

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double peak = 1e-3;
  double least_share = 0.1;        // of the peak
  std::uint64_t warm_up_steps = 0;  // in a straight line from 0
  std::uint64_t decay_steps = 0;
  std::uint64_t steps = 1;
};
// Of a step from 1.
double rate_at(const Schedule& schedule, std::uint64_t step);

}  // namespace outlast::gpu
