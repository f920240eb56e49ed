#include "storage/holder_table.hpp"

#include "core/check.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::storage {
namespace {

void put_row(TableChanges& changes, const EndedHolderRow& row) {
  std::string value;
  encode(value, row);
  changes.put(Table::meta, ended_holder_key(row.holder), value);
}

}  // namespace

void HolderTable::began(const Incarnation& holder) {
  if (!holder.is_nil()) ++open_[holder];
}

void HolderTable::done(const Incarnation& holder) {
  if (holder.is_nil()) return;
  const auto at = open_.find(holder);
  check(at != open_.end(), "a holder's reservations are counted");
  if (--at->second == 0) open_.erase(at);
}

std::size_t HolderTable::open_of(const Incarnation& holder) const {
  const auto at = open_.find(holder);
  return at == open_.end() ? 0 : at->second;
}

void HolderTable::end(const Incarnation& holder, std::int64_t time_ms) {
  restore({holder, time_ms});
  changed_.push_back(holder);
  while (ended_.size() > ended_holders_max || by_time_.begin()->first < time_ms - dedup_age_ms_max)
    forget_oldest();
}

void HolderTable::forget_oldest() {
  const Incarnation holder = by_time_.begin()->second;
  by_time_.erase(by_time_.begin());
  ended_.erase(holder);
  changed_.push_back(holder);
}

void HolderTable::restore(const EndedHolderRow& row) {
  ended_.insert_or_assign(row.holder, row.ended_ms);
  by_time_.emplace(row.ended_ms, row.holder);
}

void HolderTable::collect(TableChanges& changes) {
  for (const Incarnation& holder : changed_) {
    const auto at = ended_.find(holder);
    if (at == ended_.end()) changes.erase(Table::meta, ended_holder_key(holder));
    else put_row(changes, {at->first, at->second});
  }
  changed_.clear();
}

void HolderTable::copy_rows(TableChanges& changes) const {
  for (const auto& [holder, ended_ms] : ended_) put_row(changes, {holder, ended_ms});
}

}  // namespace outlast::storage
