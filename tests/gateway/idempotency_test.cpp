#include "tests/gateway/gateway_bench.hpp"

namespace idempotency_test {

using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using namespace outlast;
using Catch::Contains;

namespace {

KeptAnswer answer_of_bytes(std::size_t bytes) {
  return {{}, "r1", "d0", 1, std::make_shared<const std::string>(bytes, 'x')};
}

Digest digest_of(std::uint64_t number) { return sha256(std::to_string(number)); }

std::unique_ptr<Caller> ask_with_key(GatewayBench& bench, const std::string& key, const std::string& body) {
  std::string request = bench.chat(body);
  request.insert(request.find("\r\n") + 2, "Idempotency-Key: " + key + "\r\n");
  auto caller = bench.connect();
  caller->send(request);
  return caller;
}

}  // namespace

TEST_CASE("an idempotency key is the virtual key's own, and knows the body", "[idempotency]") {
  const auto key = idempotency_key("key_1", "abc", "{}");
  REQUIRE(key);
  CHECK(*idempotency_key("key_1", "abc", "{}") == *key);
  CHECK(idempotency_key("key_2", "abc", "{}")->key != key->key);
  CHECK(idempotency_key("key_1a", "bc", "{}")->key != key->key);
  CHECK(idempotency_key("key_1", "abc", "{ }")->key == key->key);
  CHECK(idempotency_key("key_1", "abc", "{ }")->parameters != key->parameters);
  CHECK_FALSE(idempotency_key("key_1", "", "{}"));
  CHECK_FALSE(idempotency_key("key_1", std::string(256, 'k'), "{}"));
  CHECK_FALSE(idempotency_key("key_1", "caf\xc3\xa9", "{}"));
}

TEST_CASE("the answer cache keeps what is young within its bytes, the first answer of a key only", "[idempotency]") {
  AnswerCache cache({.bytes_max = 10'000, .answer_bytes_max = 3'000, .age_ms_max = 1'000});
  cache.keep(digest_of(1), answer_of_bytes(100), 0);
  KeptAnswer other = answer_of_bytes(100);
  other.request_id = "r2";
  cache.keep(digest_of(1), other, 1);
  REQUIRE(cache.find(digest_of(1), 1'000));
  CHECK(cache.find(digest_of(1), 1'000)->request_id == "r1");
  CHECK_FALSE(cache.find(digest_of(1), 1'001));
  cache.keep(digest_of(2), answer_of_bytes(3'001), 0);
  CHECK_FALSE(cache.find(digest_of(2), 0));
  for (std::uint64_t i = 10; i < 100; ++i) {
    cache.keep(digest_of(i), answer_of_bytes(2'000), 2'000);
    CHECK(cache.bytes() <= 10'000);
  }
  CHECK(cache.find(digest_of(99), 2'000));
  CHECK_FALSE(cache.find(digest_of(1), 0));
}

TEST_CASE("a repeated request gets the first one's answer and no provider is asked again", "[idempotency]") {
  GatewayBench bench;
  bench.upstream(0).then(says("once"));
  const std::string body = GatewayBench::body_of("smart", false);
  const auto first_caller = ask_with_key(bench, "k-1", body);
  const auto first = bench.answer_of(*first_caller);
  CHECK(first.status == 200);
  CHECK_FALSE(first.headers.contains("idempotency-replayed"));
  const auto second_caller = ask_with_key(bench, "k-1", body);
  const auto second = bench.answer_of(*second_caller);
  CHECK(second.status == 200);
  CHECK(second.body == first.body);
  CHECK(second.headers.at("idempotency-replayed") == "true");
  CHECK(second.headers.at("x-outlast-request-id") == first.headers.at("x-outlast-request-id"));
  CHECK(bench.upstream(0).received.size() == 1);
  REQUIRE(bench.meter.all<Reservation>().size() == 1);
  CHECK(bench.meter.only<Reservation>().idempotency == *idempotency_key("key_1", "k-1", body));

  const auto third_caller = ask_with_key(bench, "k-1", GatewayBench::body_of("smart", false, R"(,"seed":1)"));
  const auto third = bench.answer_of(*third_caller);
  CHECK(third.status == 422);
  CHECK_THAT(third.body, Contains("idempotency_error"));
  CHECK(bench.upstream(0).received.size() == 1);
}

TEST_CASE("a request with a key asks no provider before the ledger knows the key", "[idempotency]") {
  GatewayBench bench;
  bench.meter.held = true;
  bench.upstream(0).then(says("hi"));
  const auto caller = ask_with_key(bench, "k-1", GatewayBench::body_of("smart", false));
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.waits == 1; }));
  bench.context.settle_down();
  CHECK(bench.upstream(0).received.empty());
  bench.meter.release();
  CHECK(bench.answer_of(*caller).status == 200);
}

TEST_CASE("a key whose request is under way or whose answer is gone is a conflict", "[idempotency]") {
  GatewayBench bench;
  bench.meter.refuses = [](const MeteringOperation&) { return true; };
  bench.meter.why.kind = GENERATE(RefusalKind::key_in_progress, RefusalKind::key_used);
  const auto caller = ask_with_key(bench, "k-1", GatewayBench::body_of("smart", false));
  const auto answer = bench.answer_of(*caller);
  const bool in_progress = bench.meter.why.kind == RefusalKind::key_in_progress;
  CHECK(answer.status == 409);
  CHECK(answer.headers.at("x-should-retry") == (in_progress ? "true" : "false"));
  CHECK_THAT(answer.body, Contains(in_progress ? "idempotency_key_in_progress" : "idempotency_key_used"));
  CHECK(bench.upstream(0).received.empty());
}

TEST_CASE("a key whose answer comes while the ledger is asked is answered by it", "[idempotency]") {
  GatewayBench bench;
  const std::string body = GatewayBench::body_of("smart", false);
  bench.meter.refuses = [&bench, &body](const MeteringOperation&) {
    const auto key = idempotency_key("key_1", "k-1", body);
    bench.answers.keep(key->key, {key->parameters, "r1", "d0", 1, std::make_shared<const std::string>("{}")},
                       bench.clock.monotonic_ns() / 1'000'000);
    return true;
  };
  bench.meter.why.kind = RefusalKind::key_used;
  const auto caller = ask_with_key(bench, "k-1", body);
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 200);
  CHECK(answer.body == "{}");
  CHECK(answer.headers.at("idempotency-replayed") == "true");
}

TEST_CASE("a malformed key is refused", "[idempotency]") {
  GatewayBench bench;
  const auto caller = ask_with_key(bench, std::string(300, 'k'), GatewayBench::body_of("smart", false));
  CHECK(bench.answer_of(*caller).status == 400);
  CHECK(bench.meter.operations.empty());
}

}  // namespace idempotency_test
