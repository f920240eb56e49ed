#include "gpu/cpu/threads.hpp"

#include <sched.h>

#include <algorithm>
#include <system_error>

namespace outlast::gpu {
namespace {

// A step calls for work every few microseconds: looking for it for a moment is cheaper than sleeping in between.
constexpr int looks_before_sleep = 2'000;

std::size_t allowed_processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::clamp<std::size_t>(static_cast<std::size_t>(CPU_COUNT(&set)), 1, threads_max);
}

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Threads::Threads(std::size_t count) {
  const std::size_t wanted = count == 0 ? allowed_processors() : std::min(count, threads_max);
  try {
    for (std::size_t thread = 1; thread < wanted; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
  } catch (const std::system_error&) {
    // The machine gives no more: these do.
  }
}

Threads::~Threads() {
  stop_ = true;
  round_.fetch_add(1);
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::part(std::size_t thread) const {
  if (thread >= parts_) return;
  const std::size_t begin = items_ * thread / parts_;
  const std::size_t end = items_ * (thread + 1) / parts_;
  if (begin < end) call_.invoke(call_.work, begin, end, thread);
}

void Threads::run(std::size_t items, std::size_t grain, Call call) {
  if (items == 0) return;
  const std::size_t parts = std::clamp<std::size_t>(items / std::max<std::size_t>(grain, 1), 1, count());
  if (parts == 1) return call.invoke(call.work, 0, items, 0);
  call_ = call;
  items_ = items;
  parts_ = parts;
  running_.store(workers_.size(), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  part(0);
  for (int looks = 0;; ++looks) {
    const std::size_t running = running_.load(std::memory_order_acquire);
    if (running == 0) return;
    if (looks < looks_before_sleep) relax();
    else running_.wait(running, std::memory_order_acquire);
  }
}

void Threads::serve(std::size_t thread) {
  std::uint64_t seen = 0;
  for (;;) {
    int looks = 0;
    std::uint64_t round = round_.load(std::memory_order_acquire);
    while (round == seen) {
      if (++looks < looks_before_sleep) relax();
      else round_.wait(seen, std::memory_order_acquire);
      round = round_.load(std::memory_order_acquire);
    }
    seen = round;
    if (stop_.load()) return;
    part(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace outlast::gpu
