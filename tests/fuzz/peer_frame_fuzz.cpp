// The messages of links between nodes: any bytes, any alignment. What decodes must encode to a message that decodes to
// the same, and whatever a peer says in whatever order, a session refuses it or goes on.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cluster/peer_session.hpp"
#include "core/check.hpp"
#include "core/log.hpp"
#include "proto/peer_codec.hpp"

using namespace outlast;

namespace {

constexpr std::size_t tag_bytes = 2;  // of a message within the input: its size

Result<peer::Message> decode_at(std::span<const std::uint8_t> data, std::size_t offset) {
  std::vector<std::byte> bytes(offset + data.size());
  std::ranges::copy(std::as_bytes(data), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  return peer::decode(std::span<const std::byte>(bytes).subspan(offset));
}

void round_trip(const peer::Message& message) {
  const auto first = peer::encode(message);
  check(first.has_value(), "what came in a message fits a message", first ? "" : first.error().message);
  const auto again = peer::decode((*first)->bytes());
  check(again.has_value(), "an encoded message decodes", again ? "" : again.error().message);
  const auto second = peer::encode(*again);
  check(second && std::ranges::equal((*first)->bytes(), (*second)->bytes()), "a round trip changes nothing");
}

// A session that is up, and what its handlers must see.
class Victim {
 public:
  Victim() : session_(options(), numbers_, handlers(), counters_, 0) {
    our_number_ = session_.next(cluster::Channel::control, 0).from;
    for (std::uint8_t c = 0; c < peer::channel_count; ++c) {
      hear({theirs, 0, peer::Hello{"c", "peer", {}, 1, 1, c, 1 << 20}});
      hear({theirs, our_number_, peer::Welcome{1, c}});
    }
    check(up_, "a session comes up");
    (void)session_.queue(cluster::Channel::ledger, Frame::copy_of({}));
  }

  void hear(peer::Message message) {
    if (!session_.receive(std::move(message), now_ns_)) session_.end("cut off");
    now_ns_ += 100'000'000;
    session_.tick(now_ns_);
    for (std::size_t c = 0; c < peer::channel_count; ++c) {
      const auto channel = static_cast<cluster::Channel>(c);
      while (session_.has_output(channel)) our_number_ = session_.next(channel, now_ns_).from;
      check(session_.queued_frames(channel) <= 1, "nobody but this test queues frames");
    }
    if (session_.ack_due()) (void)session_.ack_message(now_ns_);
  }
  [[nodiscard]] std::uint64_t our_number() const { return our_number_; }

  static constexpr std::uint64_t theirs = 5;

 private:
  static cluster::PeerSessionOptions options() {
    cluster::PeerSessionOptions options;
    options.cluster = "c";
    options.node = "node";
    options.peer = "peer";
    return options;
  }
  const cluster::PeerHandlers& handlers() {
    handlers_.on_up = [this](const cluster::Peer&) {
      check(!up_, "up comes after down");
      up_ = true;
    };
    handlers_.on_down = [this](const cluster::Peer&, const std::string&) {
      check(up_, "down comes once after up");
      up_ = false;
    };
    handlers_.on_frame = [this](const cluster::Peer&, cluster::Channel, const FramePtr& frame) {
      check(up_ && frame != nullptr, "frames come between up and down");
    };
    return handlers_;
  }

  bool up_ = false;
  std::int64_t now_ns_ = 0;
  std::uint64_t our_number_ = 0;
  cluster::SessionNumbers numbers_{Incarnation{}};
  cluster::PeerHandlers handlers_;
  cluster::PeerCounters counters_;
  cluster::PeerSession session_;
};

}  // namespace

// The first byte chooses the alignment, and whether messages are made to belong to the session. A message follows its
// size of two bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = [] {
    log::configure(log::Format::text, log::Level::error);
    return true;
  }();
  (void)quiet;
  if (size == 0) return 0;
  const std::size_t offset = data[0] % 8;
  const bool in_session = (data[0] & 8) != 0;
  Victim victim;
  std::span<const std::uint8_t> rest(data + 1, size - 1);
  while (rest.size() > tag_bytes) {
    const std::size_t wanted = rest[0] | static_cast<std::size_t>(rest[1]) << 8;
    rest = rest.subspan(tag_bytes);
    const auto bytes = rest.first(std::min(wanted, rest.size()));
    rest = rest.subspan(bytes.size());
    auto message = decode_at(bytes, offset);
    if (!message) continue;
    round_trip(*message);
    if (in_session) {
      message->from = Victim::theirs;
      message->to = victim.our_number();
    }
    victim.hear(std::move(*message));
  }
  return 0;
}
