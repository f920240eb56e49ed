#include "actors/client_actor.hpp"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/exit_reason.hpp>
#include <caf/sec.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "tests/cluster/fake_node.hpp"

namespace client_actor_test {

using namespace outlast;
using namespace outlast::test;
using client::ChatEnd;
using client::ChatFailure;
using client::ChatOutcome;
using client::ChatResponse;
using client::Client;
using client::ErrorKind;
using client::Sink;
using client::StreamBatch;
using client::StreamEnd;
using client::StreamRequest;
using client::StreamStarted;

namespace {

struct Config : caf::actor_system_config {
  Config() { set("scheduler.policy", caf::atom("sharing")); }
};

// What the client asked of its transport, and the way to answer it.
struct Script {
  std::mutex mutex;
  std::condition_variable changed;
  cluster::ChatReceiver receiver;
  std::map<std::uint64_t, chat::Request> submitted;
  std::map<std::uint64_t, std::uint32_t> consumed_chunks;
  std::set<std::uint64_t> cancelled;
  bool destroyed = false;

  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, patience, condition);
  }
  bool wait_submitted(std::size_t count) {
    return wait([this, count] { return submitted.size() >= count; });
  }
  void text(std::uint64_t request, std::string words) {
    receiver.on_events(request, {chat::TextDelta{std::move(words)}}, {1, 10});
  }
  void end(std::uint64_t request, ChatOutcome outcome = ChatEnd{"d", 1, {}, "n"}) {
    receiver.on_end(request, std::move(outcome));
  }
};

class ScriptedTransport final : public cluster::ChatTransport {
 public:
  explicit ScriptedTransport(std::shared_ptr<Script> script) : script_(std::move(script)) {}
  ~ScriptedTransport() override {
    change([](Script& script) { script.destroyed = true; });
  }
  void submit(std::uint64_t request, chat::Request chat, std::uint32_t) override {
    change([request, &chat](Script& script) { script.submitted[request] = std::move(chat); });
  }
  void consumed(std::uint64_t request, link::Credit cost) override {
    change([request, cost](Script& script) { script.consumed_chunks[request] += cost.chunks; });
  }
  void cancel(std::uint64_t request) override {
    change([request](Script& script) { script.cancelled.insert(request); });
  }

 private:
  template <class Change>
  void change(Change change) {
    const std::lock_guard lock(script_->mutex);
    change(*script_);
    script_->changed.notify_all();
  }
  const std::shared_ptr<Script> script_;
};

// What a sink saw. While it holds, it does not answer batches.
struct Seen {
  std::mutex mutex;
  std::condition_variable changed;
  std::string text;
  int batches = 0;
  std::vector<ChatOutcome> ends;
  bool hold = false;

  template <class Condition>
  bool wait(Condition condition, std::chrono::milliseconds time = patience) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, time, condition);
  }
  bool wait_end() {
    return wait([this] { return !ends.empty(); });
  }
};

using release_atom = caf::atom_constant<caf::atom("release")>;
using HoldingSink = Sink::extend<caf::reacts_to<release_atom>>;
struct SinkState {
  std::vector<caf::response_promise> held;
};

HoldingSink::behavior_type sink_behavior(HoldingSink::stateful_pointer<SinkState> self, std::shared_ptr<Seen> seen) {
  return {
      [self, seen](const StreamBatch& batch) -> caf::result<void> {
        const std::lock_guard lock(seen->mutex);
        ++seen->batches;
        for (const auto& event : batch.events) {
          if (const auto* delta = std::get_if<chat::TextDelta>(&event)) seen->text += delta->text;
        }
        seen->changed.notify_all();
        if (!seen->hold) return caf::unit;
        caf::response_promise promise = self->make_response_promise();
        self->state.held.push_back(promise);
        return caf::delegated<void>();
      },
      [seen](const StreamEnd& end) {
        const std::lock_guard lock(seen->mutex);
        seen->ends.push_back(end.outcome);
        seen->changed.notify_all();
      },
      [self](release_atom) {
        for (auto& promise : std::exchange(self->state.held, {})) promise.deliver(caf::unit);
      },
  };
}

struct Fixture {
  explicit Fixture(client::ClientOptions options = {}) {
    auto spawned = client::spawn_over(system, options, [this](cluster::ChatReceiver receiver) {
      script->receiver = std::move(receiver);
      return Result<std::unique_ptr<cluster::ChatTransport>>(std::make_unique<ScriptedTransport>(script));
    });
    check(spawned.has_value(), "the client starts");
    client = std::move(*spawned);
    sink = system.spawn(sink_behavior, seen);
  }
  ~Fixture() {
    caf::anon_send_exit(client, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(sink, caf::exit_reason::user_shutdown);
  }

  StreamRequest stream() { return {client::ask("smart", "hello"), sink}; }
  // Starts a stream and gives its id.
  std::uint64_t start_stream() {
    caf::scoped_actor self(system);
    std::uint64_t id = 0;
    self->request(client, patience, stream())
        .receive([&id](const StreamStarted& started) { id = started.stream; }, [](const caf::error&) {});
    return id;
  }

  Config config;
  caf::actor_system system{config};
  std::shared_ptr<Script> script = std::make_shared<Script>();
  std::shared_ptr<Seen> seen = std::make_shared<Seen>();
  Client client;
  HoldingSink sink;
};

// The answer to a request that was sent with self->request, as an outcome.
template <class Handle>
ChatOutcome receive(Handle handle, ChatResponse* response = nullptr) {
  ChatOutcome outcome;
  handle.receive(
      [&outcome, response](const ChatResponse& answer) {
        outcome = answer.end;
        if (response != nullptr) *response = answer;
      },
      [&outcome](const caf::error& error) { outcome = client::failure_of(error); });
  return outcome;
}

ErrorKind kind_of(const ChatOutcome& outcome) {
  check(std::holds_alternative<ChatFailure>(outcome), "the outcome is a failure");
  return std::get<ChatFailure>(outcome).kind;
}

}  // namespace

TEST_CASE("a chat is answered whole, with who served it", "[client]") {
  Fixture fixture;
  caf::scoped_actor self(fixture.system);
  auto answer = self->request(fixture.client, patience, client::ask("smart", "hello"));
  REQUIRE(fixture.script->wait_submitted(1));
  CHECK(fixture.script->submitted[1].model == "smart");
  CHECK_FALSE(fixture.script->submitted[1].stream);
  fixture.script->receiver.on_events(1, {chat::Start{"id", "model"}, chat::TextDelta{"Hel"}}, {2, 10});
  fixture.script->receiver.on_events(
      1, {chat::TextDelta{"lo"}, chat::ToolCallStart{0, "t", "f"}, chat::ToolCallDelta{0, "{}"},
          chat::Finish{chat::StopReason::tool_calls, {}}}, {4, 10});
  fixture.script->end(1);
  ChatResponse response;
  receive(std::move(answer), &response);
  CHECK(response.end == ChatEnd{"d", 1, {}, "n"});
  CHECK(response.answer == chat::Response{"id", "model", "Hello", "", {{"t", "f", "{}"}}, chat::StopReason::tool_calls, {}});
  CHECK(fixture.script->consumed_chunks[1] == 6);
}

TEST_CASE("a failure arrives as an error that keeps its kind, message and retry hint", "[client]") {
  Fixture fixture;
  caf::scoped_actor self(fixture.system);
  auto answer = self->request(fixture.client, patience, client::ask("smart", "hello"));
  REQUIRE(fixture.script->wait_submitted(1));
  const ChatFailure failure{ErrorKind::rate_limited, "slow down", true, 1500};
  fixture.script->end(1, failure);
  CHECK(receive(std::move(answer)) == ChatOutcome(failure));
  CHECK(client::failure_of(caf::sec::request_timeout).kind == ErrorKind::deadline_exceeded);
}

TEST_CASE("a sink gets the next batch only after it took the one before", "[client]") {
  Fixture fixture;
  fixture.seen->hold = true;
  const auto id = fixture.start_stream();
  REQUIRE(fixture.script->wait_submitted(1));
  CHECK(fixture.script->submitted[id].stream);
  fixture.script->text(id, "one ");
  REQUIRE(fixture.seen->wait([&] { return fixture.seen->batches == 1; }));
  fixture.script->text(id, "two ");
  fixture.script->text(id, "three");
  fixture.script->end(id);
  CHECK_FALSE(fixture.seen->wait([&] { return fixture.seen->batches > 1 || !fixture.seen->ends.empty(); },
                                 std::chrono::milliseconds(100)));
  CHECK(fixture.script->consumed_chunks[id] == 0);

  caf::anon_send(fixture.sink, release_atom::value);
  REQUIRE(fixture.seen->wait([&] { return fixture.seen->batches == 2; }));
  CHECK(fixture.script->wait([&] { return fixture.script->consumed_chunks[id] == 1; }));
  CHECK(fixture.seen->ends.empty());
  caf::anon_send(fixture.sink, release_atom::value);
  REQUIRE(fixture.seen->wait_end());
  CHECK(fixture.seen->text == "one two three");
  CHECK(fixture.seen->ends.size() == 1);
  CHECK(fixture.seen->batches == 2);
}

TEST_CASE("a cancelled stream is cancelled in the transport and ends once", "[client]") {
  Fixture fixture;
  const auto id = fixture.start_stream();
  caf::anon_send(fixture.client, client::CancelStream{id});
  REQUIRE(fixture.script->wait([&] { return fixture.script->cancelled.contains(id); }));
  fixture.script->end(id, ChatFailure{ErrorKind::cancelled, "cancelled", false, 0});
  REQUIRE(fixture.seen->wait_end());
  fixture.script->text(id, "late");
  fixture.script->end(id);
  const auto second = fixture.start_stream();
  fixture.script->text(second, "next");
  fixture.script->end(second);
  REQUIRE(fixture.seen->wait([&] { return fixture.seen->ends.size() == 2; }));
  CHECK(kind_of(fixture.seen->ends[0]) == ErrorKind::cancelled);
  CHECK(fixture.seen->text == "next");
}

TEST_CASE("a sink that dies or does not take a batch cancels its stream", "[client]") {
  client::ClientOptions options;
  options.sink_timeout = std::chrono::milliseconds(50);
  Fixture fixture(options);
  const auto id = fixture.start_stream();
  SECTION("dies") { caf::anon_send_exit(fixture.sink, caf::exit_reason::kill); }
  SECTION("takes nothing") { fixture.seen->hold = true; }
  fixture.script->text(id, "one");
  CHECK(fixture.script->wait([&] { return fixture.script->cancelled.contains(id); }));
  if (fixture.seen->hold) {
    REQUIRE(fixture.seen->wait_end());
    CHECK(kind_of(fixture.seen->ends[0]) == ErrorKind::slow_consumer);
  }
}

TEST_CASE("requests over the bound are refused and a finished one makes room", "[client]") {
  client::ClientOptions options;
  options.in_flight_max = 2;
  Fixture fixture(options);
  caf::scoped_actor self(fixture.system);
  auto first = self->request(fixture.client, patience, client::ask("smart", "1"));
  const auto stream = fixture.start_stream();
  CHECK(stream != 0);
  CHECK(kind_of(receive(self->request(fixture.client, patience, client::ask("smart", "2")))) == ErrorKind::overloaded);
  CHECK(fixture.start_stream() == 0);
  REQUIRE(fixture.script->wait_submitted(2));
  fixture.script->end(1, ChatFailure{});
  receive(std::move(first));
  auto third = self->request(fixture.client, patience, client::ask("smart", "3"));
  REQUIRE(fixture.script->wait_submitted(3));
  fixture.script->end(3, ChatFailure{ErrorKind::cut, "", false, 0});
  CHECK(kind_of(receive(std::move(third))) == ErrorKind::cut);
}

TEST_CASE("a client that is told to exit answers everything that runs", "[client]") {
  Fixture fixture;
  caf::scoped_actor self(fixture.system);
  auto answer = self->request(fixture.client, patience, client::ask("smart", "hello"));
  fixture.start_stream();
  REQUIRE(fixture.script->wait_submitted(2));
  caf::anon_send_exit(fixture.client, caf::exit_reason::user_shutdown);
  CHECK(kind_of(receive(std::move(answer))) == ErrorKind::cancelled);
  REQUIRE(fixture.seen->wait_end());
  CHECK(kind_of(fixture.seen->ends[0]) == ErrorKind::cancelled);
  CHECK(fixture.script->wait([&] { return fixture.script->destroyed; }));
  CHECK(std::holds_alternative<ChatFailure>(receive(self->request(fixture.client, patience, client::ask("m", "x")))));
}

TEST_CASE("a client that nobody holds finishes its stream, then ends", "[client]") {
  Fixture fixture;
  const auto id = fixture.start_stream();
  fixture.client = Client{};
  fixture.script->text(id, "all");
  CHECK_FALSE(fixture.script->destroyed);
  fixture.script->end(id);
  REQUIRE(fixture.seen->wait_end());
  CHECK(fixture.seen->text == "all");
  CHECK(fixture.script->wait([&] { return fixture.script->destroyed; }));
}

TEST_CASE("the client actor talks to nodes over real links", "[client]") {
  FakeNode node({}, [](const std::shared_ptr<cluster::ChatCall>& call) {
    const auto& text = std::get<chat::Text>(call->request().messages.at(0).parts.at(0)).text;
    const std::vector<chat::Event> events{chat::Start{"id", "m"}, chat::TextDelta{"you said "}, chat::TextDelta{text},
                                          chat::Finish{}};
    call->send(events);
    call->done("fable-alpha", 1, {});
  });
  Config config;
  caf::actor_system system{config};
  client::ClientOptions options;
  options.endpoints = {{node.endpoint(), node.keys().public_key}};
  options.virtual_key = good_key;
  auto spawned = client::spawn(system, options);
  REQUIRE(spawned);
  caf::scoped_actor self(system);
  ChatResponse response;
  receive(self->request(*spawned, patience, client::ask("smart", "hello")), &response);
  CHECK(response.answer.text == "you said hello");
  CHECK(response.end.deployment == "fable-alpha");

  auto seen = std::make_shared<Seen>();
  const auto sink = system.spawn(sink_behavior, seen);
  self->send(*spawned, StreamRequest{client::ask("smart", "again"), sink});
  REQUIRE(seen->wait_end());
  CHECK(seen->text == "you said again");
  CHECK(std::holds_alternative<ChatEnd>(seen->ends.at(0)));
  caf::anon_send_exit(sink, caf::exit_reason::user_shutdown);

  options.endpoints.clear();
  CHECK(is(client::spawn(system, options).error(), cluster::LinkError::bad_options));
}

}  // namespace client_actor_test
