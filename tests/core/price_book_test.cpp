#include <catch2/catch.hpp>

#include "core/price_book.hpp"
#include "core/random.hpp"

namespace price_book_test {

using outlast::PicoUsd;
using outlast::Price;
using outlast::PriceBook;
using outlast::PriceEntry;
using outlast::PriceQuery;
using outlast::Random;

namespace {

Price costing(std::int64_t per_request) { return {.per_request = PicoUsd{per_request}}; }

// An entry of provider "alpha" and model "m", told apart by what it costs.
PriceEntry entry_of(std::int64_t per_request, std::string tier = {}, std::string geo = {},
                    bool batch = false, std::string contract = {}) {
  PriceEntry entry;
  entry.provider = "alpha";
  entry.model = "m";
  entry.contract = std::move(contract);
  entry.service_tier = std::move(tier);
  entry.geo = std::move(geo);
  entry.batch = batch;
  entry.price = costing(per_request);
  return entry;
}

// What the price costs that the book finds; -1 for none.
std::int64_t found(const PriceBook& book, const PriceQuery& query) {
  const Price* price = book.find(query);
  return price == nullptr ? -1 : static_cast<std::int64_t>(price->per_request.value);
}

const PriceQuery plain{.provider = "alpha", .model = "m"};

}  // namespace

TEST_CASE("a provider's own price goes before the price for every provider", "[price]") {
  PriceBook book("v1");
  book.set("*", "m", costing(1));
  book.set("alpha", "m", costing(2));
  CHECK(found(book, plain) == 2);
  CHECK(found(book, {.provider = "beta", .model = "m"}) == 1);
  CHECK(found(book, {.provider = "alpha", .model = "unknown"}) == -1);
  CHECK(book.version() == "v1");
  CHECK(book.size() == 2);
  book.set("alpha", "m", costing(3));
  CHECK(found(book, plain) == 3);
  CHECK(book.size() == 2);
}

TEST_CASE("an empty price book knows no price and says so in its version", "[price]") {
  const PriceBook book;
  CHECK(book.find(plain) == nullptr);
  CHECK_FALSE(book.worst_case(plain, 1, 1));
  CHECK(book.version() == "none");
  CHECK(book.size() == 0);
}

TEST_CASE("the most special price that holds is the one: contract, batch, tier, geo", "[price]") {
  PriceBook book;
  book.add(entry_of(1));
  book.add(entry_of(2, "", "us"));
  book.add(entry_of(3, "priority"));
  book.add(entry_of(4, "", "", true));
  book.add(entry_of(5, "", "", false, "ea"));
  book.add(entry_of(6, "priority", "us", false, "ea"));
  const auto ask = [&book](std::string_view tier, std::string_view geo, bool batch,
                           std::string_view contract) {
    return found(book, {"alpha", "m", tier, geo, contract, batch, 0});
  };
  CHECK(ask("", "", false, "") == 1);
  CHECK(ask("default", "global", false, "") == 1);  // what no price names costs the general one
  CHECK(ask("default", "us", false, "") == 2);
  CHECK(ask("priority", "us", false, "") == 3);
  CHECK(ask("priority", "us", true, "") == 4);
  CHECK(ask("priority", "global", true, "ea") == 5);
  CHECK(ask("priority", "us", false, "ea") == 6);
  CHECK(ask("priority", "us", false, "other") == 3);
}

TEST_CASE("a batch without a price of its own costs what other requests cost", "[price]") {
  PriceBook book;
  book.add(entry_of(1));
  PriceQuery batch = plain;
  batch.batch = true;
  CHECK(found(book, batch) == 1);
}

TEST_CASE("a price holds from its first moment until the one that is not its own", "[price]") {
  PriceBook book;
  PriceEntry old = entry_of(1);
  old.until_ms = 1'000;
  PriceEntry present = entry_of(2);
  present.from_ms = 1'000;
  present.until_ms = 2'000;
  book.add(present);
  book.add(old);
  const auto at = [&book](std::int64_t time_ms) {
    PriceQuery query = plain;
    query.time_ms = time_ms;
    return found(book, query);
  };
  CHECK(at(-5) == 1);
  CHECK(at(999) == 1);
  CHECK(at(1'000) == 2);
  CHECK(at(1'999) == 2);
  CHECK(at(2'000) == -1);
  CHECK(book.size() == 2);
}

TEST_CASE("a special price that has ended leaves its requests to the general one", "[price]") {
  PriceBook book;
  PriceEntry offer = entry_of(1, "flex");
  offer.until_ms = 1'000;
  book.add(offer);
  book.add(entry_of(2));
  PriceQuery query{.provider = "alpha", .model = "m", .service_tier = "flex", .time_ms = 999};
  CHECK(found(book, query) == 1);
  query.time_ms = 1'000;
  CHECK(found(book, query) == 2);
}

TEST_CASE("the worst case is over whatever tier, geo and batch may be answered", "[price]") {
  PriceBook book;
  book.add(entry_of(10));
  CHECK(book.worst_case(plain, 1, 1) == PicoUsd{10});
  book.add(entry_of(20, "priority"));
  CHECK(book.worst_case(plain, 1, 1) == PicoUsd{20});
  book.add(entry_of(22, "priority", "us"));
  book.add(entry_of(5, "", "", true));
  CHECK(book.worst_case(plain, 1, 1) == PicoUsd{22});
  PriceQuery contracted = plain;
  contracted.contract = "ea";
  CHECK(book.worst_case(contracted, 1, 1) == PicoUsd{22});
  book.add(entry_of(7, "", "", false, "ea"));  // holds whatever is answered, so nothing else can
  CHECK(book.worst_case(contracted, 1, 1) == PicoUsd{7});
  CHECK(book.worst_case(plain, 1, 1) == PicoUsd{22});
}

TEST_CASE("where some answers would have no price, no worst case is known", "[price]") {
  PriceBook book;
  book.add(entry_of(10, "priority"));
  CHECK_FALSE(book.worst_case(plain, 1, 1));
  PriceEntry general = entry_of(3);
  general.from_ms = 1'000;
  book.add(general);
  CHECK_FALSE(book.worst_case(plain, 1, 1));
  book.set("*", "m", costing(4));
  CHECK(book.worst_case(plain, 1, 1) == PicoUsd{10});
}

TEST_CASE("whatever is answered, the price that is found is within the worst case", "[price]") {
  const auto seed = GENERATE(range(0, 50));
  Random random(static_cast<std::uint64_t>(seed));
  const std::string texts[] = {"", "a", "b"};
  PriceBook book;
  for (int i = 0; i < 12; ++i) {
    PriceEntry entry =
        entry_of(static_cast<std::int64_t>(random.below(1'000)), texts[random.below(3)],
                 texts[random.below(3)], random.below(2) == 0, texts[random.below(3)]);
    if (random.below(3) == 0) entry.provider = "*";
    if (random.below(2) == 0) entry.from_ms = static_cast<std::int64_t>(random.below(100));
    if (random.below(2) == 0) entry.until_ms = static_cast<std::int64_t>(random.below(100));
    book.add(entry);
  }
  for (int i = 0; i < 200; ++i) {
    PriceQuery query{"alpha",
                     "m",
                     texts[random.below(3)],
                     texts[random.below(3)],
                     texts[random.below(3)],
                     random.below(2) == 0,
                     static_cast<std::int64_t>(random.below(100))};
    const auto bound = book.worst_case(query, 0, 0);
    CAPTURE(seed, i);
    if (!bound) continue;
    const Price* price = book.find(query);
    REQUIRE(price != nullptr);
    REQUIRE(price->per_request <= *bound);
  }
}

TEST_CASE("entries are listed by provider, model, the most special first, and time", "[price]") {
  PriceBook book;
  book.set("beta", "a", costing(1));
  PriceEntry later = entry_of(4);
  later.from_ms = 10;
  book.add(later);
  book.add(entry_of(3));
  book.add(entry_of(2, "flex"));
  std::vector<std::int64_t> order;
  for (const PriceEntry* entry : book.entries())
    order.push_back(static_cast<std::int64_t>(entry->price.per_request.value));
  CHECK(order == std::vector<std::int64_t>{2, 3, 4, 1});
}

}  // namespace price_book_test
