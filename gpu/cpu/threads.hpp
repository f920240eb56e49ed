// Threads: the processors that one CPU device computes with. Work is cut in the same way each time, so that a result depends
// on the number of threads and on nothing else.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace outlast::gpu {

inline constexpr std::size_t threads_max = 256;

// One owner; for_each() does not nest.
class Threads {
 public:
  // 0: as many as the process may run on.
  explicit Threads(std::size_t count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  [[nodiscard]] std::size_t count() const { return workers_.size() + 1; }

  // Calls work(begin, end, thread) with [0, items) cut into at most count() ranges of `grain` items or more, one for each
  // thread, and returns when all have returned.
  template <class Work>
  void for_each(std::size_t items, std::size_t grain, const Work& work) {
    run(items, grain, {&work, [](const void* self, std::size_t begin, std::size_t end, std::size_t thread) {
                         (*static_cast<const Work*>(self))(begin, end, thread);
                       }});
  }

 private:
  struct Call {
    const void* work = nullptr;
    void (*invoke)(const void*, std::size_t, std::size_t, std::size_t) = nullptr;
  };
  void run(std::size_t items, std::size_t grain, Call call);
  void serve(std::size_t thread);
  void part(std::size_t thread) const;

  std::vector<std::thread> workers_;
  Call call_;
  std::size_t items_ = 0;
  std::size_t parts_ = 0;
  std::atomic<std::uint64_t> round_{0};
  std::atomic<std::size_t> running_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace outlast::gpu
