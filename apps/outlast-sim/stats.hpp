// SimStats: what the simulator has seen, for tests that ask what a gateway really sent. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "http/server.hpp"

namespace outlast::sim {

class SimStats {
 public:
  void count_request(const http::Request& request, std::shared_ptr<const std::string> body);
  void count_status(unsigned status) {
    statuses_[status < statuses_.size() ? status : 0].fetch_add(1, relaxed);
  }
  void count_stream() { streams_.fetch_add(1, relaxed); }
  void count_cancelled() { cancelled_.fetch_add(1, relaxed); }
  void count_fault() { faults_.fetch_add(1, relaxed); }
  void count_completed() { completed_.fetch_add(1, relaxed); }
  void add_active(int change) { active_.fetch_add(change, relaxed); }

  // Of the lane that answers.
  struct Connections {
    std::uint64_t accepted = 0;
    std::uint64_t open = 0;
  };
  // {"requests", "completed", "streams", "active", "cancelled", "faults", "statuses",
  // "connections", "last"}
  [[nodiscard]] std::string describe(const Connections& connections) const;

 private:
  static constexpr auto relaxed = std::memory_order_relaxed;

  std::atomic<std::uint64_t> requests_{0};   // chat requests that arrived
  std::atomic<std::uint64_t> completed_{0};  // answers given to their clean end
  std::atomic<std::uint64_t> streams_{0};
  std::atomic<std::uint64_t> cancelled_{0};  // answers that the caller did not wait for
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::int64_t> active_{0};
  std::array<std::atomic<std::uint64_t>, 600> statuses_{};

  mutable std::mutex mutex_;
  std::shared_ptr<const std::string> last_body_;
  std::string last_header_names_;  // separated by '\n'; values may be secrets
};

}  // namespace outlast::sim
