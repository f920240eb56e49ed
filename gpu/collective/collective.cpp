#include "gpu/collective/collective.hpp"

#include <algorithm>

namespace outlast::gpu {

Part part_of(std::size_t count, std::size_t rank, std::size_t ranks) {
  constexpr std::size_t alignment = 64;
  const std::size_t share = (count + ranks - 1) / ranks;
  const std::size_t size = (share + alignment - 1) / alignment * alignment;
  const std::size_t begin = std::min(count, size * rank);
  return {begin, std::min(count, begin + size) - begin};
}

}  // namespace outlast::gpu
