#include "apps/report/usage_json.hpp"

#include "apps/report/iso_time.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

void append_latency(JsonWriter& json, std::string_view name, const storage::Latency& latency) {
  json.key(name);
  if (latency.count() == 0) {
    json.null();
    return;
  }
  json.begin_object().key("mean").number(latency.mean_ms());
  json.key("p50").number(latency.percentile_ms(50)).key("p95").number(latency.percentile_ms(95));
  json.end_object();
}

void append_totals(JsonWriter& json, const storage::UsageTotals& totals) {
  json.key("requests").number(totals.requests);
  json.key("attempts").number(totals.attempts);
  json.key("failed_attempts").number(totals.failed_attempts);
  json.key("failure_share");
  if (totals.attempts == 0) json.null();
  else
    json.real(static_cast<double>(totals.failed_attempts) / static_cast<double>(totals.attempts));
  json.key("cost_usd").string(totals.cost.to_usd());
  json.key("overrun_usd").string(totals.overrun.to_usd());
  json.key("unpriced_requests").number(totals.unpriced);
  json.key("estimated").number(totals.estimated);
  json.key("tokens").begin_object();
  for (std::size_t i = 0; i < usage_bucket_count; ++i)
    json.key(usage_buckets[i].name).number(totals.tokens[i]);
  json.end_object();
  append_latency(json, "duration_ms", totals.duration);
  append_latency(json, "first_event_ms", totals.first_event);
}

}  // namespace

std::string usage_json(const storage::UsageReport& report) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("rows").begin_array();
  for (const storage::UsageRow& row : report.rows) {
    json.begin_object();
    if (report.every) json.key("start").string(iso_time(row.start_ms));
    for (std::size_t i = 0; i < report.by.size(); ++i)
      json.key(name_of(report.by[i])).string(row.group[i]);
    append_totals(json, row.totals);
    json.end_object();
  }
  json.end_array().key("total").begin_object();
  append_totals(json, report.total);
  json.end_object();
  if (report.rows_left_out > 0) json.key("rows_left_out").number(report.rows_left_out);
  if (report.overlapping) json.key("overlapping").boolean(true);
  json.end_object();
  return text;
}

std::string verify_json(const storage::VerifyReport& report) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("ok").boolean(report.ok).key("entries").number(report.entries);
  json.key("head").string(to_hex(report.head_hash)).key("first_bad_index");
  if (report.first_bad_index) {
    json.number(*report.first_bad_index);
  } else {
    json.null();
  }
  json.key("message")
      .string(report.problem)
      .key("open_reservations")
      .number(report.open_reservations);
  json.key("charged_usd")
      .string(report.charged.to_usd())
      .key("overrun_usd")
      .string(report.overrun.to_usd());
  json.key("payable_usd").string(report.payable.to_usd());
  json.key("amortised_usd").string(report.amortised.to_usd());
  json.key("savings_usd").string(report.savings.to_usd());
  json.key("signed_heads").number(report.signed_heads);
  json.end_object();
  return text;
}

}  // namespace outlast::apps
