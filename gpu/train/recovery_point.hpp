// Where the survivors of a loss go on from, as a function of what copies each of them has (buddy_copies.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace outlast::gpu {

// Copies of one generation that one survivor has. Numbers that ranks can add (Collective::sum), so that all see the same table.
struct HeldCopies {
  double generation = 0;  // 0: none
  double rank = 0;        // the survivor's, in that generation
  double ranks = 0;
  double first_step = 0;  // it has the states after this step
  double last_step = 0;   // to this one
};
// Of the newest generation of which it has whole copies, and of the one before while it has not seen that all have the newest.
using Held = std::array<HeldCopies, 2>;

struct RecoveryPoint {
  std::uint64_t generation = 0;
  std::uint64_t step = 0;              // the last that all survivors completed
  std::vector<std::size_t> survivors;  // their ranks in that generation, rising
  [[nodiscard]] bool survives(std::size_t rank) const;
};
// None where a rank is gone and the one after it, which has its copies, is gone too; or where somebody has none.
std::optional<RecoveryPoint> recovery_point(std::span<const Held> survivors);

}  // namespace outlast::gpu
