// PeerPair: two PeerSessions and a seeded network between them that loses, duplicates, delays and cuts, under virtual
// time. Every frame says which session of its sender it belongs to and which number it has there, so that whoever
// receives it can tell whether it came once, in order and from one session only.
#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/peer_session.hpp"
#include "core/check.hpp"
#include "core/random.hpp"

namespace outlast::test {

struct NetworkFaults {
  double loss = 0;         // of single messages
  double duplication = 0;  // delivered once more, later
  double cut = 0;          // per step and connection: what is in flight is lost or becomes a leftover
  std::uint64_t delay_ms_max = 0;
};

class PeerPair {
 public:
  static constexpr std::int64_t step_ms = 5;

  struct Tag {
    std::uint64_t sender_session = 0;
    std::uint64_t number = 0;
  };
  struct Side {
    std::string name;
    std::unique_ptr<cluster::SessionNumbers> numbers;
    cluster::PeerHandlers handlers;
    cluster::PeerCounters counters;
    std::unique_ptr<cluster::PeerSession> session;
    Incarnation incarnation;
    bool up = false;
    std::uint64_t ups = 0;
    std::uint64_t downs = 0;
    std::string why;  // of the last on_down
    std::array<std::uint64_t, cluster::channel_count> sent{};      // in this session
    std::array<std::uint64_t, cluster::channel_count> received{};  // in this session
    std::uint64_t received_in_all = 0;
    std::uint64_t from_session = 0;       // of the other side; 0: nothing came yet
    std::uint64_t from_session_last = 0;  // of the session before
    std::string cut_off;                  // receive() said that the other side lies
  };

  explicit PeerPair(std::uint64_t seed, cluster::PeerLimits limits = {}) : random_(seed), limits_(limits) {
    start(0);
    start(1);
  }

  // A new process of a node. The old one says nothing.
  void start(std::size_t i) {
    Side& side = sides_[i];
    if (side.up) {  // its own view ends with it
      side.up = false;
      ++side.downs;
    }
    side.name = i == 0 ? "alpha" : "beta";
    for (auto& byte : side.incarnation.bytes) byte = static_cast<std::uint8_t>(random_.next());
    side.numbers = std::make_unique<cluster::SessionNumbers>(side.incarnation);
    side.handlers.on_up = [this, i](const cluster::Peer&) { on_up(i); };
    side.handlers.on_down = [this, i](const cluster::Peer&, const std::string& why) { on_down(i, why); };
    side.handlers.on_frame = [this, i](const cluster::Peer&, cluster::Channel channel, const FramePtr& frame) {
      on_frame(i, channel, *frame);
    };
    begin(i);
  }
  // A new session object of the same process.
  void begin(std::size_t i) {
    Side& side = sides_[i];
    cluster::PeerSessionOptions options;
    options.cluster = "test";
    options.node = side.name;
    options.peer = i == 0 ? "beta" : "alpha";
    options.incarnation = side.incarnation;
    options.limits = limits_;
    side.session = std::make_unique<cluster::PeerSession>(options, *side.numbers, side.handlers, side.counters, now_ns());
  }

  Result<void> send(std::size_t i, cluster::Channel channel) {
    Side& side = sides_[i];
    const auto c = static_cast<std::size_t>(channel);
    const Tag tag{side.ups, side.sent[c] + 1};
    auto frame = std::make_shared<Frame>(sizeof tag + 8 * random_.below(20));
    std::memset(frame->writable().data(), 0, frame->size());
    std::memcpy(frame->writable().data(), &tag, sizeof tag);
    auto queued = side.session->queue(channel, std::move(frame));
    if (queued) ++side.sent[c];
    return queued;
  }

  // One step of virtual time.
  void step() {
    now_ms_ += step_ms;
    for (std::size_t i = 0; i < 2; ++i) {
      for (std::size_t c = 0; c < cluster::channel_count; ++c) {
        if (random_.fraction() < faults.cut) cut(i, c);
        deliver(i, c);
      }
    }
    for (std::size_t i = 0; i < 2; ++i) {
      sides_[i].session->tick(now_ns());
      flush(i);
    }
  }
  // Neither process runs, and nothing moves.
  void stand_still(std::int64_t ms) { now_ms_ += ms; }
  template <class Done>
  bool step_until(Done done, std::int64_t patience_ms = 20'000) {
    for (std::int64_t waited = 0; waited < patience_ms; waited += step_ms) {
      if (done()) return true;
      step();
    }
    return done();
  }
  bool bring_up() {
    return step_until([this] { return sides_[0].up && sides_[1].up; });
  }
  [[nodiscard]] bool all_arrived() const {
    return sides_[0].up && sides_[1].up && sides_[0].sent == sides_[1].received && sides_[1].sent == sides_[0].received;
  }
  // A message that the session did not make, from side `i` to the other.
  void inject(std::size_t i, peer::Message message) { receive(1 - i, std::move(message)); }

  [[nodiscard]] Side& side(std::size_t i) { return sides_[i]; }
  [[nodiscard]] std::int64_t now_ns() const { return now_ms_ * 1'000'000; }

  NetworkFaults faults;
  std::array<bool, 2> blocked{};  // nothing of side i leaves

 private:
  struct Flight {
    std::int64_t arrives_ms;
    FramePtr message;
  };
  using Connection = std::deque<Flight>;

  void on_up(std::size_t i) {
    Side& side = sides_[i];
    check(!side.up, "up comes after down");
    side.up = true;
    ++side.ups;
    side.sent = side.received = {};
    side.from_session = 0;
  }
  void on_down(std::size_t i, const std::string& why) {
    Side& side = sides_[i];
    check(side.up, "down comes once after up");
    side.up = false;
    side.why = why;
    ++side.downs;
    if (side.from_session != 0) side.from_session_last = side.from_session;
  }
  void on_frame(std::size_t i, cluster::Channel channel, const Frame& frame) {
    Side& side = sides_[i];
    Tag tag;
    std::memcpy(&tag, frame.bytes().data(), sizeof tag);
    check(side.up, "frames come between up and down");
    if (side.from_session == 0) {
      check(tag.sender_session > side.from_session_last, "nothing of an old session reaches a new one");
      side.from_session = tag.sender_session;
    }
    check(tag.sender_session == side.from_session, "a session hears one session of the other side");
    const auto expected = ++side.received[static_cast<std::size_t>(channel)];
    check(tag.number == expected, "frames arrive once and in order",
          std::to_string(tag.number) + " instead of " + std::to_string(expected));
    ++side.received_in_all;
  }

  // What is in flight is lost from some message on; what came before it can still be read, beside the new connection.
  void cut(std::size_t i, std::size_t c) {
    Connection& flights = flights_[i][c];
    const auto kept = random_.below(flights.size() + 1);
    flights.resize(kept);
    for (Flight& flight : flights) leftovers_[i][c].push_back(std::move(flight));
    flights.clear();
    sides_[i].session->on_writable(static_cast<cluster::Channel>(c));
  }
  void deliver(std::size_t i, std::size_t c) {
    for (Connection* connection : {&leftovers_[i][c], &flights_[i][c]}) {
      while (!connection->empty() && connection->front().arrives_ms <= now_ms_) {
        const FramePtr bytes = std::move(connection->front().message);
        connection->pop_front();
        if (random_.fraction() < faults.duplication) {
          leftovers_[i][c].push_back({now_ms_ + static_cast<std::int64_t>(random_.below(500)), bytes});
        }
        auto message = peer::decode(bytes->bytes());
        check(message.has_value(), "a session's messages decode");
        receive(1 - i, std::move(*message));
      }
    }
  }
  void receive(std::size_t i, peer::Message message) {
    Side& side = sides_[i];
    if (auto received = side.session->receive(std::move(message), now_ns()); !received) {
      side.cut_off = received.error().message;
      side.session->end("cut off");
    }
  }
  void flush(std::size_t i) {
    cluster::PeerSession& session = *sides_[i].session;
    if (blocked[i]) return;
    for (std::size_t c = 0; c < cluster::channel_count; ++c) {
      const auto channel = static_cast<cluster::Channel>(c);
      while (session.has_output(channel)) fly(i, c, session.next(channel, now_ns()));
    }
    if (session.ack_due()) fly(i, 0, session.ack_message(now_ns()));
  }
  void fly(std::size_t i, std::size_t c, const peer::Message& message) {
    if (random_.fraction() < faults.loss) return;
    auto bytes = peer::encode(message);
    check(bytes.has_value(), "a session's messages fit a frame");
    std::int64_t arrives_ms = now_ms_ + static_cast<std::int64_t>(random_.below(faults.delay_ms_max + 1));
    Connection& flights = flights_[i][c];
    if (!flights.empty()) arrives_ms = std::max(arrives_ms, flights.back().arrives_ms);
    flights.push_back({arrives_ms, std::move(*bytes)});
  }

  Random random_;
  cluster::PeerLimits limits_;
  std::int64_t now_ms_ = 1'000;
  std::array<Side, 2> sides_;
  std::array<std::array<Connection, cluster::channel_count>, 2> flights_;
  std::array<std::array<Connection, cluster::channel_count>, 2> leftovers_;
};

}  // namespace outlast::test
