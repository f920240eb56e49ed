// HolderHandover: what a node owes the ledger for its earlier processes. Each of them was a holder: it may have left
// reservations open, slices unspent, and a spool of operations that counted as durable. The next process replays the
// spools under the old holder's name and then asks every shard's owner to end it, with what its slices have returning to
// the budgets. Where the disk is new or was wiped, nobody knows what the old process spent: its slices count as spent.
//
// Pure. One owner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cluster/shard_id.hpp"
#include "cluster/shard_stream.hpp"
#include "core/clock.hpp"
#include "core/id.hpp"
#include "storage/spool.hpp"

namespace outlast::cluster {

// An earlier process of this node, and what its spools hold by shard.
struct EarlierHolder {
  Incarnation holder;
  bool known = true;  // this disk remembers it; false: only the cluster does, so the disk was wiped
  std::map<ShardId, std::vector<storage::SpoolRecord>> spools;
};

// Whom a node has to end. `on_disk` is what read_holders() found (no value: no file). `on_record`: the incarnations that
// the cluster knows of this node. `me` is never among them.
std::vector<EarlierHolder> earlier_holders(const std::optional<std::vector<Incarnation>>& on_disk,
                                           std::span<const Incarnation> on_record, const Incarnation& me);

struct SendToNode {
  std::string node;
  shard::Message message;
};
// Every shard has ended it: its spools may be removed, and then it may be forgotten.
struct HolderDone {
  Incarnation holder;
};
// The ledger did not take what the old process had acknowledged: an alarm.
struct ReplayRefused {
  Incarnation holder;
  ShardId shard = 0;
  OperationRefused refused;
};
using HandoverEffect = std::variant<SendToNode, HolderDone, ReplayRefused>;

class HolderHandover {
 public:
  static constexpr std::uint32_t ask_again_ms = 500;

  // `me` is the process that does this.
  HolderHandover(std::vector<EarlierHolder> earlier, std::span<const ShardId> shards, const Incarnation& me,
                 const Clock& clock);

  void connected(ShardId shard, const std::string& node, std::uint64_t epoch);
  void disconnected(ShardId shard);
  void receive(const std::string& node, const shard::Message& message);
  void tick();
  [[nodiscard]] std::int64_t next_wake_ns() const;
  [[nodiscard]] std::vector<HandoverEffect> take_effects();
  [[nodiscard]] bool is_done() const { return parts_.empty(); }

 private:
  struct Part {  // one earlier holder in one shard
    std::unique_ptr<ShardStream> stream;
    bool known = true;
    std::int64_t asked_ns = 0;  // 0: not in this connection
  };
  struct Owner {
    std::string node;
    std::uint64_t epoch = 0;
  };
  void run(const std::pair<Incarnation, ShardId>& key, Part& part);

  const Clock& clock_;
  std::map<std::pair<Incarnation, ShardId>, Part> parts_;
  std::map<ShardId, Owner> owners_;
  std::vector<HandoverEffect> effects_;
};

}  // namespace outlast::cluster
