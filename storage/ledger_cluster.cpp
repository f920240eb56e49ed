// The part of LedgerState that has to do with clusters: owners, holders, nodes and settings.
#include <algorithm>

#include "storage/ledger_state.hpp"

namespace outlast::storage {

// What holders have stays: only who makes entries is another.
Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::OwnerStarted& operation) {
  const bool valid = !operation.incarnation.is_nil() && operation.node.size() <= text_bytes_max &&
                     operation.software.size() <= text_bytes_max;
  return valid ? Applied{} : refused(LedgerError::invalid);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::HolderEnded& operation) {
  const Incarnation& holder = operation.holder;
  if (holder.is_nil() || operation.why.size() > text_bytes_max)
    return refused(LedgerError::invalid);
  if (holders_.open_of(holder) > 0) return refused(LedgerError::in_progress);
  if (!holds_anything(holder)) return Applied{Outcome::duplicate, {}, {}};
  budgets_.end_holder(holder, operation.spent);
  holders_.end(holder, header.time_ms);
  return Applied{};
}

bool LedgerState::holds_anything(const Incarnation& holder) const {
  return holders_.open_of(holder) > 0 || budgets_.holders().contains(holder);
}

std::vector<Incarnation> LedgerState::holders() const {
  std::vector<Incarnation> found;
  for (const auto& [holder, budgets] : budgets_.holders()) found.push_back(holder);
  for (const auto& [holder, open] : holders_.open()) {
    if (!budgets_.holders().contains(holder)) found.push_back(holder);
  }
  std::sort(found.begin(), found.end());
  return found;
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
