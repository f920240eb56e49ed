// DeadlineSweep: coarse time-outs of many connections with one timer that runs ten times a second
// while anything is registered, instead of a timer per read. A deadline passes up to sweep_interval
// late and never early.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

namespace outlast::http {

namespace asio = boost::asio;

class DeadlineSweep;

// What has a deadline. Registered with at most one sweep, and taken out by its destructor. Owned by
// one lane.
class DeadlineOwner {
 public:
  DeadlineOwner() = default;
  DeadlineOwner(const DeadlineOwner&) = delete;
  DeadlineOwner& operator=(const DeadlineOwner&) = delete;

 protected:
  virtual ~DeadlineOwner();
  // The deadline passed; it is already cleared. May set a new one, and may register or take out
  // others.
  virtual void on_deadline() = 0;
  // Counted from now; replaces the one before.
  void set_deadline(std::uint32_t in_ms);
  void clear_deadline();

 private:
  friend class DeadlineSweep;
  std::shared_ptr<DeadlineSweep> sweep_;
  std::size_t index_ = 0;
};

// Owned by one lane.
class DeadlineSweep : public std::enable_shared_from_this<DeadlineSweep> {
 public:
  static constexpr std::chrono::milliseconds sweep_interval{100};

  explicit DeadlineSweep(asio::io_context& context) : timer_(context) {}
  void add(DeadlineOwner& owner);

 private:
  friend class DeadlineOwner;
  struct Entry {
    std::int64_t at_ms;
    DeadlineOwner* owner;
  };
  static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

  void remove(DeadlineOwner& owner);
  void schedule();
  void sweep();

  asio::steady_timer timer_;
  std::vector<Entry> entries_;
  bool scheduled_ = false;
};

// Milliseconds of the kernel's coarse monotonic clock (a few ns to read, exact to its tick of 1–4
// ms).
std::int64_t coarse_now_ms();

}  // namespace outlast::http
