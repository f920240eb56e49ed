// The rows of the roll-ups and their bytes (docs/ledger.md, "Roll-ups"). The main roll-up has a row
// per hour and, so that long reports read little, per day. Roll-ups by tag and by session are rows
// of their own kind, since a request counts under each of its tags: the main roll-up stays exact.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/log.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {

inline constexpr std::uint32_t hours_per_day = 24;

enum class RollupKind : std::uint8_t { main = 0, tag = 1, session = 2 };

// Where the rows of a kind stand: those of one hour or one day begin with `prefix` and its number,
// big-endian.
struct RollupPlace {
  Table table;
  std::string_view prefix;
};
RollupPlace rollup_place(RollupKind kind, bool day);

// `names.hour` is the number of the hour or day since 1970; `label` is the tag or session, which is
// the rest of the key. Encoders append; views into `bytes`, which are the key after the prefix.
void encode_rollup_key(std::string& out, RollupKind kind, bool day, const RollupKey& names,
                       std::string_view label);
bool decode_rollup_key(std::string_view bytes, RollupKey& names, std::string_view& label);

// The bytes of a row from before latency was kept; newer ones begin with the same and are longer. A
// row that was written so stays so: its later attempts have no latency either.
inline constexpr std::size_t rollup_bytes_without_latency = 144;
// The same value, the latency of either being unknown where one of the two rows is old.
bool same_rollup(std::string_view stored, std::string_view recomputed);
// Adds a row to a sum, with its latency or without; false for what is no such row.
bool add_rollup(std::string_view bytes, bool latency, UsageTotals& sum);

// The row that says from which day on (since 1970) there are day rows: those of earlier days were
// written by a version that kept none.
inline constexpr std::string_view first_day_key = "0";
// No row: there are no day rows.
Result<std::optional<std::uint32_t>> load_first_day(const LedgerView& view);
std::string encode_first_day(std::uint32_t day);

}  // namespace outlast::storage
