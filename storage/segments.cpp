#include "storage/segments.hpp"

#include <zstd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "core/check.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/durable_file.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

constexpr std::string_view magic = "OUTLSEGM";
constexpr std::uint32_t segment_format = 1;
constexpr std::size_t header_bytes = 160;
constexpr std::size_t table_row_bytes = 16;
constexpr std::size_t block_raw_bytes = 256U << 10;  // a block is closed once it has so many
constexpr std::size_t block_raw_bytes_max =
    block_raw_bytes + proto::ledger_frame_bytes_max + 64;  // one more record may have come
constexpr std::uint32_t blocks_max = 1U << 16;
constexpr std::size_t file_bytes_max = 256U << 20;
constexpr int zstd_level = 6;  // twice the time of 3 and a tenth fewer bytes; this runs once

template <class T>
void put_fixed(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

template <class T>
void take(std::string_view& bytes, T& value) {
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
}

struct BlockRow {
  std::uint64_t first = 0;
  std::uint32_t bytes = 0;
  std::uint32_t raw_bytes = 0;
};

std::string path_of(const std::string& folder, const SegmentRow& row) {
  return folder + "/" + segment_name(row);
}

Failure damaged(const std::string& file, const std::string& what) {
  return fail(LedgerError::corrupt, "the segment " + file + " is damaged: " + what +
                                        "; restore the file from a backup");
}

Result<SegmentHeader> parse_header(const std::string& file, const SegmentRow& row,
                                   std::string_view bytes) {
  if (bytes.size() < header_bytes) return damaged(file, "it is cut short");
  if (sha256(bytes.substr(0, header_bytes)) != row.header_hash)
    return damaged(file, "its header is not the one that the ledger names");
  SegmentHeader header;
  std::uint32_t format = 0;
  bytes.remove_prefix(magic.size());
  take(bytes, format);
  take(bytes, header.blocks);
  take(bytes, header.first);
  take(bytes, header.last);
  take(bytes, header.count);
  take(bytes, header.first_time_ms);
  take(bytes, header.last_time_ms);
  take(bytes, header.raw_bytes);
  take(bytes, header.first_prev_hash);
  take(bytes, header.last_hash);
  take(bytes, header.content_hash);
  if (format != segment_format)
    return damaged(file, "it has format " + std::to_string(format) + ", of a later version");
  if (header.first != row.first || header.last != row.last || header.blocks > blocks_max)
    return damaged(file, "its header names other entries than the ledger");
  return header;
}

// One file, open for reading.
class Reader {
 public:
  Reader(const std::string& folder, const SegmentRow& row)
      : file_(path_of(folder, row)), row_(row) {}

  Result<SegmentHeader> open() {
    stream_.open(file_, std::ios::binary);
    if (!stream_) return damaged(file_, "it is missing or cannot be read");
    std::string bytes;
    if (const Result<void> got = read(header_bytes, bytes); !got) return fail(got.error());
    return parse_header(file_, row_, bytes);
  }
  // The next bytes of the file.
  Result<void> read(std::size_t size, std::string& into) {
    into.resize(size);
    stream_.read(into.data(), static_cast<std::streamsize>(size));
    if (stream_.gcount() != static_cast<std::streamsize>(size))
      return damaged(file_, "it is cut short");
    return {};
  }
  void skip(std::size_t size) { stream_.seekg(static_cast<std::streamoff>(size), std::ios::cur); }
  // All that is left is `hash`; back to where it began.
  Result<void> check_rest(const Digest& hash) {
    const auto begin = stream_.tellg();
    Sha256 sum;
    std::size_t size = 0;
    std::vector<char> block(1U << 18);
    while (stream_.read(block.data(), static_cast<std::streamsize>(block.size())) ||
           stream_.gcount() > 0) {
      sum.update(std::string_view(block.data(), static_cast<std::size_t>(stream_.gcount())));
      size += static_cast<std::size_t>(stream_.gcount());
      if (size > file_bytes_max) return damaged(file_, "it is larger than any segment");
    }
    if (sum.finish() != hash) return damaged(file_, "its bytes do not have the header's hash");
    stream_.clear();
    stream_.seekg(begin);
    return {};
  }
  Result<std::vector<BlockRow>> table(const SegmentHeader& header) {
    std::string bytes;
    if (Result<void> got = read(header.blocks * table_row_bytes, bytes); !got)
      return fail(std::move(got.error()));
    std::vector<BlockRow> rows(header.blocks);
    std::string_view rest = bytes;
    for (BlockRow& row : rows) {
      take(rest, row.first);
      take(rest, row.bytes);
      take(rest, row.raw_bytes);
      if (row.bytes > file_bytes_max || row.raw_bytes > block_raw_bytes_max)
        return damaged(file_, "its table of blocks cannot be right");
    }
    return rows;
  }
  Result<void> records(const BlockRow& block, std::string& into) {
    if (Result<void> got = read(block.bytes, compressed_); !got) return got;
    into.resize(block.raw_bytes);
    const std::size_t size =
        ZSTD_decompress(into.data(), into.size(), compressed_.data(), compressed_.size());
    if (ZSTD_isError(size) != 0 || size != block.raw_bytes)
      return damaged(file_, "the block of entry " + std::to_string(block.first) +
                                " cannot be decompressed");
    return {};
  }

 private:
  const std::string file_;
  const SegmentRow row_;
  std::ifstream stream_;
  std::string compressed_;
};

}  // namespace

std::string segment_key(std::uint64_t first) { return segment_prefix + big_endian_key(first); }

void encode(std::string& out, const SegmentRow& row) {
  put_fixed(out, row.last);
  put_fixed(out, row.header_hash);
}

bool decode(std::string_view key, std::string_view bytes, SegmentRow& row) {
  if (key.empty() || key[0] != segment_prefix ||
      !decode_big_endian_key(key.substr(1), row.first) ||
      bytes.size() != sizeof(row.last) + sizeof(row.header_hash)) {
    return false;
  }
  take(bytes, row.last);
  take(bytes, row.header_hash);
  return row.last >= row.first;
}

std::string segment_name(const SegmentRow& row) {
  char name[64];
  std::snprintf(name, sizeof(name), "%020llu-%020llu.seg",
                static_cast<unsigned long long>(row.first),
                static_cast<unsigned long long>(row.last));
  return name;
}

Result<void> SegmentBuilder::add(const LogBatch& batch, std::int64_t time_ms) {
  if (!empty() && batch.first_index != row_.last + 1)
    return fail(LedgerError::corrupt,
                "entry " + std::to_string(row_.last + 1) + " is missing from the log");
  if (empty()) {
    row_.first = block_first_ = batch.first_index;
    first_time_ms_ = time_ms;
  }
  const bool first = empty();
  const Result<void> parsed = parse_batch(batch, [this, first, &batch](const LogRecord& record) {
    if (first && record.index == batch.first_index) first_prev_hash_ = record.prev_hash;
    if (block_.size() >= block_raw_bytes) {
      close_block();
      block_first_ = record.index;
    }
    block_.append(record.record);
    raw_bytes_ += record.record.size();
    row_.last = record.index;
    last_hash_ = entry_hash(record.prev_hash, record.frame);
    return true;
  });
  last_time_ms_ = time_ms;
  return parsed;
}

void SegmentBuilder::close_block() {
  if (block_.empty()) return;
  std::string compressed(ZSTD_compressBound(block_.size()), '\0');
  const std::size_t size = ZSTD_compress(compressed.data(), compressed.size(), block_.data(),
                                         block_.size(), zstd_level);
  check(ZSTD_isError(size) == 0, "zstd compresses any bytes");
  put_fixed(table_, block_first_);
  put_fixed(table_, static_cast<std::uint32_t>(size));
  put_fixed(table_, static_cast<std::uint32_t>(block_.size()));
  content_.append(compressed, 0, size);
  ++blocks_;
  block_.clear();
}

std::string SegmentBuilder::finish() {
  close_block();
  std::string file(magic);
  put_fixed(file, segment_format);
  put_fixed(file, blocks_);
  put_fixed(file, row_.first);
  put_fixed(file, row_.last);
  put_fixed(file, entries());
  put_fixed(file, first_time_ms_);
  put_fixed(file, last_time_ms_);
  put_fixed(file, raw_bytes_);
  put_fixed(file, first_prev_hash_);
  put_fixed(file, last_hash_);
  put_fixed(file, Sha256().update(table_).update(content_).finish());
  check(file.size() == header_bytes, "a segment's header has its size");
  row_.header_hash = sha256(file);
  file += table_;
  file += content_;
  return file;
}

Result<SegmentHeader> read_segment_header(const std::string& folder, const SegmentRow& row) {
  return Reader(folder, row).open();
}

Result<void> check_segment(const std::string& folder, const SegmentRow& row) {
  Reader reader(folder, row);
  const Result<SegmentHeader> header = reader.open();
  if (!header) return fail(header.error());
  return reader.check_rest(header->content_hash);
}

Result<void> read_segment(const std::string& folder, const SegmentRow& row, std::uint64_t from,
                          const std::function<bool(const LogRecord&)>& visit, bool& more) {
  more = true;
  Reader reader(folder, row);
  const Result<SegmentHeader> header = reader.open();
  if (!header) return fail(header.error());
  if (from <= row.first) {
    if (Result<void> good = reader.check_rest(header->content_hash); !good) return good;
  }
  const Result<std::vector<BlockRow>> table = reader.table(*header);
  if (!table) return fail(table.error());
  std::string records;
  std::uint64_t next = row.first;
  for (std::size_t i = 0; more && i < table->size(); ++i) {
    const BlockRow& block = (*table)[i];
    if (i + 1 < table->size() && (*table)[i + 1].first <= from) {
      reader.skip(block.bytes);
      continue;
    }
    if (Result<void> got = reader.records(block, records); !got) return got;
    Result<void> parsed =
        parse_batch({block.first, records}, [from, &visit, &more, &next](const LogRecord& record) {
          next = record.index + 1;
          more = record.index < from || visit(record);
          return more;
        });
    if (!parsed) return parsed;
  }
  if (more && next != row.last + 1)
    return damaged(path_of(folder, row), "it ends before entry " + std::to_string(next));
  return {};
}

}  // namespace outlast::storage
