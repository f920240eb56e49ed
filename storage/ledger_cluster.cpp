// The part of LedgerState that has to do with clusters: owners and holders. Nodes and settings: node_table.hpp.
#include "storage/ledger_state.hpp"

namespace outlast::storage {

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const proto::OwnerStarted&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const proto::HolderEnded&) {
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const NodeEnrolled& operation) {
  return apply_member(header, operation);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const NodeChanged& operation) {
  return apply_member(header, operation);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const JoinTokenMade& operation) {
  return apply_member(header, operation);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const SettingSet& operation) {
  return apply_member(header, operation);
}

}  // namespace outlast::storage
