#include "cluster/allotment_desk.hpp"

#include <algorithm>
#include <limits>

#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using storage::Allotment;

constexpr std::int64_t unseen_again_ns = 500'000'000;
constexpr std::int64_t lowered_again_ns = 10'000'000'000;  // between recalls of a budget whose parts are more than its amount

const Allotment* allotment_of(const AllotmentAccount& account, ShardId shard) {
  const auto at = account.allotments->find(shard);
  return at == account.allotments->end() ? nullptr : &at->second;
}

}  // namespace

std::optional<AllotmentAccount> find_account(const storage::LedgerState& state, const AllotmentSubject& subject) {
  if (subject.commitment) {
    const storage::CommitmentAccount* const account = state.commitments().find(subject.id);
    if (account == nullptr) return std::nullopt;
    const CommitmentStatus& status = account->status;
    return AllotmentAccount{&account->allotments, status.away, !status.ended, account->unheld(), status.commitment.units, 0};
  }
  const storage::BudgetAccount* const account = state.budgets().find(subject.id);
  if (account == nullptr) return std::nullopt;
  const BudgetStatus& status = account->status;
  return AllotmentAccount{&account->allotments, status.away, !status.budget.soft, account->pool().value, status.budget.amount.value, status.period_start_ms};
}

AllotmentDesk::AllotmentDesk(ShardId shard, ShardId shards, storage::LedgerWriter& writer, const Clock& clock)
    : shard_(shard),
      shards_(shards),
      writer_(writer),
      clock_(clock),
      // Later owners' recalls have larger numbers, so that no answer to an earlier one is taken for one to theirs.
      next_recall_((writer.epoch() << 20) + 1) {
  // Nobody knows what the owner before has told.
  const auto tell_all = [this](const auto& accounts, bool commitment) {
    for (const auto& [id, account] : accounts) {
      if (account->status.away) continue;
      for (const auto& [to, allotment] : account->allotments) unseen_.emplace(Key{{id, commitment}, to}, 0);
    }
  };
  tell_all(writer.state().budgets().all(), false);
  tell_all(writer.state().commitments().all(), true);
  for (const auto& [id, budget] : writer.state().budgets().all()) note_lowered(*budget);
}

Result<void> AllotmentDesk::receive(const shard::AllotmentDemand& demand) {
  if (demand.from >= shards_ || demand.from == shard_) return {};
  silent_.erase(demand.from);
  writer_.roll_periods();  // else one that has ended would keep money waiting while nobody spends
  for (const shard::AllotmentAsk& ask : demand.asks) {
    if (Result<void> taken = take(demand.from, ask); !taken) return taken;
  }
  return {};
}

Result<void> AllotmentDesk::take(ShardId from, const shard::AllotmentAsk& ask) {
  const AllotmentSubject subject{ask.subject, ask.commitment};
  const Key key{subject, from};
  auto account = find_account(writer_.state(), subject);
  if (!account || account->away) return {};  // not here, or not here yet: it is asked again
  if (allotment_of(*account, from) == nullptr) {
    if (!account->gives) return {};
    if (Result<void> opened = give(subject, from, 0); !opened) return opened;
    account = find_account(writer_.state(), subject);
    if (!account || allotment_of(*account, from) == nullptr) return {};
  }
  const Allotment known = *allotment_of(*account, from);
  to_tell_.insert(key);
  const bool same = ask.opened == known.opened;
  const __int128 unseen = known.granted - (same ? std::min(ask.granted, known.granted) : 0);
  if (same && unseen == 0) unseen_.erase(key);
  if (same && ask.returned > known.returned && account->period_start_ms >= ask.period_start_ms) {
    // Never more than is out there: what a shard says of itself is not believed beyond that.
    const __int128 amount = std::min(ask.returned - known.returned, known.out());
    if (amount > 0) {
      const auto back = writer_.add(proto::AllotmentReturned{ask.subject, ask.commitment, from, amount, known.opened});
      if (!back) return fail(back.error());
    }
  }
  if (const auto round = rounds_.find(ask.subject); !ask.commitment && round != rounds_.end() && ask.recall >= round->second.number) {
    round->second.unanswered.erase(from);
  }
  if (ask.ask > answered_[key]) {
    Ask& waiting = asks_[key];
    if (ask.ask > waiting.number) waiting = {ask.ask, std::max<__int128>(0, ask.needed - unseen), false};
  }
  if (ask.wanted > unseen && account->gives) wanted_[key] = std::min(ask.wanted - unseen, account->whole);
  return {};
}

Result<void> AllotmentDesk::give(const AllotmentSubject& subject, ShardId to, __int128 amount) {
  const auto account = find_account(writer_.state(), subject);
  const Allotment* const known = account ? allotment_of(*account, to) : nullptr;
  const auto given = writer_.add(proto::AllotmentGranted{subject.id, subject.commitment, to, amount, known == nullptr ? 0 : known->opened});
  if (!given) return fail(given.error());
  to_tell_.insert({subject, to});
  unseen_[{subject, to}] = 0;
  unseen_due_ns_ = 0;
  return {};
}

Result<void> AllotmentDesk::share(const std::string& commitment) {
  const AllotmentSubject subject{commitment, true};
  const auto account = find_account(writer_.state(), subject);
  if (!account || account->away || !account->gives || !account->allotments->empty() || shards_ < 2) return {};
  const __int128 part = first_share_of(account->whole, shards_);
  for (ShardId to = 0; to < shards_; ++to) {
    if (to == shard_) continue;
    if (Result<void> given = give(subject, to, part); !given) return given;
  }
  return {};
}

bool AllotmentDesk::is_fruitless(const std::string& budget, __int128 short_by) const {
  const auto at = fruitless_.find(budget);
  return at != fruitless_.end() && short_by >= at->second.short_by && clock_.monotonic_ns() - at->second.at_ns < allotment_fruitless_ns;
}

bool AllotmentDesk::recall(const std::string& budget, __int128 short_by) {
  if (const auto running = rounds_.find(budget); running != rounds_.end()) {
    running->second.short_by = std::max(running->second.short_by, short_by);
    return true;
  }
  const AllotmentSubject subject{budget, false};
  const auto account = find_account(writer_.state(), subject);
  if (!account || account->away || is_fruitless(budget, short_by)) return false;
  Round round;
  for (const auto& [shard, allotment] : *account->allotments) {
    // One that is short itself has nothing free.
    if (allotment.out() > 0 && !silent_.contains(shard) && !asks_.contains({subject, shard})) round.unanswered.insert(shard);
  }
  if (round.unanswered.empty()) return false;
  round.to_ask = round.unanswered;
  round.number = next_recall_++;
  round.short_by = short_by;
  round.deadline_ns = clock_.monotonic_ns() + allotment_round_ns;
  rounds_.emplace(budget, std::move(round));
  return true;
}

void AllotmentDesk::end_rounds() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto at = rounds_.begin(); at != rounds_.end();) {
    Round& round = at->second;
    const bool late = now_ns >= round.deadline_ns;
    if (!late && !round.unanswered.empty()) {
      ++at;
      continue;
    }
    silent_.insert(round.unanswered.begin(), round.unanswered.end());
    const auto account = find_account(writer_.state(), {at->first, false});
    if (account && account->free < round.short_by) fruitless_[at->first] = {round.short_by, now_ns};
    else fruitless_.erase(at->first);
    at = rounds_.erase(at);
  }
}

Result<void> AllotmentDesk::deal(const std::function<bool(const std::string& budget)>& ask_holders) {
  if (Result<void> answered = answer_asks(ask_holders); !answered) return answered;
  for (const storage::BudgetAccount* budget : writer_.state().budgets().touched()) note_lowered(*budget);
  recall_lowered();
  return give_ahead();
}

void AllotmentDesk::note_lowered(const storage::BudgetAccount& budget) {
  if (budget.status.away || budget.status.budget.soft || budget.allotments.empty() || budget.pool().value >= 0) return;
  lowered_.try_emplace(budget.status.budget.id, std::numeric_limits<std::int64_t>::min());
}

// A lowered amount: parts that are more than it come back, from shards that could not hear it before as well.
void AllotmentDesk::recall_lowered() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto at = lowered_.begin(); at != lowered_.end();) {
    auto& [budget, again_ns] = *at;
    const auto account = find_account(writer_.state(), {budget, false});
    if (!account || account->away || !account->gives || account->free >= 0) {
      at = lowered_.erase(at);
      continue;
    }
    if (now_ns >= again_ns) {
      again_ns = now_ns + lowered_again_ns;
      for (const auto& [shard, allotment] : *account->allotments) silent_.erase(shard);
      fruitless_.erase(budget);
      recall(budget, -account->free);
    }
    ++at;
  }
}

Result<void> AllotmentDesk::answer_asks(const std::function<bool(const std::string& budget)>& ask_holders) {
  for (auto at = asks_.begin(); at != asks_.end();) {
    const auto& [key, ask] = *at;
    const auto& [subject, from] = key;
    const auto account = find_account(writer_.state(), subject);
    const bool gives = account && !account->away && account->gives;
    if (gives && ask.needed > 0 && account->free < ask.needed && !subject.commitment) {
      const __int128 short_by = ask.needed - account->free;
      if (!ask.tried && !is_fruitless(subject.id, short_by)) {
        at->second.tried = true;
        // Both, for either may have what is needed.
        const bool holders = ask_holders(subject.id);
        const bool shards = recall(subject.id, short_by);
        if (holders || shards) {
          ++at;
          continue;
        }
      } else if (ask.tried && (rounds_.contains(subject.id) || ask_holders(subject.id))) {
        ++at;
        continue;
      }
    }
    if (gives && ask.needed > 0 && account->free >= ask.needed) {
      if (Result<void> given = give(subject, from, ask.needed); !given) return given;
    }
    answered_[key] = ask.number;
    to_tell_.insert(key);
    at = asks_.erase(at);
  }
  return {};
}

Result<void> AllotmentDesk::give_ahead() {
  for (const auto& [key, wanted] : std::exchange(wanted_, {})) {
    const auto& [subject, to] = key;
    const auto account = find_account(writer_.state(), subject);
    if (!account || account->away || !account->gives || rounds_.contains(subject.id)) continue;
    const auto sharers = static_cast<__int128>(account->allotments->size());
    const __int128 amount = std::min(wanted, account->free / (2 * std::max<__int128>(sharers, 1)));
    if (amount <= 0) continue;
    if (Result<void> given = give(subject, to, amount); !given) return given;
  }
  return {};
}

shard::AllotmentTerm AllotmentDesk::term_of(const Key& key, const AllotmentAccount& account) const {
  const Allotment& allotment = *allotment_of(account, key.second);
  shard::AllotmentTerm term{key.first.id, key.first.commitment, allotment.opened, allotment.granted, allotment.returned, account.period_start_ms, 0, 0};
  if (const auto answered = answered_.find(key); answered != answered_.end()) term.answered = answered->second;
  if (const auto round = rounds_.find(key.first.id); !key.first.commitment && round != rounds_.end() && round->second.unanswered.contains(key.second)) {
    term.recall = round->second.number;
  }
  return term;
}

void AllotmentDesk::tell(std::vector<SendToShard>& messages) {
  for (auto& [budget, round] : rounds_) {
    for (const ShardId shard : std::exchange(round.to_ask, {})) to_tell_.insert({{budget, false}, shard});
  }
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns >= unseen_due_ns_) {
    unseen_due_ns_ = std::numeric_limits<std::int64_t>::max();
    for (auto& [key, told_ns] : unseen_) {
      if (told_ns == 0 || now_ns - told_ns >= unseen_again_ns) {
        told_ns = now_ns;
        to_tell_.insert(key);
      }
      unseen_due_ns_ = std::min(unseen_due_ns_, told_ns + unseen_again_ns);
    }
  }
  std::map<ShardId, std::vector<shard::AllotmentTerm>> by_shard;
  for (const Key& key : std::exchange(to_tell_, {})) {
    const auto account = find_account(writer_.state(), key.first);
    if (!account || account->away || allotment_of(*account, key.second) == nullptr) continue;
    by_shard[key.second].push_back(term_of(key, *account));
  }
  for (auto& [to, terms] : by_shard) {
    for (std::size_t at = 0; at < terms.size(); at += shard::subjects_max) {
      const auto from = terms.begin() + static_cast<std::ptrdiff_t>(at);
      const auto end = terms.begin() + static_cast<std::ptrdiff_t>(std::min(at + shard::subjects_max, terms.size()));
      messages.push_back({to, {to, 0, shard::AllotmentTerms{shard_, {from, end}}}});
    }
  }
}

void AllotmentDesk::forget(const AllotmentSubject& subject) {
  const auto is_of = [&subject](const auto& one) { return one.first.first == subject; };
  std::erase_if(asks_, is_of);
  std::erase_if(answered_, is_of);
  std::erase_if(wanted_, is_of);
  std::erase_if(unseen_, is_of);
  if (subject.commitment) return;
  rounds_.erase(subject.id);
  fruitless_.erase(subject.id);
  lowered_.erase(subject.id);
}

std::int64_t AllotmentDesk::next_wake_ns() const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  for (const auto& [budget, round] : rounds_) next = std::min(next, round.deadline_ns);
  if (!unseen_.empty()) next = std::min(next, unseen_due_ns_);
  for (const auto& [budget, again_ns] : lowered_) next = std::min(next, again_ns);
  return next;
}

}  // namespace outlast::cluster
