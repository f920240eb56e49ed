#include "apps/report/usage_json.hpp"

#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

void append_totals(JsonWriter& json, const storage::UsageTotals& totals) {
  json.key("requests").number(totals.requests);
  json.key("attempts").number(totals.attempts);
  json.key("failed_attempts").number(totals.failed_attempts);
  json.key("cost_usd").string(totals.cost.to_usd());
  json.key("overrun_usd").string(totals.overrun.to_usd());
  json.key("unpriced_requests").number(totals.unpriced);
  json.key("estimated").number(totals.estimated);
  json.key("tokens").begin_object();
  for (std::size_t i = 0; i < usage_bucket_count; ++i)
    json.key(usage_buckets[i].name).number(totals.tokens[i]);
  json.end_object();
}

}  // namespace

std::string usage_json(const storage::UsageReport& report) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("rows").begin_array();
  for (const storage::UsageRow& row : report.rows) {
    json.begin_object();
    for (std::size_t i = 0; i < report.by.size(); ++i)
      json.key(name_of(report.by[i])).string(row.group[i]);
    append_totals(json, row.totals);
    json.end_object();
  }
  json.end_array().key("total").begin_object();
  append_totals(json, report.total);
  json.end_object().end_object();
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
  json.key("signed_heads").number(report.signed_heads);
  json.end_object();
  return text;
}

}  // namespace outlast::apps
