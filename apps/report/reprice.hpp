// Reprice: what recorded usage would have cost by another price book. Entries stay as they are.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "core/price_book.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::apps {

struct RepriceQuery {
  std::optional<std::int64_t> since_ms;  // exact, unlike those of usage reports
  std::optional<std::int64_t> until_ms;
  std::string version;  // of a price book that the ledger recorded; empty: `toml`
  std::string toml;
  std::string file = "the price book";  // of `toml`, for messages
};

struct RepriceRow {
  std::uint64_t attempts = 0;
  std::uint64_t unpriced = 0;  // attempts with usage that the other book has no price for: they
                               // keep their recorded cost
  std::uint64_t kept = 0;  // attempts in doubt, whose model is not known: likewise
  std::uint64_t tokens = 0;
  PicoUsd recorded;
  PicoUsd repriced;
};

struct RepriceReport {
  std::string version;                                             // of the other price book
  std::uint64_t entries = 0;                                       // that were read
  std::map<std::pair<std::string, std::string>, RepriceRow> rows;  // by provider and model
  RepriceRow total;
};

inline constexpr std::size_t reprice_rows_max = 100'000;

// Reads the entries of the time, of all these ledgers: one, or a cluster's shards. Errors: not_found (the version is not recorded in
// any), config (the book's own errors), corrupt, stopped (`stop` became true).
Result<RepriceReport> reprice(std::span<const storage::LedgerView* const> views, const RepriceQuery& query,
                              const std::atomic<bool>& stop);
Result<RepriceReport> reprice(const storage::LedgerView& view, const RepriceQuery& query,
                              const std::atomic<bool>& stop);

// {"with": VERSION, "entries": N, "rows": [{"provider", "model", "attempts", "tokens",
// "recorded_usd", "repriced_usd", "difference_usd", "unpriced_attempts", "kept_attempts"}],
// "total": {…}}.
std::string reprice_json(const RepriceReport& report);

}  // namespace outlast::apps
