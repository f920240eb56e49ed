#include "actors/worker_registry.hpp"

#include <map>

#include <catch2/catch.hpp>

#include "tests/actors/memory_net.hpp"

namespace worker_registry_test {

using namespace outlast;
using namespace outlast::actors;
using testing::frame_of;
using testing::MemoryNet;
using testing::text_of;

namespace {

WorkerDescription gpu(std::string name) { return {std::move(name), "a device", 24'000'000'000, {"train"}}; }

ask::Workers list_of(std::uint64_t version, std::vector<WorkerDescription> workers) {
  return {version, std::move(workers)};
}

Incarnation life(std::uint8_t number) {
  Incarnation incarnation;
  incarnation.bytes[0] = number;
  return incarnation;
}

std::vector<std::string> names(const std::vector<PlacedWorker>& workers) {
  std::vector<std::string> names;
  for (const PlacedWorker& placed : workers) names.push_back(placed.node + "/" + placed.worker.name);
  return names;
}
using Names = std::vector<std::string>;

// Answers with the name of its node; never, for method 0.
struct WorkerState {
  std::vector<caf::typed_response_promise<WorkerReply>> held;
};
GpuWorker::behavior_type fake_worker(GpuWorker::stateful_pointer<WorkerState> self, std::string node) {
  self->set_exit_handler([self](const caf::exit_msg& exit) {
    self->state.held.clear();  // a stored promise would keep this actor alive
    self->quit(exit.reason);
  });
  return {
      [](describe_atom) -> WorkerDescription { return gpu("gpu0"); },
      [self, node](const WorkerCall& call) -> caf::result<WorkerReply> {
        if (call.method == 0) {
          self->state.held.push_back(self->make_response_promise<WorkerReply>());
          return self->state.held.back();
        }
        return WorkerReply(WorkerResult{frame_of(node + " did " + text_of(call.body))});
      },
  };
}

}  // namespace

TEST_CASE("a table of workers takes each name once, and none that cannot be told", "[workers]") {
  WorkerTable table("a");
  CHECK(table.add(gpu("gpu0")));
  CHECK(is(table.add(gpu("gpu0")).error(), ActorError::refused));
  CHECK(is(table.add(gpu("")).error(), ActorError::refused));
  CHECK(is(table.add(gpu("a/b")).error(), ActorError::refused));
  CHECK(is(table.add(gpu(std::string(200, 'x'))).error(), ActorError::refused));
  auto chatty = gpu("chatty");
  chatty.capabilities.resize(ask::capabilities_max + 1);
  CHECK(is(table.add(chatty).error(), ActorError::refused));
  for (std::size_t i = 1; i < ask::workers_max; ++i) REQUIRE(table.add(gpu("w" + std::to_string(i))));
  CHECK(is(table.add(gpu("one-more")).error(), ActorError::overloaded));
  CHECK(ask::encode(table.announcement()));
  CHECK(table.remove("gpu0"));
  CHECK_FALSE(table.remove("gpu0"));
  CHECK(table.add(gpu("one-more")));
}

TEST_CASE("announcements may come twice, late and from an earlier life", "[workers]") {
  WorkerTable table("a");
  CHECK(table.heard("b", life(1), list_of(2, {gpu("gpu0"), gpu("gpu1")})));
  CHECK_FALSE(table.heard("b", life(1), list_of(2, {})));
  CHECK_FALSE(table.heard("b", life(1), list_of(1, {gpu("old")})));
  CHECK(names(table.workers()) == Names{"b/gpu0", "b/gpu1"});
  CHECK(table.heard("b", life(1), list_of(3, {gpu("gpu1")})));
  CHECK(table.heard("b", life(2), list_of(1, {gpu("gpu7")})));
  CHECK(names(table.workers()) == Names{"b/gpu7"});
  CHECK_FALSE(table.heard("a", life(1), list_of(9, {gpu("mine?")})));
  CHECK(table.forget("b"));
  CHECK_FALSE(table.forget("b"));
  CHECK(table.workers().empty());
}

TEST_CASE("a worker is found by its node and name, or by its name alone where one node has it", "[workers]") {
  WorkerTable table("a");
  REQUIRE(table.add(gpu("gpu0")));
  table.heard("b", life(1), list_of(1, {gpu("gpu0"), gpu("big")}));
  CHECK(table.find("a/gpu0")->node == "a");
  CHECK(table.find("b/gpu0")->node == "b");
  CHECK(table.find("big")->node == "b");
  const auto several = table.find("gpu0");
  REQUIRE(is(several.error(), ActorError::refused));
  CHECK(several.error().message.find("a/gpu0 or b/gpu0") != std::string::npos);
  for (const char* name : {"none", "b/none", "c/gpu0", "", "/", "b/"}) {
    CHECK(is(table.find(name).error(), ActorError::not_found));
  }
}

TEST_CASE("a worker of one node is used from another, until its node dies", "[workers]") {
  MemoryNet net;
  auto& a = net.add("a");
  auto& b = net.add("b");
  const auto worker = a.adopt(a.system().spawn(fake_worker, std::string("a")));
  REQUIRE(a.workers->add(gpu("gpu0"), worker));
  net.connect(a, b);
  net.pump();
  REQUIRE(names(b.workers->workers()) == Names{"a/gpu0"});
  CHECK(b.workers->own_workers().empty());
  CHECK(a.workers->own_workers() == std::vector<WorkerDescription>{gpu("gpu0")});
  CHECK(*a.workers->worker("gpu0") == worker);  // at home it is the actor itself

  const auto remote = b.workers->worker("gpu0");
  REQUIRE(remote);
  const auto described = b.request<WorkerDescription>(*remote, describe_atom::value);
  const auto done = b.request<WorkerReply>(*remote, WorkerCall{3, frame_of("a step")});
  net.pump();
  CHECK(described->answer == gpu("gpu0"));
  REQUIRE(done->answer);
  CHECK(text_of((*done->answer)->body) == "a did a step");

  const auto running = b.request<WorkerReply>(*remote, WorkerCall{0, nullptr});
  net.pump();
  CHECK(running->times == 0);
  net.disconnect(a, b, "power");
  net.pump();
  REQUIRE(running->error);
  CHECK(is(*running->error, ActorError::unavailable));
  CHECK(b.workers->workers().empty());
  CHECK(is(b.workers->worker("a/gpu0").error(), ActorError::not_found));

  a.renew();
  net.connect(a, b);
  net.pump();
  CHECK(names(b.workers->workers()) == Names{"a/gpu0"});
  const auto again = b.request<WorkerReply>(*b.workers->worker("gpu0"), WorkerCall{3, frame_of("more")});
  net.pump();
  CHECK(again->answer);
}

TEST_CASE("every node hears of a worker that comes, ends or leaves", "[workers]") {
  MemoryNet net;
  auto& a = net.add("a");
  auto& b = net.add("b");
  auto& c = net.add("c");
  net.connect(a, b);
  net.connect(a, c);
  net.connect(b, c);
  const auto one = a.adopt(a.system().spawn(fake_worker, std::string("a")));
  const auto two = b.adopt(b.system().spawn(fake_worker, std::string("b")));
  REQUIRE(a.workers->add(gpu("one"), one));
  REQUIRE(b.workers->add(gpu("two"), two));
  net.pump();
  for (const auto* node : {&a, &b, &c}) CHECK(names(node->workers->workers()) == Names{"a/one", "b/two"});

  const auto running = c.request<WorkerReply>(*c.workers->worker("one"), WorkerCall{0, nullptr});
  net.pump();
  a.kill(one);  // its process is gone
  net.pump();
  REQUIRE(running->error);
  for (const auto* node : {&a, &b, &c}) CHECK(names(node->workers->workers()) == Names{"b/two"});

  b.workers->remove("two");
  b.workers->remove("two");
  net.pump();
  for (const auto* node : {&a, &b, &c}) CHECK(node->workers->workers().empty());
  // The actor itself goes on; its name is free again.
  REQUIRE(b.workers->add(gpu("two"), two));
  net.pump();
  CHECK(names(a.workers->workers()) == Names{"b/two"});
}

TEST_CASE("a worker whose actor has ended already is not kept", "[workers]") {
  MemoryNet net;
  auto& a = net.add("a");
  const auto dead = a.system().spawn(fake_worker, std::string("a"));
  a.kill(dead);
  REQUIRE(a.workers->add(gpu("gpu0"), dead));
  CHECK(a.workers->workers().empty());
  CHECK(is(a.workers->add(gpu("gpu0"), GpuWorker()).error(), ActorError::refused));
}

TEST_CASE("an announcement that finds a queue full is made again", "[workers]") {
  MemoryNet net;
  auto& a = net.add("a");
  auto& b = net.add("b");
  net.connect(a, b);
  net.pump();
  auto& link = net.links.at({"a", "b"});
  link.frames_max = 0;
  REQUIRE(a.workers->add(gpu("gpu0"), a.adopt(a.system().spawn(fake_worker, std::string("a")))));
  net.pump();
  CHECK(b.workers->workers().empty());
  link.frames_max = 100;
  net.advance_ms(50);
  CHECK(names(b.workers->workers()) == Names{"a/gpu0"});
}

TEST_CASE("whatever order links and workers change in, all nodes end with the same view", "[workers]") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    MemoryNet net(seed);
    std::vector<MemoryNet::Node*> nodes;
    for (const char* name : {"a", "b", "c"}) nodes.push_back(&net.add(name));
    std::map<std::string, GpuWorker> actors;  // by NODE/NAME
    for (int i = 0; i < 300; ++i) {
      auto& one = *nodes[random.below(3)];
      auto& other = *nodes[random.below(3)];
      const std::string name = "w" + std::to_string(random.below(3));
      switch (random.below(8)) {
        case 0:
          if (&one != &other) net.connect(one, other);
          break;
        case 1:
          if (&one != &other && random.below(2) == 0) net.disconnect(one, other);
          break;
        case 2:
        case 3: {
          const auto actor = one.adopt(one.system().spawn(fake_worker, one.name));
          if (one.workers->add(gpu(name), actor)) actors[one.name + "/" + name] = actor;
          break;
        }
        case 4:
          one.workers->remove(name);
          actors.erase(one.name + "/" + name);
          break;
        case 5:
          if (const auto found = actors.find(one.name + "/" + name); found != actors.end()) {
            one.kill(found->second);
            actors.erase(found);
          }
          break;
        case 6: net.delay_ms_max = random.below(2) * 30; break;
        default: net.advance_ms(static_cast<std::int64_t>(random.below(20)));
      }
      if (random.below(3) == 0) net.pump();
    }
    for (auto* one : nodes) {
      for (auto* other : nodes) {
        if (one != other) net.connect(*one, *other);
      }
    }
    net.pump();
    net.delay_ms_max = 0;
    net.advance_ms(10'000);
    Names expected;
    for (const auto& [name, actor] : actors) expected.push_back(name);
    for (const auto* node : nodes) REQUIRE(names(node->workers->workers()) == expected);
    for (const std::string& name : expected) {
      REQUIRE(nodes[0]->workers->worker(name));
      const auto asked = nodes[0]->request<WorkerReply>(*nodes[0]->workers->worker(name), WorkerCall{1, frame_of("it")});
      net.pump();
      INFO(name << ": " << (asked->error ? asked->error->message : ""));
      REQUIRE(asked->answer);
    }
  }
}

}  // namespace worker_registry_test
