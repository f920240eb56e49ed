#include "storage/usage_rows.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "core/random.hpp"

namespace outlast::storage::usage_rows_test {
namespace {

constexpr std::int64_t day_ms = 24 * hour_ms;

}  // namespace

TEST_CASE("weeks begin on Monday and months on their first day", "[usage]") {
  constexpr std::int64_t wednesday = 1'764'115'200'000;  // 2025-11-26
  CHECK(bucket_start_ms(UsageEvery::week, wednesday + 5 * hour_ms) == wednesday - 2 * day_ms);
  CHECK(bucket_end_ms(UsageEvery::week, wednesday - 2 * day_ms) == wednesday + 5 * day_ms);
  CHECK(bucket_start_ms(UsageEvery::month, wednesday) == wednesday - 25 * day_ms);
  CHECK(bucket_end_ms(UsageEvery::month, wednesday - 25 * day_ms) == wednesday + 5 * day_ms);
  CHECK(bucket_start_ms(UsageEvery::week, 0) == 0);
}

TEST_CASE("months are numbered from January 1970", "[usage]") {
  CHECK(month_of_day(0) == 0);
  CHECK(month_of_day(30) == 0);
  CHECK(month_of_day(31) == 1);
  for (std::uint32_t month = 0; month < 12 * 200; ++month) {
    CHECK(month_of_day(first_day_of_month(month)) == month);
    if (month > 0) CHECK(month_of_day(first_day_of_month(month) - 1) == month - 1);
  }
}

TEST_CASE("a latency histogram keeps each duration in the bucket that holds it", "[usage]") {
  for (std::size_t bucket = 0; bucket < latency_bucket_count; ++bucket) {
    const std::uint32_t start = latency_bucket_start_ms(bucket);
    CHECK(latency_bucket_of(start) == bucket);
    if (bucket > 0) CHECK(latency_bucket_of(start - 1) == bucket - 1);
  }
  CHECK(latency_bucket_of(0xffff'ffff) == latency_bucket_count - 1);
  CHECK(latency_bucket_start_ms(latency_bucket_count - 1) == 262'144);
}

TEST_CASE("percentiles lie within a bucket of the true ones", "[usage]") {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    Latency latency;
    std::vector<std::uint32_t> durations;
    for (std::uint64_t i = 1 + random.below(3'000); i > 0; --i) {
      durations.push_back(static_cast<std::uint32_t>(random.below(1 + (1U << random.below(17)))));
      latency.add(durations.back());
    }
    std::sort(durations.begin(), durations.end());
    for (const unsigned percent : {1U, 50U, 95U, 100U}) {
      const std::size_t rank = (durations.size() * percent + 99) / 100;
      CHECK(latency_bucket_of(static_cast<std::uint32_t>(latency.percentile_ms(percent))) ==
            latency_bucket_of(durations[rank - 1]));
    }
    CHECK(latency.count() == durations.size());
  }
  CHECK(Latency{}.percentile_ms(95) == 0);
}

TEST_CASE("any bytes of a roll-up are a row or are refused", "[usage]") {
  UsageTotals row;
  row.requests = 3;
  row.duration.add(9);
  row.duration.add(900);
  row.first_event.add(5);
  std::string bytes;
  encode(bytes, row);
  UsageTotals read;
  REQUIRE(decode(bytes, read));
  CHECK(read == row);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK(decode(bytes.substr(0, size), read) == (size == rollup_bytes_without_latency));
  CHECK_FALSE(decode(bytes + "x", read));
  Random random(2);
  for (int i = 0; i < 5'000; ++i) {
    std::string noise = bytes;
    noise[rollup_bytes_without_latency +
          random.below(noise.size() - rollup_bytes_without_latency)] =
        static_cast<char>(random.next());
    if (!decode(noise, read)) continue;
    std::string again;
    encode(again, read);
    CHECK(again == noise);
  }
}

}  // namespace outlast::storage::usage_rows_test
