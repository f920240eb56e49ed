// What the node's actors say to each other, as plain structs: local to one process, so never serialised.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>

#include "core/budget_book.hpp"
#include "core/commitment.hpp"
#include "core/node_report.hpp"
#include "core/price_book.hpp"
#include "core/result.hpp"
#include "core/tenant.hpp"
#include "core/virtual_key.hpp"
#include "gateway/seams.hpp"
#include "gateway/snapshot.hpp"
#include "proto/frame.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::actors {

// Append-only.
enum class ActorError : std::uint16_t { unavailable = 1, timed_out = 2, refused = 3, not_found = 4, overloaded = 5 };

using status_atom = caf::atom_constant<caf::atom("status")>;
using keys_atom = caf::atom_constant<caf::atom("keys")>;
using verify_atom = caf::atom_constant<caf::atom("verify")>;
using budgets_atom = caf::atom_constant<caf::atom("budgets")>;
using bulk_atom = caf::atom_constant<caf::atom("bulk")>;  // commitments
using pace_atom = caf::atom_constant<caf::atom("pace")>;
using flush_atom = caf::atom_constant<caf::atom("flush")>;
using restart_atom = caf::atom_constant<caf::atom("restart")>;
using changed_atom = caf::atom_constant<caf::atom("changed")>;  // elsewhere, by another node
using drain_atom = caf::atom_constant<caf::atom("drain")>;
using describe_atom = caf::atom_constant<caf::atom("describe")>;

// What lanes saw of the deployments.
struct OutcomeReport {
  gateway::OutcomeBatch outcomes;
};

// The gateway's part of a configuration, already validated.
struct GatewayConfig {
  std::shared_ptr<const gateway::RoutingTable> routing;
  std::shared_ptr<const PriceBook> prices;
  std::string prices_toml;  // for the ledger: which prices were in force
  gateway::ServingPolicy serving;
  std::shared_ptr<const gateway::RateLimiter> rates;  // null: no limits
};
struct ApplyConfig {
  std::shared_ptr<const GatewayConfig> config;
};

struct KeysChanged {
  std::vector<VirtualKey> keys;  // all of them, the revoked too
};

// Whenever a budget was set or removed; lanes admit by the book.
struct BudgetsChanged {
  std::shared_ptr<const BudgetBook> book;
};
// Whenever one was added or ended, and regularly: their use goes on.
struct CommitmentsChanged {
  std::vector<CommitmentStatus> commitments;
};

// `by` says who asks, for the ledger.
struct SetBudget {
  Budget budget;  // without an id: a new one, which gets one
  std::string by;
};
struct RemoveBudget {
  std::string id;
  std::string by;
};
struct AddCommitment {
  Commitment commitment;  // without an id
  std::string by;
};
struct EndCommitment {
  std::string id;
  std::string by;
};

struct CreateKey {
  TenantPath tenant;
  std::string name;
};
struct CreatedKey {
  VirtualKey key;
  std::string text;  // the secret; shown once
};
struct RevokeKey {
  std::string id;
};
struct RecordPrices {
  std::string version;
  std::string toml;
};
struct DeploymentStatus {
  std::string name;
  gateway::BreakerState breaker = gateway::BreakerState::closed;
  std::uint32_t consecutive_failures = 0;
  std::uint32_t in_flight = 0;
  std::uint64_t successes = 0;
  std::uint64_t failures = 0;
  std::uint64_t openings = 0;
  std::int64_t open_for_ms = 0;  // until the breaker is half-open; 0 when it is not open
};

// For a GPU worker; the body is opaque here.
struct WorkerCall {
  std::uint16_t method = 0;
  FramePtr body;  // null: empty
};
struct WorkerResult {
  FramePtr body;  // null: empty
};

using Done = Result<bool>;  // true; CAF has no message for Result<void>
using CreatedKeyReply = Result<CreatedKey>;
using KeyList = std::vector<VirtualKey>;
using IdReply = Result<std::string>;  // of what was made or changed
using BudgetList = std::vector<BudgetStatus>;
using CommitmentList = std::vector<CommitmentStatus>;
using DeploymentList = std::vector<DeploymentStatus>;
using UsageReply = Result<storage::UsageReport>;
using VerifyReply = Result<storage::VerifyReport>;
using WorkerReply = Result<WorkerResult>;

}  // namespace outlast::actors

namespace outlast {
template <>
inline constexpr std::string_view error_module<actors::ActorError> = "actors";
}  // namespace outlast

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::gateway::Outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::OutcomeReport)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::ApplyConfig)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::KeysChanged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::CreateKey)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::RevokeKey)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::RecordPrices)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::DeploymentStatus)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::Done)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::CreatedKeyReply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::KeyList)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::BudgetsChanged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::CommitmentsChanged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::SetBudget)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::RemoveBudget)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::AddCommitment)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::EndCommitment)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::IdReply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::BudgetList)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::CommitmentList)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::DeploymentList)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::UsageReply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::VerifyReply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::storage::UsageQuery)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::NodeReport)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::WorkerDescription)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::WorkerCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::WorkerReply)
