// Coordination: what nodes agree on beside logs: who is alive, and who owns which shard. Two implementations: etcd
// (etcd_coordination.hpp), and a seeded one in memory (memory_agreement.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/agreement_error.hpp"
#include "cluster/shard_id.hpp"
#include "cluster/shared_log.hpp"
#include "core/id.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

// A node that holds a lease, as it says itself; who may take part is in the control log.
struct Presence {
  std::string node;
  Incarnation incarnation;
  std::string endpoint;       // for other nodes: tcp://HOST:PORT
  std::string client_endpoint;  // for client actors; empty: none
  std::string client_key;       // CURVE public key of that listener, Z85
  std::vector<std::string> roles;
  std::uint16_t version_min = 0;  // of links and log entries that it understands
  std::uint16_t version_max = 0;
  std::string software;
  std::uint16_t replicas = 0;  // that it places of each shard; 0: it does not say
  bool operator==(const Presence&) const = default;
};

struct Ownership {
  ShardId shard = 0;
  std::string node;
  Incarnation incarnation;
  std::uint64_t epoch = 0;  // grows with every owner of the shard
  bool operator==(const Ownership&) const = default;
};

struct CoordinationView {
  std::vector<Presence> nodes;    // by name
  std::vector<Ownership> owners;  // by shard; those without an owner are not in it
  std::uint64_t revision = 0;     // grows
};

struct AgreementMember {
  std::string endpoint;
  bool healthy = false;
  bool leader = false;
  std::string version;
  std::uint64_t database_bytes = 0;
  std::string error;
};

using LeaseId = std::uint64_t;

// Blocks, each call at most a third of the lease's TTL. One thread, but for watch()'s callbacks.
class Coordination {
 public:
  virtual ~Coordination() = default;
  // A lease, and the presence that goes with it. Errors: unavailable, unknown, refused.
  virtual Result<LeaseId> start_lease(std::uint32_t ttl_s, const Presence& presence) = 0;
  // What presence says has changed.
  virtual Result<void> update(LeaseId lease, const Presence& presence) = 0;
  // Error: lease_lost.
  virtual Result<void> keep_alive(LeaseId lease) = 0;
  // Everything that hangs on it goes at once: for an orderly end.
  virtual Result<void> end_lease(LeaseId lease) = 0;
  // The epoch. Errors: taken, unavailable, unknown (look at view()), lease_lost.
  virtual Result<std::uint64_t> claim(ShardId shard, LeaseId lease, const Presence& me) = 0;
  // Only if `epoch` still owns it; success either way.
  virtual Result<void> release(ShardId shard, std::uint64_t epoch) = 0;
  // Linearizable.
  virtual Result<CoordinationView> view() = 0;
  virtual std::unique_ptr<SharedLog> log(ShardId shard) = 0;
  // Hints, which may come late, twice or never: the view changed; a shard's log grew. Called on a thread of the
  // implementation; must not block. Once.
  virtual void watch(std::function<void()> view_changed, std::function<void(ShardId)> log_grew) = 0;
  virtual std::vector<AgreementMember> members() = 0;
  // Forgets what keys were before, which the service keeps until somebody says so. Readers of the present notice nothing.
  virtual Result<void> compact() = 0;
};

}  // namespace outlast::cluster
