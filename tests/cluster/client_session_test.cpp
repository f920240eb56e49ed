#include "cluster/client_session.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "cluster/curve.hpp"
#include "core/check.hpp"

using namespace outlast;
using namespace outlast::cluster;
using link::ErrorKind;

namespace {

constexpr std::uint64_t never = 0;

// The node of number i: the first are the seeds, so that their links have the same numbers.
Endpoint endpoint_of(std::size_t i) {
  std::string key = std::to_string(i);
  key.append(curve_key_text_size - key.size(), 'k');
  return {"tcp://node:" + std::to_string(1'000 + i), key};
}
link::NodeEntry entry_of(std::size_t i, bool draining = false) {
  return {"n" + std::to_string(i), endpoint_of(i).address, endpoint_of(i).server_key, draining};
}

SessionOptions options_for(std::size_t endpoints) {
  SessionOptions options;
  for (std::size_t i = 0; i < endpoints; ++i) options.endpoints.push_back(endpoint_of(i));
  options.virtual_key = "ol_key";
  options.client_name = "test";
  options.in_flight_max = 16;
  return options;
}

// Drives a session by hand: performs its effects into lists that a test reads.
struct Bench {
  explicit Bench(std::size_t endpoints = 1, SessionOptions options = {})
      : session(options.endpoints.empty() ? options_for(endpoints) : options, clock, 1),
        connections(endpoints, never),
        sent(endpoints),
        targets(endpoints) {}

  void perform() {
    for (Effect& effect : session.take_effects()) {
      if (const auto* connect = std::get_if<Connect>(&effect)) {
        if (connect->endpoint >= connections.size()) {
          connections.resize(connect->endpoint + 1, never);
          sent.resize(connect->endpoint + 1);
          targets.resize(connect->endpoint + 1);
        }
        connections[connect->endpoint] = connect->connection;
        targets[connect->endpoint] = connect->target;
      } else if (const auto* disconnect = std::get_if<Disconnect>(&effect)) {
        connections[disconnect->endpoint] = never;
      } else if (const auto* frame = std::get_if<SendFrame>(&effect)) {
        sent[frame->endpoint].push_back(*link::decode_from_client(frame->frame->bytes()));
      } else if (auto* deliver = std::get_if<Deliver>(&effect)) {
        delivered.push_back(std::move(*deliver));
      } else {
        ended.push_back(std::move(std::get<Ended>(effect)));
      }
    }
  }
  void tick() {
    session.tick();
    perform();
  }
  void advance_ms(std::int64_t ms) {
    clock.advance_ms(ms);
    tick();
  }
  void say(std::size_t endpoint, link::NodeMessage message, std::size_t bytes = 100) {
    session.received(endpoint, connections[endpoint], std::move(message), bytes);
    perform();
  }
  void bring_up(std::size_t endpoint) {
    tick();
    check(connections[endpoint] != never, "the session connects");
    session.connected(endpoint, connections[endpoint]);
    perform();
    check(std::holds_alternative<link::Hello>(sent[endpoint].back()), "a hello comes first");
    say(endpoint, link::Welcome{1, "n" + std::to_string(endpoint), {}});
  }
  void tell(std::size_t endpoint, std::uint64_t version, std::vector<link::NodeEntry> nodes) {
    say(endpoint, link::Nodes{version, std::move(nodes)});
    tick();
  }
  // The link that is open, or being opened, to the node of number i.
  std::optional<std::size_t> link_to(std::size_t i) {
    for (std::size_t link = 0; link < targets.size(); ++link) {
      if (connections[link] != never && targets[link] == endpoint_of(i)) return link;
    }
    return std::nullopt;
  }
  void lose(std::size_t endpoint) {
    session.disconnected(endpoint, connections[endpoint], "cut");
    perform();
  }
  void submit(std::uint64_t id, std::uint32_t timeout_ms = 10'000) {
    chat::Request request;
    request.model = "m" + std::to_string(id);
    session.submit(id, request, timeout_ms);
    perform();
  }
  // The wire id of the last chat sent there; 0 when the last message is another.
  std::uint64_t last_chat(std::size_t endpoint) {
    if (sent[endpoint].empty()) return 0;
    const auto* chat = std::get_if<link::Chat>(&sent[endpoint].back());
    return chat == nullptr ? 0 : chat->request_id;
  }
  ErrorKind failure() {
    check(ended.size() == 1, "one request ended", std::to_string(ended.size()));
    return std::get<ChatFailure>(ended[0].outcome).kind;
  }

  ManualClock clock;
  ClientSession session;
  std::vector<std::uint64_t> connections;
  std::vector<std::vector<link::ClientMessage>> sent;
  std::vector<Endpoint> targets;
  std::vector<Deliver> delivered;
  std::vector<Ended> ended;
};

link::Events text(std::uint64_t wire_id, std::uint32_t sequence, std::string words = "word") {
  return {wire_id, sequence, {chat::TextDelta{std::move(words)}}, 0};
}
link::Events finish(std::uint64_t wire_id, std::uint32_t sequence) { return {wire_id, sequence, {chat::Finish{}}, 0}; }

}  // namespace

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

TEST_CASE("a client that knows one node learns of the others and balances over all", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1), entry_of(2)});
  CHECK(bench.session.link_count() == 3);  // the seed's own entry opens nothing
  bench.bring_up(*bench.link_to(1));
  bench.bring_up(*bench.link_to(2));
  for (std::uint64_t id = 1; id <= 9; ++id) bench.submit(id);
  for (std::size_t link = 0; link < 3; ++link) {
    CHECK(std::count_if(bench.sent[link].begin(), bench.sent[link].end(), [](const link::ClientMessage& message) {
            return std::holds_alternative<link::Chat>(message);
          }) == 3);
  }
}

TEST_CASE("when the only node that a client was configured with dies, those that it learned of go on", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  const auto learned = *bench.link_to(1);
  bench.bring_up(learned);
  bench.submit(1);
  REQUIRE(bench.last_chat(0) != 0);
  bench.lose(0);
  CHECK(bench.last_chat(learned) != 0);
  CHECK(bench.ended.empty());
  bench.lose(learned);
  // Nobody is there to ask, so both are tried again.
  bench.advance_ms(200);
  CHECK(bench.link_to(0));
  CHECK(bench.link_to(1));
}

TEST_CASE("a node that left the list gets nothing new and is dropped when it is idle", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  const auto learned = *bench.link_to(1);
  bench.bring_up(learned);
  bench.submit(1);
  bench.submit(2);
  const auto wire = bench.last_chat(learned);
  REQUIRE(wire != 0);
  bench.tell(0, 2, {entry_of(0)});
  CHECK(bench.link_to(1) == learned);
  bench.submit(3);
  CHECK(bench.last_chat(learned) == wire);
  bench.say(learned, finish(wire, 0));
  bench.say(learned, link::Done{wire, "d", 1, {}});
  CHECK(bench.ended.size() == 1);
  bench.tick();
  CHECK_FALSE(bench.link_to(1));
  CHECK(bench.session.link_count() == 1);
  // What its socket still says comes too late to matter.
  bench.session.received(learned, 2, link::NodeMessage(link::Goodbye{}), 10);
  bench.session.connected(0, 77);
  SECTION("and comes back with the list, on a link of its own") {
    bench.tell(0, 3, {entry_of(0), entry_of(1)});
    REQUIRE(bench.link_to(1));
    CHECK(*bench.link_to(1) != learned);
  }
}

TEST_CASE("a configured node stays, whatever the list says", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 1, {entry_of(0)});
  CHECK(bench.link_to(1));
  bench.tell(1, 2, {});
  CHECK(bench.link_to(0));
  CHECK(bench.link_to(1));
}

TEST_CASE("a node that drains gets nothing new, and serves again when the list says so", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 1, {entry_of(0), entry_of(1, true)});
  CHECK_FALSE(bench.link_to(1));
  for (std::uint64_t id = 1; id <= 4; ++id) bench.submit(id);
  bench.advance_ms(2'000);
  bench.say(0, link::Pong{1});
  CHECK_FALSE(bench.link_to(1));
  CHECK(bench.session.next_wake_ns() > bench.clock.monotonic_ns());
  SECTION("it ended draining") {
    bench.tell(0, 2, {entry_of(0), entry_of(1)});
    REQUIRE(bench.link_to(1));
  }
  SECTION("nobody else is left, so it is tried all the same") {
    bench.lose(0);
    bench.tick();
    CHECK(bench.link_to(1));
    CHECK(bench.ended.empty());
  }
}

TEST_CASE("the list with the highest version is believed, as long as a link stands behind it", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 5, {entry_of(0), entry_of(1), entry_of(2)});
  bench.tell(1, 4, {entry_of(0), entry_of(1), entry_of(3)});
  CHECK(bench.link_to(2));
  CHECK_FALSE(bench.link_to(3));
  bench.lose(0);
  bench.tick();
  CHECK(bench.link_to(3));
  CHECK_FALSE(bench.link_to(2));
  bench.lose(1);
  bench.advance_ms(200);
  CHECK(bench.link_to(3));  // nobody says anything, so the last word holds
}

TEST_CASE("a list is believed only after the welcome, and only where it can be connected to", "[session]") {
  Bench bench;
  bench.tick();
  bench.session.connected(0, bench.connections[0]);
  bench.perform();
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  CHECK(bench.session.link_count() == 1);
  bench.say(0, link::Welcome{1, "n0", {}});
  auto inproc = entry_of(1);
  inproc.address = "inproc://zap";
  auto no_key = entry_of(2);
  no_key.public_key = "";
  auto twice = entry_of(3);
  twice.address = "tcp://elsewhere:1";
  bench.tell(0, 1, {inproc, no_key, entry_of(3), twice});
  CHECK(bench.session.link_count() == 2);
  CHECK(bench.link_to(3));
}

TEST_CASE("of a big cluster each client takes some nodes, and keeps them when the list grows", "[session]") {
  SessionOptions options = options_for(1);
  options.learned_max = 8;
  Bench bench(1, options);
  bench.bring_up(0);
  std::vector<link::NodeEntry> list;
  for (std::size_t i = 0; i < 200; ++i) list.push_back(entry_of(i));
  bench.tell(0, 1, list);
  CHECK(bench.session.link_count() == 9);
  const auto before = bench.targets;
  list.push_back(entry_of(200));
  bench.tell(0, 2, list);
  CHECK(bench.session.link_count() == 9);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    kept += bench.link_to(i) && std::count(before.begin(), before.end(), endpoint_of(i)) > 0 ? 1 : 0;
  }
  CHECK(kept >= 8);
}

TEST_CASE("two clients of a big cluster choose different nodes", "[session]") {
  std::vector<link::NodeEntry> list;
  for (std::size_t i = 0; i < 200; ++i) list.push_back(entry_of(i));
  std::map<std::string, int> chosen;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    auto some = list;
    choose_some(some, 8, seed, list[7].public_key);
    CHECK(some.size() == 8);
    CHECK(std::find(some.begin(), some.end(), list[7]) != some.end());
    for (const auto& node : some) ++chosen[node.public_key];
  }
  CHECK(chosen.size() > 180);  // 700 draws of 199
  for (const auto& [key, times] : chosen) CHECK((times < 16 || key == list[7].public_key));
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
