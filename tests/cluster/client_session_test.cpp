#include "cluster/client_session.hpp"

#include <catch2/catch.hpp>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "core/check.hpp"
#include "tests/cluster/session_bench.hpp"

namespace client_session_test {

using namespace outlast;
using namespace outlast::test;

TEST_CASE("a request waits for a link, goes out once, and ends with its answer", "[session]") {
  Bench bench;
  bench.submit(1);
  CHECK(bench.sent[0].empty());
  bench.bring_up(0);
  const auto wire = bench.last_chat(0);
  REQUIRE(wire != 0);
  bench.say(0, text(wire, 0));
  bench.say(0, finish(wire, 1));
  bench.say(0, link::Done{wire, "d", 2, {}});
  REQUIRE(bench.ended.size() == 1);
  CHECK(std::get<ChatEnd>(bench.ended[0].outcome) == ChatEnd{"d", 2, {}, "n0"});
  CHECK(bench.delivered.size() == 2);
  bench.say(0, link::Done{wire, "d", 2, {}});
  bench.say(0, text(wire, 2));
  CHECK(bench.ended.size() == 1);
  CHECK(bench.delivered.size() == 2);
  CHECK(bench.session.in_flight() == 0);
}

TEST_CASE("a start is held back until content follows, so the request may still move", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.submit(1);
  const auto first = bench.last_chat(0);
  REQUIRE(first != 0);
  bench.say(0, link::Events{first, 0, {chat::Start{"a", "m"}}, 0});
  CHECK(bench.delivered.empty());
  bench.lose(0);
  const auto second = bench.last_chat(1);
  REQUIRE(second != 0);
  CHECK(second != first);
  bench.say(1, link::Events{second, 0, {chat::Start{"b", "m"}, chat::TextDelta{"x"}}, 0});
  REQUIRE(bench.delivered.size() == 1);
  CHECK(bench.delivered[0].events.front() == chat::Event(chat::Start{"b", "m"}));
  bench.lose(1);
  CHECK(bench.failure() == ErrorKind::link_lost);
}

TEST_CASE("credit is granted again when half of the window was consumed", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.submit(1);
  const auto wire = bench.last_chat(0);
  const std::uint32_t half = link::credit_window.chunks / 2;
  for (std::uint32_t i = 0; i < half; ++i) {
    bench.say(0, text(wire, i));
    bench.session.consumed(1, bench.delivered.back().cost);
    bench.perform();
    CHECK(std::holds_alternative<link::Grant>(bench.sent[0].back()) == (i + 1 == half));
  }
  CHECK(std::get<link::Grant>(bench.sent[0].back()) == link::Grant{wire, {half, half * 100}});
}

TEST_CASE("a node that sends more than its credit, skips a frame or stops short is cut off", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.submit(1);
  const auto wire = bench.last_chat(0);
  SECTION("too many events") {
    link::Events many{wire, 0, {}, 0};
    many.events.assign(link::credit_window.chunks + 1, chat::TextDelta{"x"});
    bench.say(0, many);
  }
  SECTION("too many bytes") {
    bench.say(0, text(wire, 0), link::credit_window.bytes);
    bench.say(0, text(wire, 1));
  }
  SECTION("a frame missing") { bench.say(0, text(wire, 1)); }
  SECTION("no finish") { bench.say(0, link::Done{wire, "d", 1, {}}); }
  SECTION("events after the finish") {
    bench.say(0, finish(wire, 0));
    bench.say(0, text(wire, 1));
  }
  CHECK(bench.failure() == ErrorKind::protocol);
  CHECK(std::holds_alternative<link::Cancel>(bench.sent[0].back()));
}

TEST_CASE("what one node refuses goes to another, and fails when all refuse", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.submit(1);
  bench.say(0, link::RequestError{bench.last_chat(0), ErrorKind::overloaded, "full", true, 0});
  const auto second = bench.last_chat(1);
  REQUIRE(second != 0);
  CHECK(bench.ended.empty());
  bench.say(1, link::RequestError{second, ErrorKind::overloaded, "full as well", true, 7});
  REQUIRE(bench.ended.size() == 1);
  CHECK(std::get<ChatFailure>(bench.ended[0].outcome) == ChatFailure{ErrorKind::overloaded, "full as well", true, 7});
}

TEST_CASE("an error that is the request's own is final at once", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.submit(1);
  bench.say(0, link::RequestError{bench.last_chat(0), ErrorKind::provider_failed, "all failed", true, 0});
  CHECK(bench.failure() == ErrorKind::provider_failed);
  CHECK(bench.last_chat(1) == 0);
}

TEST_CASE("more requests than the bound are refused and the others go on", "[session]") {
  Bench bench;
  bench.bring_up(0);
  for (std::uint64_t id = 1; id <= 17; ++id) bench.submit(id);
  CHECK(bench.failure() == ErrorKind::overloaded);
  CHECK(bench.ended[0].request == 17);
  CHECK(bench.session.in_flight() == 16);
}

TEST_CASE("a request ends at its time-out, at a cancellation and at shut-down", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.submit(1, 3'000);
  const auto wire = bench.last_chat(0);
  SECTION("time-out") {
    bench.advance_ms(2'999);
    CHECK(bench.ended.empty());
    bench.say(0, link::Pong{1});
    bench.advance_ms(1);
    CHECK(bench.failure() == ErrorKind::deadline_exceeded);
  }
  SECTION("cancelled") {
    bench.session.cancel(1);
    bench.session.cancel(1);
    bench.perform();
    CHECK(bench.failure() == ErrorKind::cancelled);
  }
  SECTION("shut down") {
    bench.session.shut_down();
    bench.perform();
    CHECK(bench.failure() == ErrorKind::cancelled);
    CHECK(bench.connections[0] == never);
  }
  CHECK(std::get<link::Cancel>(bench.sent[0].back()).request_id == wire);
}

TEST_CASE("a link that is silent is given up and tried again with growing pauses", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.advance_ms(1'000);
  CHECK(std::holds_alternative<link::Ping>(bench.sent[0].back()));
  bench.advance_ms(3'000);
  CHECK(bench.connections[0] == never);
  std::int64_t last_pause_ns = 0;
  for (int i = 0; i < 12; ++i) {
    const std::int64_t pause_ns = bench.session.next_wake_ns() - bench.clock.monotonic_ns();
    CHECK(pause_ns <= 5'000'000'000);
    CHECK(pause_ns >= last_pause_ns / 2);
    last_pause_ns = pause_ns;
    bench.advance_ms(pause_ns / 1'000'000 + 1);
    REQUIRE(bench.connections[0] != never);
    bench.lose(0);
  }
  CHECK(last_pause_ns >= 2'500'000'000);
}

TEST_CASE("requests fail at once while every node rejects the client", "[session]") {
  Bench bench;
  bench.submit(1);
  bench.tick();
  bench.session.connected(0, bench.connections[0]);
  bench.perform();
  bench.say(0, link::RequestError{0, ErrorKind::unauthenticated, "unknown key", false, 0});
  CHECK(bench.failure() == ErrorKind::unauthenticated);
  bench.submit(2);
  CHECK(bench.ended.size() == 2);
}

namespace {

// A world of nodes that answer, refuse, drain, stall and die by the seed. It keeps what each node may send, and checks
// what the session promises.
class World {
 public:
  World(std::uint64_t seed, std::size_t endpoints) : random_(seed), seeds_(endpoints), bench_(endpoints), nodes_(endpoints) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    bench_.advance_ms(20'000);
    settle();
    bench_.tick();  // connects to what was learned of last
    settle();
    for (const auto& [id, count] : submitted_) check(ends_[id] == 1, "each request ends once", std::to_string(id));
    check(bench_.session.in_flight() == 0, "nothing is left");
    check(bench_.clock.monotonic_ns() <= bench_.session.next_wake_ns(), "nothing is overdue");
  }
  int successes = 0;
  int failures = 0;
  int moves = 0;  // chats that were sent a second time
  int lists = 0;
  int learned = 0;  // chats that went to nodes that were learned of

 private:
  struct Call {
    std::uint64_t id = 0;  // the request's, from its model name
    link::Credit credit;
    std::uint32_t sequence = 0;
    bool finished = false;
  };
  struct Node {
    bool greeted = false;
    std::map<std::uint64_t, Call> calls;  // by wire id
  };

  void step() {
    const std::size_t node = random_.below(nodes_.size());
    switch (random_.below(25)) {
      case 0: submit(); break;
      case 1: connect(node); break;
      case 2:
        if (random_.below(12) == 0) cut(node);
        break;
      case 3: bench_.clock.advance_ms(static_cast<std::int64_t>(random_.below(300))); break;
      case 4:
      case 7:
      case 8:
      case 9: consume(); break;
      case 5:
        if (random_.below(20) == 0 && nodes_[node].greeted) bench_.say(node, link::Goodbye{"drain"});
        break;
      case 6:
        if (next_id_ > 1 && random_.below(10) == 0) bench_.session.cancel(1 + random_.below(next_id_ - 1));
        break;
      case 10: tell(node); break;
      default: answer(node);
    }
    bench_.tick();
    settle();
  }

  // A list of nodes that come, go and drain. Some tell an old one.
  void tell(std::size_t node) {
    if (!nodes_[node].greeted || random_.below(4) != 0) return;
    if (random_.below(3) != 0) {
      list_.clear();
      for (std::size_t i = 0; i < 6; ++i) {
        if (random_.below(3) != 0) list_.push_back(entry_of(i, random_.below(4) == 0));
      }
      ++list_version_;
    }
    bench_.say(node, link::Nodes{list_version_ - random_.below(2), list_});
    ++lists;
  }
  void submit() {
    const std::uint64_t id = next_id_++;
    ++submitted_[id];
    bench_.submit(id, static_cast<std::uint32_t>(500 + random_.below(5'000)));
  }
  void connect(std::size_t node) {
    if (bench_.connections[node] == never || nodes_[node].greeted) return;
    if (random_.below(5) == 0) return cut(node);
    bench_.session.connected(node, bench_.connections[node]);
    settle();
    nodes_[node].greeted = true;
    bench_.say(node, link::Welcome{1, "n", {}});
  }
  void cut(std::size_t node) {
    if (bench_.connections[node] != never) bench_.lose(node);
  }
  void consume() {
    if (unconsumed_.empty()) return;
    const Deliver deliver = unconsumed_.front();
    unconsumed_.pop_front();
    bench_.session.consumed(deliver.request, deliver.cost);
  }

  void answer(std::size_t at) {
    Node& node = nodes_[at];
    if (node.calls.empty() || !node.greeted) return;
    auto found = std::next(node.calls.begin(), static_cast<std::ptrdiff_t>(random_.below(node.calls.size())));
    const std::uint64_t wire = found->first;
    Call& call = found->second;
    if (random_.below(60) == 0) {
      const ErrorKind kind = random_.below(2) == 0 ? ErrorKind::overloaded : ErrorKind::provider_failed;
      node.calls.erase(found);
      return bench_.say(at, link::RequestError{wire, kind, "by the seed", true, 0});
    }
    if (call.finished) {
      node.calls.erase(found);
      return bench_.say(at, link::Done{wire, "d", 1, {}});
    }
    if (call.credit.chunks == 0) return;
    --call.credit.chunks;
    call.finished = call.sequence > 0 && random_.below(12) == 0;
    const chat::Event event = call.finished ? chat::Event(chat::Finish{})
                              : call.sequence == 0
                                  ? chat::Event(chat::Start{})
                                  : chat::Event(chat::TextDelta{std::to_string(wire) + " " + std::to_string(call.sequence)});
    bench_.say(at, link::Events{wire, call.sequence++, {event}, 0}, 8);
  }

  // Reads what the session sent, delivered and ended, and checks it.
  void settle() {
    bench_.perform();
    nodes_.resize(bench_.connections.size());
    check(bench_.session.link_count() <= seeds_ + 6 + bench_.session.in_flight(), "links are bounded");
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (bench_.connections[i] == never) nodes_[i] = Node{};
      for (const auto& message : std::exchange(bench_.sent[i], {})) {
        hear(nodes_[i], message);
        if (i >= seeds_ && std::holds_alternative<link::Chat>(message)) ++learned;
      }
    }
    for (Deliver& deliver : std::exchange(bench_.delivered, {})) see(std::move(deliver));
    for (const Ended& ended : std::exchange(bench_.ended, {})) {
      check(++ends_[ended.request] == 1, "a request ends once", std::to_string(ended.request));
      if (std::holds_alternative<ChatEnd>(ended.outcome)) {
        check(last_event_finishes_[ended.request], "a success has its finish");
        ++successes;
      } else {
        ++failures;
      }
    }
  }
  void hear(Node& node, const link::ClientMessage& message) {
    if (const auto* chat = std::get_if<link::Chat>(&message)) {
      const std::uint64_t id = std::stoull(chat->request.model.substr(1));
      check(ends_[id] == 0, "an ended request is not sent");
      check(serving_wire_[id] == 0, "a request with content is not sent again");
      if (++sends_[id] > 1) ++moves;
      check(node.calls.emplace(chat->request_id, Call{id, chat->credit, 0, false}).second, "wire ids are used once");
    } else if (const auto* grant = std::get_if<link::Grant>(&message)) {
      const auto found = node.calls.find(grant->request_id);
      if (found == node.calls.end()) return;
      found->second.credit.chunks += grant->credit.chunks;
      check(found->second.credit.chunks <= link::credit_window.chunks, "credit stays within the window");
    } else if (const auto* cancel = std::get_if<link::Cancel>(&message)) {
      node.calls.erase(cancel->request_id);
    }
  }
  void see(Deliver deliver) {
    check(ends_[deliver.request] == 0, "nothing is delivered after the end");
    for (const chat::Event& event : deliver.events) {
      if (const auto* delta = std::get_if<chat::TextDelta>(&event)) {
        const std::uint64_t wire = std::stoull(delta->text);
        const int sequence = std::stoi(delta->text.substr(delta->text.find(' ')));
        std::uint64_t& serving = serving_wire_[deliver.request];
        check(serving == 0 || serving == wire, "content comes from one attempt");
        serving = wire;
        check(sequence == ++last_sequence_[deliver.request], "content comes whole and in order");
      }
      last_event_finishes_[deliver.request] = std::holds_alternative<chat::Finish>(event);
    }
    unconsumed_.push_back(std::move(deliver));
  }

  Random random_;
  const std::size_t seeds_;
  Bench bench_;
  std::vector<Node> nodes_;  // by link
  std::vector<link::NodeEntry> list_;
  std::uint64_t list_version_ = 1;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, int> submitted_;
  std::map<std::uint64_t, int> ends_;
  std::map<std::uint64_t, int> sends_;
  std::map<std::uint64_t, std::uint64_t> serving_wire_;
  std::map<std::uint64_t, int> last_sequence_;
  std::map<std::uint64_t, bool> last_event_finishes_;
  std::deque<Deliver> unconsumed_;
};

}  // namespace

TEST_CASE("every request ends exactly once, whole or with an error, under any schedule of faults", "[session]") {
  int successes = 0;
  int failures = 0;
  int moves = 0;
  int lists = 0;
  int learned = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    INFO("seed " << seed);
    World world(seed, 1 + seed % 3);
    world.run(2'000);
    successes += world.successes;
    failures += world.failures;
    moves += world.moves;
    lists += world.lists;
    learned += world.learned;
  }
  CAPTURE(successes, failures, moves, lists, learned);
  // The schedule reaches every kind of end often, or it proves nothing.
  CHECK(successes > 2'000);
  CHECK(failures > 2'000);
  CHECK(moves > 200);
  CHECK(lists > 2'000);
  CHECK(learned > 2'000);
}

}  // namespace client_session_test
