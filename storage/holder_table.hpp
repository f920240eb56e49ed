// HolderTable: who holds what in a cluster's ledger: how many reservations each holder has open, and
// which holders ended, so that what they say later is refused. Deterministic; no threads. One owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/id.hpp"
#include "storage/log.hpp"
#include "storage/money_rows.hpp"

namespace outlast::storage {

// Ended holders that are remembered; beyond that the oldest are forgotten.
inline constexpr std::size_t ended_holders_max = 65'536;

class HolderTable {
 public:
  // A reservation of the holder began or ended. The nil holder is not counted.
  void began(const Incarnation& holder);
  void done(const Incarnation& holder);
  [[nodiscard]] std::size_t open_of(const Incarnation& holder) const;
  [[nodiscard]] const std::map<Incarnation, std::size_t>& open() const { return open_; }

  // Remembered for as long as its requests' ids could be used.
  void end(const Incarnation& holder, std::int64_t time_ms);
  [[nodiscard]] bool has_ended(const Incarnation& holder) const { return ended_.contains(holder); }

  void restore(const EndedHolderRow& row);
  // Puts the rows that changed since the last call; and, for checks, all of them.
  void collect(TableChanges& changes);
  void copy_rows(TableChanges& changes) const;

 private:
  void forget_oldest();

  std::map<Incarnation, std::size_t> open_;  // never zero
  std::map<Incarnation, std::int64_t> ended_;
  std::set<std::pair<std::int64_t, Incarnation>> by_time_;  // the same
  std::vector<Incarnation> changed_;
};

}  // namespace outlast::storage
