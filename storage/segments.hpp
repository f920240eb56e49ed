// Segments: entries that have left the log for compressed files, which are never changed
// (docs/ledger.md gives the bytes). A row in the tables names each, so that a file that is missing,
// swapped or damaged is found.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/crypto.hpp"
#include "core/result.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

inline constexpr char segment_prefix = 's';
inline constexpr std::size_t segment_entries_max = 262'144;
inline constexpr std::size_t segment_raw_bytes_max = 64U << 20;  // before it is compressed

// The row of a segment; its key is the first index, big-endian, after the prefix.
struct SegmentRow {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  Digest header_hash{};  // SHA-256 of the file's header, which holds that of the rest
  bool operator==(const SegmentRow&) const = default;
};
std::string segment_key(std::uint64_t first);
void encode(std::string& out, const SegmentRow& row);
bool decode(std::string_view key, std::string_view bytes, SegmentRow& row);

// "00000000000000000000-00000000000000016383.seg"
std::string segment_name(const SegmentRow& row);

// Collects batches that follow one another. One owner.
class SegmentBuilder {
 public:
  // Error: corrupt, when the batch cannot be parsed or does not follow.
  Result<void> add(const LogBatch& batch, std::int64_t time_ms);
  [[nodiscard]] std::uint64_t entries() const { return row_.last + 1 - row_.first; }
  [[nodiscard]] bool empty() const { return raw_bytes_ == 0; }
  [[nodiscard]] bool full() const {
    return raw_bytes_ >= segment_raw_bytes_max || (!empty() && entries() >= segment_entries_max);
  }
  // The file's bytes; its row is then row().
  std::string finish();
  [[nodiscard]] const SegmentRow& row() const { return row_; }

 private:
  void close_block();

  SegmentRow row_;
  std::int64_t first_time_ms_ = 0;
  std::int64_t last_time_ms_ = 0;
  Digest first_prev_hash_{};
  Digest last_hash_{};
  std::uint64_t raw_bytes_ = 0;
  std::uint64_t block_first_ = 0;
  std::uint32_t blocks_ = 0;
  std::string block_;    // records, not yet compressed
  std::string table_;    // of blocks
  std::string content_;  // compressed blocks
};

// What an auditor reads in a header.
struct SegmentHeader {
  std::uint32_t blocks = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t count = 0;
  std::int64_t first_time_ms = 0;
  std::int64_t last_time_ms = 0;
  std::uint64_t raw_bytes = 0;
  Digest first_prev_hash{};
  Digest last_hash{};
  Digest content_hash{};  // SHA-256 of all bytes after the header
};

// Errors of the three: corrupt, which names the file and what is wrong with it; io.
//
// The header, compared with the row.
Result<SegmentHeader> read_segment_header(const std::string& folder, const SegmentRow& row);
// Every byte is what was written.
Result<void> check_segment(const std::string& folder, const SegmentRow& row);
// Records of index >= from in order, until `visit` returns false; sets `more` to what it returned.
// A read from the first entry on checks the content's hash first; one from the middle reads only
// the blocks that it needs.
Result<void> read_segment(const std::string& folder, const SegmentRow& row, std::uint64_t from,
                          const std::function<bool(const LogRecord&)>& visit, bool& more);

}  // namespace outlast::storage
