// Every actor of the node and what it answers. The client actor, which lives in a service's own process, stands in
// client_interface.hpp. Every request to an actor has a time-out (request_timeout) and an error branch.
#pragma once

#include <chrono>

#include <caf/typed_actor.hpp>

#include "actors/messages.hpp"
#include "actors/spend_messages.hpp"

namespace outlast::actors {

inline constexpr auto request_timeout = std::chrono::seconds(10);

// One per deployment: owns its breaker and publishes it to the deployment's gauge.
using Provider = caf::typed_actor<
    // Outcomes that lanes saw.
    caf::reacts_to<gateway::Outcome>,
    caf::replies_to<status_atom>::with<DeploymentStatus>>;

// One per gateway node: owns the routing table, the table of live keys and the providers; publishes snapshots.
using Router = caf::typed_actor<
    // Passed on to the deployments' providers.
    caf::reacts_to<OutcomeReport>,
    // New routes, providers and prices, for requests that start from now on.
    caf::replies_to<ApplyConfig>::with<Done>,
    // Answered when lanes can see the change.
    caf::replies_to<KeysChanged>::with<Done>,
    caf::replies_to<BudgetsChanged>::with<Done>,
    // Publishes to the gauges which deployments have a commitment to burn.
    caf::reacts_to<CommitmentsChanged>,
    caf::replies_to<status_atom>::with<DeploymentList>>;

// One per ledger shard: keys, budgets, commitments, prices and reports. Gives its router the budgets and keys when it starts. Detached: its handlers wait
// for the disk. Lanes meter requests through the ledger's own queue (ledger_meter.hpp), not through messages.
using Accountant = caf::typed_actor<
    // Answered when the key is durable and the router has published it.
    caf::replies_to<CreateKey>::with<CreatedKeyReply>,
    // Answered when the revocation is durable and the router has published it.
    caf::replies_to<RevokeKey>::with<Done>,
    caf::replies_to<keys_atom>::with<KeyList>,
    // Each is answered when it is durable and the router has published it.
    caf::replies_to<SetBudget>::with<IdReply>,
    caf::replies_to<RemoveBudget>::with<Done>,
    caf::replies_to<budgets_atom>::with<BudgetList>,
    caf::replies_to<AddCommitment>::with<IdReply>,
    caf::replies_to<EndCommitment>::with<Done>,
    caf::replies_to<bulk_atom>::with<CommitmentList>,
    // Another node changed keys, budgets or commitments: tells the router.
    caf::reacts_to<changed_atom>,
    // From itself: tells the router how far commitments are used.
    caf::reacts_to<pace_atom>,
    caf::replies_to<RecordPrices>::with<Done>,
    // Both read the whole ledger on threads of their own.
    caf::replies_to<storage::UsageQuery>::with<UsageReply>,
    caf::replies_to<verify_atom>::with<VerifyReply>>;

// One per gateway node: runs the engine of spend breakers and publishes what is open to the lanes. Detached: its
// handlers of what people ask for wait for the disk.
using SpendBreakers = caf::typed_actor<
    // What lanes saw being spent.
    caf::reacts_to<SpendReport>,
    caf::reacts_to<tick_atom>,
    // What the ledger says that some node did; news or not.
    caf::reacts_to<BreakerNews>,
    // Answered when lanes go by it.
    caf::replies_to<ApplySpendConfig>::with<Done>,
    // These are answered when the change is durable and lanes go by it.
    caf::replies_to<ResetBreaker>::with<Done>,
    caf::replies_to<AddBreakerRule>::with<Done>,
    caf::replies_to<RemoveBreakerRule>::with<Done>,
    caf::replies_to<breakers_atom>::with<BreakerReport>>;

struct Children {
  Router router;
  Accountant accountant;
  SpendBreakers spend_breakers;  // null where the node has none
};
using ChildrenReply = Result<Children>;
using children_atom = caf::atom_constant<caf::atom("children")>;

// One per daemon: spawns the others, restarts them with backoff when one fails, and knows where they are.
using Node = caf::typed_actor<
    caf::reacts_to<OutcomeReport>,
    caf::reacts_to<SpendReport>,
    // Told to whom it concerns.
    caf::reacts_to<LedgerNews>,
    // Prices are recorded in the ledger first, then the router publishes.
    caf::replies_to<ApplyConfig>::with<Done>,
    caf::replies_to<ApplySpendConfig>::with<Done>,
    // An error while they are being restarted.
    caf::replies_to<children_atom>::with<ChildrenReply>,
    caf::reacts_to<restart_atom>>;

// One per daemon of a cluster: what other nodes may ask this one (remote_actor.hpp; the name is "node").
using ClusterNode = caf::typed_actor<
    caf::replies_to<status_atom>::with<NodeReport>,
    // The node hands its shards over and takes no new requests. Answered when that has begun.
    caf::replies_to<drain_atom>::with<Done>>;

// One per GPU worker, on the node that it registered with; others reach it by WorkerRegistry.
using GpuWorker = caf::typed_actor<
    caf::replies_to<describe_atom>::with<WorkerDescription>,
    // What methods there are, and what their bodies mean, is the training engine's.
    caf::replies_to<WorkerCall>::with<WorkerReply>>;

}  // namespace outlast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::ChildrenReply)
