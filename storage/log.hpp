// The seams below the ledger's state machine: a log of batches that agree on the order of entries,
// and the tables that follow from it. RocksLog keeps both in one RocksDB; MemoryLog is for tests; a
// log shared by several nodes comes later.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/crypto.hpp"
#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

// Append-only.
enum class Table : std::uint8_t {
  meta = 0,    // head, balances, keys, prices, budgets, commitments, old open reservations: by the
               // first byte of the key
  dedup = 1,   // request id -> how it ended
  rollup = 2,  // hour and dimensions -> sums
  idempotency = 3,  // the caller's key -> the request that it was used for
  usage = 4,        // more roll-ups: by day, by tag, by session (storage/usage_rows.hpp)
};
inline constexpr std::size_t table_count = 5;

// Puts and deletes in order, as one flat buffer. One owner.
class TableChanges {
 public:
  void put(Table table, std::string_view key, std::string_view value);
  void erase(Table table, std::string_view key);
  void clear() { buffer_.clear(); }
  [[nodiscard]] bool empty() const { return buffer_.empty(); }
  [[nodiscard]] std::size_t bytes() const { return buffer_.size(); }
  // `visit(table, key, value)`; a null data() of the value means erase.
  template <class Visit>
  void for_each(const Visit& visit) const;
  // The latest put of `key`: true and the value. For rare look-ups: linear.
  [[nodiscard]] bool find(Table table, std::string_view key, std::string& value) const;

 private:
  struct Header {
    std::uint8_t table;
    std::uint8_t erased;
    std::uint16_t key_bytes;
    std::uint32_t value_bytes;
  };
  void append(const Header& header, std::string_view key, std::string_view value);
  std::string buffer_;
};

struct LogRecord {
  std::uint64_t index = 0;
  Digest prev_hash{};
  std::string_view frame;   // valid during the visit
  std::string_view record;  // as stored: with the two before it
};

// Entries that become durable together: their records one after another (docs/ledger.md gives the
// bytes).
struct LogBatch {
  std::uint64_t first_index = 0;
  std::string_view records;
};

// Appends one record to `records` and returns where its frame will start; finish_record() sets its
// length.
std::size_t begin_record(std::string& records, const Digest& prev_hash);
void finish_record(std::string& records, std::size_t frame_start);
// Calls `visit` for each record until it returns false. Any bytes give records or `corrupt`, which
// names the index.
Result<void> parse_batch(const LogBatch& batch, const std::function<bool(const LogRecord&)>& visit);

// What can be read, all as of one moment.
class LedgerView {
 public:
  virtual ~LedgerView() = default;
  // False when there is no such row. Errors: io, corrupt.
  virtual Result<bool> get(Table table, std::string_view key, std::string& value) const = 0;
  // Rows with from <= key < to in order of keys (`to` empty: to the end), until `visit` returns
  // false.
  virtual Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
  // Records of index >= from in order, until `visit` returns false. Errors: io, corrupt.
  virtual Result<void> read(std::uint64_t from,
                            const std::function<bool(const LogRecord&)>& visit) const = 0;
};

class Log : public LedgerView {
 public:
  // The batch and what follows from it, together or not at all; durable on return. After an error
  // the state on disk is unknown: the caller stops.
  virtual Result<void> append(const LogBatch& batch, const TableChanges& changes) = 0;
  // A view that later appends do not change. Any thread, unlike the rest.
  [[nodiscard]] virtual std::unique_ptr<LedgerView> snapshot() const = 0;
};

template <class Visit>
void TableChanges::for_each(const Visit& visit) const {
  for (std::size_t at = 0; at < buffer_.size();) {
    Header header;
    buffer_.copy(reinterpret_cast<char*>(&header), sizeof(header), at);
    at += sizeof(header);
    const std::string_view key(buffer_.data() + at, header.key_bytes);
    at += header.key_bytes;
    const std::string_view value = header.erased
                                       ? std::string_view()
                                       : std::string_view(buffer_.data() + at, header.value_bytes);
    at += header.value_bytes;
    visit(static_cast<Table>(header.table), key, value);
  }
}

}  // namespace outlast::storage
