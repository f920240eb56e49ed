// Runs of a student on several ranks, as workers do them: here a thread is a worker.
#include <future>

#include "gpu/collective/rendezvous_server.hpp"
#include "gpu/collective/tcp_collective.hpp"
#include "tests/worker/school.hpp"

namespace outlast::worker::ranks_job_test {
namespace {

using work::EventKind;

// Its device fails in the COUNTth sum.
class FailingCollective final : public gpu::Collective {
 public:
  FailingCollective(std::unique_ptr<gpu::Collective> inner, int count) : inner_(std::move(inner)), count_(count) {}
  [[nodiscard]] std::uint64_t generation() const override { return inner_->generation(); }
  [[nodiscard]] std::size_t rank() const override { return inner_->rank(); }
  [[nodiscard]] std::size_t ranks() const override { return inner_->ranks(); }
  Result<void> all_reduce_sum(const gpu::Array& numbers) override { return inner_->all_reduce_sum(numbers); }
  Result<void> reduce_scatter_sum(const gpu::Array& numbers) override { return inner_->reduce_scatter_sum(numbers); }
  Result<void> all_gather(const gpu::Array& numbers) override { return inner_->all_gather(numbers); }
  Result<void> broadcast(const gpu::Array& numbers, std::size_t root) override { return inner_->broadcast(numbers, root); }
  Result<void> pass_on(const gpu::Array& to_next, const gpu::Array& from_previous) override { return inner_->pass_on(to_next, from_previous); }
  Result<void> sum(std::span<double> numbers) override {
    if (--count_ == 0) return fail(gpu::GpuError::device, "the device fell off the bus");
    return inner_->sum(numbers);
  }

 private:
  const std::unique_ptr<gpu::Collective> inner_;
  int count_;
};

struct Rank {
  Recorded context;
  Result<void> done;
};

struct Plan {
  std::size_t ranks = 2;
  std::optional<std::size_t> stops;  // this worker is asked to stop in the second step
  int first_fails_in_sum = 0;        // 0: never
  int all_stop_when_asked = 0;       // so often, of each worker; 0: never
};

// Of the worker that was the first rank in the end.
const Recorded& telling(const std::vector<Rank>& ranks) {
  const auto at = std::find_if(ranks.begin(), ranks.end(), [](const Rank& rank) { return rank.done && rank.context.figure(EventKind::step, "step") > 0; });
  REQUIRE(at != ranks.end());
  return at->context;
}

std::vector<Rank> taught(work::Train train, const Plan& plan) {
  gpu::RollOptions roll;
  roll.run = "a secret of tests";
  roll.ranks = plan.ranks;
  roll.silence_ms_max = 20'000;
  const auto server = std::move(*gpu::RendezvousServer::make("127.0.0.1", 0, roll));
  train.ranks = {static_cast<std::uint32_t>(plan.ranks), "127.0.0.1", server->port(), roll.run};
  const ConnectRanks connect = [&plan](gpu::Rendezvous& rendezvous) -> Result<gpu::ElasticTrainer::Connect> {
    return [&rendezvous, &plan](const gpu::Generation& generation) -> Result<std::unique_ptr<gpu::Collective>> {
      auto ring = gpu::TcpCollective::make(rendezvous, generation, {});
      const bool fails = generation.number == 1 && generation.rank == 0 && plan.first_fails_in_sum > 0;
      if (!ring || !fails) return ring;
      return std::make_unique<FailingCollective>(std::move(*ring), plan.first_fails_in_sum);
    };
  };
  std::vector<Rank> ranks(plan.ranks);
  std::vector<std::future<void>> running;
  for (std::size_t i = 0; i < plan.ranks; ++i) {
    ranks[i].context.stops_when_asked = plan.stops == i ? 2 : plan.all_stop_when_asked;
    running.push_back(std::async(std::launch::async, [&train, &connect, &rank = ranks[i]] {
      const auto device = std::move(*gpu::CpuDevice::make(1));
      rank.done = worker::train(train, *device, rank.context, connect);
    }));
  }
  for (auto& one : running) one.get();
  CHECK(server->generation() > 0);
  return ranks;
}

std::vector<double> losses_of(const Recorded& told) {
  std::vector<double> losses;
  for (const work::Event& event : told.events) {
    if (event.kind == EventKind::step) losses.push_back(event.figure("loss"));
  }
  return losses;
}

void check_alike(const std::vector<double>& losses, const std::vector<double>& expected) {
  REQUIRE(losses.size() == expected.size());
  for (std::size_t i = 0; i < losses.size(); ++i) CHECK(std::abs(losses[i] - expected[i]) < 1e-4);
}

bool has_note(const Recorded& told, const std::string& words) {
  return std::any_of(told.events.begin(), told.events.end(), [&words](const work::Event& event) { return event.kind == EventKind::note && event.text.find(words) != std::string::npos; });
}

}  // namespace

TEST_CASE("ranks learn what one learns, and the first alone tells", "[worker]") {
  School school;
  work::Train train = school.lesson("alone", {});
  const std::string how = GENERATE("every weight", "an adapter", "of a teacher");
  if (how == "of a teacher") train.distillation = {school.path("teacher"), "forward-kl", 2, 0, 0.5};
  if (how == "an adapter") {
    train.model = school.path("teacher");
    train.lora_rank = 2;
  }
  CHECK_FALSE(school.refusal(train));
  const auto alone = losses_of(school.context);
  train.output = school.path("student");
  const auto ranks = taught(train, {});
  std::size_t telling_ranks = 0;
  for (const Rank& rank : ranks) {
    REQUIRE(rank.done);
    telling_ranks += rank.context.figure(EventKind::step, "step") > 0 ? 1 : 0;
    CHECK(rank.context.figure(EventKind::plan, "ranks") == 2);
    CHECK(rank.context.figure(EventKind::plan, "copies_bytes") > 0);
  }
  CHECK(telling_ranks == 1);
  check_alike(losses_of(telling(ranks)), alone);
  CHECK(std::filesystem::exists(school.path("student") + "/model.safetensors"));
}

TEST_CASE("a rank that is asked to stop stops all with a checkpoint, from which other ranks go on", "[worker]") {
  School school;
  work::Train train = school.lesson("alone", {});
  CHECK_FALSE(school.refusal(train));
  const auto alone = losses_of(school.context);
  train.output = school.path("student");
  for (const Rank& rank : taught(train, {3, 1, 0})) {
    REQUIRE_FALSE(rank.done);
    CHECK(is(rank.done.error(), gpu::GpuError::cancelled));
    CHECK(rank.done.error().message == "stopped after step 2 of 3");
  }
  CHECK_FALSE(std::filesystem::exists(school.path("student") + "/model.safetensors"));
  train.resume = true;
  const auto ranks = taught(train, {});
  for (const Rank& rank : ranks) REQUIRE(rank.done);
  CHECK(has_note(telling(ranks), "goes on after step 2"));
  check_alike(losses_of(telling(ranks)), {alone[2]});
}

TEST_CASE("ranks stop together where the first one is stopped in an evaluation, and go on with it", "[worker]") {
  School school;
  school.write("many.jsonl", school.chat + "}\n" + school.chat + "}\n" + school.chat + "}\n" + school.chat + "}\n");
  work::Train train = school.lesson("student", {});
  train.evaluation = school.path("many.jsonl");
  train.evaluate_every = 1;
  train.rows = 32;
  train.positions = 32;
  for (const Rank& rank : taught(train, {2, {}, 0, 3})) {  // the first is asked in the first step, then in its evaluation
    REQUIRE_FALSE(rank.done);
    CHECK(is(rank.done.error(), gpu::GpuError::cancelled));
    CHECK(rank.done.error().message == "stopped after step 1 of 3");
    CHECK(rank.context.figure(EventKind::evaluation, "step") == -1);
  }
  train.resume = true;
  const auto ranks = taught(train, {});
  for (const Rank& rank : ranks) REQUIRE(rank.done);
  CHECK(has_note(telling(ranks), "goes on after step 1"));
  const auto& events = telling(ranks).events;
  const auto first = std::find_if(events.begin(), events.end(), [](const work::Event& event) { return event.kind == EventKind::evaluation; });
  REQUIRE(first != events.end());
  CHECK(first->figure("step") == 1);
}

TEST_CASE("ranks end early together where no evaluation is better", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {});
  train.evaluation = train.data;
  train.rate = 1e-30;  // nothing changes
  train.steps = 10;
  train.evaluate_every = 1;
  train.patience = 2;
  const auto ranks = taught(train, {});
  for (const Rank& rank : ranks) CHECK(rank.done);
  CHECK(telling(ranks).figure(EventKind::step, "step") == 3);
  CHECK(telling(ranks).figure(EventKind::checkpoint, "step") == 3);
  CHECK(has_note(telling(ranks), "ended early: 2 evaluations without a better one"));
  CHECK(has_note(telling(ranks), "the student of step 1 is in "));
}

TEST_CASE("when the first rank's device fails the next one tells all steps, and knows the best so far", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {});
  train.evaluation = train.data;
  train.rate = 1e-30;
  train.steps = 6;
  train.evaluate_every = 1;
  const auto ranks = taught(train, {3, {}, 6});  // a sum for the first generation, one that nothing is resumed, then one a step
  std::size_t failed = 0;
  for (const Rank& rank : ranks) {
    if (rank.done) continue;
    ++failed;
    CHECK(is(rank.done.error(), gpu::GpuError::device));
    CHECK(rank.context.figure(EventKind::evaluation, "step") == 3);
  }
  CHECK(failed == 1);
  CHECK(losses_of(telling(ranks)).size() == 6);  // what the one before told too, as it may not have been heard
  CHECK(telling(ranks).figure(EventKind::step, "step") == 6);
  CHECK(telling(ranks).figure(EventKind::evaluation, "best") == 0);
  CHECK(has_note(telling(ranks), "the student of step 1 is in "));
}

TEST_CASE("ranks on processors that fit into memory alone and not together are refused before they meet", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {});
  const auto device = std::move(*gpu::CpuDevice::make(1));
  const auto server = std::move(*gpu::RendezvousServer::make("127.0.0.1", 0, {"a secret of tests", 2}));
  const ConnectRanks connect = [](gpu::Rendezvous&) -> Result<gpu::ElasticTrainer::Connect> { return gpu::ElasticTrainer::Connect(); };
  const auto refused = [&](std::uint32_t ranks, std::uint32_t rows) {
    train.ranks = {ranks, "127.0.0.1", server->port(), "a secret of tests"};
    train.rows = rows;
    Recorded context;
    const auto done = worker::train(train, *device, context, connect);
    REQUIRE_FALSE(done);
    CHECK(is(done.error(), gpu::GpuError::too_large));
    return std::pair(done.error().message, context.figure(EventKind::plan, "activations_bytes"));
  };
  train.shape = {512, 2'048, 16, 8, 8, 64};
  const double row_bytes = refused(2, rows_max).second / rows_max;
  const auto rows = static_cast<std::uint32_t>(0.6 * number(device->memory().free_bytes) / row_bytes);
  CHECK(refused(2, rows).first.find("2 ranks take ") == 0);
  CHECK(server->generation() == 0);
}

TEST_CASE("ranks that cannot meet or connect are refused before anything is read", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {});
  train.data = "/nowhere";
  const auto refusal = [&train](const work::Ranks& ranks) {
    train.ranks = ranks;
    const auto device = std::move(*gpu::CpuDevice::make(1));
    Recorded context;
    const auto done = worker::train(train, *device, context, [](gpu::Rendezvous&) { return fail(gpu::GpuError::unsupported, "no ranks of this device"); });
    REQUIRE_FALSE(done);
    return done.error().message;
  };
  const auto server = std::move(*gpu::RendezvousServer::make("127.0.0.1", 0, {"a secret of tests", 2}));
  CHECK(server->generation() == 0);
  CHECK(refusal({2, "127.0.0.1", server->port(), "a secret of tests"}) == "no ranks of this device");
  CHECK(refusal({257, "127.0.0.1", server->port(), "a secret of tests"}).find("at most 256 ranks") != std::string::npos);
  CHECK(refusal({2, "192.0.2.1", server->port(), "a secret of tests"}).find("on one machine") != std::string::npos);
}

}  // namespace outlast::worker::ranks_job_test
