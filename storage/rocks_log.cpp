#include "storage/rocks_log.hpp"

#include <rocksdb/cache.h>
#include <rocksdb/compaction_filter.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/perf_level.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "storage/file_lock.hpp"
#include "storage/ledger_state.hpp"
#include "storage/money_rows.hpp"
#include "storage/rocks_errors.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

namespace fs = std::filesystem;

std::string segments_folder_of(const std::string& path) { return path + "/segments"; }

constexpr std::size_t protection_bytes = 8;  // per key, from the batch to the memtable
constexpr std::size_t block_cache_bytes = 8U << 20;
constexpr std::size_t log_buffer_bytes = 16U << 20;
constexpr std::size_t tables_buffer_bytes = 16U << 20;
constexpr std::size_t replica_buffer_bytes = 4U << 20;
constexpr std::uint64_t replica_wal_bytes_max = 16U << 20;
constexpr std::size_t arena_block_bytes = 256U << 10;
constexpr std::uint64_t wal_bytes_max = 64U << 20;
constexpr std::uint64_t dedup_compaction_s = 7 * 24 * 3600;

// Two column families: each more costs a start three syncs, and a flush of its own. All tables
// share one, told apart by the first byte of the key; that of a row of `meta` is its own.
constexpr std::array family_names = {"default", "log"};
constexpr std::size_t tables_family = 0;
constexpr std::size_t log_family = 1;
constexpr std::array<std::string_view, table_count> table_prefixes = {"", "d", "r", "i", "R"};

std::string_view prefix_of(Table table) { return table_prefixes[static_cast<std::size_t>(table)]; }

std::string prefixed(Table table, std::string_view key) {
  std::string whole(prefix_of(table));
  whole += key;
  return whole;
}

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(const rocksdb::Slice& text) { return {text.data(), text.size()}; }

// Drops dedup rows that no operation may refer to any more: ids that old are refused before any
// look-up. And rows of idempotency keys whose request is that old: they are taken for new.
class DropOldIds final : public rocksdb::CompactionFilter {
 public:
  explicit DropOldIds(const std::atomic<std::int64_t>& before_ms) : before_ms_(before_ms) {}
  bool Filter(int, const rocksdb::Slice& key, const rocksdb::Slice& value, std::string*,
              bool*) const override {
    if (key.starts_with("i")) {
      IdempotencyRow row;
      return key.size() == 1 + sizeof(Digest) && decode(view(value), row) &&
             row.request_id.unix_ms() < before_ms_.load(std::memory_order_relaxed);
    }
    Uuid id;
    if (key.size() != 1 + id.bytes.size() || !key.starts_with("d")) return false;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(key.data()) + 1, id.bytes.size(),
                id.bytes.begin());
    return id.unix_ms() < before_ms_.load(std::memory_order_relaxed);
  }
  const char* Name() const override { return "outlast.DropOldIds"; }

 private:
  const std::atomic<std::int64_t>& before_ms_;
};

rocksdb::DBOptions database_options(std::shared_ptr<rocksdb::Logger> logger) {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.info_log = std::move(logger);
  // What must be lost is only the tail of a write that was never acknowledged.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.recycle_log_file_num = 0;
  options.manual_wal_flush = false;
  options.unordered_write = false;
  options.two_write_queues = false;
  options.wal_compression = rocksdb::kNoCompression;
  options.paranoid_checks = true;
  options.track_and_verify_wals_in_manifest = true;
  options.max_bgerror_resume_count = 0;
  options.max_total_wal_size = wal_bytes_max;
  options.max_background_jobs = 2;
  options.max_open_files = -1;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  options.enable_pipelined_write = false;
  options.allow_concurrent_memtable_write = false;  // one committer
  options.enable_write_thread_adaptive_yield = false;
  return options;
}

rocksdb::ColumnFamilyOptions family_options(std::size_t family,
                                            const std::shared_ptr<rocksdb::Cache>& cache,
                                            const rocksdb::CompactionFilter* drop_old_ids) {
  rocksdb::ColumnFamilyOptions options;
  options.max_write_buffer_number = 2;
  options.write_buffer_size = tables_buffer_bytes;
  options.arena_block_size = arena_block_bytes;
  options.compression = rocksdb::kLZ4Compression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.format_version = 5;
  if (family == log_family) {
    options.write_buffer_size = log_buffer_bytes;
    table.block_size = 32U << 10;
  } else {
    options.compaction_filter = drop_old_ids;
    options.periodic_compaction_seconds = dedup_compaction_s;
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  }
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

struct RocksLog::Impl {
  std::string path;
  rocksdb::Env* env = nullptr;
  std::optional<FileLock> lock;
  std::atomic<std::int64_t> drop_ids_before_ms{0};
  DropOldIds drop_old_ids{drop_ids_before_ms};
  std::shared_ptr<RocksLogger> logger = std::make_shared<RocksLogger>();
  std::unique_ptr<rocksdb::DB> db;
  std::array<rocksdb::ColumnFamilyHandle*, family_names.size()> families{};
  rocksdb::WriteBatch batch{0, 0, protection_bytes, 0};
  std::string key;  // scratch
  rocksdb::WriteOptions write_options;

  const RocksDuty duty;

  explicit Impl(RocksDuty what) : duty(what) { write_options.sync = duty == RocksDuty::original; }
  ~Impl() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* family : families) db->DestroyColumnFamilyHandle(family);
    db->Close().PermitUncheckedError();
  }

  Result<void> open(const std::string& folder, bool read_only);
  Result<void> open_database(const std::string& folder, bool read_only);
  Result<bool> get(const rocksdb::Snapshot* snapshot, Table table, std::string_view key,
                   std::string& value) const;
  Result<void> scan(const rocksdb::Snapshot* snapshot, Table table, std::string_view from,
                    std::string_view to,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const;
  Result<void> read(const rocksdb::Snapshot* snapshot, std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const;
  // Entries that have left the log. Returns the index after the last one read, if any.
  Result<std::optional<std::uint64_t>> read_segments(
      const rocksdb::Snapshot* snapshot, std::uint64_t from,
      const std::function<bool(const LogRecord&)>& visit, bool& more) const;
  Result<std::vector<SegmentRow>> segments() const;
  Result<void> check_segments(bool remove_unfinished) const;
};

Result<void> RocksLog::Impl::open(const std::string& folder, bool read_only) {
  if (const Result<void> whole = check_store_files(folder, !read_only); !whole) return whole;
  if (const Result<void> opened = open_database(folder, read_only); !opened) return opened;
  if (const Result<void> good = verify_newest_files(*db, path); !good) return good;
  return check_segments(!read_only);
}

Result<void> RocksLog::Impl::open_database(const std::string& folder, bool read_only) {
  path = folder;
  const auto cache = rocksdb::NewLRUCache(block_cache_bytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (std::size_t i = 0; i < family_names.size(); ++i) {
    descriptors.emplace_back(family_names[i], family_options(i, cache, &drop_old_ids));
    if (duty == RocksDuty::replica) descriptors.back().options.write_buffer_size = replica_buffer_bytes;
  }
  rocksdb::DBOptions options = database_options(logger);
  if (duty == RocksDuty::replica) options.max_total_wal_size = replica_wal_bytes_max;
  if (env != nullptr) options.env = env;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status =
      read_only ? rocksdb::DB::OpenForReadOnly(options, path, descriptors, &handles, &opened)
                : rocksdb::DB::Open(options, path, descriptors, &handles, &opened);
  if (!status.ok()) return open_failure(status, path, *logger);
  db.reset(opened);
  std::copy(handles.begin(), handles.end(), families.begin());
  return {};
}

Result<std::vector<SegmentRow>> RocksLog::Impl::segments() const {
  std::vector<SegmentRow> rows;
  bool readable = true;
  const std::string end(1, segment_prefix + 1);
  const Result<void> scanned = scan(nullptr, Table::meta, std::string(1, segment_prefix), end,
                                    [&](std::string_view key, std::string_view value) {
                                      readable = decode(key, value, rows.emplace_back());
                                      return readable;
                                    });
  if (!scanned) return fail(scanned.error());
  if (!readable) return fail(LedgerError::corrupt, "a row of a segment cannot be read");
  return rows;
}

// Each segment that a row names is there. Files that no row names are of a move that did not
// happen: their entries are in the log.
Result<void> RocksLog::Impl::check_segments(bool remove_unfinished) const {
  const std::string folder = segments_folder_of(path);
  const Result<std::vector<SegmentRow>> rows = segments();
  if (!rows) return fail(rows.error());
  std::set<std::string> named;
  for (const SegmentRow& row : *rows) {
    const Result<SegmentHeader> header = read_segment_header(folder, row);
    if (!header) return fail(header.error());
    named.insert(segment_name(row));
  }
  std::error_code error;
  if (!remove_unfinished || !fs::is_directory(folder, error)) return {};
  for (const auto& file : fs::directory_iterator(folder, error)) {
    if (!named.contains(file.path().filename().string())) fs::remove(file.path(), error);
  }
  return {};
}

Result<bool> RocksLog::Impl::get(const rocksdb::Snapshot* snapshot, Table table,
                                 std::string_view key, std::string& value) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  const rocksdb::Status status =
      db->Get(options, families[tables_family], prefixed(table, key), &value);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return failure(status);
  return true;
}

Result<void> RocksLog::Impl::scan(
    const rocksdb::Snapshot* snapshot, Table table, std::string_view from, std::string_view to,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  const std::string_view prefix = prefix_of(table);
  std::string end = to.empty() ? std::string(prefix) : prefixed(table, to);
  if (to.empty() && !end.empty()) ++end.back();
  const rocksdb::Slice bound = end;
  if (!end.empty()) options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> at(db->NewIterator(options, families[tables_family]));
  for (at->Seek(prefixed(table, from)); at->Valid(); at->Next()) {
    if (!visit(view(at->key()).substr(prefix.size()), view(at->value()))) return {};
  }
  if (!at->status().ok()) return failure(at->status());
  return {};
}

Result<void> RocksLog::Impl::read(const rocksdb::Snapshot* snapshot, std::uint64_t from,
                                  const std::function<bool(const LogRecord&)>& visit) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  const std::unique_ptr<rocksdb::Iterator> at(db->NewIterator(options, families[log_family]));
  const std::string first = big_endian_key(from);
  at->SeekForPrev(slice(first));
  std::optional<std::uint64_t> expected;
  bool more = true;
  if (!at->Valid() && at->status().ok()) {
    // After the log's iterator, so that what leaves the log in between is seen in one of the two.
    const auto archived = read_segments(snapshot, from, visit, more);
    if (!archived) return fail(archived.error());
    expected = *archived;
    if (expected) at->Seek(slice(big_endian_key(*expected)));
    else at->SeekToFirst();
  }
  for (; more && at->Valid(); at->Next()) {
    LogBatch batch;
    if (!decode_big_endian_key(view(at->key()), batch.first_index)) {
      return fail(LedgerError::corrupt, "a batch of the log has a key that is no index");
    }
    if (batch.first_index != expected.value_or(batch.first_index) ||
        (!expected && batch.first_index > from)) {
      return fail(LedgerError::corrupt,
                  "entry " + std::to_string(expected.value_or(from)) + " is missing from the log");
    }
    batch.records = view(at->value());
    expected = batch.first_index;
    const Result<void> parsed = parse_batch(batch, [&](const LogRecord& record) {
      expected = record.index + 1;
      more = record.index < from || visit(record);
      return more;
    });
    if (!parsed) return parsed;
  }
  if (!at->status().ok()) return failure(at->status());
  return {};
}

Result<std::optional<std::uint64_t>> RocksLog::Impl::read_segments(
    const rocksdb::Snapshot* snapshot, std::uint64_t from,
    const std::function<bool(const LogRecord&)>& visit, bool& more) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  const std::unique_ptr<rocksdb::Iterator> at(db->NewIterator(options, families[tables_family]));
  const auto in_rows = [&at] { return at->Valid() && at->key().starts_with({&segment_prefix, 1}); };
  at->SeekForPrev(segment_key(from));
  if (!in_rows()) at->Seek(segment_key(0));
  std::optional<std::uint64_t> expected;
  for (; more && in_rows(); at->Next()) {
    SegmentRow row;
    if (!decode(view(at->key()), view(at->value()), row))
      return fail(LedgerError::corrupt, "a row of a segment cannot be read");
    if (!expected && row.last < from) continue;
    if (row.first > expected.value_or(from) || (expected && row.first != *expected)) {
      return fail(LedgerError::corrupt, "entry " + std::to_string(expected.value_or(from)) +
                                            " is missing from the segments");
    }
    const Result<void> read = read_segment(segments_folder_of(path), row, from, visit, more);
    if (!read) return fail(read.error());
    expected = row.last + 1;
  }
  if (!at->status().ok()) return failure(at->status());
  return expected;
}

RocksLog::RocksLog(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
RocksLog::~RocksLog() = default;

Result<std::unique_ptr<RocksLog>> RocksLog::open(const std::string& path, rocksdb::Env* env,
                                                 RocksDuty duty) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error)
    return fail(LedgerError::io, "cannot make the folder " + path + ": " + error.message());
  Result<FileLock> lock = FileLock::take(path);
  if (!lock) return fail(lock.error());
  auto impl = std::make_shared<Impl>(duty);
  impl->lock.emplace(std::move(*lock));
  impl->env = env;
  if (const Result<void> opened = impl->open(path, false); !opened) return fail(opened.error());
  return std::unique_ptr<RocksLog>(new RocksLog(std::move(impl)));
}

Result<std::unique_ptr<RocksLog>> RocksLog::open_read_only(const std::string& path) {
  if (!fs::exists(path + "/CURRENT") && !fs::exists(path + "/lock")) {
    return fail(LedgerError::io, "there is no ledger in " + path);
  }
  if (const Result<void> free = FileLock::probe(path); !free) return fail(free.error());
  auto impl = std::make_shared<Impl>(RocksDuty::original);
  if (const Result<void> opened = impl->open(path, true); !opened) return fail(opened.error());
  return std::unique_ptr<RocksLog>(new RocksLog(std::move(impl)));
}

Result<std::unique_ptr<RocksLog>> RocksLog::open_backup(const std::string& path,
                                                        rocksdb::Env* env) {
  auto impl = std::make_shared<Impl>(RocksDuty::original);
  impl->env = env;
  if (const Result<void> opened = impl->open_database(path, true); !opened)
    return fail(opened.error());
  return std::unique_ptr<RocksLog>(new RocksLog(std::move(impl)));
}

Result<bool> RocksLog::get(Table table, std::string_view key, std::string& value) const {
  return impl_->get(nullptr, table, key, value);
}

Result<void> RocksLog::scan(
    Table table, std::string_view from, std::string_view to,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  return impl_->scan(nullptr, table, from, to, visit);
}

Result<void> RocksLog::read(std::uint64_t from,
                            const std::function<bool(const LogRecord&)>& visit) const {
  return impl_->read(nullptr, from, visit);
}

Result<void> RocksLog::append(const LogBatch& batch, const TableChanges& changes) {
  rocksdb::SetPerfLevel(
      rocksdb::PerfLevel::kDisable);  // of this thread: its counters cost more than they tell here
  rocksdb::WriteBatch& write = impl_->batch;
  write.Clear();
  rocksdb::Status status;
  if (!batch.records.empty()) {
    status = write.Put(impl_->families[log_family], slice(big_endian_key(batch.first_index)),
                       slice(batch.records));
  }
  changes.for_each(
      [this, &write, &status](Table table, std::string_view key, std::string_view value) {
        if (!status.ok()) return;
        rocksdb::ColumnFamilyHandle* family = impl_->families[tables_family];
        // One piece: RocksDB would copy pieces together, twice, to protect them.
        impl_->key.assign(prefix_of(table)).append(key);
        status = value.data() == nullptr ? write.Delete(family, impl_->key)
                                         : write.Put(family, impl_->key, slice(value));
      });
  if (status.ok()) status = impl_->db->Write(impl_->write_options, &write);
  if (!status.ok()) return failure(status);
  return {};
}

Result<void> RocksLog::sync() {
  const rocksdb::Status status = impl_->db->SyncWAL();
  if (!status.ok()) return failure(status);
  return {};
}

Result<void> RocksLog::checkpoint(const std::string& folder) const {
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(impl_->db.get(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  // Without a flush: two column families do not flush as of one moment; the write-ahead log does.
  if (status.ok()) status = checkpoint->CreateCheckpoint(folder, std::numeric_limits<std::uint64_t>::max());
  if (!status.ok()) return failure(status);
  std::error_code error;
  const std::string from = segments_folder_of(impl_->path);
  if (!fs::is_directory(from, error)) return {};
  fs::create_directories(segments_folder_of(folder), error);
  for (const auto& file : fs::directory_iterator(from, error)) {
    fs::create_hard_link(file.path(), fs::path(segments_folder_of(folder)) / file.path().filename(), error);
    if (error) return fail(LedgerError::io, "cannot link " + file.path().string() + ": " + error.message());
  }
  return {};
}

void RocksLog::drop_ids_before(std::int64_t time_ms) {
  impl_->drop_ids_before_ms.store(time_ms, std::memory_order_relaxed);
}

Result<void> RocksLog::read_batches(const std::function<bool(const LogBatch&)>& visit) const {
  const std::unique_ptr<rocksdb::Iterator> at(
      impl_->db->NewIterator({}, impl_->families[log_family]));
  for (at->SeekToFirst(); at->Valid(); at->Next()) {
    LogBatch batch;
    if (!decode_big_endian_key(view(at->key()), batch.first_index))
      return fail(LedgerError::corrupt, "a batch of the log has a key that is no index");
    batch.records = view(at->value());
    if (!visit(batch)) return {};
  }
  if (!at->status().ok()) return failure(at->status());
  return {};
}

Result<void> RocksLog::move_to_segment(const SegmentRow& row) {
  rocksdb::WriteBatch write;
  std::string value;
  encode(value, row);
  rocksdb::Status status =
      write.DeleteRange(impl_->families[log_family], slice(big_endian_key(row.first)),
                        slice(big_endian_key(row.last + 1)));
  if (status.ok())
    status = write.Put(impl_->families[tables_family], segment_key(row.first), value);
  if (status.ok()) status = impl_->db->Write(impl_->write_options, &write);
  if (!status.ok()) return failure(status);
  return {};
}

Result<void> RocksLog::compact_log(std::uint64_t last) {
  const std::string end = big_endian_key(last + 1);
  const rocksdb::Slice bound = end;
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  const rocksdb::Status status =
      impl_->db->CompactRange(options, impl_->families[log_family], nullptr, &bound);
  if (!status.ok()) return failure(status);
  return {};
}

Result<void> RocksLog::compact() {
  for (rocksdb::ColumnFamilyHandle* family : impl_->families) {
    const rocksdb::Status status = impl_->db->CompactRange({}, family, nullptr, nullptr);
    if (!status.ok()) return failure(status);
  }
  return {};
}

std::string RocksLog::segments_folder() const { return segments_folder_of(impl_->path); }

Result<std::vector<SegmentRow>> RocksLog::segments() const { return impl_->segments(); }

rocksdb::DB& RocksLog::database() const { return *impl_->db; }

std::unique_ptr<LedgerView> RocksLog::snapshot() const {
  class Snapshot final : public LedgerView {
   public:
    explicit Snapshot(std::shared_ptr<Impl> impl)
        : impl_(std::move(impl)), snapshot_(impl_->db->GetSnapshot()) {}
    ~Snapshot() override { impl_->db->ReleaseSnapshot(snapshot_); }
    Result<bool> get(Table table, std::string_view key, std::string& value) const override {
      return impl_->get(snapshot_, table, key, value);
    }
    Result<void> scan(
        Table table, std::string_view from, std::string_view to,
        const std::function<bool(std::string_view, std::string_view)>& visit) const override {
      return impl_->scan(snapshot_, table, from, to, visit);
    }
    Result<void> read(std::uint64_t from,
                      const std::function<bool(const LogRecord&)>& visit) const override {
      return impl_->read(snapshot_, from, visit);
    }

   private:
    std::shared_ptr<Impl> impl_;
    const rocksdb::Snapshot* snapshot_;
  };
  return std::make_unique<Snapshot>(impl_);
}

}  // namespace outlast::storage
