// The scheduler without a model: whatever is computed is counted, and answers are noise.
#include <map>
#include <random>
#include <set>

#include <catch2/catch.hpp>

#include "gpu/decode/scheduler.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu::scheduler_test {
namespace {

struct Simulation {
  explicit Simulation(const SchedulerLimits& with) : limits(with), scheduler(with) {}

  bool add(std::vector<TokenId> prompt, std::size_t answer) {
    const std::size_t size = prompt.size();
    const auto added = scheduler.add(next, std::move(prompt), answer);
    if (added) ends[next++] = size + answer;
    return added.has_value();
  }

  // Each row reads keys of all before it: those must have been written for just these tokens, and by nothing else since.
  void compute(const PlannedRows& rows) {
    const Sequence& sequence = *rows.sequence;
    REQUIRE(rows.rows > 0);
    REQUIRE(sequence.pages.size() * limits.page_rows >= sequence.computed + rows.rows);
    for (std::size_t i = 0; i < sequence.computed + rows.rows; ++i) {
      const auto place = std::make_pair(sequence.pages[i / limits.page_rows], i % limits.page_rows);
      const std::vector<TokenId> before(sequence.tokens.begin(), sequence.tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      if (i < sequence.computed) REQUIRE(written.at(place) == before);
      else written[place] = before;
    }
  }

  bool step() {
    const auto plan = scheduler.plan();
    std::size_t total = 0;
    std::set<const Sequence*> seen;
    std::vector<Sequence*> giving;
    for (const PlannedRows& rows : plan) {
      compute(rows);
      REQUIRE(seen.insert(rows.sequence).second);
      total += rows.rows;
      if (rows.gives_token()) giving.push_back(rows.sequence);
    }
    REQUIRE(total <= limits.rows);
    REQUIRE(plan.size() <= limits.sequences);
    REQUIRE(plan.size() == scheduler.running() - waiting_rows(plan));
    const bool any = !plan.empty();
    scheduler.computed();
    for (Sequence* const sequence : giving) {
      sequence->tokens.push_back(static_cast<TokenId>(noise(sequence->id, sequence->tokens.size()) % 3));
      if (sequence->tokens.size() == ends.at(sequence->id)) {
        ends.erase(sequence->id);
        REQUIRE(scheduler.remove(sequence->id));
      }
    }
    return any;
  }
  // Sequences that run and have no row in this step, since others took all.
  std::size_t waiting_rows(std::span<const PlannedRows> plan) const {
    std::size_t rows = 0;
    for (const PlannedRows& one : plan) rows += one.rows;
    return rows == limits.rows ? scheduler.running() - plan.size() : 0;
  }

  SchedulerLimits limits;
  Scheduler scheduler;
  std::uint64_t next = 1;
  std::map<std::uint64_t, std::size_t> ends;
  std::map<std::pair<PageId, std::size_t>, std::vector<TokenId>> written;
};

std::vector<TokenId> prompt_of(std::size_t size, std::uint64_t kind) {
  std::vector<TokenId> tokens(size);
  for (std::size_t i = 0; i < size; ++i) tokens[i] = static_cast<TokenId>(noise(kind, i) % 3);
  return tokens;
}

TEST_CASE("every sequence runs to its end, over pages that nobody else writes", "[gpu][decode]") {
  std::uint64_t preemptions = 0;
  std::uint64_t found = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    SchedulerLimits limits;
    limits.sequences = 1 + random() % 5;
    limits.rows = limits.sequences + random() % 12;
    limits.page_rows = 1 + random() % 4;
    limits.positions = 40;
    limits.pages = (40 + limits.page_rows - 1) / limits.page_rows + random() % 12;
    limits.waiting = 6;
    Simulation simulation(limits);
    int left = 60;
    for (int steps = 0; left > 0 || !simulation.ends.empty(); ++steps) {
      REQUIRE(steps < 20'000);
      if (left > 0 && random() % 2 == 0 && simulation.add(prompt_of(1 + random() % 25, random() % 4), 1 + random() % 15)) --left;
      if (random() % 40 == 0 && !simulation.ends.empty()) {
        const std::uint64_t id = simulation.ends.begin()->first;
        REQUIRE(simulation.scheduler.remove(id));
        REQUIRE_FALSE(simulation.scheduler.remove(id));
        simulation.ends.erase(id);
      }
      const bool any = simulation.step();
      REQUIRE((any || simulation.ends.empty()));  // whoever waits gets on
    }
    CHECK(simulation.scheduler.running() + simulation.scheduler.waiting() == 0);
    CHECK(simulation.scheduler.available() == limits.pages);
    preemptions += simulation.scheduler.preemptions();
    found += simulation.scheduler.prefix_tokens();
  }
  CHECK(preemptions > 100);
  CHECK(found > 1'000);
}

TEST_CASE("single tokens come before prompts, and prompts come in chunks", "[gpu][decode]") {
  SchedulerLimits limits;
  limits.sequences = 3;
  limits.rows = 8;
  limits.pages = 100;
  limits.page_rows = 4;
  limits.positions = 100;
  Simulation simulation(limits);
  REQUIRE(simulation.add(prompt_of(3, 1), 10));
  REQUIRE(simulation.add(prompt_of(20, 2), 10));
  REQUIRE(simulation.add(prompt_of(20, 3), 10));
  const auto rows = [&simulation] {
    std::map<std::uint64_t, std::size_t> by_id;
    for (const PlannedRows& one : simulation.scheduler.plan()) by_id[one.sequence->id] = one.rows;
    simulation.step();
    return by_id;
  };
  using Rows = std::map<std::uint64_t, std::size_t>;
  CHECK(rows() == Rows{{1, 3}, {2, 5}});
  CHECK(rows() == Rows{{1, 1}, {2, 7}});
  CHECK(rows() == Rows{{1, 1}, {2, 7}});
  CHECK(rows() == Rows{{1, 1}, {2, 1}, {3, 6}});
}

TEST_CASE("a queue that is full says so", "[gpu][decode]") {
  SchedulerLimits limits;
  limits.waiting = 1;
  Scheduler scheduler(limits);
  REQUIRE(scheduler.add(1, {1}, 1));
  const auto refused = scheduler.add(2, {1}, 1);
  REQUIRE(!refused);
  CHECK(is(refused.error(), GpuError::overloaded));
  CHECK(scheduler.remove(1));
  CHECK(scheduler.add(2, {1}, 1));
}

}  // namespace
}  // namespace outlast::gpu::scheduler_test
