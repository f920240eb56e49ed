#include "cluster/peer_session.hpp"

#include <catch2/catch.hpp>

#include <vector>

#include "tests/cluster/peer_pair.hpp"

namespace peer_session_test {

using namespace outlast;
using namespace outlast::test;
using cluster::Channel;
using cluster::LinkError;

namespace {

Channel channel_of(std::uint64_t number) { return static_cast<Channel>(number); }

// Steps of one run: both sides send at random, the network fails at random, processes restart and links are cut for
// longer than silence allows. Then the faults end and everything that was sent since must arrive.
void run_with_faults(std::uint64_t seed) {
  Random random(seed * 7919 + 1);
  cluster::PeerLimits limits;
  limits.queue_frames_max = 200;
  PeerPair pair(seed, limits);
  for (int i = 0; i < 4'000; ++i) {
    if (i % 200 == 0) {
      pair.faults = {random.below(2) == 0 ? 0.0 : 0.05, random.below(2) == 0 ? 0.0 : 0.05,
                     random.below(2) == 0 ? 0.0 : 0.02, random.below(40)};
    }
    if (random.below(700) == 0) pair.blocked[random.below(2)] = true;
    if (random.below(300) == 0) pair.blocked = {};
    if (random.below(2'000) == 0) pair.start(random.below(2));
    if (random.below(2'000) == 0) {
      const std::size_t side = random.below(2);
      pair.side(side).session->end("stops");
      pair.begin(side);
    }
    for (std::uint64_t n = random.below(6); n > 0; --n) {
      const std::size_t side = random.below(2);
      if (pair.side(side).session->is_up()) (void)pair.send(side, channel_of(random.below(3)));
    }
    pair.step();
  }
  pair.faults = {};
  pair.blocked = {};
  INFO("seed " << seed);
  CHECK(pair.step_until([&pair] { return pair.all_arrived(); }));
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(pair.side(i).cut_off == "");
    CHECK(pair.side(i).ups == pair.side(i).downs + 1);
    CHECK(pair.side(i).received_in_all > 0);
  }
}

}  // namespace

TEST_CASE("a link comes up on both sides and frames pass on every channel", "[peer]") {
  PeerPair pair(1);
  REQUIRE(pair.bring_up());
  CHECK(pair.side(0).counters.peers_up == 1);
  for (std::uint64_t c = 0; c < 3; ++c) {
    for (int i = 0; i < 10; ++i) {
      REQUIRE(pair.send(0, channel_of(c)));
      REQUIRE(pair.send(1, channel_of(c)));
    }
  }
  CHECK(pair.step_until([&pair] { return pair.all_arrived(); }));
  CHECK(pair.side(0).counters.frames_sent == 30);
  CHECK(pair.side(0).counters.frames_received == 30);
  CHECK(pair.side(0).counters.frames_resent == 0);
  CHECK(pair.side(0).ups == 1);
}

TEST_CASE("frames arrive once and in order over a network that loses, duplicates, delays and cuts", "[peer]") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) run_with_faults(seed);
}

TEST_CASE("a thousand seeds of faults", "[peer][.slow]") {
  for (std::uint64_t seed = 1'000; seed < 2'000; ++seed) run_with_faults(seed);
}

TEST_CASE("a connection that breaks costs one resend and nobody is told", "[peer]") {
  PeerPair pair(2);
  REQUIRE(pair.bring_up());
  pair.faults.delay_ms_max = 50;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 50; ++i) REQUIRE(pair.send(0, Channel::ledger));
    pair.step();
    pair.faults.cut = round % 4 == 0 ? 1 : 0;
    pair.step();
    pair.faults.cut = 0;
  }
  CHECK(pair.step_until([&pair] { return pair.all_arrived(); }));
  CHECK(pair.side(0).downs == 0);
  CHECK(pair.side(0).counters.frames_resent > 0);
  CHECK(pair.side(0).counters.frames_resent < 2'000);
}

TEST_CASE("a queue that fills says overloaded, and has room again once frames are acknowledged", "[peer]") {
  cluster::PeerLimits limits;
  limits.queue_frames_max = 8;
  limits.queue_bytes_max = 4'000;
  PeerPair pair(3, limits);
  REQUIRE(pair.bring_up());
  pair.blocked[1] = true;  // no acknowledgement leaves
  std::size_t queued = 0;
  while (pair.send(0, Channel::stream)) ++queued;
  CHECK(queued >= 4);
  CHECK(queued <= 8);
  CHECK(is(pair.send(0, Channel::stream).error(), LinkError::overloaded));
  CHECK(pair.send(0, Channel::ledger));  // the other channels have queues of their own
  CHECK(pair.side(0).counters.overloaded == 2);
  pair.blocked[1] = false;
  CHECK(pair.step_until([&pair] { return pair.side(0).session->queued_frames(Channel::stream) == 0; }, 100));
  CHECK(pair.side(0).session->queued_bytes(Channel::stream) == 0);
  CHECK(pair.send(0, Channel::stream));
  CHECK(pair.step_until([&pair] { return pair.all_arrived(); }));
}

TEST_CASE("silence ends a link on both sides, and it comes up anew", "[peer]") {
  PeerPair pair(4);
  REQUIRE(pair.bring_up());
  pair.blocked[1] = true;  // one way only
  CHECK(pair.step_until([&pair] { return !pair.side(0).up; }, 3'100));
  CHECK(pair.side(0).why.find("nothing was heard") != std::string::npos);
  // The side that still hears learns of it by the hello of the next session.
  CHECK(pair.step_until([&pair] { return !pair.side(1).up; }, 200));
  CHECK_FALSE(pair.step_until([&pair] { return pair.side(0).up || pair.side(1).up; }, 10'000));
  pair.blocked[1] = false;
  CHECK(pair.bring_up());
  CHECK(pair.side(0).ups == 2);
  CHECK(pair.side(1).ups == 2);
}

TEST_CASE("a process that stood still does not take its own silence for the peer's", "[peer]") {
  PeerPair pair(12);
  REQUIRE(pair.bring_up());
  pair.stand_still(60'000);
  CHECK_FALSE(pair.step_until([&pair] { return !pair.side(0).up || !pair.side(1).up; }, 10'000));
  pair.blocked[1] = true;
  pair.stand_still(60'000);
  CHECK_FALSE(pair.step_until([&pair] { return !pair.side(0).up; }, 2'000));
  CHECK(pair.step_until([&pair] { return !pair.side(0).up; }, 1'100));
}

TEST_CASE("one channel that is silent ends the link, although the others speak", "[peer]") {
  PeerPair pair(5);
  REQUIRE(pair.bring_up());
  auto& session = *pair.side(0).session;
  const auto heard = [&pair](std::uint8_t channel) {
    auto& other = *pair.side(1).session;
    other.tick(pair.now_ns());
    while (other.has_output(channel_of(channel))) {
      auto message = other.next(channel_of(channel), pair.now_ns());
      pair.inject(1, std::move(message));
    }
  };
  pair.blocked[1] = true;
  for (int i = 0; i < 1'000 && session.is_up(); ++i) {
    heard(0);
    heard(1);
    pair.step();
  }
  CHECK_FALSE(session.is_up());
  CHECK(pair.side(0).why.find("stream") != std::string::npos);
}

TEST_CASE("a new process of a node ends the link to the old one before it comes up", "[peer]") {
  PeerPair pair(6);
  REQUIRE(pair.bring_up());
  REQUIRE(pair.send(0, Channel::control));
  pair.start(1);
  CHECK(pair.step_until([&pair] { return pair.side(0).ups == 2 && pair.side(1).up; }, 1'000));
  CHECK(pair.side(0).downs == 1);
  CHECK(pair.side(0).why == "a new process of the node");
  CHECK(pair.side(1).received == std::array<std::uint64_t, 3>{});
}

TEST_CASE("a process whose place another one took is told so, and met again when that one has gone", "[peer]") {
  PeerPair pair(6);
  REQUIRE(pair.bring_up());
  const Incarnation earlier = pair.side(1).incarnation;
  pair.start(1);
  REQUIRE(pair.bring_up());
  const auto hello = [&pair, &earlier](std::uint64_t from, std::uint8_t channel) {
    pair.inject(1, {from, 0, peer::Hello{"test", "beta", earlier, 1, 1, channel, 1 << 20}});
  };
  const auto refused = pair.side(0).counters.hellos_refused;
  hello(1ULL << 60, 0);
  CHECK(pair.side(0).counters.hellos_refused == refused + 1);
  CHECK(pair.side(0).up);
  pair.side(1).session->end("the node stops");
  REQUIRE(pair.step_until([&pair] { return !pair.side(0).up; }, 1'000));
  for (std::uint8_t channel = 0; channel < 3; ++channel) hello(1ULL << 61, channel);
  auto& session = *pair.side(0).session;
  CHECK(pair.side(0).counters.hellos_refused == refused + 1);
  std::uint64_t ours = 0;
  for (std::uint8_t channel = 0; channel < 3; ++channel) {
    while (session.has_output(static_cast<Channel>(channel))) {
      const auto answer = session.next(static_cast<Channel>(channel), pair.now_ns());
      if (answer.to == 1ULL << 61 && std::holds_alternative<peer::Welcome>(answer.body)) ours = answer.from;
    }
  }
  REQUIRE(ours != 0);
  for (std::uint8_t channel = 0; channel < 3; ++channel) pair.inject(1, {1ULL << 61, ours, peer::Welcome{1, channel}});
  CHECK(pair.side(0).up);
}

TEST_CASE("a goodbye ends the link at once, and leftovers of that session do not revive it", "[peer]") {
  PeerPair pair(7);
  REQUIRE(pair.bring_up());
  pair.faults.duplication = 1;  // every message comes again, later
  pair.side(1).session->end("the node stops");
  CHECK(pair.side(1).downs == 1);
  CHECK(pair.step_until([&pair] { return !pair.side(0).up; }, 20));
  CHECK(pair.side(0).why == "the node stops");
  CHECK_FALSE(pair.step_until([&pair] { return pair.side(0).up; }, 2'000));
  pair.faults.duplication = 0;
  pair.begin(1);
  CHECK(pair.bring_up());
}

TEST_CASE("hellos of another cluster, name or version are refused, counted and told why", "[peer]") {
  PeerPair pair(8);
  pair.blocked[1] = true;
  const Incarnation id = pair.side(1).incarnation;
  const auto refused = [&pair](peer::Hello hello) {
    const auto before = pair.side(0).counters.hellos_refused;
    pair.inject(1, {77, 0, std::move(hello)});
    return pair.side(0).counters.hellos_refused == before + 1;
  };
  CHECK(refused({"other", "beta", id, 1, 1, 0, 1 << 20}));
  CHECK(refused({"test", "gamma", id, 1, 1, 0, 1 << 20}));
  CHECK(refused({"test", "beta", id, cluster::link_version_max + 1, 9, 0, 1 << 20}));
  CHECK(refused({"test", "beta", id, 2, 1, 0, 1 << 20}));
  CHECK_FALSE(refused({"test", "beta", id, 0, 9, 0, 1 << 20}));
  auto& session = *pair.side(0).session;
  REQUIRE(session.has_output(Channel::control));
  const auto answer = session.next(Channel::control, pair.now_ns());
  REQUIRE(std::holds_alternative<peer::Goodbye>(answer.body));
  CHECK(answer.to == 77);
  CHECK_FALSE(session.is_up());
}

TEST_CASE("the highest version that both nodes speak is agreed on", "[peer]") {
  cluster::PeerHandlers handlers;
  cluster::Peer met;
  handlers.on_up = [&met](const cluster::Peer& peer) { met = peer; };
  handlers.on_down = [](const cluster::Peer&, const std::string&) {};
  cluster::PeerCounters counters;
  cluster::SessionNumbers numbers({});
  cluster::PeerSessionOptions options{"c", "n1", "n2", {}, 1, 3, {}};
  cluster::PeerSession session(options, numbers, handlers, counters, 0);
  const std::uint64_t ours = session.next(Channel::control, 0).from;
  for (std::uint8_t c = 0; c < 3; ++c) {
    REQUIRE(session.receive({9, 0, peer::Hello{"c", "n2", {}, 2, 5, c, 1 << 20}}, 0));
    REQUIRE(session.receive({9, ours, peer::Welcome{3, c}}, 0));
  }
  CHECK(session.is_up());
  CHECK(met.version == 3);
  CHECK(session.frame_bytes_max() == 1 << 20);
}

TEST_CASE("a flood of hellos is cut to the limit", "[peer]") {
  PeerPair pair(9);
  pair.blocked = {true, true};
  for (int i = 0; i < 10'000; ++i) {
    pair.inject(1, {100 + static_cast<std::uint64_t>(i), 0,
                    peer::Hello{"test", "beta", pair.side(1).incarnation, 1, 1, 0, 1 << 20}});
  }
  CHECK(pair.side(0).counters.hellos_refused == 9'900);
  pair.start(1);  // its leftovers are not what keeps an honest process out
  pair.blocked = {};
  CHECK(pair.bring_up());
}

TEST_CASE("numbers that lie end the link", "[peer]") {
  const auto lie = [](const std::function<void(peer::Message&)>& change) {
    PeerPair pair(10);
    REQUIRE(pair.bring_up());
    REQUIRE(pair.send(1, Channel::stream));
    auto& liar = *pair.side(1).session;
    liar.tick(pair.now_ns());
    auto message = liar.next(Channel::stream, pair.now_ns());
    while (!std::holds_alternative<peer::Data>(message.body)) message = liar.next(Channel::stream, pair.now_ns());
    change(message);
    pair.inject(1, std::move(message));
    CHECK_FALSE(pair.side(0).up);
    CHECK(pair.side(0).downs == 1);
    return pair.side(0).cut_off;
  };
  CHECK(lie([](peer::Message& m) { std::get<peer::Data>(m.body).acks[0].received = 2; }) != "");
  CHECK(lie([](peer::Message& m) { std::get<peer::Data>(m.body).acks[2].lost_round = 2; }) != "");
  CHECK(lie([](peer::Message& m) { std::get<peer::Data>(m.body).first = 1ULL << 60; }) != "");
  CHECK(lie([](peer::Message& m) { m.body = peer::Heartbeat{1, 1, 1ULL << 60, {}}; }) != "");
}

TEST_CASE("frames that wait together travel together", "[peer]") {
  PeerPair pair(11);
  REQUIRE(pair.bring_up());
  for (int i = 0; i < 3'000; ++i) REQUIRE(pair.send(0, Channel::ledger));
  auto& session = *pair.side(0).session;
  std::size_t messages = 0;
  while (session.has_output(Channel::ledger)) {
    const auto message = session.next(Channel::ledger, pair.now_ns());
    messages += std::holds_alternative<peer::Data>(message.body) ? 1 : 0;
  }
  CHECK(messages <= 10);
}

}  // namespace peer_session_test
