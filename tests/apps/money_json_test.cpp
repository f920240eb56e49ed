#include "apps/report/money_json.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace money_json_test {

using namespace outlast;
using namespace outlast::apps;
using Catch::Contains;

namespace {

std::string fault_of(const std::string& body) {
  const auto read = read_budget_request(body);
  return read ? "" : read.error().message;
}
std::string commitment_fault_of(const std::string& body) {
  const auto read = read_commitment_request(body);
  return read ? "" : read.error().message;
}

}  // namespace

TEST_CASE("a budget request is read whole", "[money]") {
  const auto read = read_budget_request(
      R"({"scope":"team:acme/search","amount_usd":"12.50","period":"week","time_zone":"Europe/Berlin","soft":true,"name":"n","by":"ann"})");
  REQUIRE(read);
  CHECK(read->budget == Budget{"", "n", *Scope::parse("team:acme/search"), {12'500'000'000'000}, BudgetPeriod::week,
                               "Europe/Berlin", true});
  CHECK(read->by == "ann");
}

TEST_CASE("a malformed budget request says which member is wrong", "[money]") {
  CHECK_THAT(fault_of("[]"), Contains("JSON object"));
  CHECK_THAT(fault_of("{"), Contains("JSON object"));
  CHECK_THAT(fault_of(R"({"amount_usd":"1","period":"day"})"), Contains("'scope' is missing"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":1,"period":"day"})"), Contains("'amount_usd' must be a text"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":"0.0000000000001","period":"day"})"), Contains("12 decimals"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":"-0.01","period":"day"})"), Contains("negative"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":")" + std::string(40, '9') + R"(","period":"day"})"),
             Contains("too large"));
  CHECK_THAT(fault_of(R"({"scope":"gang:a","amount_usd":"1","period":"day"})"), Contains("KIND:VALUE"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":"1","period":"hour"})"), Contains("day, week, month, total"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":"1","period":"day","hard":true})"), Contains("'hard' is not known"));
  CHECK_THAT(fault_of(R"({"scope":"team:a/b","amount_usd":"1","period":"day","soft":"yes"})"), Contains("true or false"));
}

TEST_CASE("a commitment request is of tokens or of money", "[money]") {
  const std::string rest = R"("provider":"alpha","models":["m"],"price_usd":"2","from_ms":1,"until_ms":2)";
  const auto tokens = read_commitment_request("{" + rest + R"(,"tokens":"5e9"})");
  REQUIRE(tokens);
  CHECK(tokens->commitment.unit == CommitmentUnit::tokens);
  CHECK((tokens->commitment.units == 5'000'000'000));
  const auto money = read_commitment_request("{" + rest + R"(,"usd":"100000","rollover":true})");
  REQUIRE(money);
  CHECK(money->commitment.unit == CommitmentUnit::money);
  CHECK((money->commitment.units == static_cast<__int128>(100'000) * 1'000'000'000'000));
  CHECK(money->commitment.rollover);
  CHECK_THAT(commitment_fault_of("{" + rest + "}"), Contains("'tokens' or 'usd'"));
  CHECK_THAT(commitment_fault_of("{" + rest + R"(,"usd":"1","tokens":"1"})"), Contains("'tokens' or 'usd'"));
  CHECK_THAT(commitment_fault_of("{" + rest + R"(,"usd":"0"})"), Contains("more than nothing"));
  CHECK_THAT(commitment_fault_of(R"({"provider":"a","tokens":"1","price_usd":"2","from_ms":2,"until_ms":2})"),
             Contains("later than"));
  CHECK_THAT(commitment_fault_of(R"({"provider":"a","tokens":"1","price_usd":"2","from_ms":2,"until_ms":1e300})"),
             Contains("milliseconds"));
  CHECK_THAT(commitment_fault_of(R"({"provider":"a","models":"m","tokens":"1","price_usd":"2","from_ms":1,"until_ms":2})"),
             Contains("list"));
}

TEST_CASE("token counts are whole numbers, also in scientific notation", "[money]") {
  const auto value = [](std::string_view text) {
    const auto count = parse_token_count(text);
    return count ? static_cast<std::int64_t>(*count) : -1;
  };
  CHECK(value("1") == 1);
  CHECK(value("5e9") == 5'000'000'000);
  CHECK(value("2.5e9") == 2'500'000'000);
  CHECK(value("2.50E1") == 25);
  CHECK(value("1e18") == 1'000'000'000'000'000'000);
  for (const char* text : {"", "0", "0e5", "-1", "1.5", "1e19", "1e", "1e999", "e5", ".", "1_000", "2e18", "9999999999999999999"}) {
    INFO(text);
    CHECK(value(text) == -1);
  }
}

TEST_CASE("reports of budgets and commitments are JSON with decimal strings", "[money]") {
  BudgetStatus status{{"bud_1", "", *Scope::parse("tag:a"), {5'000'000'000'000}}, {1'000'000'000'000}, {500'000'000'000}, {}};
  const auto budgets = nlohmann::json::parse(budgets_json({status}, [](const std::string&) { return std::uint64_t{3}; }));
  CHECK(budgets["budgets"][0]["left_usd"] == "3.50");
  CHECK(budgets["budgets"][0]["resets_ms"].is_null());
  CHECK(budgets["budgets"][0]["refusals"] == 3);

  CommitmentStatus bought;
  bought.commitment = {.id = "com_1", .provider = "alpha", .unit = CommitmentUnit::tokens, .units = 1'000'000,
                       .price = {2'000'000'000'000}, .until_ms = 1'000};
  bought.used = 250'000;
  bought.list_cost = {1'000'000'000'000};
  const auto commitments = nlohmann::json::parse(commitments_json({bought}, 500))["commitments"][0];
  CHECK(commitments["left"] == "750000");
  CHECK(commitments["behind"] == true);
  CHECK(commitments["unused_at_end"] == "500000");
  CHECK(commitments["price_at_full_use_usd"] == "2.00");
  CHECK(commitments["price_at_pace_usd"] == "4.00");
  CHECK(commitments["list_price_usd"] == "4.00");
}

TEST_CASE("scopes name what is there", "[money]") {
  const KnownNames known{{"alpha"}, {"m"}, {"key_1"}};
  for (const char* scope : {"provider:alpha", "model:m", "key:key_1", "tag:any", "organisation:any"}) {
    CHECK(check_known(*Scope::parse(scope), known));
  }
  for (const char* scope : {"provider:beta", "model:n", "key:key_2"}) CHECK_FALSE(check_known(*Scope::parse(scope), known));
  CHECK_FALSE(check_known(Commitment{.provider = "beta"}, known));
  CHECK_FALSE(check_known(Commitment{.provider = "alpha", .models = {"n"}}, known));
}

}  // namespace money_json_test
