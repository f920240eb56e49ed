// The public price map as a price book: tests/apps/golden/price_map.json has every kind of member.
#include <catch2/catch.hpp>

#include <fstream>
#include <iterator>

#include "apps/config/node_config.hpp"
#include "apps/config/price_book_writer.hpp"
#include "apps/outlast/price_diff.hpp"
#include "apps/outlast/price_map.hpp"

namespace price_map_test {

using namespace outlast;
using namespace outlast::apps;

namespace {

std::string golden(const std::string& name) {
  std::ifstream file(std::string(OUTLAST_SOURCE_DIR) + "/tests/apps/golden/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

PriceMap map_of(const std::string& json, const PriceMapOptions& options = {{}, "", "v"}) {
  auto map = read_price_map(json, options);
  if (!map) FAIL(map.error().message);
  return std::move(*map);
}

std::string notes(const std::vector<PriceMapNote>& list) {
  std::string text;
  for (const PriceMapNote& note : list) text += note.name + ": " + note.why + "\n";
  return text;
}

}  // namespace

TEST_CASE("a price map becomes the price book of the golden file", "[price]") {
  const PriceMap map = map_of(golden("price_map.json"), {{}, "", "golden"});
  CHECK(map.models == 6);
  CHECK(write_price_book(map.book, "golden") == golden("price_map.toml"));
  CHECK(notes(map.skipped) ==
        "openai/gpt-5: is the same model as 'gpt-5'\n"
        "too-precise: input_cost_per_token: '1.0000000000000001e-05' has more than 12 decimals\n"
        "negative: input_cost_per_token: '-1e-05' is out of range\n"
        "dall-e-2: mode 'image_generation' is not one that a gateway of chats serves\n"
        "no-output: has no price per token of input and output\n"
        "nobody: names no litellm_provider\n"
        "text: is not an object\n"
        "azure/us/gpt-y: has a price for one place and none for all others\n");
  CHECK(notes(map.left_out) ==
        "claude-sonnet-4-5: provider_specific_entry.fast: no answer says that it was billed so\n"
        "gemini/gemini-x: input_cost_per_video_per_second: no usage that a chat reports is billed "
        "by it\n"
        "gemini/gemini-x: search_context_cost_per_query: differs by the size of the search\n");
}

TEST_CASE("a written price book reads back the same", "[price]") {
  const PriceMap map = map_of(golden("price_map.json"));
  PriceBook book = map.book;
  PriceEntry odd;
  odd.provider = "*";
  odd.model = "a \"quoted\\ model\n\x7f";
  odd.contract = "ea-2026";
  odd.until_ms = 1'767'225'600'123;
  odd.price.mode = ThresholdMode::marginal;
  odd.price.per_unit[1] = PicoUsd{7};
  odd.price.per_token[4] = PicoUsd{1};
  odd.price.thresholds = {{5, {}}, {9, {}}};
  odd.price.thresholds[1].per_token[8] = PicoUsd{3};
  book.add(odd);
  const auto again = parse_price_book(write_price_book(book, ""), "p");
  if (!again) FAIL(again.error().message);
  const auto expected = book.entries();
  const auto found = again->entries();
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(found[i]->provider, found[i]->model);
    CHECK(*found[i] == *expected[i]);
  }
}

TEST_CASE("scientific notation is read exactly, tiers fall back as the map's do", "[price]") {
  const PriceMap map = map_of(golden("price_map.json"));
  const auto find = [&map](const PriceQuery& query) { return map.book.find(query); };
  const Price* batch = find({"openai", "gpt-5", "", "", "", true, 0});
  REQUIRE(batch != nullptr);
  CHECK(batch->per_token[0] == PicoUsd{625'000});
  CHECK(batch->per_token[1] == PicoUsd{125'000});  // the map has no price of cached batch input
  const Price* priority = find({"openai", "gpt-5", "priority", "", "", false, 0});
  CHECK(priority->per_token[1] == PicoUsd{250'000});
  const Price* there = find({"anthropic", "claude-sonnet-4-5", "standard", "us", "", false, 0});
  CHECK(there->per_token[0] == PicoUsd{3'300'000});
  CHECK(there->thresholds.at(0).per_token[6] == PicoUsd{24'750'000});
  CHECK(there->thresholds.at(0).per_token[3] == PicoUsd{6'600'000});  // as below the threshold
  const Price* tiered = find({"dashscope", "qwen-x", "", "", "", false, 0});
  CHECK(tiered->thresholds.at(0).above_tokens == 256'000);
  CHECK(find({"azure", "gpt-x", "", "eu", "", false, 0})->per_token[0] == PicoUsd{1'100'000});
}

TEST_CASE("an import takes the providers that were asked for, under the name that was given",
          "[price]") {
  const PriceMap map = map_of(golden("price_map.json"), {{"gemini"}, "google-eu", "v"});
  CHECK(map.models == 1);
  CHECK(map.skipped.size() == 1);  // what is no member of any provider
  CHECK(map.book.find({.provider = "google-eu", .model = "gemini-x"}) != nullptr);
}

TEST_CASE("what is no price map is refused", "[price]") {
  const auto error = [](const std::string& json) {
    const auto map = read_price_map(json, {{}, "", "v"});
    return map ? std::string("no error") : map.error().message;
  };
  CHECK(error("{\"a\": ") == "is not JSON at byte 7");
  CHECK(error("[]") == "is no price map: it has no object with a member per model");
  CHECK(error(std::string(1'000'000, '[')) == "is nested deeper than 32");
  CHECK(error("") == "is not JSON at byte 1");
}

TEST_CASE("a difference is named figure by figure, in percent", "[price]") {
  const auto book = [](const std::string& tables) {
    return *parse_price_book("version = \"v\"\n" + tables, "p");
  };
  const auto price = [](const std::string& model, const std::string& lines) {
    return "[[price]]\nprovider = \"a\"\nmodel = \"" + model + "\"\n" + lines;
  };
  const PriceBook before =
      book(price("gone", "input = \"1\"\noutput = \"2\"\n") +
           price("m", "input = \"3\"\noutput = \"15\"\ninput_cache_read = \"0.30\"\n") +
           price("same", "input = \"1\"\noutput = \"1\"\n"));
  const PriceBook after =
      book(price("m", "input = \"2\"\noutput = \"15.01\"\nper_query = \"0.01\"\n"
                      "from = 2026-01-01\n") +
           price("new", "input = \"0\"\noutput = \"2\"\nservice_tier = \"flex\"\n") +
           price("new", "input = \"0\"\noutput = \"4\"\n") +
           price("same", "input = \"1\"\noutput = \"1\"\n"));
  std::string text;
  for (const PriceChange& change : diff_price_books(before, after)) {
    text += std::string(price_change_names[static_cast<std::size_t>(change.kind)]) + " " +
            change.entry->model + " [" + terms_of(*change.entry) + "] " + change.key + ": " +
            change.before + " -> " + change.after + " " + change.percent + "\n";
  }
  CHECK(text ==
        "removed gone [] input: 1.00 ->  \n"
        "removed gone [] output: 2.00 ->  \n"
        "changed m [] input: 3.00 -> 2.00 -33.33\n"
        "changed m [] output: 15.00 -> 15.01 +0.07\n"
        "changed m [] per_query:  -> 0.01 \n"
        "changed m [] from:  -> 2026-01-01T00:00:00Z \n"
        "changed m [] input_cache_read: 0.30 -> 2.00 +566.67\n"
        "added new [] input:  -> 0.00 \n"
        "added new [] output:  -> 4.00 \n"
        "added new [flex] input:  -> 0.00 \n"
        "added new [flex] output:  -> 2.00 \n");
}

}  // namespace price_map_test
