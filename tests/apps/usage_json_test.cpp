#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "apps/report/usage_json.hpp"

namespace usage_json_test {

using outlast::PicoUsd;
using outlast::storage::UsageDimension;
using outlast::storage::UsageReport;
using outlast::storage::VerifyReport;

TEST_CASE("a usage report is rendered with its dimensions, decimal costs and every bucket",
          "[report]") {
  UsageReport report;
  report.by = {UsageDimension::model, UsageDimension::user};
  report.rows.resize(1);
  auto& row = report.rows[0];
  row.group = {"fast\"", "ann"};
  row.totals.requests = 3;
  row.totals.attempts = 4;
  row.totals.failed_attempts = 1;
  row.totals.unpriced = 2;
  row.totals.estimated = 1;
  row.totals.cost = PicoUsd{123'000'000};
  row.totals.tokens[1] = 7;
  row.totals.duration.add(40);
  row.start_ms = 1'793'534'400'000;
  report.every = outlast::storage::UsageEvery::hour;
  report.rows_left_out = 2;
  report.total = row.totals;
  const auto json = nlohmann::json::parse(outlast::apps::usage_json(report));
  REQUIRE(json["rows"].size() == 1);
  const auto& first = json["rows"][0];
  CHECK(first["model"] == "fast\"");
  CHECK(first["user"] == "ann");
  CHECK(first["requests"] == 3);
  CHECK(first["attempts"] == 4);
  CHECK(first["failed_attempts"] == 1);
  CHECK(first["unpriced_requests"] == 2);
  CHECK(first["estimated"] == 1);
  CHECK(first["cost_usd"] == "0.000123");
  CHECK(first["tokens"].size() == outlast::usage_bucket_count);
  CHECK(first["tokens"]["input_cache_read"] == 7);
  CHECK(first["start"] == "2026-11-01T12:00:00Z");
  CHECK(first["failure_share"] == 0.25);
  CHECK(first["duration_ms"]["mean"] == 40);
  CHECK(first["first_event_ms"].is_null());
  CHECK(json["rows_left_out"] == 2);
  CHECK_FALSE(json.contains("overlapping"));
  CHECK(json["total"]["cost_usd"] == "0.000123");
  CHECK_FALSE(json["total"].contains("model"));
}

TEST_CASE("a verification's report names the first bad entry, or none", "[report]") {
  VerifyReport report;
  report.ok = true;
  report.entries = 5;
  report.head_hash.fill(0xab);
  auto json = nlohmann::json::parse(outlast::apps::verify_json(report));
  CHECK(json["ok"] == true);
  CHECK(json["entries"] == 5);
  CHECK(json["first_bad_index"].is_null());
  CHECK(json["head"].get<std::string>().substr(0, 4) == "abab");
  report.ok = false;
  report.first_bad_index = 3;
  report.problem = "hash differs";
  json = nlohmann::json::parse(outlast::apps::verify_json(report));
  CHECK(json["ok"] == false);
  CHECK(json["first_bad_index"] == 3);
  CHECK(json["message"] == "hash differs");
}

}  // namespace usage_json_test
