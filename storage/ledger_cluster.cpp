// The part of LedgerState that has to do with clusters: owners and holders. Nodes and settings: node_table.hpp.
#include "storage/ledger_state.hpp"

namespace outlast::storage {

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const proto::OwnerStarted&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const proto::HolderEnded&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const NodeEnrolled&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const NodeChanged&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const JoinTokenMade&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const SettingSet&) {
  return Applied{};
}

}  // namespace outlast::storage
