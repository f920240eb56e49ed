#include "apps/report/iso_time.hpp"
#include "apps/report/reconcile.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

void append_tokens(JsonWriter& json, const TokenClasses& tokens) {
  json.key("tokens").begin_object();
  for (std::size_t i = 0; i < token_class_count; ++i)
    json.key(token_class_names[i]).number(tokens[i]);
  json.end_object();
}

void append_invoice(JsonWriter& json, const std::optional<InvoiceRow>& row) {
  json.key("invoice");
  if (!row) {
    json.null();
    return;
  }
  json.begin_object().key("line").number(static_cast<std::uint64_t>(row->line));
  json.key("lines").number(static_cast<std::uint64_t>(row->lines));
  json.key("cost_usd").string(row->cost.to_usd()).key("requests").number(row->requests);
  append_tokens(json, row->tokens);
  json.end_object();
}

void append_ledger(JsonWriter& json, const std::optional<LedgerSide>& side) {
  json.key("ledger");
  if (!side) {
    json.null();
    return;
  }
  json.begin_object().key("cost_usd").string(side->cost.to_usd());
  json.key("requests").number(side->requests);
  json.key("failed_attempts").number(side->failed_attempts);
  json.key("estimated").number(side->estimated).key("unpriced_requests").number(side->unpriced);
  append_tokens(json, side->tokens);
  json.end_object();
}

void append_line(JsonWriter& json, const ReconciledLine& line, bool has_key) {
  json.begin_object().key("day").string(iso_day(line.day)).key("model").string(line.model);
  if (has_key) json.key("key").string(line.key);
  json.key("agrees").boolean(line.agrees());
  append_invoice(json, line.invoice);
  append_ledger(json, line.ledger);
  json.key("reasons").begin_array();
  for (const Reason& reason : line.reasons) {
    json.begin_object().key("reason");
    json.string(difference_names[static_cast<std::size_t>(reason.difference)]);
    json.key("text").string(reason.text).end_object();
  }
  json.end_array().end_object();
}

}  // namespace

std::string reconcile_json(const Reconciliation& result) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("provider").string(result.provider);
  json.key("first_day").string(iso_day(result.first_day));
  json.key("last_day").string(iso_day(result.last_day));
  json.key("tolerance_ppm").number(static_cast<std::uint64_t>(result.tolerance_ppm));
  json.key("agrees").boolean(result.agreeing == result.lines.size());
  json.key("agreeing_lines").number(result.agreeing);
  json.key("lines").begin_array();
  for (const ReconciledLine& line : result.lines) append_line(json, line, result.has_key);
  json.end_array().key("total").begin_object().key("invoice_usd");
  if (result.has_cost) json.string(result.invoice_cost.to_usd());
  else json.null();
  json.key("ledger_usd").string(result.ledger_cost.to_usd()).key("difference_usd");
  if (result.has_cost) json.string((result.invoice_cost - result.ledger_cost).to_usd());
  else json.null();
  json.end_object().end_object();
  return text;
}

}  // namespace outlast::apps
