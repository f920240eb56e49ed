// The two ends of a channel: numbers, acknowledgements and going back. A sender keeps what is not acknowledged and sends
// on; when the receiver sees a gap it names the round in which it saw it, and the sender goes back to the first missing
// frame and begins the next round. So one break of a connection costs one resend, however often the gap is reported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "proto/frame.hpp"
#include "proto/peer_codec.hpp"

namespace outlast::cluster {

// No honest sender has more frames that wait for their acknowledgement; a number further ahead is a lie.
inline constexpr std::uint64_t window_frames_max = 1U << 20;
// Frames that are queued together travel together up to here; a larger frame travels alone.
inline constexpr std::size_t batch_bytes_max = 64U << 10;

// One owner.
class SendChannel {
 public:
  void queue(FramePtr frame);
  [[nodiscard]] bool has_unsent() const { return cursor_ < end(); }
  // The next frames of this round, one at least; has_unsent() holds. Acknowledgements are the caller's.
  [[nodiscard]] peer::Data take();
  // False for frames that were never sent: a lie.
  [[nodiscard]] bool acknowledge(const peer::Ack& ack);

  // Waiting or not acknowledged.
  [[nodiscard]] std::size_t frames() const { return frames_.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint32_t round() const { return round_; }
  // The number of the frame that is sent next.
  [[nodiscard]] std::uint64_t next() const { return cursor_; }
  [[nodiscard]] std::uint64_t resent() const { return resent_; }

 private:
  [[nodiscard]] std::uint64_t end() const { return base_ + frames_.size(); }

  std::deque<FramePtr> frames_;  // from number base_ on
  std::size_t bytes_ = 0;
  std::uint64_t base_ = 1;
  std::uint64_t cursor_ = 1;
  std::uint64_t sent_end_ = 1;  // one past the highest number that was ever sent
  std::uint32_t round_ = 1;
  std::uint64_t resent_ = 0;
};

// One owner.
class ReceiveChannel {
 public:
  struct Taken {
    std::size_t duplicates = 0;  // the first so many frames are known
    std::size_t fresh = 0;       // the next so many are to be delivered; the rest is lost in a gap
  };
  // What to do with `count` frames from number `first` on; nothing when they lie.
  [[nodiscard]] std::optional<Taken> take(std::uint32_t round, std::uint64_t first, std::size_t count);
  // The sender says that everything below `next` was sent on this connection.
  [[nodiscard]] bool sent_until(std::uint32_t round, std::uint64_t next);
  [[nodiscard]] peer::Ack ack() const { return {expected_, lost_round_}; }

 private:
  std::uint64_t expected_ = 1;
  std::uint32_t lost_round_ = 0;
};

}  // namespace outlast::cluster
