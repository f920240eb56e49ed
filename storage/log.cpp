#include "storage/log.hpp"

#include <cstring>

#include "core/check.hpp"
#include "proto/ledger_codec.hpp"

namespace outlast::storage {
namespace {

constexpr std::size_t length_bytes = sizeof(std::uint32_t);
constexpr std::size_t record_overhead = length_bytes + sizeof(Digest);

}  // namespace

void TableChanges::append(const Header& header, std::string_view key, std::string_view value) {
  buffer_.append(reinterpret_cast<const char*>(&header), sizeof(header));
  buffer_.append(key);
  buffer_.append(value);
}

void TableChanges::put(Table table, std::string_view key, std::string_view value) {
  check(key.size() <= UINT16_MAX && value.size() <= UINT32_MAX, "a row fits its header");
  append({static_cast<std::uint8_t>(table), 0, static_cast<std::uint16_t>(key.size()),
          static_cast<std::uint32_t>(value.size())},
         key, value);
}

void TableChanges::erase(Table table, std::string_view key) {
  check(key.size() <= UINT16_MAX, "a key fits its header");
  append({static_cast<std::uint8_t>(table), 1, static_cast<std::uint16_t>(key.size()), 0}, key, {});
}

bool TableChanges::find(Table table, std::string_view key, std::string& value) const {
  bool found = false;
  for_each([&](Table t, std::string_view k, std::string_view v) {
    if (t != table || k != key) return;
    found = v.data() != nullptr;
    value.assign(v);
  });
  return found;
}

std::size_t begin_record(std::string& records, const Digest& prev_hash) {
  records.append(length_bytes, '\0');
  records.append(reinterpret_cast<const char*>(prev_hash.data()), prev_hash.size());
  return records.size();
}

void finish_record(std::string& records, std::size_t frame_start) {
  const auto length = static_cast<std::uint32_t>(records.size() - frame_start);
  std::memcpy(records.data() + frame_start - record_overhead, &length, sizeof(length));
}

Result<void> parse_batch(const LogBatch& batch,
                         const std::function<bool(const LogRecord&)>& visit) {
  std::string_view rest = batch.records;
  LogRecord record;
  record.index = batch.first_index;
  while (!rest.empty()) {
    std::uint32_t length = 0;
    if (rest.size() >= record_overhead) std::memcpy(&length, rest.data(), sizeof(length));
    if (rest.size() < record_overhead || length == 0 || length > rest.size() - record_overhead ||
        length > proto::ledger_frame_bytes_max) {
      return fail(LedgerError::corrupt,
                  "the record of entry " + std::to_string(record.index) + " is cut short");
    }
    std::memcpy(record.prev_hash.data(), rest.data() + length_bytes, sizeof(Digest));
    record.frame = rest.substr(record_overhead, length);
    record.record = rest.substr(0, record_overhead + length);
    rest.remove_prefix(record_overhead + length);
    if (!visit(record)) return {};
    ++record.index;
  }
  return {};
}

}  // namespace outlast::storage
