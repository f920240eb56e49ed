#include "cluster/node_links.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "tests/cluster/fake_node.hpp"

namespace node_links_test {

using namespace outlast;
using namespace outlast::test;
using cluster::ChatCall;
using cluster::ChatEnd;
using cluster::ChatFailure;
using cluster::ChatOutcome;
using cluster::NodeLinks;
using link::ErrorKind;

namespace {

// A client whose answers a test can wait for; it consumes what it receives unless told otherwise.
class Client {
 public:
  explicit Client(std::vector<const FakeNode*> nodes, std::string key = good_key, std::string server_key = {}) {
    cluster::LinksOptions options;
    for (const FakeNode* node : nodes) {
      options.endpoints.push_back({node->endpoint(), server_key.empty() ? node->keys().public_key : server_key});
    }
    options.virtual_key = std::move(key);
    options.client_name = "test";
    options.unreachable_ms_max = unreachable_ms;
    options.times.connect_ms_max = 1'000;
    auto links = NodeLinks::start(
        options,
        {[this](std::uint64_t id, std::vector<chat::Event> events, link::Credit cost) { take(id, events, cost); },
         [this](std::uint64_t id, ChatOutcome outcome) { end(id, std::move(outcome)); }});
    check(links.has_value(), "the links start");
    links_ = std::move(*links);
  }

  void ask(std::uint64_t id, std::uint32_t timeout_ms = 15'000) {
    chat::Request request;
    request.model = "smart";
    links_->submit(id, request, timeout_ms);
  }
  std::optional<ChatOutcome> outcome(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [this, id] { return !ends_[id].empty(); });
    return ends_[id].empty() ? std::nullopt : std::optional(ends_[id].front());
  }
  ChatFailure failure(std::uint64_t id) {
    const auto end = outcome(id);
    check(end && std::holds_alternative<ChatFailure>(*end), "the request failed");
    return std::get<ChatFailure>(*end);
  }
  bool succeeded(std::uint64_t id) {
    const auto end = outcome(id);
    return end && std::holds_alternative<ChatEnd>(*end);
  }
  std::size_t event_count(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    return events_[id].size();
  }
  std::size_t end_count(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    return ends_[id].size();
  }
  void close() { links_.reset(); }

  // From now on what is received is kept; consume_all() takes it and ends that.
  void hold() {
    const std::lock_guard lock(mutex_);
    consumes_ = false;
  }
  void consume_all(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    consumes_ = true;
    links_->consumed(id, kept_);
  }
  static constexpr std::uint32_t unreachable_ms = 3'000;

 private:
  void take(std::uint64_t id, std::vector<chat::Event>& events, link::Credit cost) {
    const std::lock_guard lock(mutex_);
    check(ends_[id].empty(), "no event comes after the end");
    for (auto& event : events) events_[id].push_back(std::move(event));
    if (consumes_) {
      links_->consumed(id, cost);
    } else {
      kept_.chunks += cost.chunks;
      kept_.bytes += cost.bytes;
    }
    changed_.notify_all();
  }
  void end(std::uint64_t id, ChatOutcome outcome) {
    const std::lock_guard lock(mutex_);
    ends_[id].push_back(std::move(outcome));
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, std::vector<chat::Event>> events_;
  std::map<std::uint64_t, std::vector<ChatOutcome>> ends_;
  bool consumes_ = true;
  link::Credit kept_;  // what was not consumed
  std::unique_ptr<NodeLinks> links_;
};

void answer(ChatCall& call) {
  const std::vector<chat::Event> events{chat::Start{"id", "m"}, chat::TextDelta{"hi"}, chat::Finish{}};
  call.send(events);
  call.done("d", 1, {});
}

void answer_call(const std::shared_ptr<ChatCall>& call) { answer(*call); }

}  // namespace

TEST_CASE("a request goes to a node and its answer comes back", "[link]") {
  FakeNode node({}, answer_call);
  Client client({&node});
  client.ask(1);
  const auto end = client.outcome(1);
  REQUIRE(end);
  REQUIRE(std::holds_alternative<ChatEnd>(*end));
  CHECK(std::get<ChatEnd>(*end) == ChatEnd{"d", 1, {}, "fake"});
  CHECK(client.event_count(1) == 3);
}

TEST_CASE("a consumer that takes nothing stops the sender at the window, and starts it again", "[link]") {
  FakeNode node;
  Client client({&node});
  client.hold();
  client.ask(1);
  auto call = node.next_call();
  REQUIRE(call);
  Slot<bool> credit;
  call->on_credit([&credit] { credit.set(true); });
  constexpr std::size_t count = 500;
  CHECK(call->send(std::vector<chat::Event>(count, chat::TextDelta{"word"})) == cluster::SendState::no_credit);
  CHECK(eventually([&client] { return client.event_count(1) == link::credit_window.chunks; }));
  CHECK_FALSE(credit.wait(std::chrono::milliseconds(200)));
  CHECK(client.event_count(1) == link::credit_window.chunks);
  client.consume_all(1);
  CHECK(credit.wait());
  CHECK(eventually([&client] { return client.event_count(1) == count; }));
  call->send(std::vector<chat::Event>{chat::Finish{}});
  call->done("d", 1, {});
  CHECK(client.succeeded(1));
}

TEST_CASE("a client finds its node again after a restart", "[link]") {
  FakeNode node({}, answer_call);
  Client client({&node});
  client.ask(1);
  CHECK(client.succeeded(1));
  node.stop();
  client.ask(2);
  node.start();
  client.ask(3);
  CHECK(client.succeeded(2));
  CHECK(client.succeeded(3));
}

TEST_CASE("a request that waits on a dying node is answered by the other", "[link]") {
  FakeNode first;
  FakeNode second({}, answer_call);
  Client client({&first, &second});
  // Ask until one request waits at the first node; the second answers its own at once.
  std::uint64_t id = 0;
  std::shared_ptr<ChatCall> waiting;
  const bool found = eventually([&] {
    client.ask(++id);
    waiting = first.next_call(std::chrono::milliseconds(20));
    return waiting != nullptr;
  });
  REQUIRE(found);
  first.stop();
  for (std::uint64_t i = 1; i <= id; ++i) CHECK(client.succeeded(i));
}

TEST_CASE("a request whose node dies after the first content fails and is not sent again", "[link]") {
  FakeNode node;
  Client client({&node});
  client.ask(1);
  auto call = node.next_call();
  REQUIRE(call);
  call->send(std::vector<chat::Event>{chat::Start{}, chat::TextDelta{"half an ans"}});
  CHECK(eventually([&client] { return client.event_count(1) == 2; }));
  node.stop();
  CHECK(client.failure(1).kind == ErrorKind::link_lost);
  node.start();
  CHECK_FALSE(node.next_call(std::chrono::milliseconds(300)));
  CHECK(client.end_count(1) == 1);
}

TEST_CASE("a request that nobody answers times out and the node hears of it", "[link]") {
  FakeNode node;
  Client client({&node});
  client.ask(1, 200);
  auto call = node.next_call();
  REQUIRE(call);
  Slot<cluster::CancelReason> reason;
  call->on_cancel([&reason](cluster::CancelReason why) { reason.set(why); });
  CHECK(client.failure(1).kind == ErrorKind::deadline_exceeded);
  CHECK(reason.wait());
}

TEST_CASE("a client that goes away cancels what the node does for it", "[link]") {
  FakeNode node;
  Client client({&node});
  client.ask(1);
  auto call = node.next_call();
  REQUIRE(call);
  Slot<cluster::CancelReason> reason;
  call->on_cancel([&reason](cluster::CancelReason why) { reason.set(why); });
  client.close();
  CHECK(client.failure(1).kind == ErrorKind::cancelled);
  CHECK(reason.wait());
}

TEST_CASE("a wrong server key ends in an error that says so", "[link]") {
  FakeNode node({}, answer_call);
  Client client({&node}, good_key, cluster::make_curve_keys().public_key);
  client.ask(1);
  const auto failure = client.failure(1);
  CHECK(failure.kind == ErrorKind::unreachable);
  CHECK(failure.message.find("server key") != std::string::npos);
  CHECK(node.listener().counters().peers == 0);
}

TEST_CASE("a wrong virtual key is an error at once", "[link]") {
  FakeNode node({}, answer_call);
  Client client({&node}, "ol_wrong");
  client.ask(1);
  CHECK(client.failure(1).kind == ErrorKind::unauthenticated);
}

TEST_CASE("a node that nobody runs is an error that names the reason", "[link]") {
  FakeNode node;
  node.stop();
  Client client({&node});
  client.ask(1);
  const auto failure = client.failure(1);
  CHECK(failure.kind == ErrorKind::unreachable);
  CHECK(failure.message.find("refused") != std::string::npos);
}

TEST_CASE("a draining node hands its clients to the other one", "[link]") {
  FakeNode first({}, answer_call);
  FakeNode second({}, answer_call);
  Client client({&first, &second});
  client.ask(1);
  CHECK(client.succeeded(1));
  first.listener().drain();
  for (std::uint64_t id = 2; id < 50; ++id) client.ask(id);
  for (std::uint64_t id = 2; id < 50; ++id) CHECK(client.succeeded(id));
}

namespace {

// Nodes that tell their clients of each other, as a cluster does.
struct Cluster {
  Cluster() {
    for (const char* name : {"n1", "n2", "n3"}) add(name);
  }
  void add(const char* name) {
    nodes.push_back(std::make_unique<FakeNode>(cluster::ListenerLimits{}, answer_call, name));
  }
  // The nodes of the given numbers, told by those of them that run.
  void tell(const std::vector<std::size_t>& members, std::optional<std::size_t> draining = {}) {
    link::Nodes list{++version, {}};
    for (const std::size_t i : members) list.nodes.push_back(nodes[i]->entry(i == draining));
    for (const std::size_t i : members) check(nodes[i]->listener().set_nodes(list).has_value(), "the list can be told");
  }
  std::vector<std::unique_ptr<FakeNode>> nodes;
  std::uint64_t version = 0;
  std::uint64_t last_id = 0;
};

}  // namespace

TEST_CASE("a client with one configured node learns of a cluster and follows it", "[link]") {
  Cluster cluster;
  cluster.tell({0, 1, 2});
  Client client({cluster.nodes[0].get()});
  // Several at once, since the one with the fewest in flight is asked.
  const auto ask_many = [&] {
    const auto first = cluster.last_id + 1;
    for (int i = 0; i < 60; ++i) client.ask(++cluster.last_id);
    for (auto id = first; id <= cluster.last_id; ++id) CHECK(client.succeeded(id));
  };
  const auto calls = [&](std::size_t i) { return cluster.nodes[i]->listener().counters().calls; };
  REQUIRE(eventually([&] {
    ask_many();
    return calls(0) > 0 && calls(1) > 0 && calls(2) > 0;
  }));

  // The configured node dies; the others go on, and nobody notices.
  cluster.nodes[0]->stop();
  ask_many();
  cluster.tell({1, 2});
  ask_many();

  // One is added.
  cluster.add("n4");
  cluster.tell({1, 2, 3});
  REQUIRE(eventually([&] {
    ask_many();
    return calls(3) > 0;
  }));

  // One drains: as the list says it, before it says so itself.
  cluster.tell({1, 2, 3}, 2);
  std::uint64_t before = 0;
  REQUIRE(eventually([&] {
    before = calls(2);
    ask_many();
    return calls(2) == before;
  }));
  cluster.nodes[2]->listener().drain();
  ask_many();
  CHECK(calls(2) == before);

  // The configured node is back.
  cluster.nodes[0]->start();
  cluster.tell({0, 1, 3});
  REQUIRE(eventually([&] {
    ask_many();
    return calls(0) > 0;
  }));
}

TEST_CASE("a list of nodes opens no way past a server key", "[link]") {
  FakeNode node({}, answer_call, "n1");
  FakeNode other({}, answer_call, "n2");
  auto wrong = other.entry();
  wrong.public_key = cluster::make_curve_keys().public_key;
  REQUIRE(node.listener().set_nodes({1, {node.entry(), wrong}}));
  Client client({&node});
  for (std::uint64_t id = 1; id <= 200; ++id) client.ask(id);
  for (std::uint64_t id = 1; id <= 200; ++id) CHECK(client.succeeded(id));
  CHECK(other.listener().counters().peers == 0);
  CHECK(other.listener().counters().calls == 0);
}

TEST_CASE("a list that cannot be told is refused and the last one stays", "[link]") {
  FakeNode node({}, answer_call, "n1");
  auto bad = node.entry();
  bad.address.assign(link::name_bytes_max + 1, 'x');
  CHECK(is(node.listener().set_nodes({1, {bad}}).error(), FrameError::too_large));
  std::vector<link::NodeEntry> many(link::nodes_max + 50, node.entry());
  CHECK(node.listener().set_nodes({2, many}));
}

TEST_CASE("links do not start with options that cannot work", "[link]") {
  const std::string key = cluster::make_curve_keys().public_key;
  const auto start = [](std::vector<cluster::Endpoint> endpoints, std::string virtual_key) {
    cluster::LinksOptions options;
    options.endpoints = std::move(endpoints);
    options.virtual_key = std::move(virtual_key);
    return NodeLinks::start(options, {}).error();
  };
  CHECK(is(start({}, "k"), cluster::LinkError::bad_options));
  CHECK(is(start({{"127.0.0.1:1", key}}, "k"), cluster::LinkError::bad_address));
  CHECK(is(start({{"tcp://127.0.0.1:1", "x"}}, "k"), cluster::LinkError::bad_key));
  CHECK(is(start({{"tcp://127.0.0.1:1", key}}, ""), cluster::LinkError::bad_options));
}

}  // namespace node_links_test
