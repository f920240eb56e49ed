// AllotmentKeeper: the other side of allotments: a shard's parts of budgets and commitments that are at home elsewhere. It asks
// the home when somebody is short and ahead of need, takes in what comes, and returns what the home recalls. Pure; owned by a
// ShardOwner.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "cluster/allotment_subject.hpp"
#include "core/clock.hpp"

namespace outlast::cluster {

class AllotmentKeeper {
 public:
  // As AllotmentDesk. Tells every home what it has, since nobody knows what the owner before has said.
  AllotmentKeeper(ShardId shard, ShardId shards, storage::LedgerWriter& writer, const Clock& clock);

  // Terms of a home's owner. `ask_holders`: as for AllotmentDesk::deal(), for what is recalled. Errors: of the writer.
  Result<void> receive(const shard::AllotmentTerms& terms, const std::function<bool(const std::string& budget)>& ask_holders);
  // Somebody is short of a budget by `short_by`: whether its home is asked, or is being asked.
  bool ask(const std::string& budget, __int128 short_by);
  [[nodiscard]] bool is_asking(const std::string& budget) const;
  // A budget or commitment that is new here: its home is asked what it has allotted.
  void introduce(const AllotmentSubject& subject);

  // Before a commit: returns what was recalled and nobody holds (`holders_asked`: whether holders of the budget still are), and
  // looks at what is used, to ask ahead. Errors: of the writer.
  Result<void> deal(const std::function<bool(const std::string& budget)>& holders_asked);
  // After a commit: what there is to tell.
  void tell(std::vector<SendToShard>& messages);

  void forget(const AllotmentSubject& subject);
  [[nodiscard]] bool is_dirty() const { return dirty_; }
  [[nodiscard]] std::int64_t next_wake_ns() const;

 private:
  struct Held {
    std::uint64_t ask = 0;           // the newest question
    std::uint64_t answered = 0;
    __int128 needed = 0;             // of the newest question
    __int128 target = 0;             // what has to be free for who is short
    __int128 asked_granted = 0;      // what was granted when it was asked
    std::int64_t asked_ns = 0;
    std::int64_t told_ns = 0;
    bool due = false;                // there is something to tell
    std::uint64_t recall = 0;        // the newest recall of the home
    std::uint64_t recalled = 0;      // the newest that was answered
    __int128 returned_seen = 0;      // as far as the home has taken it in
    __int128 failed = 0;             // the home could not give so much
    std::int64_t failed_ns = 0;
    __int128 last_free = 0;          // when it was looked at
    bool looked = false;
    __int128 drawn = 0;              // lately
    std::int64_t wanted_ns = 0;      // when it was last asked ahead
    bool wants = false;              // it was, and nothing was heard since
    std::int64_t ahead_pause_ns = 0; // until it is asked ahead again
    std::int64_t idle_since_ns = 0;  // of a commitment: since then as much is free
    __int128 idle_free = 0;
  };

  Result<void> take(ShardId home, const shard::AllotmentTerm& term, const std::function<bool(const std::string& budget)>& ask_holders);
  Result<void> give_back(const AllotmentSubject& subject, const AllotmentAccount& account, __int128 most);
  Result<void> return_idle(const AllotmentSubject& subject, std::int64_t now_ns);
  void look(const AllotmentSubject& subject, std::int64_t now_ns);
  Held& activate(const AllotmentSubject& subject);  // it has something to tell
  // Whether there is still something to wait for, once it was told.
  bool tell_one(const AllotmentSubject& subject, std::int64_t now_ns, std::map<ShardId, std::vector<shard::AllotmentAsk>>& by_home);
  [[nodiscard]] bool is_waiting(const Held& held) const;
  [[nodiscard]] std::optional<ShardId> home_of(const AllotmentSubject& subject) const;
  [[nodiscard]] __int128 wanted_of(const Held& held, const AllotmentAccount& account) const;

  const ShardId shard_;
  const ShardId shards_;
  storage::LedgerWriter& writer_;
  const Clock& clock_;
  std::map<AllotmentSubject, Held> held_;
  std::set<AllotmentSubject> active_;  // with something to tell, to return or to wait for
  std::uint64_t next_ask_;
  std::int64_t commitments_looked_ns_ = 0;
  bool dirty_ = false;
};

}  // namespace outlast::cluster
