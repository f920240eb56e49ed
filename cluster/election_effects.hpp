// What an Election asks its owner to do, in order. Calls to the coordination are StartLease, KeepAlive, EndLease and
// Announce, which want a thread and a Coordination of their own, so that no claim that hangs holds up a keepalive; and
// LookAtView, Claim and Release. Each is answered once, but Lead, EndLease, Tell, Follow, Drop, Drained and Stopped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "cluster/coordination.hpp"
#include "cluster/lease_keeper.hpp"

namespace outlast::cluster::election {

// What this node does with a shard.
enum class Stage : std::uint8_t { idle, claiming, catching_up, leading, stepping_down, releasing };
inline constexpr std::string_view stage_names[] = {"idle",    "claiming",      "catching up",
                                                   "leading", "stepping down", "releasing"};
inline std::string_view name_of(Stage stage) { return stage_names[static_cast<std::size_t>(stage)]; }

// Why it stops to own one.
enum class Why : std::uint8_t { handover, draining, lease_lost, replaced, hung, removed, stopped };
inline constexpr std::string_view why_names[] = {"handed over",
                                                 "the node drains",
                                                 "the lease was lost",
                                                 "another node owns it",
                                                 "it reported nothing",
                                                 "the node is no longer a member",
                                                 "the node stops"};
inline std::string_view name_of(Why why) { return why_names[static_cast<std::size_t>(why)]; }

// Presence with or without the role "ledger": Coordination::update. Answer: announced.
struct Announce {
  LeaseId lease = 0;
  bool takes_shards = true;
};
// Answer: set_view; a reading that fails is repeated by the owner.
struct LookAtView {};
// Answer: claimed.
struct Claim {
  ShardId shard = 0;
  LeaseId lease = 0;
};
// The node has the epoch and does not lead yet: reads the log to its end and applies it. Answer: caught_up or failed.
struct CatchUp {
  ShardId shard = 0;
  std::uint64_t epoch = 0;
};
// Writes from now on, until StepDown, failed or lead_deadline_ns.
struct Lead {
  ShardId shard = 0;
  std::uint64_t epoch = 0;
};
// Finishes the batch under way and takes nothing more; goes on as a replica. Answer: stepped_down.
struct StepDown {
  ShardId shard = 0;
  std::uint64_t epoch = 0;
  Why why = Why::handover;
};
// Answer: released.
struct Release {
  ShardId shard = 0;
  std::uint64_t epoch = 0;
};
// A message to another node: the shard is free for it.
struct Tell {
  std::string node;
  ShardId shard = 0;
};
// Opens a replica, and catches up by the log or by a checkpoint of a peer.
struct Follow {
  ShardId shard = 0;
};
// Closes the replica. What it has on disk stays for a while: the shard may come back.
struct Drop {
  ShardId shard = 0;
};
struct Drained {};
struct Stopped {};

using Effect = std::variant<StartLease, KeepAlive, EndLease, Announce, LookAtView, Claim, CatchUp, Lead, StepDown,
                            Release, Tell, Follow, Drop, Drained, Stopped>;

}  // namespace outlast::cluster::election
