#include "cluster/allotment_keeper.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/shard_money.hpp"

namespace outlast::cluster {
namespace {

using storage::Allotment;

constexpr std::int64_t ahead_interval_ns = 50'000'000;    // between two demands ahead of need, of one subject
constexpr std::int64_t ahead_fruitless_ns = 5'000'000'000;  // where the home had nothing to give
constexpr std::int64_t returned_again_ns = 500'000'000;   // until a return that the home has not confirmed is told again
constexpr std::int64_t confirm_again_ns = 250'000'000;    // less than a home waits before it says again what it gave
constexpr std::int64_t commitments_look_ns = 100'000'000;
constexpr std::int64_t idle_ns = 60'000'000'000;           // what nobody drew of for so long is not needed here
constexpr int idle_keep_share = 8;  // this part of a first share
constexpr int ahead_factor = 4;  // times what was drawn lately lies at hand

// Away there is one.
const Allotment* own_allotment(const AllotmentAccount& account) { return account.allotments->empty() ? nullptr : &account.allotments->begin()->second; }

}  // namespace

AllotmentKeeper::AllotmentKeeper(ShardId shard, ShardId shards, storage::LedgerWriter& writer, const Clock& clock)
    : shard_(shard), shards_(shards), writer_(writer), clock_(clock), next_ask_((writer.epoch() << 20) + 1) {
  const auto introduce_all = [this](const auto& accounts, bool commitment) {
    for (const auto& [id, account] : accounts) {
      if (account->status.away) introduce({id, commitment});
    }
  };
  introduce_all(writer.state().budgets().all(), false);
  introduce_all(writer.state().commitments().all(), true);
}

AllotmentKeeper::Held& AllotmentKeeper::activate(const AllotmentSubject& subject) {
  Held& held = held_[subject];
  held.due = dirty_ = true;
  active_.insert(subject);
  return held;
}

void AllotmentKeeper::introduce(const AllotmentSubject& subject) {
  Held& held = activate(subject);
  if (!subject.commitment) return;
  // Nobody waits for a commitment: without a first share it would never be asked for.
  const auto account = find_account(writer_.state(), subject);
  if (account) held.drawn = std::max(held.drawn, first_share_of(account->whole, shards_) / ahead_factor);
}

void AllotmentKeeper::forget(const AllotmentSubject& subject) {
  held_.erase(subject);
  active_.erase(subject);
}

std::optional<ShardId> AllotmentKeeper::home_of(const AllotmentSubject& subject) const {
  if (subject.commitment) return home_of_commitment(subject.id, shards_);
  const storage::BudgetAccount* const budget = writer_.state().budgets().find(subject.id);
  if (budget == nullptr || !crosses_shards(budget->status.budget.scope)) return std::nullopt;
  return home_of_crossing(budget->status.budget.scope, shards_);
}

bool AllotmentKeeper::is_waiting(const Held& held) const {
  return held.ask > held.answered && clock_.monotonic_ns() - held.asked_ns < allotment_wait_ns;
}

bool AllotmentKeeper::is_asking(const std::string& budget) const {
  const auto at = held_.find({budget, false});
  return at != held_.end() && is_waiting(at->second);
}

bool AllotmentKeeper::ask(const std::string& budget, __int128 short_by) {
  Held& held = held_[{budget, false}];
  if (is_waiting(held)) return true;
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (held.failed > 0 && short_by >= held.failed && now_ns - held.failed_ns < allotment_fruitless_ns) return false;
  const auto account = find_account(writer_.state(), {budget, false});
  if (!account || !account->away) return false;
  activate({budget, false});
  held.ask = next_ask_++;
  held.needed = short_by;
  held.target = account->free + short_by;
  const Allotment* const known = own_allotment(*account);
  held.asked_granted = known == nullptr ? 0 : known->granted;
  held.asked_ns = now_ns;
  return true;
}

Result<void> AllotmentKeeper::receive(const shard::AllotmentTerms& terms, const std::function<bool(const std::string& budget)>& ask_holders) {
  writer_.roll_periods();  // else one that has ended would keep money waiting while nobody spends
  for (const shard::AllotmentTerm& term : terms.terms) {
    if (Result<void> taken = take(terms.from, term, ask_holders); !taken) return taken;
  }
  return {};
}

Result<void> AllotmentKeeper::take(ShardId home, const shard::AllotmentTerm& term, const std::function<bool(const std::string& budget)>& ask_holders) {
  const AllotmentSubject subject{term.subject, term.commitment};
  const auto account = find_account(writer_.state(), subject);
  if (!account || !account->away || term.opened == 0 || home_of(subject) != home) return {};  // not here yet: it is told again when asked
  const Allotment* const known = own_allotment(*account);
  if (known != nullptr && term.opened < known->opened) return {};  // of an allotment that has ended
  Held& held = held_[subject];
  const bool is_new = known == nullptr || term.opened > known->opened;
  const __int128 more = is_new ? term.granted : term.granted - known->granted;
  // In another period than ours this money is not ours to spend yet.
  const bool in_time = account->period_start_ms >= term.period_start_ms;
  if (in_time && (is_new || more > 0)) {
    const auto granted = writer_.add(proto::AllotmentGranted{term.subject, term.commitment, home, more, term.opened});
    if (!granted) return fail(granted.error());
    if (granted->outcome == storage::Outcome::applied) {
      held.last_free += more;
      held.failed = 0;
      if (is_new) held.looked = false;  // what an allotment before it had is not drawn
      // Totals of both sides begin alike. The shard's own were of a budget that was removed meanwhile.
      if (is_new && term.returned > 0) {
        const auto returned = writer_.add(proto::AllotmentReturned{term.subject, term.commitment, home, term.returned, term.opened});
        if (!returned) return fail(returned.error());
      }
    }
    activate(subject);  // the home tells it until it hears that it has come
  }
  // The home says again what it was not told has come. What it answers to this is not answered: that comes sooner.
  if (!is_new && more <= 0 && clock_.monotonic_ns() - held.told_ns >= confirm_again_ns) activate(subject);
  held.returned_seen = is_new ? term.returned : std::max(held.returned_seen, term.returned);
  if (std::exchange(held.wants, false)) {
    held.ahead_pause_ns = more > 0 ? ahead_interval_ns : ahead_fruitless_ns;
    if (more > 0) held.drawn /= 2;
  }
  if (term.answered > held.answered) {
    held.answered = term.answered;
    if (held.answered >= held.ask && held.needed > 0) {
      const auto now = find_account(writer_.state(), subject);
      // What came may be held by others by now: that is no reason not to ask again.
      const bool got = term.granted - (is_new ? 0 : held.asked_granted) >= held.needed;
      if (!got && now && now->free < held.target) {
        held.failed = held.needed;
        held.failed_ns = clock_.monotonic_ns();
      }
    }
  }
  if (term.recall > held.recall && !is_new) {
    held.recall = term.recall;
    activate(subject);
    ask_holders(term.subject);
  }
  return {};
}

Result<void> AllotmentKeeper::deal(const std::function<bool(const std::string& budget)>& holders_asked) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (const AllotmentSubject& subject : active_) {
    Held& held = held_.at(subject);
    if (held.recall <= held.recalled || holders_asked(subject.id)) continue;
    held.recalled = held.recall;
    held.due = dirty_ = true;
    const auto account = find_account(writer_.state(), subject);
    if (!account) continue;
    if (Result<void> given = give_back(subject, *account, account->free); !given) return given;  // all that nobody holds
  }
  for (const storage::BudgetAccount* budget : writer_.state().budgets().touched()) {
    if (budget->status.away && !budget->status.budget.soft) look({budget->status.budget.id, false}, now_ns);
  }
  if (now_ns - commitments_looked_ns_ < commitments_look_ns) return {};
  commitments_looked_ns_ = now_ns;
  for (const auto& [id, commitment] : writer_.state().commitments().all()) {
    if (!commitment->status.away) continue;
    if (!commitment->status.ended) look({id, true}, now_ns);
    if (Result<void> returned = return_idle({id, true}, now_ns); !returned) return returned;
  }
  return {};
}

Result<void> AllotmentKeeper::give_back(const AllotmentSubject& subject, const AllotmentAccount& account, __int128 most) {
  const Allotment* const known = own_allotment(account);
  if (known == nullptr) return {};
  const __int128 amount = std::min(most, known->out());
  if (amount <= 0) return {};
  const auto returned = writer_.add(proto::AllotmentReturned{subject.id, subject.commitment, account.allotments->begin()->first, amount, known->opened});
  if (!returned) return fail(returned.error());
  held_[subject].last_free -= amount;
  return {};
}

// What was taken since the last look, and whether there is enough at hand for more of it.
void AllotmentKeeper::look(const AllotmentSubject& subject, std::int64_t now_ns) {
  const auto account = find_account(writer_.state(), subject);
  if (!account) return;
  Held& held = held_[subject];
  if (held.looked) held.drawn += std::max<__int128>(0, held.last_free - account->free);
  held.looked = true;
  held.last_free = account->free;
  if (wanted_of(held, *account) > 0 && now_ns - held.wanted_ns >= held.ahead_pause_ns) activate(subject);
}

// Some of it stays, so that who comes again finds something and asks for more.
Result<void> AllotmentKeeper::return_idle(const AllotmentSubject& subject, std::int64_t now_ns) {
  const auto account = find_account(writer_.state(), subject);
  Held& held = held_[subject];
  if (!account || account->free != held.idle_free || held.idle_since_ns == 0) {
    held.idle_since_ns = now_ns;
    held.idle_free = account ? account->free : 0;
    return {};
  }
  if (now_ns - held.idle_since_ns < idle_ns) return {};
  held.idle_since_ns = now_ns;
  held.drawn = 0;
  const __int128 rest = first_share_of(account->whole, shards_) / idle_keep_share;
  if (account->free <= rest) return {};
  if (Result<void> given = give_back(subject, *account, account->free - rest); !given) return given;
  activate(subject);
  return {};
}

__int128 AllotmentKeeper::wanted_of(const Held& held, const AllotmentAccount& account) const {
  const __int128 target = std::min(ahead_factor * held.drawn, account.whole);
  return account.gives && account.free < target / 2 ? target - account.free : 0;
}

bool AllotmentKeeper::tell_one(const AllotmentSubject& subject, std::int64_t now_ns, std::map<ShardId, std::vector<shard::AllotmentAsk>>& by_home) {
  Held& held = held_.at(subject);
  const auto account = find_account(writer_.state(), subject);
  const auto home = home_of(subject);
  if (!account || !account->away || !home) return false;
  const Allotment* const known = own_allotment(*account);
  const bool waits = is_waiting(held);
  const bool unconfirmed = known != nullptr && known->returned > held.returned_seen;
  const bool recalled = held.recall > held.recalled;
  const bool again = (waits && now_ns - held.told_ns >= allotment_again_ns) || (unconfirmed && now_ns - held.told_ns >= returned_again_ns);
  if (!std::exchange(held.due, false) && !again) return waits || unconfirmed || recalled;
  shard::AllotmentAsk ask{subject.id, subject.commitment, 0, 0, 0, account->period_start_ms, 0, 0, 0, held.recalled};
  if (known != nullptr) {
    ask.opened = known->opened;
    ask.granted = known->granted;
    ask.returned = known->returned;
  }
  if (waits) {
    ask.needed = held.needed;
    ask.ask = held.ask;
  }
  if (now_ns - held.wanted_ns >= held.ahead_pause_ns) ask.wanted = wanted_of(held, *account);
  if (ask.wanted > 0) {
    held.wanted_ns = now_ns;
    held.wants = true;
  }
  held.told_ns = now_ns;
  by_home[*home].push_back(std::move(ask));
  return waits || unconfirmed || recalled;
}

void AllotmentKeeper::tell(std::vector<SendToShard>& messages) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  std::map<ShardId, std::vector<shard::AllotmentAsk>> by_home;
  dirty_ = false;
  std::erase_if(active_, [&](const AllotmentSubject& subject) { return !tell_one(subject, now_ns, by_home); });
  for (auto& [home, asks] : by_home) {
    for (std::size_t at = 0; at < asks.size(); at += shard::subjects_max) {
      const auto from = asks.begin() + static_cast<std::ptrdiff_t>(at);
      const auto end = asks.begin() + static_cast<std::ptrdiff_t>(std::min(at + shard::subjects_max, asks.size()));
      messages.push_back({home, {home, 0, shard::AllotmentDemand{shard_, {from, end}}}});
    }
  }
}

std::int64_t AllotmentKeeper::next_wake_ns() const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  for (const AllotmentSubject& subject : active_) {
    const Held& held = held_.at(subject);
    if (is_waiting(held)) next = std::min({next, held.told_ns + allotment_again_ns, held.asked_ns + allotment_wait_ns});
    else if (held.recall <= held.recalled) next = std::min(next, held.told_ns + returned_again_ns);
  }
  return next;
}

}  // namespace outlast::cluster
