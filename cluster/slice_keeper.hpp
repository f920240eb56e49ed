// SliceKeeper: the slices of budgets that a gateway process holds of one shard: the atomics that lanes take from
// (core/budget_book.hpp), what was granted to them and returned of them so far, and the demand on them. Pure; all but the
// atomics has one owner.
//
// Why the ledger always has what a slice gives up. Lanes change a slice and submit operations, each on its own: take(),
// then submit the reservation; submit the end, then give(). Let r be a return's place in the stream, pushed at time t, and
// A the slice's atomic at t, after take_back():
//     A = granted as seen - taken by t + given by t - taken back by t >= 0.
// The ledger, when it comes to r, has
//     L = granted - taken by reservations before r + given back by ends before r - returned, this return included.
// Granted as seen <= granted, since an owner tells of a grant after its entry is durable. Reservations before r were
// submitted by t, so their takes were earlier still: they are among those taken by t. Ends whose give() is in A were
// submitted before that give(), so they are before r: given by t <= given back by ends before r. All that was taken back
// by t is pushed by now, so it is what is returned. Hence L >= A >= 0: the return is covered, whatever lanes do meanwhile;
// and in the same way every reservation with from_slices is covered when the ledger comes to it.
//
// The one thing that its user has to see to: "before r" for whatever lanes submitted before take_back() looked. So
//     1. take_returns(),
//     2. move everything that lanes have submitted into the ShardStream,
//     3. push the returns into it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/shard_id.hpp"
#include "core/budget_book.hpp"
#include "core/clock.hpp"
#include "proto/shard_codec.hpp"

namespace outlast::cluster {

struct KeeperOptions {
  ShardId shard = 0;
  Incarnation holder;
  std::uint32_t demand_ms = 5;     // from one look at the demand to the next
  std::uint32_t again_ms = 100;    // a budget's demand is told again after this, also while much is left of its slice
  std::uint32_t idle_ms = 60'000;  // a slice that nobody asks of for so long goes back
};

class SliceKeeper {
 public:
  SliceKeeper(KeeperOptions options, const Clock& clock);

  // The slice of a hard budget: always the same one until forget(). For a budget book.
  std::shared_ptr<BudgetSlice> slice_of(const std::string& budget);
  // The budget was removed. (One that becomes soft keeps its slice; an owner opens another one when it is hard again.)
  void forget(const std::string& budget);

  void connected(std::string node, std::uint64_t epoch);
  void disconnected();
  void receive(const std::string& node, const shard::Message& message);  // Grants and Recall; others are not for it

  // Takes out of the slices what is recalled, or idle, and gives the operations that return it, for step 3 above. They
  // must be pushed: the money is nowhere else.
  [[nodiscard]] std::vector<shard::SliceReturn> take_returns();
  // What to tell the owner of demand, if it is time and there is any.
  [[nodiscard]] std::optional<shard::Message> take_demand();
  [[nodiscard]] const std::string& node() const { return node_; }  // where to send it; empty: not connected
  [[nodiscard]] std::int64_t next_wake_ns() const;

  // For checks: the sum that lanes can take of the budget now; granted as seen, less returned.
  [[nodiscard]] PicoUsd left(const std::string& budget) const;
  [[nodiscard]] PicoUsd seen(const std::string& budget) const;

 private:
  struct Held {
    std::shared_ptr<BudgetSlice> slice = std::make_shared<BudgetSlice>();
    std::uint64_t opened = 0;  // of the owner's account that the next two are about
    PicoUsd seen;              // granted
    PicoUsd returned;
    PicoUsd wanted;  // not told yet
    PicoUsd level;   // what was left after the last grant
    std::int64_t told_ns = 0;
    std::int64_t wanted_ns = 0;  // when somebody last asked
    std::uint64_t recall = 0;    // to be answered; 0: none
    PicoUsd keep;
  };
  void take_in(const shard::Grant& grant);

  const KeeperOptions options_;
  const Clock& clock_;
  std::map<std::string, Held, std::less<>> held_;
  std::string node_;
  std::uint64_t epoch_ = 0;
  std::int64_t looked_ns_ = 0;
  std::int64_t idle_looked_ns_ = 0;
  bool recalled_ = false;
};

}  // namespace outlast::cluster
