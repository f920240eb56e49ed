#include <catch2/catch.hpp>

#include "gateway/outcome_recorder.hpp"

namespace outcome_recorder_test {

using namespace outlast::gateway;
using outlast::AttemptStatus;

namespace {

class Reports final : public OutcomeSink {
 public:
  void report(OutcomeBatch batch) override { batches.push_back(std::move(batch)); }
  std::vector<OutcomeBatch> batches;
};

struct Bench {
  Reports reports;
  OutcomeRecorder recorder{reports};
  DeploymentGauge alpha{"alpha"};
  DeploymentGauge beta{"beta"};
};

}  // namespace

TEST_CASE("good news waits for the flush and comes in one batch", "[outcomes]") {
  Bench bench;
  for (int i = 0; i < 3; ++i) bench.recorder.record(bench.alpha, AttemptStatus::ok, {}, false);
  bench.recorder.record(bench.beta, AttemptStatus::refused, {}, false);  // it answered: it is healthy
  CHECK(bench.reports.batches.empty());
  bench.recorder.flush();
  REQUIRE(bench.reports.batches.size() == 1);
  REQUIRE(bench.reports.batches[0].size() == 2);
  CHECK(bench.reports.batches[0][0].first == "alpha");
  CHECK(bench.reports.batches[0][0].second.successes == 3);
  CHECK(bench.reports.batches[0][1].first == "beta");
  CHECK(bench.reports.batches[0][1].second.successes == 1);
}

TEST_CASE("a flush with nothing gathered reports nothing", "[outcomes]") {
  Bench bench;
  bench.recorder.flush();
  bench.recorder.record(bench.alpha, AttemptStatus::ok, {}, false);
  bench.recorder.flush();
  bench.recorder.flush();
  CHECK(bench.reports.batches.size() == 1);
}

TEST_CASE("bad news travels at once, with what was gathered before it", "[outcomes]") {
  const auto status = GENERATE(AttemptStatus::overloaded, AttemptStatus::model_gone, AttemptStatus::cut);
  Bench bench;
  bench.recorder.record(bench.alpha, AttemptStatus::ok, {}, false);
  bench.recorder.record(bench.alpha, status, {}, false);
  REQUIRE(bench.reports.batches.size() == 1);
  const Outcome& outcome = bench.reports.batches[0].at(0).second;
  CHECK(outcome.successes == 1);
  CHECK(outcome.failures == 1);
  CHECK(outcome.credential_failures == 0);
  CHECK_FALSE(outcome.probe);
}

TEST_CASE("a refused credential travels at once and is no other failure", "[outcomes]") {
  Bench bench;
  bench.recorder.record(bench.alpha, AttemptStatus::credential, {}, false);
  REQUIRE(bench.reports.batches.size() == 1);
  CHECK(bench.reports.batches[0][0].second.credential_failures == 1);
  CHECK(bench.reports.batches[0][0].second.failures == 0);
}

TEST_CASE("a provider's wait travels at once; throttling without one is no news", "[outcomes]") {
  Bench bench;
  bench.recorder.record(bench.alpha, AttemptStatus::throttled, 3'000, false);
  REQUIRE(bench.reports.batches.size() == 1);
  const Outcome& outcome = bench.reports.batches[0][0].second;
  CHECK(outcome.throttled_ms == 3'000);
  CHECK(outcome.failures == 0);
  CHECK(outcome.successes == 0);
  bench.recorder.record(bench.alpha, AttemptStatus::throttled, {}, false);
  CHECK(bench.reports.batches.size() == 1);
}

TEST_CASE("a caller that left says nothing of the deployment", "[outcomes]") {
  Bench bench;
  bench.recorder.record(bench.alpha, AttemptStatus::caller_gone, {}, false);
  CHECK(bench.reports.batches.empty());
  bench.recorder.flush();
  for (const auto& batch : bench.reports.batches) {
    CHECK(batch[0].second.successes == 0);
    CHECK(batch[0].second.failures == 0);
  }
}

TEST_CASE("the fate of a probe travels at once and alone", "[outcomes]") {
  // Successes of requests that were under way when the breaker opened must not pass for the probe's.
  const auto [status, successes, failures, neutral] = GENERATE(table<AttemptStatus, std::uint32_t, std::uint32_t, bool>(
      {{AttemptStatus::ok, 1U, 0U, false},
       {AttemptStatus::refused, 1U, 0U, false},
       {AttemptStatus::overloaded, 0U, 1U, false},
       {AttemptStatus::caller_gone, 0U, 0U, true},
       {AttemptStatus::throttled, 0U, 0U, true}}));
  Bench bench;
  bench.recorder.record(bench.alpha, AttemptStatus::ok, {}, false);
  bench.recorder.record(bench.alpha, status, {}, true);
  REQUIRE(bench.reports.batches.size() == 2);
  CHECK(bench.reports.batches[0][0].second.successes == 1);
  CHECK_FALSE(bench.reports.batches[0][0].second.probe);
  const Outcome& probe = bench.reports.batches[1].at(0).second;
  CHECK(probe.probe);
  CHECK(probe.successes == successes);
  CHECK(probe.failures == failures);
  CHECK(probe.probe_neutral == neutral);
}

}  // namespace outcome_recorder_test
