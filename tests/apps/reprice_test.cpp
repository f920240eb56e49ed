#include "core/attempt_price.hpp"
#include "apps/report/reprice.hpp"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "apps/config/node_config.hpp"
#include "apps/report/csv.hpp"
#include "apps/report/focus.hpp"
#include "apps/report/report_error.hpp"
#include "core/random.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace outlast::apps::reprice_test {
namespace {

const std::string old_prices = R"(version = "old"
[[price]]
provider = "alpha"
model = "m"
input = "3.00"
output = "15.00"
per_request = "0.01"
)";
const std::string new_prices = R"(version = "new"
[[price]]
provider = "*"
model = "m"
input = "1.000001"
output = "5.00"
)";

const std::atomic<bool> go_on{false};

struct Ledger {
  storage::MemoryLog log;
  ManualClock clock;
  std::unique_ptr<storage::LedgerWriter> writer;
  UuidGenerator ids{clock, 1};
  PriceBook book = *parse_price_book(old_prices, "old");

  Ledger() { open(); }
  void open() {
    auto opened = storage::LedgerWriter::open(log, clock, {}, "test");
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  void request(const std::string& model, std::uint64_t input, std::uint64_t output,
               UsageSource source = UsageSource::reported) {
    Reservation reservation;
    reservation.request_id = ids.next();
    reservation.tenant = {"o", "t", "u"};
    reservation.price_known = true;
    reservation.amount = {7};
    Settlement settlement;
    AttemptLine& line = settlement.attempt;
    line.request_id = reservation.request_id;
    line.number = 1;
    line.provider = "alpha";
    line.model = model;
    line.usage.input_uncached = input;
    line.usage.output_text = output;
    line.usage.source = source;
    const std::optional<PicoUsd> cost = cost_of(book, line);
    line.price_known = cost.has_value();
    line.cost = cost.value_or(PicoUsd{});
    REQUIRE(writer->add(reservation));
    REQUIRE(writer->add(settlement));
    REQUIRE(writer->commit());
    clock.advance_ms(1'000);
  }
};

}  // namespace

TEST_CASE("repriced by the book that it was charged by, history costs what it cost", "[report]") {
  Ledger ledger;
  REQUIRE(ledger.writer->add(proto::PricesRecorded{"old", old_prices}));
  Random random(8);
  for (int i = 0; i < 200; ++i) {
    ledger.request(random.below(5) == 0 ? "unknown" : "m", random.below(90'000),
                   random.below(9'000),
                   random.below(6) == 0 ? UsageSource::absent : UsageSource::reported);
  }
  const auto report = reprice(ledger.log, {.version = "old"}, go_on);
  REQUIRE(report);
  CHECK(report->total.recorded == report->total.repriced);
  CHECK(report->total.attempts == 200);
  CHECK(report->version == "old");
}

TEST_CASE("another book gives other costs, to the pico-dollar, and changes nothing", "[report]") {
  Ledger ledger;
  ledger.request("m", 1'000, 10);
  const std::int64_t between_ms = ledger.clock.wall_ms();
  ledger.request("m", 3, 1);
  ledger.request("unknown", 50, 50);
  const auto batches = ledger.log.batches();
  RepriceQuery query;
  query.toml = new_prices;
  const auto all = reprice(ledger.log, query, go_on);
  REQUIRE(all);
  const RepriceRow& row = all->rows.at({"alpha", "m"});
  CHECK(row.attempts == 2);
  CHECK(row.recorded.value == 1'003 * 3'000'000LL + 11 * 15'000'000LL + 20'000'000'000LL);
  CHECK(row.repriced.value == 1'003 * 1'000'001LL + 11 * 5'000'000LL);
  CHECK(all->rows.at({"alpha", "unknown"}).unpriced == 1);
  CHECK(ledger.log.batches() == batches);

  // The shards of a cluster are ledgers of their own.
  Ledger other;
  other.request("m", 1, 0);
  const storage::LedgerView* const both[] = {&ledger.log, &other.log};
  const auto sum = reprice(both, query, go_on);
  REQUIRE(sum);
  CHECK(sum->rows.at({"alpha", "m"}).attempts == 3);
  CHECK(sum->rows.at({"alpha", "m"}).repriced.value == 1'004 * 1'000'001LL + 11 * 5'000'000LL);
  CHECK(sum->total.attempts == 4);

  query.since_ms = between_ms;
  const auto since = reprice(ledger.log, query, go_on);
  CHECK(since->rows.at({"alpha", "m"}).attempts == 1);
  CHECK(since->entries == 4);
  query.since_ms.reset();
  query.until_ms = between_ms;
  CHECK(reprice(ledger.log, query, go_on)->total.attempts == 1);

  const auto json = nlohmann::json::parse(reprice_json(*all));
  CHECK(json["with"] == "new");
  CHECK(json["rows"][0]["model"] == "m");
  CHECK(json["rows"][0]["repriced_usd"] == row.repriced.to_usd());
  CHECK(json["total"]["unpriced_attempts"] == 1);
}

TEST_CASE("what was in doubt keeps what was recorded", "[report]") {
  Ledger ledger;
  Reservation reservation;
  reservation.request_id = ledger.ids.next();
  reservation.tenant = {"o", "t", "u"};
  reservation.price_known = true;
  reservation.amount = {777};
  REQUIRE(ledger.writer->add(reservation));
  REQUIRE(ledger.writer->commit());
  ledger.writer.reset();
  ledger.open();
  RepriceQuery query;
  query.toml = new_prices;
  const auto report = reprice(ledger.log, query, go_on);
  REQUIRE(report);
  CHECK(report->total.kept == 1);
  CHECK(report->total.repriced.value == 777);
}

TEST_CASE("a price book that is not there or wrong is an error", "[report]") {
  Ledger ledger;
  const auto unknown = reprice(ledger.log, {.version = "2030"}, go_on);
  REQUIRE_FALSE(unknown);
  CHECK(is(unknown.error(), ReportError::not_found));
  CHECK(unknown.error().message.find("no price book of version '2030'") != std::string::npos);
  RepriceQuery query;
  query.toml = "version = 3";
  query.file = "mine.toml";
  CHECK(reprice(ledger.log, query, go_on).error().message.find("mine.toml:1") == 0);
  const std::atomic<bool> stop{true};
  query.toml = new_prices;
  CHECK(is(reprice(ledger.log, query, stop).error(), ReportError::stopped));
}

TEST_CASE("FOCUS rows have every mandatory column and whole numbers of money", "[report]") {
  Ledger ledger;
  ledger.request("m", 1'000, 234);
  ledger.request("m", 1, 1);
  const auto query = focus_query({});
  REQUIRE(query);
  const auto report = storage::usage_of(ledger.log, *query);
  REQUIRE(report);
  const std::string csv = focus_csv(*report);
  CsvReader reader(csv, "focus");
  std::vector<std::string> names;
  std::vector<std::string> cells;
  REQUIRE(*reader.next(names));
  REQUIRE(*reader.next(cells));
  REQUIRE(cells.size() == names.size());
  std::map<std::string, std::string> row;
  for (std::size_t i = 0; i < names.size(); ++i) row[names[i]] = cells[i];
  for (const char* mandatory :
       {"BilledCost",        "BillingAccountId",   "BillingAccountName", "BillingCurrency",
        "BillingPeriodEnd",  "BillingPeriodStart", "ChargeCategory",     "ChargeDescription",
        "ChargePeriodEnd",   "ChargePeriodStart",  "ContractedCost",     "EffectiveCost",
        "InvoiceIssuerName", "ListCost",           "PricingQuantity",    "PricingUnit",
        "ProviderName",      "PublisherName",      "ServiceCategory",    "ServiceName"}) {
    INFO(mandatory);
    REQUIRE(row.contains(mandatory));
    CHECK_FALSE(row[mandatory].empty());
  }
  CHECK(row.contains("ChargeClass"));  // null: not a correction
  CHECK(row["BilledCost"] == report->total.cost.to_usd());
  CHECK(row["ConsumedQuantity"] == "1236");
  CHECK(row["PricingQuantity"] == "0.001236");
  CHECK(row["ChargePeriodStart"] == "2025-06-15T00:00:00Z");
  CHECK(row["ChargePeriodEnd"] == "2025-06-16T00:00:00Z");
  CHECK(row["BillingPeriodStart"] == "2025-06-01T00:00:00Z");
  CHECK(row["BillingPeriodEnd"] == "2025-07-01T00:00:00Z");
  CHECK(nlohmann::json::parse(row["Tags"])["team"] == "t");
  CHECK_FALSE(*reader.next(cells));

  storage::UsageQuery grouped;
  grouped.by = {storage::UsageDimension::user};
  CHECK_FALSE(focus_query(grouped));
  storage::UsageQuery tags;
  tags.where = {{storage::UsageDimension::tag, "a"}, {storage::UsageDimension::tag, "b"}};
  CHECK_FALSE(focus_query(tags));
}

}  // namespace outlast::apps::reprice_test
