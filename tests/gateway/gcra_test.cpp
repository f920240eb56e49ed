#include "gateway/gcra.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <limits>
#include <thread>
#include <vector>

#include "core/random.hpp"

namespace gcra_test {

using outlast::Random;
using outlast::gateway::Gcra;

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t start_ns = 86'400 * second_ns;

constexpr auto always = [] { return true; };

// One limit under virtual time.
struct Limit {
  Limit(std::uint64_t per_minute, std::uint64_t burst) : gcra(per_minute, burst) {}

  bool take(std::uint64_t n = 1) {
    return gcra.take(state, n, gcra.at(now_ns), until, always) == Gcra::Outcome::done;
  }
  void settle(std::uint64_t taken, std::uint64_t used, std::int64_t taken_until) {
    gcra.settle(state, taken, used, taken_until, gcra.at(now_ns), always);
  }
  [[nodiscard]] std::uint64_t remaining() const { return gcra.remaining(state, now_ns); }
  [[nodiscard]] std::int64_t wait_ns(std::uint64_t n = 1) const {
    return gcra.wait_ns(state, n, now_ns);
  }
  std::uint64_t take_all() {
    std::uint64_t taken = 0;
    while (take()) ++taken;
    return taken;
  }

  Gcra gcra;
  Gcra::State state{0};
  std::int64_t now_ns = start_ns;
  std::int64_t until = 0;
};

}  // namespace

TEST_CASE("the whole burst may go at once, and then one per interval, to the nanosecond",
          "[rates]") {
  Limit limit(60, 60);
  CHECK(limit.take_all() == 60);
  CHECK(limit.wait_ns() == second_ns);
  limit.now_ns += second_ns - 1;
  CHECK_FALSE(limit.take());
  CHECK(limit.wait_ns() == 1);
  limit.now_ns += 1;
  CHECK(limit.wait_ns() == 0);
  CHECK(limit.take());
  CHECK_FALSE(limit.take());
  limit.now_ns += 60 * second_ns;
  CHECK(limit.remaining() == 60);
  limit.now_ns += 600 * second_ns;
  CHECK(limit.take_all() == 60);
}

TEST_CASE("what is left and when all is there again follow the clock", "[rates]") {
  Limit limit(60, 10);
  CHECK(limit.remaining() == 10);
  CHECK(limit.gcra.reset_ns(limit.state, limit.now_ns) == 0);
  REQUIRE(limit.take(4));
  CHECK(limit.remaining() == 6);
  CHECK(limit.gcra.reset_ns(limit.state, limit.now_ns) == 4 * second_ns);
  limit.now_ns += second_ns / 2;
  CHECK(limit.remaining() == 6);
  limit.now_ns += second_ns / 2;
  CHECK(limit.remaining() == 7);
  CHECK(limit.wait_ns(10) == 3 * second_ns);
}

// Against a token bucket that counts in fractions of a nanosecond: whatever the rate, no rounding
// adds up.
TEST_CASE("every decision is that of an exact token bucket, for any rate", "[rates]") {
  Random random(7);
  for (const std::uint64_t per_minute :
       {1ULL, 7ULL, 60ULL, 997ULL, 90'000ULL, 1'999'993ULL, 999'999'937ULL}) {
    const std::uint64_t burst = 1 + random.below(per_minute);
    Limit limit(per_minute, burst);
    constexpr unsigned __int128 one =
        60'000'000'000ULL;  // a token, in (tokens per minute) × nanoseconds
    unsigned __int128 level = burst * one;
    const unsigned __int128 slack = 2 * per_minute;  // two nanoseconds' worth
    for (int step = 0; step < 20'000; ++step) {
      const std::uint64_t elapsed_ns =
          random.below(2 * 60 * second_ns / std::min<std::uint64_t>(per_minute, 1'000'000) + 1);
      limit.now_ns += static_cast<std::int64_t>(elapsed_ns);
      level = std::min<unsigned __int128>(
          level + static_cast<unsigned __int128>(elapsed_ns) * per_minute, burst * one);
      const std::uint64_t n = 1 + random.below(std::min<std::uint64_t>(burst, 10));
      const bool taken = limit.take(n);
      if (taken != (level >= n * one)) {  // only ever by less than the clock shows
        const unsigned __int128 cost = n * one;
        REQUIRE((level > cost ? level - cost : cost - level) <= slack);
      }
      if (taken) level -= std::min<unsigned __int128>(level, n * one);
    }
  }
}

TEST_CASE("a clock that goes back admits less, never more", "[rates]") {
  Limit limit(60, 5);
  REQUIRE(limit.take_all() == 5);
  limit.now_ns -= 3600 * second_ns;
  CHECK_FALSE(limit.take());
  CHECK(limit.remaining() == 0);
  limit.now_ns = start_ns + 2 * second_ns;
  CHECK(limit.take_all() == 2);
  limit.now_ns = -1;
  CHECK_FALSE(limit.take());
}

TEST_CASE("what was not used comes back, but never more than was taken", "[rates]") {
  Limit limit(6'000, 1'000);
  REQUIRE(limit.take(800));
  limit.settle(800, 100, limit.until);
  CHECK(limit.remaining() == 900);
  REQUIRE(limit.take(900));
  CHECK(limit.remaining() == 0);
  limit.now_ns += 60 * second_ns;  // time has brought all of it back
  limit.settle(900, 0, limit.until);
  CHECK(limit.remaining() == 1'000);
  CHECK(limit.gcra.reset_ns(limit.state, limit.now_ns) == 0);
}

TEST_CASE("what time has brought back is not given back again at the cost of a later taker",
          "[rates]") {
  Limit limit(1'000, 1'000);
  REQUIRE(limit.take(1'000));
  const std::int64_t first_until = limit.until;
  limit.now_ns += 60 * second_ns;
  REQUIRE(limit.take(1'000));
  limit.settle(1'000, 0, first_until);
  CHECK(limit.remaining() == 0);
}

TEST_CASE("what was used beyond is charged, within bounds", "[rates]") {
  Limit limit(60, 10);
  REQUIRE(limit.take(10));
  limit.settle(10, 30, limit.until);
  CHECK(limit.wait_ns() == 21 * second_ns);
  limit.settle(10, std::numeric_limits<std::uint64_t>::max(), limit.until);
  CHECK(limit.wait_ns() <= (3'600 + 1) * second_ns);
}

TEST_CASE("the largest rate and thirty years of uptime still count exactly", "[rates]") {
  Limit limit(Gcra::rate_max, Gcra::rate_max);
  limit.now_ns = 30LL * 365 * 86'400 * second_ns;
  REQUIRE(limit.take(Gcra::rate_max));
  CHECK(limit.remaining() == 0);
  limit.now_ns += 6;
  CHECK(limit.remaining() == 1);
  limit.settle(1, std::numeric_limits<std::uint64_t>::max(), limit.until);
  CHECK(limit.wait_ns(Gcra::rate_max) > 0);
}

// The clock moves on only when somebody was refused, so the limit is never full, and the count must
// come out exactly.
TEST_CASE("many threads take exactly burst and rate times time, neither more nor fewer",
          "[rates]") {
  constexpr std::uint64_t burst = 500;
  constexpr std::int64_t step_ns = 1'000'003;
  const Gcra gcra(6'000, burst);
  Gcra::State state{0};
  std::atomic<std::int64_t> now_ns{start_ns};
  std::atomic<std::uint64_t> taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&gcra, &state, &now_ns, &taken] {
      std::int64_t until = 0;
      for (int turn = 0; turn < 20'000; ++turn) {
        if (gcra.take(state, 1, gcra.at(now_ns.load()), until, always) == Gcra::Outcome::done)
          taken.fetch_add(1);
        else
          now_ns.fetch_add(step_ns);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::int64_t until = 0;
  while (gcra.take(state, 1, gcra.at(now_ns.load()), until, always) == Gcra::Outcome::done)
    taken.fetch_add(1);
  CHECK(taken.load() == burst + static_cast<std::uint64_t>(now_ns.load() - start_ns) / 10'000'000);
}

}  // namespace gcra_test
