// Reconcile: a provider's invoice against what the ledger's attempts of that provider cost, line by
// line (day, model and, where the invoice has one, key), with the likely reasons of what differs.
// Pure: reads an invoice and a usage report.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/report/invoice.hpp"
#include "storage/usage_report.hpp"

namespace outlast::apps {

struct ReconcileQuery {
  std::string provider;
  std::vector<ColumnTitle> map;
  std::map<std::string, std::string> models;  // the invoice's name of a model -> the ledger's
  // What the invoice's key or project is called here.
  storage::UsageDimension key_is = storage::UsageDimension::key;
  std::uint32_t tolerance_ppm = 10'000;  // parts per million of the larger figure
  std::string file = "the invoice";      // for messages
};

// "1%", "0.25%": parts per million. Nothing for what is none, or beyond 100%.
std::optional<std::uint32_t> parse_tolerance(std::string_view text);

std::string tolerance_text(std::uint32_t ppm);  // "1.0000%"
std::string tolerance_advice(std::string_view text);
// "their-name=our-name" of a model.
Result<std::pair<std::string, std::string>> parse_model_name(std::string_view text);
// A dimension that an invoice's key may be: who pays, or a deployment.
Result<storage::UsageDimension> read_key_dimension(std::string_view word);

// Append-only.
enum class Difference : std::uint8_t {
  missing_here = 0,       // the invoice has it, the ledger has not
  missing_there = 1,      // the ledger has it, the invoice has not
  tokens_differ = 2,      // of a class
  price_differs = 3,      // the tokens agree, the cost does not
  cache_as_uncached = 4,  // tokens that were read from the cache were charged as others
  estimated = 5,          // the ledger estimated, since the provider reported no usage
  failed_billed = 6,      // attempts that failed here may have been charged there
  unpriced = 7,           // the ledger knows no price of some requests
  day_shift = 8,          // what is missing on one day is there on the next: another time zone
  requests_differ = 9,
};
inline constexpr std::string_view difference_names[] = {
    "missing_here", "missing_there", "tokens_differ", "price_differs", "cache_as_uncached",
    "estimated",    "failed_billed", "unpriced",      "day_shift",     "requests_differ"};

struct Reason {
  Difference difference;
  std::string text;  // a sentence
};

struct LedgerSide {
  PicoUsd cost;
  std::uint64_t requests = 0;
  std::uint64_t failed_attempts = 0;
  std::uint64_t estimated = 0;
  std::uint64_t unpriced = 0;
  TokenClasses tokens{};
};

struct ReconciledLine {
  std::int64_t day = 0;
  std::string model;
  std::string key;
  std::optional<InvoiceRow> invoice;
  std::optional<LedgerSide> ledger;
  std::vector<Reason> reasons;  // none: they agree

  [[nodiscard]] bool agrees() const { return reasons.empty(); }
};

struct Reconciliation {
  std::string provider;
  std::int64_t first_day = 0;
  std::int64_t last_day = 0;
  std::uint32_t tolerance_ppm = 0;
  bool has_key = false;
  bool has_cost = false;
  std::vector<ReconciledLine> lines;  // by day, model and key
  std::uint64_t agreeing = 0;
  PicoUsd invoice_cost;
  PicoUsd ledger_cost;
};

// The report to compare with: of the provider, for the days of the invoice.
storage::UsageQuery reconcile_usage_query(const Invoice& invoice, const ReconcileQuery& query);
// `report` is the answer to it.
Reconciliation reconcile(const Invoice& invoice, const storage::UsageReport& report,
                         const ReconcileQuery& query);

// docs/reports.md describes the members.
std::string reconcile_json(const Reconciliation& result);

}  // namespace outlast::apps
