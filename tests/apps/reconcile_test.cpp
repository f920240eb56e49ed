#include "apps/report/reconcile.hpp"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "apps/report/csv.hpp"
#include "apps/report/iso_time.hpp"
#include "core/random.hpp"

namespace outlast::apps::reconcile_test {
namespace {

using storage::UsageRow;

constexpr std::int64_t first_day = 20'758;  // 2026-11-01
constexpr std::size_t input_uncached = 0;
constexpr std::size_t input_cache_read = 1;
constexpr std::size_t output_text = 6;

Invoice read(const std::string& csv, const std::vector<ColumnTitle>& map = {},
             const std::map<std::string, std::string>& models = {}) {
  const Result<Invoice> invoice = read_invoice(csv, "bill.csv", map, models);
  INFO((invoice ? std::string() : invoice.error().message));
  REQUIRE(invoice);
  return *invoice;
}

std::string refusal(const std::string& csv, const std::vector<ColumnTitle>& map = {}) {
  const Result<Invoice> invoice = read_invoice(csv, "bill.csv", map, {});
  REQUIRE_FALSE(invoice);
  return invoice.error().message;
}

UsageRow row(std::int64_t day, const std::string& model, std::uint64_t input, std::uint64_t cached,
             std::uint64_t output, const std::string& usd, const std::string& key = "") {
  UsageRow row;
  row.start_ms = day * report_day_ms;
  row.group = {model};
  if (!key.empty()) row.group.push_back(key);
  row.totals.requests = row.totals.attempts = 1;
  row.totals.tokens[input_uncached] = input;
  row.totals.tokens[input_cache_read] = cached;
  row.totals.tokens[output_text] = output;
  row.totals.cost = *PicoUsd::parse_usd(usd);
  return row;
}

Reconciliation compare(const Invoice& invoice, std::vector<UsageRow> rows) {
  storage::UsageReport report;
  report.rows = std::move(rows);
  ReconcileQuery query;
  query.provider = "alpha";
  return reconcile(invoice, report, query);
}

std::vector<std::string> reasons_of(const ReconciledLine& line) {
  std::vector<std::string> names;
  for (const Reason& reason : line.reasons)
    names.emplace_back(difference_names[static_cast<std::size_t>(reason.difference)]);
  return names;
}

using Names = std::vector<std::string>;
const std::string titles = "day,model,input_tokens,cache_read_tokens,output_tokens,cost\n";

}  // namespace

TEST_CASE("CSV is read with quotes, line breaks and a byte order mark", "[report]") {
  CsvReader reader(
      "\xef\xbb\xbf"
      "a,\"b \"\"c\"\"\"\r\n\r\n\"x\ny\",\n,z",
      "f");
  std::vector<std::string> cells;
  REQUIRE(*reader.next(cells));
  CHECK(cells == Names{"a", "b \"c\""});
  CHECK(reader.line() == 1);
  REQUIRE(*reader.next(cells));
  CHECK(cells == Names{"x\ny", ""});
  CHECK(reader.line() == 3);
  REQUIRE(*reader.next(cells));
  CHECK(cells == Names{"", "z"});
  CHECK(reader.line() == 5);
  CHECK_FALSE(*reader.next(cells));
  CHECK(csv_line({"a", "b \"c\"", "x\ny"}) == "a,\"b \"\"c\"\"\",\"x\ny\"\r\n");
}

TEST_CASE("a wrong CSV names its line and column", "[report]") {
  for (const auto& [csv, place] : std::vector<std::pair<std::string, std::string>>{
           {"a,\"b", "line 1, column 2: a quote is not closed"},
           {"a\nb,c\"d", "line 2, column 2: a quote in the middle"},
           {"\"a\"b", "line 1, column 1: text behind a closing quote"},
           {std::string("a,b\0c", 5), "line 1, column 2: a control character"},
           {"a," + std::string(csv_cell_bytes_max + 1, 'x'),
            "line 1, column 2: a cell of more than"},
           {std::string(csv_cells_max, ','), "line 1, column 257: more than 256 columns"}}) {
    CsvReader reader(csv, "bill.csv");
    std::vector<std::string> cells;
    Result<bool> more = true;
    while (more && *more) more = reader.next(cells);
    REQUIRE_FALSE(more);
    CHECK(more.error().message.find("bill.csv: " + place) == 0);
  }
}

TEST_CASE("any bytes are an invoice or an error, never a crash", "[report]") {
  const std::string csv = titles + "2026-11-01,m,10,5,\"7\",0.5\n2026-11-02,n,1,2,3,0.25\n";
  Random random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string noise = csv;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
      noise[random.below(noise.size())] = static_cast<char>(random.next());
    const Result<Invoice> invoice = read_invoice(noise, "f", {}, {});
    if (!invoice) CHECK(invoice.error().message.find("f: line ") == 0);
  }
}

TEST_CASE("a wrong invoice names its line and column", "[report]") {
  CHECK(refusal("") ==
        "bill.csv: line 1, column 1: the file is empty; it begins with a line of titles");
  CHECK(refusal(titles).find("there is no line below the titles") != std::string::npos);
  CHECK(refusal("a,b\n1,2\n")
            .find("line 1, column 1: no column is the day; say which column it is "
                  "with --map COLUMN=TITLE. The titles are a, b") != std::string::npos);
  CHECK(refusal("day,model\n2026-11-01,m\n").find("no column is a cost") != std::string::npos);
  CHECK(refusal(titles + "2026-11-31,m,1,1,1,1\n") ==
        "bill.csv: line 2, column 1: (day) '2026-11-31' is not a day; write 2026-11-01, or seconds "
        "since 1970");
  CHECK(refusal(titles + "2026-11-01,m,1,1,1,1\n2026-11-02,m,1,-1,1,1\n") ==
        "bill.csv: line 3, column 4: (cache_read_tokens) '-1' is not a whole number of 0 or more");
  CHECK(refusal(titles + "2026-11-01,m,1,1,1,1e3\n").find("line 2, column 6: (cost) '1e3'") !=
        std::string::npos);
  CHECK(refusal(titles + "2026-11-01,m,1\n").find("line 2, column 4: there are 3 cells under 6") !=
        std::string::npos);
  CHECK(refusal(titles + "2026-11-01,m,1,1,1,1\n", {{InvoiceColumn::cost, "price"}})
            .find("there is no column 'price'") != std::string::npos);
}

TEST_CASE("columns are known by the names that providers use, or by a map", "[report]") {
  const Invoice anthropic = read(
      "usage_date_utc,model_version,api_key,workspace,usage_input_tokens_no_cache,"
      "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,"
      "usage_input_tokens_cache_read,usage_output_tokens\n"
      "2026-11-01,m,k,w,1,2,3,4,5\n2026-11-01,m,k,w,10,20,30,40,50\n");
  REQUIRE(anthropic.rows.size() == 1);
  const auto& [key, sum] = *anthropic.rows.begin();
  CHECK(key == InvoiceKey{first_day, "m", "k"});
  CHECK(sum.tokens == TokenClasses{11, 44, 55, 55});
  CHECK(sum.line == 2);
  CHECK(sum.lines == 2);

  const Invoice openai = read(
      "start_time,Model,project_id,num_model_requests,input_tokens,"
      "input_cached_tokens,output_tokens\n1793491200,m,p,3,100,40,7\n");
  CHECK(openai.rows.begin()->second.tokens == TokenClasses{60, 40, 0, 7});
  CHECK(openai.rows.begin()->second.requests == 3);
  CHECK(std::get<0>(openai.rows.begin()->first) == first_day);

  const Invoice mapped = read(
      "when,what,sum\n2026-11-01T08:00:00Z,x,$1.50\n",
      {{InvoiceColumn::day, "when"}, {InvoiceColumn::model, "what"}, {InvoiceColumn::cost, "sum"}},
      {{"x", "ours"}});
  CHECK(std::get<1>(mapped.rows.begin()->first) == "ours");
  CHECK(mapped.rows.begin()->second.cost == *PicoUsd::parse_usd("1.5"));
  CHECK_FALSE(mapped.has_key);
}

TEST_CASE("lines within the tolerance agree, and rounding to cents is no difference", "[report]") {
  const auto result = compare(read(titles + "2026-11-01,m,1000,100,505,0.02\n"),
                              {row(first_day, "m", 1000, 100, 500, "0.0231")});
  CHECK(result.agreeing == 1);
  CHECK(reasons_of(compare(read(titles + "2026-11-01,m,1000,100,500,2.000000\n"),
                           {row(first_day, "m", 1000, 100, 500, "2.03")})
                       .lines[0]) == Names{"price_differs"});
}

TEST_CASE("what one side lacks is missing", "[report]") {
  auto failed_only = row(first_day, "w", 0, 0, 0, "0");
  failed_only.totals.failed_attempts = 1;
  const auto result = compare(read(titles + "2026-11-01,m,1,0,1,1.00\n"),
                              {row(first_day, "n", 1, 0, 1, "2.00"), failed_only});
  REQUIRE(result.lines.size() == 2);
  CHECK(reasons_of(result.lines[0]) == Names{"missing_here"});
  CHECK(reasons_of(result.lines[1]) == Names{"missing_there"});
  CHECK(result.agreeing == 0);
}

TEST_CASE("a different price for the same tokens is told per million tokens", "[report]") {
  const auto result = compare(read(titles + "2026-11-01,m,1000000,0,0,4.00\n"),
                              {row(first_day, "m", 1'000'000, 0, 0, "3.00")});
  REQUIRE(reasons_of(result.lines[0]) == Names{"price_differs"});
  CHECK(
      result.lines[0].reasons[0].text ==
      "cost: $4.00 there, $3.00 here, for the same tokens; $4.00 there and $3.00 here per million "
      "tokens");
}

TEST_CASE("cached tokens that were charged as others are recognised", "[report]") {
  const auto counted = compare(read(titles + "2026-11-01,m,1500,0,10,1.00\n"),
                               {row(first_day, "m", 1000, 500, 10, "0.50")});
  CHECK(reasons_of(counted.lines[0]) == Names{"cache_as_uncached"});
  const auto charged = compare(read("day,model,cost\n2026-11-01,m,1.00\n"),
                               {row(first_day, "m", 1000, 500, 10, "0.50")});
  REQUIRE(reasons_of(charged.lines[0]) == Names{"price_differs"});
  CHECK(charged.lines[0].reasons[0].text.find("500 of them were read from the cache here") !=
        std::string::npos);
  // A file without columns of the cache counts all input as one.
  const auto whole = compare(read("day,model,input_tokens\n2026-11-01,m,1500\n"),
                             {row(first_day, "m", 1000, 500, 10, "0.50")});
  CHECK(whole.agreeing == 1);
}

TEST_CASE("estimates, failed attempts and missing prices are named where something differs",
          "[report]") {
  auto ledger = row(first_day, "m", 1000, 0, 500, "1.00");
  ledger.totals.estimated = 2;
  ledger.totals.failed_attempts = 3;
  ledger.totals.unpriced = 4;
  const auto result = compare(read(titles + "2026-11-01,m,1500,0,500,1.50\n"), {ledger});
  CHECK(reasons_of(result.lines[0]) ==
        Names{"tokens_differ", "estimated", "failed_billed", "unpriced"});
  CHECK(result.lines[0].reasons[0].text == "input tokens: 1500 there, 1000 here (+500)");
  CHECK(compare(read(titles + "2026-11-01,m,1000,0,500,1.00\n"), {ledger}).agreeing == 1);
}

TEST_CASE("what is missing on one day and there on the next is a shift of time zone", "[report]") {
  const auto result = compare(
      read(titles + "2026-11-01,m,800,0,100,0.80\n2026-11-02,m,1200,0,100,1.20\n"
                    "2026-11-03,m,1000,0,100,1.00\n"),
      {row(first_day, "m", 1000, 0, 100, "1.00"), row(first_day + 1, "m", 1000, 0, 100, "1.00"),
       row(first_day + 2, "m", 1000, 0, 100, "1.00")});
  CHECK(reasons_of(result.lines[0]) == Names{"tokens_differ", "day_shift"});
  CHECK(reasons_of(result.lines[1]) == Names{"tokens_differ", "day_shift"});
  CHECK(result.lines[2].agrees());
}

TEST_CASE("with a key each line is of one key", "[report]") {
  const Invoice invoice =
      read("day,model,api_key,cost\n2026-11-01,m,one,1.00\n2026-11-01,m,two,2.00\n");
  ReconcileQuery query;
  query.provider = "alpha";
  query.key_is = storage::UsageDimension::deployment;
  const storage::UsageQuery usage = reconcile_usage_query(invoice, query);
  CHECK(usage.by ==
        std::vector{storage::UsageDimension::model_served, storage::UsageDimension::deployment});
  CHECK(usage.since_ms == first_day * report_day_ms);
  CHECK(usage.until_ms == (first_day + 1) * report_day_ms);
  const auto result = compare(invoice, {row(first_day, "m", 1, 0, 0, "1.00", "one"),
                                        row(first_day, "m", 1, 0, 0, "2.00", "two")});
  CHECK(result.agreeing == 2);
  const auto json = nlohmann::json::parse(reconcile_json(result));
  CHECK(json["agrees"] == true);
  CHECK(json["lines"][1]["key"] == "two");
  CHECK(json["lines"][1]["invoice"]["line"] == 3);
  CHECK(json["total"]["difference_usd"] == "0.00");
}

TEST_CASE("a tolerance is a percentage with four decimals at most", "[report]") {
  CHECK(parse_tolerance("1%") == 10'000U);
  CHECK(parse_tolerance("0.25%") == 2'500U);
  CHECK(parse_tolerance("100%") == 1'000'000U);
  CHECK(parse_tolerance("0%") == 0U);
  for (const char* wrong : {"", "%", "1", "-1%", "100.0001%", "0.00001%", "1.%", "a%", "1,5%"})
    CHECK_FALSE(parse_tolerance(wrong));
  CHECK(parse_tolerance(tolerance_text(12'345)) == 12'345U);
}

}  // namespace outlast::apps::reconcile_test
