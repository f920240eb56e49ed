// The rows of the ledger's tables and their bytes (docs/ledger.md, "Tables"). Keys are ordered and
// big-endian; values are little-endian. Encoders append; decoders accept any bytes and return false
// for what is not such a row.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/crypto.hpp"
#include "core/id.hpp"
#include "core/metering.hpp"
#include "core/virtual_key.hpp"
#include "storage/usage_report.hpp"

namespace outlast::storage {

inline constexpr std::uint32_t ledger_format = 1;
inline constexpr std::string_view head_key = "h";
inline constexpr char balance_prefix = 'b';
inline constexpr char key_prefix = 'k';
inline constexpr char open_prefix = 'o';
inline constexpr char budget_prefix = 'l';  // a limit
inline constexpr char commitment_prefix = 'c';
inline constexpr char slice_prefix = 'g';  // what was granted
inline constexpr char allotment_prefix = 'a';
inline constexpr char ended_holder_prefix = 'e';
inline constexpr char prices_prefix = 'p';
inline constexpr std::int64_t hour_ms = 3'600'000;
inline constexpr std::int64_t day_ms = 24 * hour_ms;
// The status of a roll-up row of requests that were voided.
inline constexpr std::uint8_t status_void = 255;

// Where the ledger stands: in the write batch of every commit.
struct HeadRow {
  std::uint64_t epoch = 1;
  std::uint64_t next_index = 0;
  Digest hash{};  // of the entry before next_index; zeros when there is none
  std::int64_t time_ms = 0;
  std::uint64_t rows_from = 0;  // balances and roll-ups: their rows, then the entries from here
  // Open reservations, budgets and commitments: their rows, then the entries from here; at most
  // rows_from.
  std::uint64_t replay_from = 0;
  RequestId max_ended_id;  // no id above it has ended
  bool operator==(const HeadRow&) const = default;
};
void encode(std::string& out, const HeadRow& row);
bool decode(std::string_view bytes, HeadRow& row);

// One account. Tenants: `t` + organisation/team/user. Providers: `p` + name; they hold nothing.
struct BalanceRow {
  PicoUsd held;
  PicoUsd used;
  PicoUsd overrun;
  bool operator==(const BalanceRow&) const = default;
};
std::string tenant_balance_key(const TenantPath& tenant);
std::string provider_balance_key(std::string_view provider);
void encode(std::string& out, const BalanceRow& row);
bool decode(std::string_view bytes, BalanceRow& row);

struct AttemptRef {
  std::uint16_t number = 0;
  std::uint64_t index = 0;
  bool operator==(const AttemptRef&) const = default;
};

// How a request ended: enough to find the entries that a repeated operation is compared with.
struct DedupRow {
  std::uint64_t reserve_index = 0;
  std::uint64_t end_index = 0;
  std::vector<AttemptRef> attempts;
  bool operator==(const DedupRow&) const = default;
};
std::string_view dedup_key(const RequestId& id);
void encode(std::string& out, const DedupRow& row);
bool decode(std::string_view bytes, DedupRow& row);

// A reservation that was open at a checkpoint.
struct OpenRow {
  std::uint64_t reserve_index = 0;
  Reservation reservation;  // its id is the row's key; its amount with all extensions
  PicoUsd attempts_cost;
  std::vector<AttemptRef> attempts;
  // What it holds of budgets that still exist, and of commitments.
  struct BudgetHold {
    std::string budget;
    PicoUsd from_slice;
    PicoUsd charged;
    bool operator==(const BudgetHold&) const = default;
  };
  struct CommitmentHold {
    std::string commitment;
    __int128 units = 0;
    bool operator==(const CommitmentHold&) const = default;
  };
  std::vector<AttemptRef> extensions;
  std::vector<BudgetHold> budgets;
  std::vector<CommitmentHold> commitments;
};
std::string open_key(const RequestId& id);
void encode(std::string& out, const OpenRow& row);
bool decode(std::string_view key, std::string_view bytes, OpenRow& row);

std::string key_key(std::string_view id);
void encode(std::string& out, const VirtualKey& row);
bool decode(std::string_view bytes, VirtualKey& row);

std::string prices_key(std::string_view version);
void encode_index(std::string& out, std::uint64_t index);
bool decode_index(std::string_view bytes, std::uint64_t& index);

struct RollupKey {
  std::uint32_t hour = 0;  // since 1970
  std::string_view organisation;
  std::string_view team;
  std::string_view user;
  std::string_view key_id;
  std::string_view route;
  std::string_view model;
  std::string_view provider;
  std::string_view deployment;
  std::uint8_t status = 0;  // AttemptStatus or status_void
};
void encode(std::string& out, const RollupKey& key);
bool decode(std::string_view bytes, RollupKey& key);  // views into `bytes`
std::string rollup_hour_key(std::uint32_t hour);      // sorts before every row of that hour
void encode(std::string& out, const UsageTotals& row);     // storage/usage_rows.cpp
bool decode(std::string_view bytes, UsageTotals& row);  // of either format

std::string big_endian_key(std::uint64_t index);
bool decode_big_endian_key(std::string_view bytes, std::uint64_t& index);

}  // namespace outlast::storage
