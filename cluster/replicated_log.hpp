// ReplicatedLog: the log of one shard on one node: what is agreed on in a SharedLog, and this node's own copy with the
// tables that follow from it. The owner appends to the shared log first, so that its own copy never holds an entry that
// is not agreed on; a replica only applies what it read there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "cluster/batch_codec.hpp"
#include "cluster/shared_log.hpp"
#include "storage/log.hpp"

namespace outlast::cluster {

struct ReplicatedLogHooks {
  // Whether this node's ownership surely still holds, by its lease's own deadline. Asked before every try.
  std::function<bool()> may_go_on;
  // Waits before the next try. Empty, as in simulations: does not wait.
  std::function<void(std::uint32_t ms)> pause;
  // A batch stands in the shared log now, as batch_codec.hpp has it; it may not be in the local log yet. May be empty.
  std::function<void(std::string_view batch)> appended{};
};

// One owner; snapshots are the local log's.
class ReplicatedLog final : public storage::Log {
 public:
  static constexpr int tries_max = 64;
  static constexpr std::uint32_t pause_ms_min = 5;
  static constexpr std::uint32_t pause_ms_max = 500;

  // `shared` and `local` outlive it. Begins as a replica.
  ReplicatedLog(SharedLog& shared, storage::Log& local, ReplicatedLogHooks hooks);

  // From now on appends go to the shared log first, under `epoch`.
  void lead(std::uint64_t epoch) { epoch_ = epoch; }
  // From now on appends are local.
  void follow() { epoch_ = 0; }
  [[nodiscard]] bool leads() const { return epoch_ != 0; }

  // Without records: local. As the owner, errors: fenced (the log goes on without this owner: nothing more may be
  // written), unavailable (it could not be learnt in time whether it stands), invalid (a record that is too large);
  // then the local log is as before. In all cases this writer is at its end: open a replica anew and catch up.
  Result<void> append(const storage::LogBatch& batch, const storage::TableChanges& changes) override;

  Result<bool> get(storage::Table table, std::string_view key, std::string& value) const override;
  Result<void> scan(storage::Table table, std::string_view from, std::string_view to,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  Result<void> read(std::uint64_t from, const std::function<bool(const storage::LogRecord&)>& visit) const override;
  [[nodiscard]] std::unique_ptr<storage::LedgerView> snapshot() const override;

 private:
  enum class Found : std::uint8_t { ours, nothing, other, cannot_tell };
  Result<void> append_shared(const storage::LogBatch& batch);
  Result<void> append_piece(const storage::LogBatch& piece, std::uint64_t next_index);
  Result<void> try_piece(const storage::LogBatch& piece, std::uint64_t next_index);
  Found look_for(const storage::LogBatch& piece, std::uint64_t next_index);

  SharedLog& shared_;
  storage::Log& local_;
  const ReplicatedLogHooks hooks_;
  std::uint64_t epoch_ = 0;  // 0: a replica
};

// What became of a batch that a replica was sent by the shard's owner.
enum class SentBatch : std::uint8_t {
  applied,
  known,  // it was here already
  ahead,  // others before it have not come: read the shared log
  unreadable,
};

// An error is that of follow(): `writer` is at its end.
template <class Writer>
Result<SentBatch> take_sent(BatchCodec& codec, std::string_view bytes, Writer& writer) {
  SharedBatch batch;
  if (!codec.decode(bytes, batch)) return SentBatch::unreadable;
  if (batch.next_index <= writer.next_index()) return SentBatch::known;
  if (batch.first_index > writer.next_index()) return SentBatch::ahead;
  if (Result<void> followed = writer.follow(batch.first_index, batch.records); !followed) {
    return fail(std::move(followed.error()));
  }
  return SentBatch::applied;
}

// Batches that one call of catch_up() applies at most, so that its caller can look at other things between.
inline constexpr std::size_t catch_up_batches_max = 64;

// Applies what the shared log has and `writer` (a storage::LedgerWriter of a replica) has not; true when it came to the
// end. Errors: those of SharedLog::read() (trimmed: take a checkpoint from a peer first), and of follow().
template <class Writer>
Result<bool> catch_up(SharedLog& shared, Writer& writer, std::size_t batches_max = catch_up_batches_max) {
  std::size_t batches = 0;
  bool more = false;
  Result<void> followed;
  Result<void> done = shared.read(writer.next_index(), [&](const SharedBatch& batch) {
    if (batches == batches_max) {
      more = true;
      return false;
    }
    ++batches;
    followed = writer.follow(batch.first_index, batch.records);
    return followed.has_value();
  });
  if (!followed) return fail(std::move(followed.error()));
  if (!done) return fail(std::move(done.error()));
  return !more;
}

}  // namespace outlast::cluster
