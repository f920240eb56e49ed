// Invoice: what a provider says was used, read from its CSV export and summed by day, model and
// key. Plain values.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "core/money.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// The columns that are understood, by the names that a map gives them and by those that providers
// use for them (docs/reports.md).
enum class InvoiceColumn : std::uint8_t {
  day = 0,
  model = 1,
  key = 2,  // or project, or whatever the report is told that it is
  cost = 3,
  requests = 4,
  input_tokens = 5,  // without those from or to a cache
  cache_read_tokens = 6,
  cache_write_tokens = 7,
  output_tokens = 8,
  input_total_tokens = 9,  // with those from a cache
};
inline constexpr std::string_view invoice_column_names[] = {"day",
                                                            "model",
                                                            "key",
                                                            "cost",
                                                            "requests",
                                                            "input_tokens",
                                                            "cache_read_tokens",
                                                            "cache_write_tokens",
                                                            "output_tokens",
                                                            "input_total_tokens"};

// What is compared, in the order of usage figures.
enum class TokenClass : std::uint8_t { input = 0, cache_read = 1, cache_write = 2, output = 3 };
inline constexpr std::string_view token_class_names[] = {"input", "cache_read", "cache_write",
                                                         "output"};
inline constexpr std::size_t token_class_count = 4;
using TokenClasses = std::array<std::uint64_t, token_class_count>;

// Day since 1970, model, key (empty where the file has no such column).
using InvoiceKey = std::tuple<std::int64_t, std::string, std::string>;

struct InvoiceRow {
  std::size_t line = 0;   // of the file: the first of those that were summed
  std::size_t lines = 0;  // that were summed
  PicoUsd cost;
  PicoUsd rounding;  // half of the last decimal of each amount: the cost may be off by so much
  std::uint64_t requests = 0;
  TokenClasses tokens{};
};

struct Invoice {
  std::map<InvoiceKey, InvoiceRow> rows;
  bool has_key = false;
  bool has_cost = false;
  bool has_requests = false;
  std::array<bool, token_class_count> has_tokens{};
  bool input_with_cache = false;  // `input` counts those from and to a cache too
};

inline constexpr std::size_t invoice_lines_max = 200'000;

// `map`: for a column the title that it has in the file. Of several titles that mean a class of
// tokens all are summed; of other columns the first that is known. Amounts are US dollars. Errors
// name file, line and column.
struct ColumnTitle {
  InvoiceColumn column;
  std::string title;
};
Result<Invoice> read_invoice(std::string_view csv, std::string_view file,
                             const std::vector<ColumnTitle>& map,
                             const std::map<std::string, std::string>& models);
// "cost=amount_value".
Result<ColumnTitle> parse_column_title(std::string_view text);

}  // namespace outlast::apps
