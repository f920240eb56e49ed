#include "actors/remote_actor.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include <caf/exit_reason.hpp>

#include "tests/actors/memory_net.hpp"
#include "tests/actors/remote_fakes.hpp"

namespace remote_actor_test {

using namespace outlast;
using namespace outlast::actors;
using namespace std::chrono_literals;
using testing::Asked;
using testing::frame_of;
using testing::MemoryNet;
using testing::Held;
using testing::fake_worker;
using testing::text_of;

namespace {

// A node's own actor, as the daemon will have one.
struct FakeNodeState {
  int drains = 0;  // a bool would be made from the actor's pointer: CAF tries State(self) first
};
ClusterNode::behavior_type fake_node(ClusterNode::stateful_pointer<FakeNodeState> self, std::string name) {
  return {
      [self, name](status_atom) -> NodeReport {
        NodeReport report;
        report.name = name;
        report.draining = self->state.drains > 0;
        report.shards = {{3, true, 100, 2}};
        return report;
      },
      [self](drain_atom) -> Done {
        if (++self->state.drains > 1) return fail(ActorError::refused, "it drains already");
        return true;
      },
  };
}

struct Downs {
  std::vector<caf::error> reasons;
};

struct Pair {
  explicit Pair(RemoteLimits limits = {}) : a(net.add("a", limits)), b(net.add("b", limits)) {
    net.connect(a, b);
    node = b.adopt(b.system().spawn(fake_node, std::string("b")));
    worker = b.adopt(b.system().spawn(fake_worker, held));
    check(b.remote->serve<ClusterNode>(cluster_node_name, node).has_value(), "the node is served");
    check(b.remote->serve<GpuWorker>("worker", worker).has_value(), "the worker is served");
    net.pump();
  }
  ~Pair() { held->release(); }  // a stored promise keeps its actor alive

  ClusterNode node_of_b() { return *a.remote->proxy<ClusterNode>("b", cluster_node_name); }
  GpuWorker worker_of_b(std::chrono::milliseconds deadline = 10s) {
    return *a.remote->proxy<GpuWorker>("b", "worker", deadline);
  }
  // The reasons of the ends of `watched`, as an actor of node a hears of them.
  template <class Handle>
  std::shared_ptr<Downs> monitor(const Handle& watched) {
    auto downs = std::make_shared<Downs>();
    auto watcher = a.system().spawn([watched, downs](caf::event_based_actor* self) -> caf::behavior {
      self->monitor(watched);
      self->set_down_handler([downs](const caf::down_msg& down) { downs->reasons.push_back(down.reason); });
      return {[](status_atom) {}};
    });
    a.adopt(watcher);
    net.pump();
    return downs;
  }

  MemoryNet net;
  MemoryNet::Node& a;
  MemoryNet::Node& b;
  std::shared_ptr<Held> held = std::make_shared<Held>();
  ClusterNode node;
  GpuWorker worker;
};

bool is_error(const std::shared_ptr<Asked<WorkerReply>>& asked, ActorError code) {
  return asked->times == 1 && asked->error && is(*asked->error, code);
}

}  // namespace

TEST_CASE("an actor of another node answers by the same interface as a local one", "[remote]") {
  Pair pair;
  const auto status = pair.a.request<NodeReport>(pair.node_of_b(), status_atom::value);
  const auto drained = pair.a.request<Done>(pair.node_of_b(), drain_atom::value);
  pair.net.pump();
  const auto again = pair.a.request<Done>(pair.node_of_b(), drain_atom::value);
  const auto call = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, frame_of("body")});
  const auto refused = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{1, nullptr});
  pair.net.pump();
  REQUIRE(status->answer);
  CHECK(status->answer->name == "b");
  CHECK(status->answer->shards == std::vector<ShardReport>{{3, true, 100, 2}});
  CHECK((drained->answer && drained->answer->has_value()));
  // What the actor itself refuses arrives as its own answer, as from a local one.
  REQUIRE(again->answer);
  CHECK(is(again->answer->error(), ActorError::refused));
  CHECK(again->answer->error().message == "it drains already");
  REQUIRE(call->answer);
  CHECK(text_of((*call->answer)->body) == "7:body");
  REQUIRE(refused->answer);
  CHECK(is(refused->answer->error(), ActorError::refused));
  CHECK(pair.a.remote->counters().asks == 5);
  CHECK(pair.b.remote->counters().serves == 5);
  CHECK(pair.a.remote->counters().asks_in_flight == 0);
  CHECK(pair.b.remote->counters().serves_in_flight == 0);
}

TEST_CASE("when a node goes, requests in flight fail at once and monitors fire", "[remote]") {
  Pair pair;
  const GpuWorker worker = pair.worker_of_b();
  const auto downs = pair.monitor(worker);
  std::vector<std::shared_ptr<Asked<WorkerReply>>> asked;
  for (int i = 0; i < 5; ++i) asked.push_back(pair.a.request<WorkerReply>(worker, WorkerCall{0, nullptr}));
  pair.net.pump();
  CHECK(pair.held->promises.size() == 5);
  CHECK(asked[0]->times == 0);
  CHECK(downs->reasons.empty());
  pair.net.disconnect(pair.a, pair.b, "its machine burns");
  pair.net.pump();
  for (const auto& one : asked) {
    REQUIRE(is_error(one, ActorError::unavailable));
    CHECK(one->error->message.find("its machine burns") != std::string::npos);
  }
  REQUIRE(downs->reasons.size() == 1);
  CHECK(downs->reasons[0] == caf::exit_reason::remote_link_unreachable);

  // What comes later fails as fast, and what the actor still says is nobody's.
  const auto later = pair.a.request<WorkerReply>(worker, WorkerCall{7, nullptr});
  pair.held->release();
  pair.net.pump();
  CHECK(is_error(later, ActorError::unavailable));
  CHECK(pair.b.remote->counters().late_answers == 5);
  CHECK(is(pair.a.remote->proxy<GpuWorker>("b", "worker").error(), ActorError::unavailable));

  // The node's next life is another: the old proxy stays dead, a new one works.
  pair.b.renew();
  pair.net.connect(pair.a, pair.b);
  const auto old = pair.a.request<WorkerReply>(worker, WorkerCall{7, nullptr});
  const auto fresh = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, frame_of("x")});
  pair.net.pump();
  CHECK(is_error(old, ActorError::unavailable));
  REQUIRE(fresh->answer);
  CHECK(text_of((*fresh->answer)->body) == "7:x");
}

TEST_CASE("when an actor ends, its proxies end too and its requests fail", "[remote]") {
  Pair pair;
  const GpuWorker worker = pair.worker_of_b();
  const auto downs = pair.monitor(worker);
  const auto asked = pair.a.request<WorkerReply>(worker, WorkerCall{0, nullptr});
  pair.net.pump();
  SECTION("by itself") {
    pair.held->promises.clear();
    pair.b.kill(pair.worker);
  }
  SECTION("because it is served no more") { pair.b.remote->stop_serving("worker"); }
  SECTION("because another takes its name") {
    const auto other = pair.b.adopt(pair.b.system().spawn(fake_worker, pair.held));
    REQUIRE(pair.b.remote->serve<GpuWorker>("worker", other));
  }
  pair.net.pump();
  CHECK(is_error(asked, ActorError::unavailable));
  REQUIRE(downs->reasons.size() == 1);
  CHECK(is(error_of(downs->reasons[0]), ActorError::unavailable));
  CHECK(pair.a.remote->counters().asks_in_flight == 0);
}

TEST_CASE("an actor that has ended before it is served is not reached", "[remote]") {
  Pair pair;
  const auto dead = pair.b.system().spawn(fake_worker, pair.held);
  pair.b.kill(dead);
  REQUIRE(pair.b.remote->serve<GpuWorker>("dead", dead));
  pair.net.pump();
  const auto asked = pair.a.request<WorkerReply>(*pair.a.remote->proxy<GpuWorker>("b", "dead"), WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(is_error(asked, ActorError::not_found));
}

TEST_CASE("only what is served is reached, and only by its own methods", "[remote]") {
  Pair pair;
  const auto nobody = *pair.a.remote->proxy<GpuWorker>("b", "nobody");
  const auto asked = pair.a.request<WorkerReply>(nobody, WorkerCall{7, nullptr});
  // The other side's actor has another interface: it has methods of these numbers, but not with such bodies.
  const auto confused = *pair.a.remote->proxy<GpuWorker>("b", cluster_node_name);
  const auto wrong = pair.a.request<WorkerReply>(confused, WorkerCall{7, frame_of("x")});
  pair.net.pump();
  CHECK(is_error(asked, ActorError::not_found));
  REQUIRE(wrong->times == 1);
  REQUIRE(wrong->error);
  CHECK(is(*wrong->error, FrameError::malformed));
  CHECK(is(pair.a.remote->proxy<ClusterNode>("b", cluster_node_name).error(), ActorError::refused));
  CHECK(is(pair.a.remote->proxy<GpuWorker>("c", "worker").error(), ActorError::unavailable));
  CHECK(is(pair.a.remote->proxy<GpuWorker>("b", "").error(), ActorError::refused));
  CHECK(is(pair.b.remote->serve<GpuWorker>("", pair.worker).error(), ActorError::refused));
}

TEST_CASE("one proxy serves one name while somebody holds it", "[remote]") {
  Pair pair;
  auto first = pair.worker_of_b();
  CHECK(pair.worker_of_b() == first);
  const auto downs = pair.monitor(first);
  first = GpuWorker();
  CHECK(downs->reasons.size() <= 1);
  pair.net.pump();
  // Nobody holds it: its monitors hear so, as of any local actor.
  REQUIRE(downs->reasons.size() == 1);
  CHECK(downs->reasons[0] == caf::exit_reason::unreachable);
  const auto asked = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(asked->answer);
}

TEST_CASE("a proxy can be told to exit and takes nothing afterwards", "[remote]") {
  Pair pair;
  const auto worker = pair.worker_of_b();
  const auto downs = pair.monitor(worker);
  pair.a.kill(worker);
  REQUIRE(downs->reasons.size() == 1);
  const auto asked = pair.a.request<WorkerReply>(worker, WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(is_error(asked, ActorError::unavailable));
  CHECK(pair.worker_of_b() != worker);
}

TEST_CASE("requests over a bound are refused at once and the others go on", "[remote]") {
  RemoteLimits limits;
  SECTION("of the asking node") { limits.asks_per_node_max = 3; }
  SECTION("of the answering node") { limits.serves_per_node_max = 3; }
  Pair pair(limits);
  std::vector<std::shared_ptr<Asked<WorkerReply>>> asked;
  for (int i = 0; i < 5; ++i) asked.push_back(pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{0, nullptr}));
  pair.net.pump();
  for (int i = 0; i < 3; ++i) CHECK(asked[i]->times == 0);
  for (int i = 3; i < 5; ++i) CHECK(is_error(asked[i], ActorError::overloaded));
  pair.held->release();
  pair.net.pump();
  for (int i = 0; i < 3; ++i) CHECK(asked[i]->answer);
  const auto next = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(next->answer);
}

TEST_CASE("proxies and served actors are bounded", "[remote]") {
  RemoteLimits limits;
  limits.proxies_per_node_max = 2;
  limits.served_actors_max = 2;
  Pair pair(limits);
  CHECK(is(pair.b.remote->serve<GpuWorker>("third", pair.worker).error(), ActorError::overloaded));
  auto one = pair.a.remote->proxy<GpuWorker>("b", "1");
  const auto two = pair.a.remote->proxy<GpuWorker>("b", "2");
  REQUIRE(two);
  CHECK(is(pair.a.remote->proxy<GpuWorker>("b", "3").error(), ActorError::overloaded));
  *one = GpuWorker();
  CHECK(pair.a.remote->proxy<GpuWorker>("b", "3"));
}

TEST_CASE("a full queue refuses requests, and an answer that finds it full is sent later", "[remote]") {
  Pair pair;
  auto& there = pair.net.links.at({"a", "b"});
  auto& back = pair.net.links.at({"b", "a"});
  const auto held = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{0, nullptr});
  pair.net.pump();
  there.frames_max = 0;
  const auto refused = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(is_error(refused, ActorError::overloaded));

  back.frames_max = 0;
  pair.held->release();
  pair.net.pump();
  CHECK(held->times == 0);
  back.frames_max = 100;
  pair.net.advance_ms(1);
  CHECK(held->answer);
}

TEST_CASE("a request without an answer ends at its deadline and the late answer is dropped", "[remote]") {
  Pair pair;
  const auto asked = pair.a.request<WorkerReply>(pair.worker_of_b(500ms), WorkerCall{0, nullptr});
  pair.net.pump();
  pair.net.advance_ms(499);
  CHECK(asked->times == 0);
  CHECK(pair.b.remote->counters().serves_in_flight == 1);
  pair.net.advance_ms(1);
  CHECK(is_error(asked, ActorError::timed_out));
  CHECK(pair.b.remote->counters().serves_in_flight == 0);
  pair.held->release();
  pair.net.pump();
  CHECK(asked->times == 1);
  CHECK(pair.b.remote->counters().late_answers == 1);
}

TEST_CASE("an answer that crosses its request's deadline is dropped", "[remote]") {
  Pair pair;
  const auto asked = pair.a.request<WorkerReply>(pair.worker_of_b(500ms), WorkerCall{7, nullptr});
  pair.net.links.at({"b", "a"}).delay_ms = 1'000;
  pair.net.pump();
  pair.net.advance_ms(500);
  CHECK(is_error(asked, ActorError::timed_out));
  pair.net.advance_ms(500);
  CHECK(asked->times == 1);
  CHECK(pair.a.remote->counters().late_answers == 1);
  CHECK(pair.a.remote->counters().asks_in_flight == 0);
}

TEST_CASE("a stopped node answers what is in flight and its proxies end", "[remote]") {
  Pair pair;
  const auto worker = pair.worker_of_b();
  const auto downs = pair.monitor(worker);
  const auto asked = pair.a.request<WorkerReply>(worker, WorkerCall{0, nullptr});
  pair.net.pump();
  pair.a.workers.reset();
  pair.a.remote.reset();
  pair.a.run();
  CHECK(is_error(asked, ActorError::unavailable));
  CHECK(downs->reasons.size() == 1);
  const auto later = pair.a.request<WorkerReply>(worker, WorkerCall{7, nullptr});
  pair.a.run();
  CHECK(is_error(later, ActorError::unavailable));
}

TEST_CASE("messages that no honest node sends do no harm", "[remote]") {
  Pair pair;
  const auto say = [&](ask::Message message) { pair.b.remote->on_message(pair.a.peer(), std::move(message)); };
  const auto call = *Wire<WorkerCall>::encode({0, frame_of("x")});
  SECTION("an id in use") {
    say(ask::Ask{9, "worker", 2, 1'000, call});
    say(ask::Ask{9, "worker", 2, 1'000, call});
    pair.net.pump();
    CHECK(pair.held->promises.size() == 1);
    CHECK(pair.b.remote->counters().malformed == 1);
  }
  SECTION("a body that lies") {
    say(ask::Ask{9, "worker", 2, 1'000, frame_of("no such body")});
    pair.net.pump();
    CHECK(pair.held->promises.empty());
    CHECK(pair.b.remote->counters().malformed == 1);
  }
  SECTION("a method of a newer version") {
    say(ask::Ask{9, "worker", 99, 1'000, call});
    CHECK(pair.net.links.at({"b", "a"}).frames.size() == 1);
  }
  SECTION("answers that nobody asked for") {
    say(ask::Answer{1, nullptr});
    say(ask::Failed{2, {"actors", 1, "?"}, true});
    say(ask::Cancel{3});
    say(ask::Down{"nobody", "?"});
    CHECK(pair.b.remote->counters().late_answers == 2);
  }
  SECTION("from a node that is not up, or another life of it") {
    pair.b.remote->on_message({"stranger", {}, 1}, ask::Ask{9, "worker", 2, 1'000, call});
    pair.a.renew();
    say(ask::Ask{9, "worker", 2, 1'000, call});
    pair.net.pump();
    CHECK(pair.held->promises.empty());
    --pair.a.incarnation.bytes[15];
  }
  SECTION("bytes that are no message") {
    CHECK_FALSE(pair.b.channel.on_frame(pair.a.peer(), frame_of("nonsense")));
    CHECK_FALSE(pair.b.channel.on_frame(pair.a.peer(), frame_of("")));
  }
  SECTION("an answer of the wrong type") {
    const auto asked = pair.a.request<NodeReport>(pair.node_of_b(), status_atom::value);
    pair.a.run();
    pair.net.links.at({"a", "b"}).frames.clear();
    pair.a.remote->on_message(pair.b.peer(), ask::Answer{1, frame_of("no report")});
    pair.net.pump();
    REQUIRE(asked->times == 1);
    CHECK(is(*asked->error, FrameError::malformed));
    CHECK(pair.a.remote->counters().malformed == 1);
  }
  pair.held->release();
  const auto honest = pair.a.request<WorkerReply>(pair.worker_of_b(), WorkerCall{7, nullptr});
  pair.net.pump();
  CHECK(honest->answer);
}

TEST_CASE("errors keep who made them on their way through CAF", "[remote]") {
  const Error error{"ledger", 20, "fenced"};
  const Error again = error_of(caf_error_of(error));
  CHECK(again.module == "ledger");
  CHECK(again.code == 20);
  CHECK(again.message == "fenced");
  CHECK(is(error_of(caf::sec::request_timeout), ActorError::timed_out));
  CHECK(is(error_of(caf::sec::request_receiver_down), ActorError::unavailable));
}

}  // namespace remote_actor_test
