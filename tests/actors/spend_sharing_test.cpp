#include "actors/spend_sharing.hpp"

#include <catch2/catch.hpp>

#include <utility>

#include "tests/actors/memory_net.hpp"

namespace spend_sharing_test {

using namespace outlast;
using namespace outlast::actors;
using testing::MemoryNet;

namespace {

struct KeptSpend final : gateway::SpendSink {
  void report(std::vector<gateway::SpendEvent> reported) override {
    events.insert(events.end(), reported.begin(), reported.end());
  }
  std::vector<gateway::SpendEvent> events;
};

struct KeptFrames final : PeerPort {
  Result<void> send(const std::string& node, cluster::Channel channel, FramePtr frame) override {
    CHECK(channel == cluster::Channel::control);
    if (full) return fail(cluster::LinkError::overloaded, "full");
    frames.emplace_back(node, std::move(frame));
    return {};
  }
  std::vector<std::pair<std::string, FramePtr>> frames;
  bool full = false;
};

struct Side {
  explicit Side(std::uint8_t number) { renew(number); }
  void renew(std::uint8_t number) { incarnation.bytes[15] = number; }
  [[nodiscard]] cluster::Peer peer() const { return {"n1", incarnation, 1}; }
  void spend(std::size_t count, const std::string& key_id = "key_a") {
    std::vector<gateway::SpendEvent> events(count);
    for (gateway::SpendEvent& event : events) {
      auto key = std::make_shared<VirtualKey>();
      key->id = key_id;
      key->tenant = {"acme", "search", "ann"};
      event.key = key;
      event.cost.value = 7;
      event.time_ms = gateway::spend_time_ms(clock) - 20;
      event.started_ms = event.time_ms - 500;
      event.ended = true;
    }
    sharing.tell(events);
  }
  // The batches that were sent so far, as a peer reads them.
  std::vector<ask::SpendBatch> sent() {
    std::vector<ask::SpendBatch> batches;
    for (const auto& [node, frame] : std::exchange(port.frames, {})) {
      batches.push_back(std::get<ask::SpendBatch>(ask::decode(frame->bytes()).value()));
    }
    return batches;
  }

  Incarnation incarnation;
  ManualClock clock;
  KeptFrames port;
  KeptSpend sink;
  SpendCounters counters;
  std::vector<std::string> told;
  SpendSharing sharing{port, clock, sink, counters,
                       [this](const std::vector<std::string>& deliveries) { told = deliveries; }};
};

}  // namespace

TEST_CASE("what lanes saw goes to every node that is up, with the tick or when a batch is full", "[spend_breaker]") {
  Side one(1);
  one.spend(3);
  one.sharing.tick();
  CHECK(one.port.frames.empty());  // nobody is there
  one.sharing.on_up({"n2", {}, 1});
  one.sharing.on_up({"n3", {}, 1});
  one.spend(2);
  CHECK(one.port.frames.empty());
  one.sharing.tick();
  REQUIRE(one.port.frames.size() == 2);
  CHECK((one.port.frames[0].first == "n2" && one.port.frames[1].first == "n3"));
  CHECK(one.port.frames[0].second == one.port.frames[1].second);  // made once
  CHECK(one.sent().at(0).first == 3);  // what nobody heard has its numbers
  one.sharing.tick();
  CHECK(one.port.frames.empty());
  one.sharing.on_down({"n3", {}, 1});
  one.spend(SpendSharing::batch_events + 1);
  const auto batches = one.sent();
  REQUIRE(batches.size() == 1);
  CHECK(batches[0].first == 5);
  CHECK(batches[0].events.size() == SpendSharing::batch_events);
}

TEST_CASE("what a peer tells has this node's times, and counts once", "[spend_breaker]") {
  Side one(1);
  Side other(2);
  other.clock.advance_ms(86'400'000);  // another machine has run for another time
  one.sharing.on_up({"n2", {}, 1});
  one.spend(2);
  one.sharing.tick();
  one.spend(2, "key_b");
  one.sharing.tick();
  const auto batches = one.sent();
  REQUIRE(batches.size() == 2);
  other.sharing.on_spend(one.peer(), batches[0]);
  REQUIRE(other.sink.events.size() == 2);
  const gateway::SpendEvent& event = other.sink.events[0];
  CHECK(event.key->id == "key_a");
  CHECK(event.key->tenant == TenantPath{"acme", "search", "ann"});
  CHECK(event.cost.value == 7);
  CHECK(event.ended);
  CHECK(event.time_ms == gateway::spend_time_ms(other.clock) - 20);
  CHECK(event.started_ms == event.time_ms - 500);

  other.sharing.on_spend(one.peer(), batches[0]);
  CHECK(other.sink.events.size() == 2);
  ask::SpendBatch overlapping{1, {batches[0].events[1], batches[1].events[0], batches[1].events[1]}};
  other.sharing.on_spend(one.peer(), overlapping);
  REQUIRE(other.sink.events.size() == 4);
  CHECK(other.sink.events[2].key->id == "key_b");
  CHECK(other.counters.peer_events_missed == 0);
  other.sharing.on_spend(one.peer(), {~std::uint64_t{0}, batches[0].events});  // numbers that cannot be
  CHECK(other.sink.events.size() == 4);
}

TEST_CASE("what is lost on the way is counted, and a node that was started again counts from its own beginning",
          "[spend_breaker]") {
  Side one(1);
  Side other(2);
  one.sharing.on_up({"n2", {}, 1});
  const auto pass = [&one, &other] {
    for (ask::SpendBatch& batch : one.sent()) other.sharing.on_spend(one.peer(), std::move(batch));
  };
  one.spend(1);
  one.sharing.tick();
  pass();
  one.port.full = true;
  one.spend(5);
  one.sharing.tick();
  CHECK(one.counters.events_untold == 5);
  one.port.full = false;
  one.spend(1);
  one.sharing.tick();
  pass();
  CHECK(other.sink.events.size() == 2);
  CHECK(other.counters.peer_events_missed == 5);

  Side again(3);
  again.sharing.on_up({"n2", {}, 1});
  again.spend(2);
  again.sharing.tick();
  for (ask::SpendBatch& batch : again.sent()) other.sharing.on_spend(again.peer(), std::move(batch));
  CHECK(other.sink.events.size() == 4);
  CHECK(other.counters.peer_events_missed == 5);
}

TEST_CASE("a node that told people says so to the others", "[spend_breaker]") {
  Side one(1);
  Side other(2);
  one.sharing.tell_delivered("brk_a-1-tripped");  // nobody is there
  one.sharing.on_up({"n2", {}, 1});
  one.sharing.tell_delivered("brk_a-2-reset");
  REQUIRE(one.port.frames.size() == 1);
  other.sharing.on_told(std::get<ask::Told>(ask::decode(one.port.frames[0].second->bytes()).value()));
  CHECK(other.told == std::vector<std::string>{"brk_a-2-reset"});
  one.sharing.end();
  one.sharing.on_up({"n3", {}, 1});
  one.sharing.tell_delivered("brk_a-3-tripped");
  one.spend(1);
  one.sharing.tick();
  CHECK(one.port.frames.size() == 1);
}

TEST_CASE("a batch that cannot be said is counted and holds up nothing", "[spend_breaker]") {
  Side one(1);
  one.sharing.on_up({"n2", {}, 1});
  one.spend(1, std::string(ask::name_bytes_max + 1, 'k'));
  one.sharing.tick();
  CHECK(one.port.frames.empty());
  CHECK(one.counters.events_untold == 1);
  one.spend(1);
  one.sharing.tick();
  CHECK(one.sent().at(0).first == 1);
}

TEST_CASE("spend goes by the control channel, and a node that knows less than others say goes on", "[spend_breaker]") {
  MemoryNet net;
  MemoryNet::Node& node = net.add("n2");
  Side one(1);
  Side other(2);
  ControlChannel channel(*node.remote, *node.workers, &other.sharing);
  ControlChannel older(*node.remote, *node.workers);
  one.sharing.on_up({"n2", {}, 1});
  one.spend(1);
  one.sharing.tick();
  const FramePtr frame = one.port.frames.at(0).second;
  CHECK(channel.on_frame(one.peer(), frame));
  CHECK(other.sink.events.size() == 1);
  CHECK(channel.on_frame(one.peer(), *ask::encode(ask::Told{{"brk_a-1-tripped"}})));
  CHECK(other.told.size() == 1);
  CHECK(older.on_frame(one.peer(), frame));

  channel.on_up({"n1", {}, 1});
  other.spend(1);
  channel.tick();
  CHECK(other.port.frames.size() == 1);
  channel.on_down({"n1", {}, 1}, "gone");
  other.spend(1);
  channel.tick();
  CHECK(other.port.frames.size() == 1);

  std::size_t unknown = 0;  // a kind of a version to come, and not garbage
  for (std::size_t i = 0; i < frame->size(); ++i) {
    std::vector<std::byte> changed(frame->bytes().begin(), frame->bytes().end());
    changed[i] = std::byte{99};
    const auto decoded = ask::decode(changed);
    if (decoded || !is(decoded.error(), FrameError::unknown_kind)) continue;
    ++unknown;
    CHECK(channel.on_frame(one.peer(), Frame::copy_of(changed)));
  }
  CHECK(unknown == 2);
}

}  // namespace spend_sharing_test
