// The archiver: moves old entries from the log to segments (segments.hpp). A crash at any step
// loses nothing and leaves no hole: the file is whole and durable before the entries leave the log,
// and they leave it in the same write as the row that names the file.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "core/clock.hpp"
#include "storage/rocks_log.hpp"

namespace outlast::storage {

// Where a move stands; a test may end the process there.
enum class ArchiveStep : std::uint8_t { written, synced, renamed, folder_synced, moved, compacted };

struct ArchiveOptions {
  std::int64_t before_ms = 0;     // entries of that time or later stay
  std::uint64_t entries_min = 1;  // fewer are not worth a file, unless they are older than:
  std::int64_t overdue_ms = 0;
  // Called when it is not known whether the entries have left the log: the store may not go on.
  std::function<void(const Error&)> on_doubt;
  std::function<void(ArchiveStep)> reached;  // a seam for tests
};

// Moves the oldest entries to one segment, whole batches of which every request has ended; returns
// how many, 0 when there is nothing to move. After an error other than a doubt everything is still
// in the log.
Result<std::uint64_t> archive_once(RocksLog& log, const ArchiveOptions& options);

// Archives on a thread of its own: looks each minute, and rests between two segments. Owner's
// thread; the log outlives it.
class Archiver {
 public:
  Archiver(RocksLog& log, const Clock& clock, std::int64_t archive_after_ms,
           std::function<void(const Error&)> on_doubt);
  ~Archiver();
  Archiver(const Archiver&) = delete;
  Archiver& operator=(const Archiver&) = delete;

 private:
  void run();
  // Whether there is more to do.
  bool archive();

  RocksLog& log_;
  const Clock& clock_;
  const std::int64_t archive_after_ms_;
  const std::function<void(const Error&)> on_doubt_;
  bool failing_ = false;  // the thread's: one message is enough
  std::mutex mutex_;
  bool stopping_ = false;
  std::condition_variable stop_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace outlast::storage
