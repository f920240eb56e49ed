// MessageRoom: bounds a queue of messages between holders and owners, by count and by bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shard_codec.hpp"

namespace outlast::cluster {

// About how many bytes it takes in memory.
std::size_t size_of(const shard::Message& message);

// Under the mutex of its queue.
class MessageRoom {
 public:
  static constexpr std::size_t bytes_max = 64U << 20;

  explicit MessageRoom(std::size_t messages_max) : messages_max_(messages_max) {}

  // Whether the message may wait; if not it is dropped, and said again by whoever sent it. One alone always may.
  bool enter(std::size_t bytes) {
    if (messages_ > 0 && (messages_ >= messages_max_ || bytes > bytes_max - bytes_)) {
      ++dropped_;
      return false;
    }
    ++messages_;
    bytes_ = bytes_ + bytes < bytes_max ? bytes_ + bytes : bytes_max;
    return true;
  }
  // All that waited was taken.
  void clear() { messages_ = bytes_ = 0; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  const std::size_t messages_max_;
  std::size_t messages_ = 0;
  std::size_t bytes_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace outlast::cluster
