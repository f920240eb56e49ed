// What answers say of how they are billed, and what the ledger and the price make of it.
#include <catch2/catch.hpp>

#include "gateway/exchange_metering.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace billing_terms_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;

namespace {

constexpr CallerForm forms[] = {CallerForm::openai_whole, CallerForm::openai_stream,
                                CallerForm::events};

std::string openai_whole(const std::string& members) {
  return R"({"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant",)"
         R"("content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,)"
         R"("completion_tokens":2})" +
         members + "}";
}

std::string anthropic_usage(const std::string& members) {
  return R"({"input_tokens":3,"output_tokens":2)" + members + "}";
}

BillingTerms terms_of(Dialect upstream, CallerForm form, const std::string& text) {
  const Answer answer = read_answer(upstream, context_of(form), {text});
  INFO(text << (answer.error ? answer.error->message : ""));
  REQUIRE(answer.done);
  return answer.terms;
}

}  // namespace

TEST_CASE("the service tier of an openai answer is read as answered", "[dialect][price]") {
  const CallerForm form = GENERATE(from_range(std::begin(forms), std::end(forms)));
  const auto tier = [form](const std::string& members) {
    return terms_of(Dialect::openai, form, openai_whole(members)).service_tier;
  };
  CHECK(tier(R"(,"service_tier":"priority")") == "priority");
  CHECK(tier(R"(,"service_tier":null)").empty());
  CHECK(tier("").empty());
}

TEST_CASE("a streamed openai answer tells its tier in its first chunk, and its last corrects it",
          "[dialect][price]") {
  const CallerForm form = GENERATE(CallerForm::openai_stream, CallerForm::events);
  const std::string first =
      R"(data: {"id":"c","model":"m","service_tier":"auto","choices":[{"index":0,"delta":{"content":"a"}}]})"
      "\n\n";
  const std::string end =
      R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})"
      "\n\n";
  const std::string usage =
      R"(data: {"id":"c","model":"m","service_tier":"flex","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}})"
      "\n\n";
  CHECK(terms_of(Dialect::openai, form, first + end + "data: [DONE]\n\n").service_tier == "auto");
  CHECK(terms_of(Dialect::openai, form, first + end + usage + "data: [DONE]\n\n").service_tier ==
        "flex");
}

TEST_CASE("an anthropic answer tells tier, place, batch and searches in its usage",
          "[dialect][price]") {
  const CallerForm form = GENERATE(from_range(std::begin(forms), std::end(forms)));
  const auto terms = [form](const std::string& members) {
    return terms_of(Dialect::anthropic, form,
                    R"({"id":"m","model":"c","content":[{"type":"text","text":"hi"}],)"
                    R"("stop_reason":"end_turn","usage":)" +
                        anthropic_usage(members) + "}");
  };
  CHECK(terms(R"(,"service_tier":"standard","inference_geo":"us",)"
              R"("server_tool_use":{"web_search_requests":4})") ==
        BillingTerms{"standard", "us", false, {.queries = 4}});
  CHECK(terms(R"(,"service_tier":"batch","inference_geo":null)") ==
        BillingTerms{"batch", "", true, {}});
  CHECK(terms("") == BillingTerms{});
}

TEST_CASE("a streamed anthropic answer tells its terms at the start, and its end corrects them",
          "[dialect][price]") {
  const std::string stream =
      R"(data: {"type":"message_start","message":{"id":"m","model":"c","usage":)" +
      anthropic_usage(R"(,"service_tier":"standard","inference_geo":"global")") +
      "}}\n\n"
      R"(data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}})"
      "\n\n"
      R"(data: {"type":"content_block_stop","index":0})"
      "\n\n"
      R"(data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":)" +
      anthropic_usage(R"(,"server_tool_use":{"web_search_requests":2})") +
      "}\n\n"
      R"(data: {"type":"message_stop"})"
      "\n\n";
  CHECK(terms_of(Dialect::anthropic, CallerForm::openai_stream, stream) ==
        BillingTerms{"standard", "global", false, {.queries = 2}});
}

TEST_CASE("a tier that no provider would send counts as none", "[dialect][price]") {
  for (const std::string& tier :
       {std::string(R"("\u0000")"), std::string(R"("a b")"), std::string(R"("UPPER")"),
        std::string("7"), std::string("{}"), '"' + std::string(65, 'a') + '"',
        std::string(R"("\u00e9")")}) {
    CHECK(terms_of(Dialect::openai, CallerForm::openai_whole,
                   openai_whole(",\"service_tier\":" + tier))
              .service_tier.empty());
  }
  CHECK(terms_of(Dialect::openai, CallerForm::openai_whole,
                 openai_whole(",\"service_tier\":\"" + std::string(64, 'a') + '"'))
            .service_tier.size() == 64);
}

namespace {

PriceEntry entry_of(std::int64_t per_request, std::string tier, std::string geo, bool batch,
                    std::string contract = {}) {
  PriceEntry entry;
  entry.provider = "alpha";
  entry.model = "m";
  entry.service_tier = std::move(tier);
  entry.geo = std::move(geo);
  entry.batch = batch;
  entry.contract = std::move(contract);
  entry.price.per_request = PicoUsd{per_request};
  entry.price.per_unit[2] = PicoUsd{1'000};  // a query
  return entry;
}

Snapshot snapshot_with(const std::vector<PriceEntry>& entries, Provider provider) {
  provider.name = "alpha";
  Snapshot snapshot;
  snapshot.routing = *RoutingTable::make({std::move(provider)},
                                         {{.name = "d", .provider = "alpha", .model = "m"}},
                                         {{"smart", {"d"}, {}}});
  PriceBook book("v1");
  for (const PriceEntry& entry : entries) book.add(entry);
  snapshot.prices = std::make_shared<const PriceBook>(std::move(book));
  return snapshot;
}

PicoUsd cost_under(const Snapshot& snapshot, const BillingTerms& terms, const RequestId& id = {}) {
  AttemptFacts facts;
  facts.usage.source = UsageSource::reported;
  facts.terms = terms;
  const AttemptLine line = make_attempt_line(snapshot, 0, id, facts);
  CHECK(line.service_tier == terms.service_tier);
  const Provider& provider = snapshot.routing->provider_of(0);
  CHECK(line.inference_geo == (terms.inference_geo.empty() ? provider.region : terms.inference_geo));
  CHECK(line.contract == provider.contract);
  CHECK(line.batch == terms.batch);
  CHECK(line.units == terms.units);
  return line.cost;
}

}  // namespace

TEST_CASE("an attempt costs what its answer's tier, place and batch cost", "[metering][price]") {
  const Snapshot snapshot =
      snapshot_with({entry_of(1, "", "", false), entry_of(2, "priority", "", false),
                     entry_of(3, "", "us", false), entry_of(4, "", "", true)},
                    {});
  CHECK(cost_under(snapshot, {}) == PicoUsd{1});
  CHECK(cost_under(snapshot, {.service_tier = "default"}) == PicoUsd{1});
  CHECK(cost_under(snapshot, {.service_tier = "priority"}) == PicoUsd{2});
  CHECK(cost_under(snapshot, {.service_tier = "standard", .inference_geo = "us"}) == PicoUsd{3});
  CHECK(cost_under(snapshot, {.service_tier = "batch", .batch = true}) == PicoUsd{4});
  CHECK(cost_under(snapshot, {.units = {.queries = 2}}) == PicoUsd{2'001});
}

TEST_CASE("a provider's contract and region choose prices, and an answered geo goes before it",
          "[metering][price]") {
  const std::vector<PriceEntry> entries = {
      entry_of(1, "", "", false), entry_of(2, "", "eu", false), entry_of(3, "", "us", false),
      entry_of(4, "", "", false, "ea-2026")};
  CHECK(cost_under(snapshot_with(entries, {.region = "eu"}), {}) == PicoUsd{2});
  CHECK(cost_under(snapshot_with(entries, {.region = "eu"}), {.inference_geo = "us"}) == PicoUsd{3});
  CHECK(cost_under(snapshot_with(entries, {.contract = "ea-2026"}), {}) == PicoUsd{4});
}

TEST_CASE("the time of a request's id chooses the price, at reserve and at settlement",
          "[metering][price]") {
  PriceEntry old = entry_of(10, "", "", false);
  old.until_ms = 1'000;
  PriceEntry present = entry_of(20, "", "", false);
  present.from_ms = 1'000;
  const Snapshot snapshot = snapshot_with({old, present}, {});
  const auto id_at = [](std::uint64_t ms) {
    RequestId id;
    for (std::size_t i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::uint8_t>(ms >> (40 - 8 * i));
    return id;
  };
  constexpr std::uint32_t only[] = {0};
  const VirtualKey key;
  const ChatHead head;
  CHECK(cost_under(snapshot, {}, id_at(999)) == PicoUsd{10});
  CHECK(cost_under(snapshot, {}, id_at(1'000)) == PicoUsd{20});
  CHECK(worst_case_reservation(snapshot, only, key, head, 0, 999)->amount == PicoUsd{10});
  CHECK(worst_case_reservation(snapshot, only, key, head, 0, 1'000)->amount == PicoUsd{20});
}

}  // namespace billing_terms_test
