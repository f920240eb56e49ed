// The rows of the roll-ups and their bytes (docs/ledger.md, "Roll-ups"). The main roll-up has a row
// per hour and, so that long reports read little, per day and per month. Roll-ups by tag and by
// session are rows of their own kind, since a request counts under each of its tags: the main
// roll-up stays exact.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/log.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {

inline constexpr std::uint32_t hours_per_day = 24;

enum class RollupKind : std::uint8_t { main = 0, tag = 1, session = 2 };
enum class RollupPeriod : std::uint8_t { hour = 0, day = 1, month = 2 };

// Months are numbered since January 1970, as hours and days are.
std::uint32_t month_of_day(std::uint32_t day);
std::uint32_t first_day_of_month(std::uint32_t month);

// Where the rows of a kind stand: those of one hour, day or month begin with `prefix` and its
// number, big-endian.
struct RollupPlace {
  Table table;
  std::string_view prefix;
};
RollupPlace rollup_place(RollupKind kind, RollupPeriod period);

// `names.hour` is the number of the hour, day or month; `label` is the tag or session, which is
// the rest of the key. Encoders append; views into `bytes`, which are the key after the prefix.
void encode_rollup_key(std::string& out, RollupKind kind, RollupPeriod period,
                       const RollupKey& names, std::string_view label);
bool decode_rollup_key(std::string_view bytes, RollupKey& names, std::string_view& label);

// The bytes of a row from before latency was kept; newer ones begin with the same and are longer. A
// row that was written so stays so: its later attempts have no latency either.
inline constexpr std::size_t rollup_bytes_without_latency = 144;
// The same value, the latency of either being unknown where one of the two rows is old.
bool same_rollup(std::string_view stored, std::string_view recomputed);
// Adds a row to a sum, with its latency or without; false for what is no such row.
bool add_rollup(std::string_view bytes, bool latency, UsageTotals& sum);

// Which rows of hours the rows of days and months hold: those of earlier hours, and of this one
// those of earlier kinds and, of this kind, those up to and including `key` (after its prefix).
struct FoldedRollups {
  std::uint32_t hour = 0;
  RollupKind kind = RollupKind::main;
  std::string key;

  [[nodiscard]] bool holds(std::uint32_t hour, RollupKind kind, std::string_view key) const;
};
inline constexpr std::string_view folded_key = "0";  // in Table::usage, before all others
inline constexpr RollupKind rollup_kinds[] = {RollupKind::main, RollupKind::tag,
                                              RollupKind::session};
// No row: none. Error: corrupt.
Result<FoldedRollups> load_folded(const LedgerView& view);
std::string encode_folded(const FoldedRollups& folded);

}  // namespace outlast::storage
