#include "cluster/client_listener.hpp"

#include <catch2/catch.hpp>

#include <vector>

#include "tests/cluster/fake_node.hpp"
#include "tests/cluster/raw_client.hpp"

namespace client_listener_test {

using namespace outlast;
using namespace outlast::test;
using cluster::CancelReason;
using cluster::ChatCall;
using cluster::SendState;
using link::ErrorKind;

namespace {

std::vector<chat::Event> texts(int count, const std::string& text = "x") {
  return std::vector<chat::Event>(static_cast<std::size_t>(count), chat::TextDelta{text});
}

// Reads events until `count` of them came.
std::vector<chat::Event> receive_events(RawClient& client, std::size_t count) {
  std::vector<chat::Event> events;
  while (events.size() < count) {
    auto frame = client.expect<link::Events>();
    events.insert(events.end(), frame.events.begin(), frame.events.end());
  }
  return events;
}

}  // namespace

TEST_CASE("a call is handed out with its request, key and client, and answered in order", "[link]") {
  FakeNode node;
  RawClient client(node);
  CHECK(client.greet().node_name == "fake");
  client.send(chat_of(7));
  auto call = node.next_call();
  REQUIRE(call);
  CHECK(call->request() == chat_of(7).request);
  CHECK(call->key()->id == "key_test");
  CHECK(call->client_name() == "raw");

  const std::vector<chat::Event> events{chat::Start{"id", "m"}, chat::TextDelta{"hi"}, chat::Finish{}};
  CHECK(call->send(events) == SendState::ready);
  SystemClock clock;
  const RequestId ledger_id = UuidGenerator(clock, 1).next();
  call->done("fable-alpha", 2, ledger_id);
  const auto frame = client.expect<link::Events>();
  CHECK(frame.request_id == 7);
  CHECK(frame.sequence == 0);
  CHECK(frame.events == events);
  CHECK(client.expect<link::Done>() == link::Done{7, "fable-alpha", 2, ledger_id});
  CHECK(eventually([&node] { return node.listener().counters().calls_in_flight == 0; }));
}

TEST_CASE("a sender is stopped at the client's credit and goes on when it is topped up", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.greet();
  client.send(chat_of(1, {10, 1u << 20}));
  auto call = node.next_call();
  REQUIRE(call);
  Slot<bool> credit_came;
  call->on_credit([&credit_came] { credit_came.set(true); });

  CHECK(call->send(texts(25)) == SendState::no_credit);
  CHECK_FALSE(call->has_credit());
  CHECK(receive_events(client, 10).size() == 10);
  CHECK_FALSE(client.receive(std::chrono::milliseconds(100)));

  client.send(link::Grant{1, {5, 0}});
  CHECK(receive_events(client, 5).size() == 5);
  CHECK_FALSE(credit_came.wait(std::chrono::milliseconds(0)));
  client.send(link::Grant{1, {11, 1000}});
  CHECK(receive_events(client, 10).size() == 10);
  CHECK(credit_came.wait());
  CHECK(call->has_credit());
}

TEST_CASE("credit counts bytes as well, and the last frame may go over by one event", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.greet();
  client.send(chat_of(1, {1000, 10'000}));
  auto call = node.next_call();
  REQUIRE(call);
  CHECK(call->send(texts(20, std::string(3'000, 'a'))) == SendState::no_credit);
  CHECK(client.expect<link::Events>().events.size() == 4);
  CHECK_FALSE(client.receive(std::chrono::milliseconds(100)));
}

TEST_CASE("an end waits for the events before it, an error does not", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.greet();
  client.send(chat_of(1, {1, 1000}));
  client.send(chat_of(2, {1, 1000}));
  auto first = node.next_call();
  auto second = node.next_call();
  REQUIRE(second);
  first->send(texts(2));
  first->done("d", 1, {});
  CHECK(client.expect<link::Events>().request_id == 1);
  second->send(texts(2));
  CHECK(client.expect<link::Events>().request_id == 2);
  second->fail(ErrorKind::cut, "the provider went away");
  CHECK(client.expect<link::RequestError>() ==
        link::RequestError{2, ErrorKind::cut, "the provider went away", false, 0});
  client.send(link::Grant{1, {1, 1000}});
  CHECK(client.expect<link::Events>().request_id == 1);
  CHECK(client.expect<link::Done>().request_id == 1);
}

TEST_CASE("a call that nobody answers ends with an error", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.greet();
  client.send(chat_of(1));
  node.next_call().reset();
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::internal);
}

TEST_CASE("a peer without CURVE gets nothing", "[link]") {
  FakeNode node;
  RawClient stranger(node, RawClient::Security::none);
  stranger.hello();
  CHECK_FALSE(stranger.receive(std::chrono::milliseconds(300)));
  RawClient client(node);
  client.greet();
  CHECK(node.listener().counters().peers == 1);
}

TEST_CASE("a wrong virtual key is refused at hello, a revoked one at the next chat", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.hello("ol_wrong");
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::unauthenticated);
  client.send(chat_of(1));
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::protocol);
  client.greet();
  node.revoke_key();
  client.send(chat_of(2));
  const auto error = client.expect<link::RequestError>();
  CHECK(error.kind == ErrorKind::unauthenticated);
  CHECK(error.request_id == 2);
}

TEST_CASE("garbage, other versions and repeated ids are refused and the link goes on", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.send(link::Hello{99, good_key, "raw", {}});
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::unsupported_version);
  client.greet();
  client.send_bytes(std::as_bytes(std::span("not a frame, certainly not")));
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::protocol);
  client.send(chat_of(1));
  auto call = node.next_call();
  REQUIRE(call);
  client.send(chat_of(1));
  CHECK(client.expect<link::RequestError>().kind == ErrorKind::protocol);
  client.send(link::Ping{5});
  CHECK(client.expect<link::Pong>().number == 5);
}

TEST_CASE("requests over a link's bound and peers over the listener's are refused", "[link]") {
  cluster::ListenerLimits limits;
  limits.calls_per_peer_max = 2;
  limits.peers_max = 1;
  FakeNode node(limits);
  RawClient client(node);
  client.greet();
  for (std::uint64_t id = 1; id <= 3; ++id) client.send(chat_of(id));
  const auto error = client.expect<link::RequestError>();
  CHECK(error.kind == ErrorKind::overloaded);
  CHECK(error.request_id == 3);
  CHECK(error.retryable);
  RawClient second(node);
  second.hello();
  CHECK(second.expect<link::RequestError>().kind == ErrorKind::overloaded);
}

TEST_CASE("the lane hears that a client cancelled, died, or takes nothing", "[link]") {
  cluster::ListenerLimits limits;
  limits.no_credit_ms_max = 300;
  limits.ping_ms = 200;
  FakeNode node(limits);
  Slot<CancelReason> reason;
  const auto watch = [&reason](ChatCall& call) {
    call.on_cancel([&reason](CancelReason why) { reason.set(why); });
  };

  SECTION("cancelled") {
    RawClient client(node);
    client.greet();
    client.send(chat_of(1));
    auto call = node.next_call();
    REQUIRE(call);
    watch(*call);
    client.send(link::Cancel{1});
    CHECK(reason.wait() == CancelReason::client_cancelled);
    CHECK(call->send(texts(1)) == SendState::ended);
    Slot<CancelReason> late;
    call->on_cancel([&late](CancelReason why) { late.set(why); });
    CHECK(late.wait(std::chrono::milliseconds(0)) == CancelReason::client_cancelled);
  }
  SECTION("died") {
    std::shared_ptr<ChatCall> call;
    {
      RawClient client(node);
      client.greet();
      client.send(chat_of(1));
      call = node.next_call();
      REQUIRE(call);
      watch(*call);
    }
    CHECK(reason.wait() == CancelReason::link_lost);
    CHECK(eventually([&node] { return node.listener().counters().peers == 0; }));
    CHECK(node.listener().counters().calls_in_flight == 0);
  }
  SECTION("takes nothing") {
    RawClient client(node);
    client.greet();
    client.send(chat_of(1, {1, 1000}));
    auto call = node.next_call();
    REQUIRE(call);
    watch(*call);
    CHECK(call->send(texts(3)) == SendState::no_credit);
    CHECK(reason.wait() == CancelReason::no_credit);
    CHECK(client.expect<link::Events>().events.size() == 1);
    CHECK(client.expect<link::RequestError>().kind == ErrorKind::slow_consumer);
  }
  SECTION("its deadline passed") {
    RawClient client(node);
    client.greet();
    auto chat = chat_of(1);
    chat.deadline_ms = 50;
    client.send(chat);
    auto call = node.next_call();
    REQUIRE(call);
    watch(*call);
    CHECK(reason.wait() == CancelReason::deadline);
    CHECK(client.expect<link::RequestError>().kind == ErrorKind::deadline_exceeded);
  }
  SECTION("the listener stops") {
    RawClient client(node);
    client.greet();
    client.send(chat_of(1));
    auto call = node.next_call();
    REQUIRE(call);
    watch(*call);
    node.stop();
    CHECK(reason.wait() == CancelReason::shutdown);
    CHECK(call->send(texts(1)) == SendState::ended);
  }
}

TEST_CASE("a peer that reads nothing does not hold up another", "[link]") {
  FakeNode node;
  RawClient full(node);
  RawClient other(node);
  full.greet();
  other.greet();
  full.send(chat_of(1, {60'000, 200u << 20}));
  auto flood = node.next_call();
  REQUIRE(flood);
  // More frames than both sockets' high-water marks and the kernel take: the rest waits in this peer's own queue.
  constexpr std::size_t frames = 5'000;
  const auto event = texts(1, std::string(8'000, 'f'));
  for (std::size_t i = 0; i < frames; ++i) flood->send(event);
  other.send(chat_of(1));
  auto call = node.next_call();
  REQUIRE(call);
  call->send(texts(1));
  call->done("d", 1, {});
  CHECK(other.expect<link::Events>().events.size() == 1);
  CHECK(other.expect<link::Done>().request_id == 1);
  CHECK(receive_events(full, frames).size() == frames);
}

TEST_CASE("a draining node says goodbye, finishes what runs and takes nothing new", "[link]") {
  FakeNode node;
  RawClient client(node);
  client.greet();
  client.send(chat_of(1));
  auto call = node.next_call();
  REQUIRE(call);
  node.listener().drain();
  client.expect<link::Goodbye>();
  client.send(chat_of(2));
  const auto error = client.expect<link::RequestError>();
  CHECK(error.kind == ErrorKind::draining);
  CHECK(error.request_id == 2);
  call->send(texts(1));
  call->done("d", 1, {});
  CHECK(client.expect<link::Events>().events.size() == 1);
  CHECK(client.expect<link::Done>().request_id == 1);
  RawClient late(node);
  late.hello();
  CHECK(late.expect<link::RequestError>().kind == ErrorKind::draining);
}

TEST_CASE("a listener that cannot start says why", "[link]") {
  FakeNode node;
  SystemClock clock;
  const auto start = [&clock](std::string listen, std::string key) {
    return cluster::ClientListener::start({std::move(listen), std::move(key), "n", {}, {}}, clock,
                                          [](std::string_view) { return std::shared_ptr<const VirtualKey>(); },
                                          [](const std::shared_ptr<ChatCall>&) {});
  };
  CHECK(is(start(node.endpoint(), node.keys().secret_key).error(), cluster::LinkError::bad_address));
  CHECK(is(start("127.0.0.1:0", node.keys().secret_key).error(), cluster::LinkError::bad_address));
  CHECK(is(start("tcp://127.0.0.1:0", "short").error(), cluster::LinkError::bad_key));
}

}  // namespace client_listener_test
