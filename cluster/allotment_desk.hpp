// AllotmentDesk: the home's side of allotments: gives other shards parts of the budgets and commitments that are at home here,
// takes them back, and asks for them where somebody is short. Pure; owned by a ShardOwner.
//
// - What a shard needs for somebody who waits is given as soon as it is there; else the holders of slices here and the other
//   shards are asked for what they have free, once, and then the answer is given, whatever it is. What it wants to have at hand
//   is at most the free part divided by twice the number of shards that have an allotment, and nothing while somebody waits.
// - What was given is told again until the shard says that it has it.
// - Nothing is told before it is durable, and only totals are: any message may be lost, late or repeated.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "cluster/allotment_subject.hpp"
#include "core/clock.hpp"

namespace outlast::cluster {

class AllotmentDesk {
 public:
  // `writer` leads; it and `clock` outlive this. `shards`: of the cluster.
  AllotmentDesk(ShardId shard, ShardId shards, storage::LedgerWriter& writer, const Clock& clock);

  // A demand of another shard's owner. Errors: of the writer.
  Result<void> receive(const shard::AllotmentDemand& demand);
  // Somebody here is short of a budget by `short_by`. Whether other shards are asked, or are being asked, for their parts.
  bool recall(const std::string& budget, __int128 short_by);
  [[nodiscard]] bool is_recalling(const std::string& budget) const { return rounds_.contains(budget); }
  // A commitment that is new here: equal shares for all. Errors: of the writer.
  Result<void> share(const std::string& commitment);

  // Before it is decided who goes on waiting: recalls that were answered, or whose time is over, end.
  void end_rounds();
  // Answers what can be answered. `ask_holders`: asks holders of slices of that budget, where there are any who were not
  // asked; whether they are being asked. Errors: of the writer.
  Result<void> deal(const std::function<bool(const std::string& budget)>& ask_holders);
  // After a commit: what there is to tell.
  void tell(std::vector<SendToShard>& messages);

  void forget(const AllotmentSubject& subject);
  [[nodiscard]] bool is_dirty() const { return !asks_.empty() || !wanted_.empty() || !to_tell_.empty(); }
  [[nodiscard]] std::int64_t next_wake_ns() const;

 private:
  using Key = std::pair<AllotmentSubject, ShardId>;
  struct Ask {
    std::uint64_t number = 0;
    __int128 needed = 0;
    bool tried = false;  // others were asked for it
  };
  struct Round {
    std::uint64_t number = 0;
    std::int64_t deadline_ns = 0;
    __int128 short_by = 0;
    std::set<ShardId> unanswered;
    std::set<ShardId> to_ask;
  };
  struct Fruitless {
    __int128 short_by = 0;
    std::int64_t at_ns = 0;
  };

  Result<void> take(ShardId from, const shard::AllotmentAsk& ask);
  Result<void> give(const AllotmentSubject& subject, ShardId to, __int128 amount);
  Result<void> answer_asks(const std::function<bool(const std::string& budget)>& ask_holders);
  Result<void> give_ahead();
  void note_lowered(const storage::BudgetAccount& budget);
  void recall_lowered();
  [[nodiscard]] bool is_fruitless(const std::string& budget, __int128 short_by) const;
  shard::AllotmentTerm term_of(const Key& key, const AllotmentAccount& account) const;

  const ShardId shard_;
  const ShardId shards_;
  storage::LedgerWriter& writer_;
  const Clock& clock_;
  std::map<Key, Ask> asks_;                  // that wait for an answer
  std::map<Key, std::uint64_t> answered_;    // the newest
  std::map<Key, __int128> wanted_;
  std::set<Key> to_tell_;
  std::map<Key, std::int64_t> unseen_;       // what the shard has not confirmed, and when it was told; 0: not yet
  std::int64_t unseen_due_ns_ = 0;           // when the first of them is to be told
  std::map<std::string, Round, std::less<>> rounds_;  // by budget: commitments are never short
  std::map<std::string, Fruitless, std::less<>> fruitless_;
  std::map<std::string, std::int64_t, std::less<>> lowered_;  // less is free than nothing; when it is recalled next
  std::set<ShardId> silent_;  // let a recall pass, and were not heard since
  std::uint64_t next_recall_;
};

}  // namespace outlast::cluster
