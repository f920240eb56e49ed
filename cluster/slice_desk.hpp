// SliceDesk: how much of a budget each holder gets, by the demand that it reports. The rules of storage/slice_dealer.hpp
// for many holders: a slice is as large as the demand of late asks for, at most 5 % of the budget, and grows while grants
// come often; nothing is dealt out while less than 10 % of the budget is free; and no grant takes more than the free part
// divided by twice the number of holders, so that the first to ask leaves something for the others. Pure; owned by a
// ShardOwner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/id.hpp"
#include "proto/shard_codec.hpp"
#include "storage/budget_state.hpp"

namespace outlast::cluster {

class SliceDesk {
 public:
  using Key = std::pair<std::string, Incarnation>;  // budget, holder

  // What a holder reports; of a budget that exists.
  void report(const storage::BudgetAccount& budget, const Incarnation& holder, const shard::BudgetDemand& demand);
  // The demands that were reported since the last call, each once. Those of the budget asked first go first.
  std::vector<Key> take_reported();
  // What the holder's slice should get now; zero for nothing.
  PicoUsd grant_for(storage::BudgetAccount& budget, const Incarnation& holder, std::int64_t now_ns);

  // At most so much may lie in one holder's slice.
  [[nodiscard]] static PicoUsd share_of(const storage::BudgetAccount& budget);
  // How much of its slice the holder may keep, where it has too much: because the budget's amount was lowered, or much was
  // given back. No value: what it has is right.
  [[nodiscard]] static std::optional<PicoUsd> surplus_keep(const storage::BudgetAccount& budget, PicoUsd left);

  void forget(const Incarnation& holder);
  void forget(const std::string& budget);

 private:
  struct Dealt {
    PicoUsd wanted;  // since the last grant
    PicoUsd left;    // with the holder, what it has not heard of included
    PicoUsd target;
    std::int64_t granted_ns = 0;
    bool reported = false;
  };

  std::map<Key, Dealt> dealt_;
  std::map<std::string, __int128, std::less<>> largest_;  // reservation of late, by budget
  std::vector<Key> reported_;
};

}  // namespace outlast::cluster
