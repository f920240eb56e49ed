// CommitTimes: how long an owner's batches took, as a histogram. Plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace outlast::cluster {

struct CommitTimes {
  // From what an idle etcd on good disks takes to what holders wait before they use their spools.
  static constexpr std::array<std::uint64_t, 13> bounds_us = {1'000,  2'500,  5'000,   10'000,  15'000,  20'000, 30'000,
                                                              40'000, 60'000, 100'000, 250'000, 500'000, 1'000'000};

  void add(std::uint64_t us) {
    std::size_t i = 0;
    while (i < bounds_us.size() && us > bounds_us[i]) ++i;
    ++counts[i];
    sum_us += us;
  }

  std::array<std::uint64_t, bounds_us.size() + 1> counts{};  // of each bound, and of what took longer
  std::uint64_t sum_us = 0;
};

}  // namespace outlast::cluster
