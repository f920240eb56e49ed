#include <catch2/catch.hpp>

#include <limits>

#include "core/random.hpp"
#include "gateway/exchange_metering.hpp"

namespace exchange_metering_test {

using namespace outlast::gateway;
using namespace outlast;

namespace {

constexpr std::uint64_t u64_max = std::numeric_limits<std::uint64_t>::max();
constexpr std::int64_t time_ms = 0;  // as of an id of zeros

Price price_of(std::uint64_t input_pico, std::uint64_t output_pico, std::uint64_t request_pico = 0) {
  Price price;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    const bool input = usage_buckets[i].name.starts_with("input");
    price.per_token[i] = PicoUsd{static_cast<__int128>(input ? input_pico : output_pico)};
  }
  price.per_request = PicoUsd{static_cast<__int128>(request_pico)};
  return price;
}

// Two deployments, "cheap" (model m) and "dear" (model n), at provider "alpha".
Snapshot snapshot_with(PriceBook prices) {
  Snapshot snapshot;
  snapshot.routing = *RoutingTable::make({{.name = "alpha"}},
                                         {{.name = "cheap", .provider = "alpha", .model = "m"},
                                          {.name = "dear", .provider = "alpha", .model = "n"}},
                                         {{"smart", {"cheap", "dear"}, {}}});
  snapshot.prices = std::make_shared<const PriceBook>(std::move(prices));
  return snapshot;
}

Snapshot priced_snapshot() {
  PriceBook prices("2026-11");
  prices.set("alpha", "m", price_of(3, 15, 100));
  prices.set("alpha", "n", price_of(30, 150, 1'000));
  return snapshot_with(std::move(prices));
}

VirtualKey key() { return {.id = "key_1", .tenant = {"acme", "search", "ann"}}; }

ChatHead head_with(std::optional<std::uint64_t> max_tokens, std::uint64_t choices = 1) {
  ChatHead head;
  head.model = "smart";
  head.max_tokens = max_tokens;
  head.choices = choices;
  return head;
}

constexpr std::uint32_t both[] = {0, 1};
constexpr std::uint32_t cheap_only[] = {0};

Usage reported(std::uint64_t input, std::uint64_t output) {
  Usage usage;
  usage.input_uncached = input;
  usage.output_text = output;
  usage.source = UsageSource::reported;
  return usage;
}

}  // namespace

TEST_CASE("a reservation names who pays and holds the dearest of the planned deployments", "[metering]") {
  const Snapshot snapshot = priced_snapshot();
  const auto reservation = worst_case_reservation(snapshot, both, key(), head_with(200), 1'000, time_ms);
  REQUIRE(reservation);
  CHECK(reservation->tenant == key().tenant);
  CHECK(reservation->key_id == "key_1");
  CHECK(reservation->route == "smart");
  CHECK(reservation->input_tokens_max == 1'000 + template_tokens_max);
  CHECK(reservation->output_tokens_max == 200);
  CHECK(reservation->price_known);
  CHECK(reservation->amount == PicoUsd{1'000 + 30 * 1'512 + 150 * 200});
  const auto cheap = worst_case_reservation(snapshot, cheap_only, key(), head_with(200), 1'000, time_ms);
  CHECK(cheap->amount == PicoUsd{100 + 3 * 1'512 + 15 * 200});
}

TEST_CASE("a request without max_tokens is bounded by the serving policy", "[metering]") {
  Snapshot snapshot = priced_snapshot();
  snapshot.serving.default_output_tokens_max = 777;
  CHECK(output_tokens_bound(head_with({}), snapshot.serving) == 777);
  CHECK(output_tokens_bound(head_with(5), snapshot.serving) == 5);
  CHECK(worst_case_reservation(snapshot, both, key(), head_with({}), 10, time_ms)->output_tokens_max == 777);
}

TEST_CASE("every choice is reserved for", "[metering]") {
  CHECK(worst_case_reservation(priced_snapshot(), both, key(), head_with(100, 7), 10, time_ms)->output_tokens_max == 700);
}

TEST_CASE("an absurd max_tokens does not wrap round to a small reservation", "[metering]") {
  const Snapshot snapshot = priced_snapshot();
  const auto sane = worst_case_reservation(snapshot, both, key(), head_with(1'000'000, 128), 10, time_ms);
  for (const std::uint64_t max_tokens : {u64_max, u64_max / 2 + 1, u64_max / 128 + 1, std::uint64_t{1} << 57}) {
    for (const std::uint64_t choices : {1, 2, 4, 128}) {
      const auto reservation = worst_case_reservation(snapshot, both, key(), head_with(max_tokens, choices), 10, time_ms);
      REQUIRE(reservation);
      CHECK(reservation->amount > sane->amount);
    }
  }
}

TEST_CASE("a missing price is served and flagged, or refused, by the policy", "[metering]") {
  PriceBook prices("v1");
  prices.set("alpha", "m", price_of(3, 15));
  Snapshot snapshot = snapshot_with(std::move(prices));
  const auto served = worst_case_reservation(snapshot, both, key(), head_with(10), 10, time_ms);
  REQUIRE(served);
  CHECK_FALSE(served->price_known);
  CHECK(served->amount > PicoUsd{});  // what is known is held all the same
  snapshot.serving.refuse_unpriced = true;
  const auto refused = worst_case_reservation(snapshot, both, key(), head_with(10), 10, time_ms);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), RoutingError::unpriced));
  CHECK_THAT(refused.error().message, Catch::Contains("'n'"));
  CHECK(worst_case_reservation(snapshot, cheap_only, key(), head_with(10), 10, time_ms).has_value());
}

TEST_CASE("no attempt within its bounds costs more than its reservation", "[metering]") {
  const auto seed = GENERATE(range(0, 100));
  Random random(static_cast<std::uint64_t>(seed));
  PriceBook prices("v1");
  for (const char* model : {"m", "n"}) {
    Price price;
    for (auto& amount : price.per_token) amount = PicoUsd{static_cast<__int128>(random.below(1'000'000'000))};
    price.per_request = PicoUsd{static_cast<__int128>(random.below(1'000'000'000))};
    prices.set("alpha", model, price);
  }
  const Snapshot snapshot = snapshot_with(std::move(prices));
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t input_bytes = random.below(100'000);
    const ChatHead head = head_with(1 + random.below(8'192), 1 + random.below(4));
    const auto reservation = worst_case_reservation(snapshot, both, key(), head, input_bytes, time_ms);
    REQUIRE(reservation);
    AttemptFacts facts;
    facts.input_bytes = input_bytes;
    facts.output_tokens_max = reservation->output_tokens_max;
    facts.content_bytes = random.below(8 * reservation->output_tokens_max);
    facts.status = static_cast<AttemptStatus>(random.below(8));
    facts.usage.source = static_cast<UsageSource>(random.below(3));
    if (facts.usage.source != UsageSource::absent) {
      std::uint64_t input = reservation->input_tokens_max;
      std::uint64_t output = facts.usage.source == UsageSource::reported ? reservation->output_tokens_max : 0;
      for (const UsageBucket& bucket : usage_buckets) {
        std::uint64_t& left = bucket.name.starts_with("input") ? input : output;
        facts.usage.*bucket.member = random.below(left + 1);
        left -= facts.usage.*bucket.member;
      }
    }
    for (const std::uint32_t deployment : both) {
      const AttemptLine line = make_attempt_line(snapshot, deployment, {}, facts);
      INFO("cost " << line.cost.to_string() << ", reserved " << reservation->amount.to_string());
      CHECK(line.cost <= reservation->amount);
    }
  }
}

TEST_CASE("a line names the deployment, the price's version and what happened", "[metering]") {
  AttemptFacts facts{.number = 3, .status = AttemptStatus::ok, .http_status = 200, .usage = reported(11, 7),
                     .input_bytes = 999, .content_bytes = 5'000, .first_event_ms = 12, .duration_ms = 34};
  const RequestId id{.bytes = {1, 2, 3}};
  const AttemptLine line = make_attempt_line(priced_snapshot(), 1, id, facts);
  CHECK(line.request_id == id);
  CHECK(line.number == 3);
  CHECK(line.deployment == "dear");
  CHECK(line.provider == "alpha");
  CHECK(line.model == "n");
  CHECK(line.status == AttemptStatus::ok);
  CHECK(line.http_status == 200);
  CHECK(line.usage == reported(11, 7));
  CHECK_FALSE(line.estimated());
  CHECK(line.cost == PicoUsd{1'000 + 30 * 11 + 150 * 7});
  CHECK(line.price_known);
  CHECK(line.price_version == "2026-11");
  CHECK(line.first_event_ms == 12);
  CHECK(line.duration_ms == 34);
}

TEST_CASE("a reported zero is a zero", "[metering]") {
  const AttemptFacts facts{.usage = reported(0, 0), .input_bytes = 999, .content_bytes = 5'000};
  const AttemptLine line = make_attempt_line(priced_snapshot(), 0, {}, facts);
  CHECK(line.usage == reported(0, 0));
  CHECK(line.cost == PicoUsd{100});
}

TEST_CASE("an answer without usage is estimated from bytes and marked so", "[metering]") {
  const AttemptFacts facts{.input_bytes = 401, .content_bytes = 99, .output_tokens_max = 1'000};
  const AttemptLine line = make_attempt_line(priced_snapshot(), 0, {}, facts);
  CHECK(line.estimated());
  CHECK(line.usage.input_uncached == 101);
  CHECK(line.usage.output_text == 25);
  CHECK(line.cost == PicoUsd{100 + 3 * 101 + 15 * 25});
}

TEST_CASE("the output of a stream that broke is estimated, and the input that was reported stands", "[metering]") {
  AttemptFacts facts{.status = AttemptStatus::cut, .input_bytes = 4'000, .content_bytes = 40, .output_tokens_max = 1'000};
  facts.usage.source = UsageSource::estimated;
  facts.usage.input_cache_read = 70;
  facts.usage.output_text = 1;  // the placeholder of a message_start
  const AttemptLine line = make_attempt_line(priced_snapshot(), 0, {}, facts);
  CHECK(line.estimated());
  CHECK(line.usage.input_total() == 70);
  CHECK(line.usage.output_text == 10);
}

TEST_CASE("an estimate never exceeds what was reserved for", "[metering]") {
  // Long words: more bytes than four to a token, up to the caller's max_tokens.
  const AttemptFacts facts{.input_bytes = 8, .content_bytes = 600, .output_tokens_max = 100};
  CHECK(make_attempt_line(priced_snapshot(), 0, {}, facts).usage.output_text == 100);
}

TEST_CASE("an attempt that brought nothing costs nothing", "[metering]") {
  const auto status = GENERATE(AttemptStatus::overloaded, AttemptStatus::refused, AttemptStatus::throttled,
                               AttemptStatus::credential, AttemptStatus::model_gone);
  const AttemptFacts facts{.status = status, .http_status = 500, .input_bytes = 4'000};
  const AttemptLine line = make_attempt_line(priced_snapshot(), 0, {}, facts);
  CHECK(line.usage == Usage{});
  CHECK(line.cost == PicoUsd{});
  CHECK(line.price_known);
}

TEST_CASE("a caller that leaves before the first content pays for the input that was sent", "[metering]") {
  // The provider has read it and bills it; what it wrote meanwhile nobody can count.
  const AttemptFacts facts{.status = AttemptStatus::caller_gone, .input_bytes = 4'000, .output_tokens_max = 100};
  const AttemptLine line = make_attempt_line(priced_snapshot(), 0, {}, facts);
  CHECK(line.estimated());
  CHECK(line.usage.input_uncached == 1'000);
  CHECK(line.usage.output_text == 0);
}

TEST_CASE("an attempt without a price is metered, flagged and free", "[metering]") {
  const AttemptFacts facts{.usage = reported(11, 7)};
  const AttemptLine line = make_attempt_line(snapshot_with(PriceBook("v2")), 0, {}, facts);
  CHECK_FALSE(line.price_known);
  CHECK(line.cost == PicoUsd{});
  CHECK(line.usage == reported(11, 7));
}

}  // namespace exchange_metering_test
