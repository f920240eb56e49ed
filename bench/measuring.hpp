// What benchmarks of the engine share: clocks, and an end with a message where something fails.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/result.hpp"

namespace outlast::bench {

using Steady = std::chrono::steady_clock;

inline double seconds_since(Steady::time_point began) { return std::chrono::duration<double>(Steady::now() - began).count(); }

// The value, or the end of the program.
template <class T>
T need(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(*result);
}

}  // namespace outlast::bench
