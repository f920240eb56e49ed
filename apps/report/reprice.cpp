#include "apps/report/reprice.hpp"

#include <algorithm>
#include <vector>

#include "apps/config/node_config.hpp"
#include "apps/report/report_error.hpp"
#include "core/attempt_price.hpp"
#include "core/json_writer.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::apps {
namespace {

Result<PriceBook> load_book(std::span<const storage::LedgerView* const> views, const RepriceQuery& query) {
  if (query.version.empty()) return parse_price_book(query.toml, query.file);
  for (const storage::LedgerView* const view : views) {
    const Result<std::optional<std::string>> toml = storage::recorded_prices(*view, query.version);
    if (!toml) return fail(toml.error());
    if (*toml) return parse_price_book(**toml, "the recorded prices of version '" + query.version + "'");
  }
  return fail(ReportError::not_found,
              "the ledger has recorded no price book of version '" + query.version +
                  "'; 'outlast ledger export' shows those it has, or give a file");
}

const AttemptLine* attempt_of(const proto::EntryBody& body) {
  if (const auto* settled = std::get_if<proto::Settled>(&body)) return &settled->settlement.attempt;
  return std::get_if<AttemptLine>(&body);
}

void add(RepriceRow& row, const AttemptLine& attempt, const std::optional<PicoUsd>& price) {
  ++row.attempts;
  row.tokens += attempt.usage.input_total() + attempt.usage.output_total();
  row.recorded += attempt.cost;
  row.repriced += price.value_or(attempt.cost);
  if (price) return;
  if (attempt.status == AttemptStatus::in_doubt) ++row.kept;
  else ++row.unpriced;
}

void append_row(JsonWriter& json, const RepriceRow& row) {
  json.key("attempts").number(row.attempts).key("tokens").number(row.tokens);
  json.key("recorded_usd").string(row.recorded.to_usd());
  json.key("repriced_usd").string(row.repriced.to_usd());
  json.key("difference_usd").string((row.repriced - row.recorded).to_usd());
  json.key("unpriced_attempts").number(row.unpriced).key("kept_attempts").number(row.kept);
}

// Nothing where no price holds.
std::optional<PicoUsd> price_of(const PriceBook& book, const AttemptLine& attempt) {
  // What was in doubt was charged by its reservation; its model is not known.
  if (attempt.status == AttemptStatus::in_doubt) return std::nullopt;
  return cost_of(book, attempt);
}

}  // namespace

Result<RepriceReport> reprice(const storage::LedgerView& view, const RepriceQuery& query,
                              const std::atomic<bool>& stop) {
  const storage::LedgerView* const views[] = {&view};
  return reprice(views, query, stop);
}

Result<RepriceReport> reprice(std::span<const storage::LedgerView* const> views, const RepriceQuery& query,
                              const std::atomic<bool>& stop) {
  const Result<PriceBook> book = load_book(views, query);
  if (!book) return fail(book.error());
  RepriceReport report;
  report.version = book->version();
  const auto goes_on = [&] { return report.rows.size() <= reprice_rows_max && !stop.load(std::memory_order_relaxed); };
  for (const storage::LedgerView* const view : views) {
    std::uint64_t from = 0;
    if (query.since_ms) {
      const Result<std::uint64_t> first = storage::first_index_since(*view, *query.since_ms);
      if (!first) return fail(first.error());
      from = *first;
    }
    const Result<void> read = storage::read_entries(*view, from, [&](const storage::StoredEntry& entry) {
      if (query.until_ms && entry.header.time_ms >= *query.until_ms) return false;
      ++report.entries;
      if (const AttemptLine* const attempt = attempt_of(entry.body)) {
        const std::optional<PicoUsd> price = price_of(*book, *attempt);
        add(report.rows[{attempt->provider, attempt->model}], *attempt, price);
        add(report.total, *attempt, price);
      }
      return goes_on();
    });
    if (!read) return fail(read.error());
    if (!goes_on()) break;
  }
  if (stop.load(std::memory_order_relaxed))
    return fail(ReportError::stopped, "the node stops; ask again when it is back");
  if (report.rows.size() > reprice_rows_max) {
    return fail(ReportError::too_large, "the time holds more than " +
                                            std::to_string(reprice_rows_max) +
                                            " models; ask for a shorter one");
  }
  return report;
}

std::string reprice_json(const RepriceReport& report) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("with").string(report.version).key("entries").number(report.entries);
  json.key("rows").begin_array();
  for (const auto& [purchase, row] : report.rows) {
    json.begin_object().key("provider").string(purchase.first).key("model").string(purchase.second);
    append_row(json, row);
    json.end_object();
  }
  json.end_array().key("total").begin_object();
  append_row(json, report.total);
  json.end_object().end_object();
  return text;
}

}  // namespace outlast::apps
