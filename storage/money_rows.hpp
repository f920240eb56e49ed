// The rows of budgets, slices, holders, commitments and idempotency keys (docs/ledger.md, "Tables"). As in rows.hpp:
// encoders append; decoders accept any bytes and return false for what is no such row.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/metering.hpp"
#include "storage/allotment.hpp"

namespace outlast::storage {

std::string budget_key(std::string_view id);
void encode(std::string& out, const BudgetStatus& row);  // its id is the row's key
bool decode(std::string_view key, std::string_view bytes, BudgetStatus& row);

// What a holder has of a budget (SliceAccount).
struct SliceRow {
  Incarnation holder;  // this and the next are the row's key
  std::string budget;
  PicoUsd left;
  PicoUsd granted;
  PicoUsd returned;
  std::uint64_t opened = 0;
  bool operator==(const SliceRow&) const = default;
};
std::string slice_key(const Incarnation& holder, std::string_view budget);
void encode(std::string& out, const SliceRow& row);
bool decode(std::string_view key, std::string_view bytes, SliceRow& row);

// What the home of a budget or a commitment allotted to another ledger.
struct AllotmentRow {
  bool commitment = false;  // this and the next two are the row's key
  std::string subject;
  std::uint16_t shard = 0;
  Allotment allotment;
  bool operator==(const AllotmentRow&) const = default;
};
std::string allotment_key(const AllotmentRow& row);
void encode(std::string& out, const AllotmentRow& row);
bool decode(std::string_view key, std::string_view bytes, AllotmentRow& row);

// A holder that ended.
struct EndedHolderRow {
  Incarnation holder;  // the row's key
  std::int64_t ended_ms = 0;
  bool operator==(const EndedHolderRow&) const = default;
};
std::string ended_holder_key(const Incarnation& holder);
void encode(std::string& out, const EndedHolderRow& row);
bool decode(std::string_view key, std::string_view bytes, EndedHolderRow& row);

std::string commitment_key(std::string_view id);
void encode(std::string& out, const CommitmentStatus& row);  // its id is the row's key
bool decode(std::string_view key, std::string_view bytes, CommitmentStatus& row);

// What an idempotency key was used for last.
struct IdempotencyRow {
  RequestId request_id;
  Digest parameters{};
  std::uint64_t reserve_index = 0;
  bool operator==(const IdempotencyRow&) const = default;
};
std::string_view idempotency_key(const Digest& key);
void encode(std::string& out, const IdempotencyRow& row);
bool decode(std::string_view bytes, IdempotencyRow& row);

}  // namespace outlast::storage
