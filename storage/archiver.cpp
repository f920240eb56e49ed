#include "storage/archiver.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>

#include "core/log.hpp"
#include "storage/durable_file.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

constexpr auto look_interval = std::chrono::minutes(1);
constexpr auto rest_between_segments = std::chrono::seconds(1);
constexpr std::uint64_t worth_a_file_entries = 65'536;
constexpr std::int64_t overdue_ms = 24 * hour_ms;  // a quiet node writes one file a day

// What stops the archive: entries from `before` on stay. The last one does, so that a start finds
// the head in the log.
struct Limits {
  std::uint64_t before = 0;
  std::uint64_t replay_from = 0;
};

// Of what was open at the last checkpoint and has not ended since: its row stays until the next one. A
// request that began later is open when it has no dedup row (all_ended()).
Result<Limits> limits_of(const LedgerView& view) {
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  Limits limits{std::max<std::uint64_t>(head->next_index, 1) - 1, head->replay_from};
  bool readable = true;
  std::optional<Error> error;
  const std::string end(1, open_prefix + 1);
  const Result<void> scanned =
      view.scan(Table::meta, std::string(1, open_prefix), end,
                [&](std::string_view key, std::string_view value) {
                  OpenRow row;
                  readable = decode(key, value, row);
                  if (!readable) return false;
                  std::string end_row;
                  const Result<bool> ended =
                      view.get(Table::dedup, dedup_key(row.reservation.request_id), end_row);
                  if (!ended) error = ended.error();
                  if (ended && !*ended) limits.before = std::min(limits.before, row.reserve_index);
                  return !error;
                });
  if (!scanned) return fail(scanned.error());
  if (error) return fail(std::move(*error));
  if (!readable) return fail(LedgerError::corrupt, "a row of an open reservation cannot be read");
  return limits;
}

struct BatchFacts {
  std::uint64_t end = 0;  // the index after its last entry
  std::int64_t time_ms = 0;
  bool all_ended = true;
};

Result<BatchFacts> facts_of(const LedgerView& view, const LogBatch& batch,
                            std::uint64_t replay_from) {
  BatchFacts facts;
  std::optional<Error> error;
  const Result<void> parsed = parse_batch(batch, [&](const LogRecord& record) {
    facts.end = record.index + 1;
    // Entries of one batch share a time, so most need no look inside.
    if (record.index != batch.first_index && record.index < replay_from) return true;
    const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
    if (!entry) {
      error = fail(LedgerError::corrupt,
                   "entry " + std::to_string(record.index) + ": " + entry.error().message)
                  .value();
      return false;
    }
    facts.time_ms = entry->header.time_ms;
    const auto* reservation = std::get_if<Reservation>(&entry->body);
    if (reservation == nullptr || record.index < replay_from) return true;
    std::string value;
    const Result<bool> ended = view.get(Table::dedup, dedup_key(reservation->request_id), value);
    if (!ended) error = ended.error();
    facts.all_ended = facts.all_ended && ended && *ended;
    return !error;
  });
  if (!parsed) return fail(parsed.error());
  if (error) return fail(std::move(*error));
  return facts;
}

// The oldest batches that may go.
Result<SegmentBuilder> collect(const RocksLog& log, const ArchiveOptions& options,
                               std::int64_t& oldest_ms) {
  const std::unique_ptr<LedgerView> view = log.snapshot();
  const Result<Limits> limits = limits_of(*view);
  if (!limits) return fail(limits.error());
  SegmentBuilder segment;
  std::optional<Error> error;
  const Result<void> read = log.read_batches([&](const LogBatch& batch) {
    const Result<BatchFacts> facts = facts_of(*view, batch, limits->replay_from);
    if (!facts) error = facts.error();
    if (!facts || facts->time_ms >= options.before_ms || facts->end > limits->before ||
        !facts->all_ended) {
      return false;
    }
    if (segment.empty()) oldest_ms = facts->time_ms;
    if (Result<void> added = segment.add(batch, facts->time_ms); !added)
      error = std::move(added.error());
    return !error && !segment.full();
  });
  if (!read) return fail(read.error());
  if (error) return fail(std::move(*error));
  return segment;
}

}  // namespace

Result<std::uint64_t> archive_once(RocksLog& log, const ArchiveOptions& options) {
  std::int64_t oldest_ms = 0;
  Result<SegmentBuilder> segment = collect(log, options, oldest_ms);
  if (!segment) return fail(segment.error());
  if (segment->empty() || (segment->entries() < options.entries_min && !segment->full() &&
                           oldest_ms >= options.before_ms - options.overdue_ms)) {
    return 0;
  }
  const auto reached = [&options](ArchiveStep step) {
    if (options.reached) options.reached(step);
  };
  const std::string bytes = segment->finish();
  const std::string folder = log.segments_folder();
  std::error_code made;
  std::filesystem::create_directory(folder, made);
  if (made) return fail(LedgerError::io, "cannot make " + folder + ": " + made.message());
  if (Result<void> synced = sync_folder(folder + "/.."); !synced)
    return fail(std::move(synced.error()));
  const Result<void> written = write_file_durably(
      folder + "/" + segment_name(segment->row()), bytes, 0644,
      [&reached](FileStep step) { reached(static_cast<ArchiveStep>(step)); });
  if (!written) return fail(written.error());
  // What is read back is what the row will name.
  if (const Result<void> good = check_segment(folder, segment->row()); !good)
    return fail(good.error());
  if (const Result<void> moved = log.move_to_segment(segment->row()); !moved) {
    if (options.on_doubt) options.on_doubt(moved.error());
    return fail(moved.error());
  }
  reached(ArchiveStep::moved);
  if (const Result<void> compacted = log.compact_log(segment->row().last); !compacted)
    return fail(compacted.error());
  reached(ArchiveStep::compacted);
  log::info("ledger_archived", {{"first", segment->row().first},
                                {"last", segment->row().last},
                                {"bytes", bytes.size()}});
  return segment->entries();
}

Archiver::Archiver(RocksLog& log, const Clock& clock, std::int64_t archive_after_ms,
                   std::function<void(const Error&)> on_doubt)
    : log_(log),
      clock_(clock),
      archive_after_ms_(archive_after_ms),
      on_doubt_(std::move(on_doubt)),
      thread_([this] { run(); }) {}

Archiver::~Archiver() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void Archiver::run() {
  std::unique_lock lock(mutex_);
  bool more = true;
  while (!stop_.wait_for(lock, more ? std::chrono::milliseconds(rest_between_segments)
                                    : std::chrono::milliseconds(look_interval),
                         [this] { return stopping_; })) {
    lock.unlock();
    more = archive();
    lock.lock();
  }
}

bool Archiver::archive() {
  ArchiveOptions options;
  options.before_ms = clock_.wall_ms() - archive_after_ms_;
  options.entries_min = worth_a_file_entries;
  options.overdue_ms = overdue_ms;
  options.on_doubt = on_doubt_;
  const Result<std::uint64_t> moved = archive_once(log_, options);
  if (!moved && !failing_) {
    log::error("ledger_not_archived", {{"reason", moved.error().message},
                                       {"effect", "old entries stay in the log"}});
  }
  failing_ = !moved;
  return moved && *moved > 0;
}

}  // namespace outlast::storage
