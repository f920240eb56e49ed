// ControlView: what this node's replica of the control shard says that all nodes go by. ControlBoard: where it is found.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/shard_id.hpp"
#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/member_records.hpp"
#include "core/scope.hpp"
#include "core/spend_breaker.hpp"
#include "core/virtual_key.hpp"
#include "storage/entry.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::cluster {

struct CommitmentDefinition {
  Commitment commitment;
  bool ended = false;
};

// Immutable.
struct ControlView {
  std::uint64_t next_index = 0;
  std::vector<VirtualKey> keys;
  std::vector<Budget> budgets;
  std::vector<CommitmentDefinition> commitments;
  BreakerRecords breakers;
  MemberRecords members;
};

// What entries since the view before changed.
struct ControlChanges {
  bool keys = false;
  bool budgets = false;
  bool commitments = false;
  bool members = false;
  bool settings = false;
  std::vector<BreakerEntry> breakers;
};

// Any thread.
class ControlBoard {
 public:
  using Listener = std::function<void(const std::shared_ptr<const ControlView>&, const ControlChanges&)>;

  // Called on the control shard's thread after each change; must not block. The first call comes at once, on this thread.
  void listen(Listener listener);
  // The last listener hears nothing more; waits for a call that runs.
  void forget();
  // As ShardHostPorts::applied; on the control shard's thread.
  void applied(const storage::LedgerState& state, const storage::LedgerView& view,
               const std::vector<storage::StoredEntry>& entries);
  // Never null.
  [[nodiscard]] std::shared_ptr<const ControlView> get() const;

 private:
  std::mutex calls_;  // held while listeners are called
  mutable std::mutex mutex_;
  std::shared_ptr<const ControlView> view_ = std::make_shared<const ControlView>();
  std::vector<Listener> listeners_;
};

}  // namespace outlast::cluster
