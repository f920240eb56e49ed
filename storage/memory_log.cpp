#include "storage/memory_log.hpp"

namespace outlast::storage {

Result<bool> MemoryLog::get(Table table, std::string_view key, std::string& value) const {
  const auto& rows = contents_.tables[static_cast<std::size_t>(table)];
  const auto at = rows.find(key);
  if (at == rows.end()) return false;
  value = at->second;
  return true;
}

Result<void> MemoryLog::scan(
    Table table, std::string_view from, std::string_view to,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  const auto& rows = contents_.tables[static_cast<std::size_t>(table)];
  for (auto at = rows.lower_bound(from); at != rows.end() && (to.empty() || at->first < to); ++at) {
    if (!visit(at->first, at->second)) break;
  }
  return {};
}

Result<void> MemoryLog::read(std::uint64_t from,
                             const std::function<bool(const LogRecord&)>& visit) const {
  auto at = contents_.batches.upper_bound(from);
  if (at != contents_.batches.begin()) --at;
  bool more = true;
  for (; more && at != contents_.batches.end(); ++at) {
    const Result<void> parsed =
        parse_batch({at->first, at->second}, [&more, &visit, from](const LogRecord& record) {
          more = record.index < from || visit(record);
          return more;
        });
    if (!parsed) return parsed;
  }
  return {};
}

Result<void> MemoryLog::append(const LogBatch& batch, const TableChanges& changes) {
  const Fate fate = fate_ ? fate_() : Fate::done;
  if (fate == Fate::lost) return fail(LedgerError::io, "the append was lost");
  if (!batch.records.empty()) contents_.batches[batch.first_index] = batch.records;
  changes.for_each([this](Table table, std::string_view key, std::string_view value) {
    auto& rows = contents_.tables[static_cast<std::size_t>(table)];
    if (value.data() == nullptr) rows.erase(std::string(key));
    else rows.insert_or_assign(std::string(key), std::string(value));
  });
  if (fate == Fate::done_but_failed)
    return fail(LedgerError::io, "the append was not acknowledged");
  return {};
}

std::unique_ptr<LedgerView> MemoryLog::snapshot() const {
  auto copy = std::make_unique<MemoryLog>();
  copy->contents_ = contents_;
  return copy;
}

}  // namespace outlast::storage
