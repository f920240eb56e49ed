#include "cluster/peer_channel.hpp"

#include <algorithm>
#include <utility>

#include "core/check.hpp"

namespace outlast::cluster {

void SendChannel::queue(FramePtr frame) {
  bytes_ += frame->size();
  frames_.push_back(std::move(frame));
}

peer::Data SendChannel::take() {
  check(has_unsent(), "there is something to send");
  peer::Data data;
  data.round = round_;
  data.first = cursor_;
  std::size_t bytes = 0;
  while (has_unsent() && data.frames.size() < peer::frames_max) {
    const FramePtr& frame = frames_[cursor_ - base_];
    if (!data.frames.empty() && bytes + frame->size() > batch_bytes_max) break;
    bytes += frame->size();
    data.frames.push_back(frame);
    if (cursor_ < sent_end_) ++resent_;
    ++cursor_;
  }
  sent_end_ = std::max(sent_end_, cursor_);
  return data;
}

bool SendChannel::acknowledge(const peer::Ack& ack) {
  if (ack.received > sent_end_ || ack.lost_round > round_) return false;
  while (base_ < ack.received) {
    bytes_ -= frames_.front()->size();
    frames_.pop_front();
    ++base_;
  }
  // An older connection may say less than is known.
  cursor_ = std::max(cursor_, base_);
  if (ack.lost_round == round_) {
    cursor_ = base_;
    ++round_;
  }
  return true;
}

std::optional<ReceiveChannel::Taken> ReceiveChannel::take(std::uint32_t round, std::uint64_t first, std::size_t count) {
  if (first > expected_ + window_frames_max) return std::nullopt;
  if (first > expected_) {
    // What an older connection still held may be of an earlier round, whose loss is known.
    lost_round_ = std::max(lost_round_, round);
    return Taken{};
  }
  Taken taken;
  taken.duplicates = std::min<std::size_t>(count, expected_ - first);
  taken.fresh = count - taken.duplicates;
  expected_ += taken.fresh;
  if (round > lost_round_) lost_round_ = 0;
  return taken;
}

bool ReceiveChannel::sent_until(std::uint32_t round, std::uint64_t next) {
  if (next > expected_ + window_frames_max) return false;
  if (next > expected_) lost_round_ = std::max(lost_round_, round);
  return true;
}

}  // namespace outlast::cluster
