// SharedLog: one ordered log of batches that several nodes agree on, with an owner that alone may append. Two
// implementations: etcd (etcd_log.hpp), and a seeded one in memory (memory_agreement.hpp). A node on its own needs none:
// its log is its RocksDB (storage/rocks_log.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "cluster/agreement_error.hpp"
#include "core/result.hpp"
#include "storage/log.hpp"

namespace outlast::cluster {

// Entries that were appended together, as storage::LogBatch has them, and whose they are.
struct SharedBatch {
  std::uint64_t first_index = 0;
  std::uint64_t next_index = 0;  // after the last entry
  std::uint64_t epoch = 0;
  std::string records;
};
struct SharedTail {
  std::uint64_t first_index = 0;  // of the oldest batch that is still there
  std::uint64_t next_index = 0;
};
inline constexpr std::size_t shared_batch_bytes_max = 1U << 20;  // of records, as they are

// Blocks, each call at most a few seconds. One thread.
class SharedLog {
 public:
  virtual ~SharedLog() = default;
  // Stands, in order and durably, on return. Only while `epoch` owns the log and the log ends at batch.first_index.
  // Errors: fenced, conflict, unknown (the caller reads tail() before it goes on), unavailable, too_large.
  virtual Result<void> append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) = 0;
  // What the last append() put there or tried to, as batch_codec.hpp has it: for replicas that this node is linked to.
  [[nodiscard]] virtual std::string_view last_append() const = 0;
  // Linearizable. Errors: unavailable.
  virtual Result<SharedTail> tail() = 0;
  // Batches in order from the one that holds `from`, as far as the log goes, until `visit` returns false. Errors:
  // unavailable, trimmed, corrupt (also when the log ends before `from`: whoever asks has applied what is not in it).
  virtual Result<void> read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) = 0;
  // Batches that end at or below `below` may go.
  virtual Result<void> trim(std::uint64_t below) = 0;
};

}  // namespace outlast::cluster
