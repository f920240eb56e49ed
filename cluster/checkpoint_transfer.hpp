// How a shard's store goes from a node that has it to one that lost it, or that fell behind what the shared log keeps.
// The node that takes asks for each piece; what a lying peer sends is found out by RocksDB's sums, the ledger's chain and
// the batches of the shared log that follow. Both ends block on files: for a thread of their own. One owner each.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/shard_id.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/checkpoint_codec.hpp"

namespace outlast::cluster {

inline constexpr std::size_t checkpoints_given_max = 2;  // at a time; each holds files that compaction would drop
inline constexpr std::uint32_t checkpoint_silence_ms_max = 60'000;
inline constexpr std::size_t checkpoint_reads_max = 4;   // asked for and not answered

// The node that gives.
class CheckpointGiver {
 public:
  // Makes a copy of the shard's store in a folder that is not there yet; returns its next index.
  using MakeCopy = std::function<Result<std::uint64_t>(ShardId shard, const std::string& folder)>;

  // `scratch`: a folder on the stores' file system, emptied first.
  CheckpointGiver(std::string scratch, MakeCopy make_copy, const Clock& clock);
  ~CheckpointGiver();
  CheckpointGiver(const CheckpointGiver&) = delete;
  CheckpointGiver& operator=(const CheckpointGiver&) = delete;

  // The answer, if the message asks for one.
  std::optional<checkpoint::Message> receive(const std::string& node, const checkpoint::Message& message);
  // Drops copies that nobody has asked about for checkpoint_silence_ms_max. Call now and then.
  void tick();
  void peer_down(const std::string& node);
  [[nodiscard]] std::size_t copies() const { return copies_.size(); }

 private:
  struct Copy {
    std::string folder;
    std::vector<checkpoint::File> files;
    std::int64_t asked_ns = 0;
  };
  using Key = std::pair<std::string, std::uint64_t>;  // node, transfer
  Result<checkpoint::Manifest> make(const Key& key, ShardId shard);
  Result<checkpoint::Chunk> read(const Copy& copy, const checkpoint::Place& place) const;
  void drop(std::map<Key, Copy>::iterator at);

  const std::string scratch_;
  const MakeCopy make_copy_;
  const Clock& clock_;
  std::map<Key, Copy> copies_;
  std::uint64_t made_ = 0;
};

// The node that takes, one transfer. The peer's messages in order.
class CheckpointTaker {
 public:
  // `folder` is emptied and filled; `bytes_max`: what the disk has room for.
  CheckpointTaker(ShardId shard, std::string folder, std::uint64_t transfer, std::uint64_t bytes_max, const Clock& clock);
  CheckpointTaker(const CheckpointTaker&) = delete;
  CheckpointTaker& operator=(const CheckpointTaker&) = delete;

  [[nodiscard]] checkpoint::Message first() const;
  // What to send next. Error: it failed; begin anew, with another peer. Messages of other transfers are ignored.
  Result<std::vector<checkpoint::Message>> receive(const checkpoint::Message& message);
  // Every file is whole and on disk.
  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool stalled() const;
  [[nodiscard]] std::uint64_t next_index() const { return manifest_.next_index; }
  [[nodiscard]] std::uint64_t bytes_taken() const { return bytes_taken_; }
  [[nodiscard]] std::uint64_t bytes_total() const { return bytes_total_; }

 private:
  Result<void> begin(const checkpoint::Manifest& manifest);
  Result<void> take(const checkpoint::Chunk& chunk);
  Result<void> finish_file();
  Result<void> sync_names() const;
  void ask_more(std::vector<checkpoint::Message>& out);

  const ShardId shard_;
  const std::string folder_;
  const std::uint64_t transfer_;
  const std::uint64_t bytes_max_;
  const Clock& clock_;
  std::int64_t heard_ns_;
  bool begun_ = false;
  bool done_ = false;
  checkpoint::Manifest manifest_;
  std::uint64_t bytes_total_ = 0;
  std::uint64_t bytes_taken_ = 0;
  checkpoint::Place wanted_;    // the next piece to ask for
  checkpoint::Place expected_;  // the next piece to come
  std::size_t reads_ = 0;       // asked for and not answered
};

}  // namespace outlast::cluster
