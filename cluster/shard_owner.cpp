#include "cluster/shard_owner.hpp"

#include <algorithm>
#include <utility>

#include "core/check.hpp"
#include "storage/entry.hpp"
#include "storage/ledger_error_text.hpp"

namespace outlast::cluster {
namespace {

using storage::Applied;
using storage::BudgetAccount;
using storage::BudgetState;
using storage::LedgerError;
using storage::Outcome;
using storage::SliceAccount;

constexpr std::int64_t surplus_again_ns = 200'000'000;
constexpr std::size_t surplus_asked_max = 65'536;

template <class Body, class... Kinds>
constexpr bool is_one_of = (std::is_same_v<Body, Kinds> || ...);

// What a holder may say to a shard, and what to the control log.
bool is_allowed(const proto::EntryBody& body, ShardId shard, ShardId shards) {
  return std::visit(
      [shard, shards]<class Body>(const Body&) {
        if constexpr (is_one_of<Body, Reservation, AttemptLine, proto::Settled, proto::Voided, ReservationExtension>) {
          return shard != control_shard;
        } else if constexpr (is_one_of<Body, proto::IncarnationStarted, proto::OwnerStarted, proto::HolderEnded,
                                       proto::SliceGranted, proto::SliceReturned, proto::BudgetRolled,
                                       proto::AllotmentGranted, proto::AllotmentReturned>) {
          return false;
        } else if constexpr (std::is_same_v<Body, proto::CommitmentEnded>) {
          // An old cluster of one shard has commitments that the control log does not know.
          return shard == control_shard || shards == 1;
        } else {
          return shard == control_shard;
        }
      },
      body);
}

}  // namespace

ShardOwner::ShardOwner(OwnerOptions options, storage::LedgerWriter& writer, const Clock& clock)
    : options_(std::move(options)),
      writer_(writer),
      clock_(clock),
      epoch_(writer.epoch()),
      allotments_(options_.shard, options_.shards, writer, clock),
      parts_(options_.shard, options_.shards, writer, clock),
      // Later owners' recalls have larger numbers, so that no answer to an earlier one is taken for one to theirs.
      next_recall_((epoch_ << 20) + 1) {
  check(!writer.is_replica(), "the owner of a shard leads");
}

void ShardOwner::send(const std::string& node, shard::Body body) {
  effects_.emplace_back(SendToNode{node, shard::Message{options_.shard, epoch_, std::move(body)}});
}

std::vector<OwnerEffect> ShardOwner::take_effects() { return std::exchange(effects_, {}); }

HolderSession* ShardOwner::session_of(const Incarnation& holder) {
  if (const auto at = sessions_.find(holder); at != sessions_.end()) return &at->second;
  if (holder.is_nil()) return nullptr;
  if (sessions_.size() >= options_.holders_max) {
    const std::vector<Incarnation> with_something = writer_.state().holders();
    std::erase_if(sessions_, [this, &with_something](const auto& session) {
      return session.second.waiting() == 0 && !due_.contains(session.first) &&
             !std::binary_search(with_something.begin(), with_something.end(), session.first);
    });
  }
  return sessions_.size() >= options_.holders_max ? nullptr : &sessions_[holder];
}

// ---- what comes in

bool ShardOwner::is_of(const Incarnation& holder, const std::string& node) {
  std::string home = options_.node_of ? options_.node_of(holder) : std::string();
  const auto session = sessions_.find(holder);
  if (home.empty() && session != sessions_.end()) home = session->second.node();
  if (home.empty() || home == node) return true;
  ++counters_.foreign;
  return false;
}

Result<void> ShardOwner::receive(const std::string& node, const shard::Message& message) {
  if (message.shard != options_.shard) return {};
  if (const auto* end = std::get_if<shard::EndHolder>(&message.body)) {
    if (end->holder.is_nil() || !is_of(end->holder, node)) return {};
    // Whoever was the owner when it was asked: this one ends it.
    if (Result<void> ended = end_holder(end->holder, end->spent, end->why); !ended) return ended;
    ended_.push_back({node, shard::Message{options_.shard, epoch_, shard::HolderEnded{end->holder}}});
    return {};
  }
  if (const auto* progress = std::get_if<shard::ReplicaProgress>(&message.body)) {
    if (progress_.size() < options_.holders_max || progress_.contains(node)) progress_[node] = progress->applied;
    return {};
  }
  if (const auto* demand = std::get_if<shard::AllotmentDemand>(&message.body)) {
    urgent_ = true;
    return allotments_.receive(*demand);
  }
  if (const auto* terms = std::get_if<shard::AllotmentTerms>(&message.body)) {
    urgent_ = true;
    return parts_.receive(*terms, [this](const std::string& budget) { return ask_holders(budget); });
  }
  if (const auto* operations = std::get_if<shard::Operations>(&message.body)) {
    if (!is_of(operations->holder, node)) return {};
    if (message.epoch == epoch_) return on(node, *operations);
    ++counters_.stale;
    const bool behind = message.epoch < epoch_;
    if (auto answer = not_owner(message, behind ? options_.node : std::string(), behind ? epoch_ : 0))
      effects_.emplace_back(SendToNode{node, std::move(*answer)});
  } else if (const auto* demand = std::get_if<shard::Demand>(&message.body)) {
    if (!is_of(demand->holder, node)) return {};
    if (message.epoch == epoch_) on(node, *demand);
    else ++counters_.stale;
  }
  return {};
}

Result<void> ShardOwner::on(const std::string& node, const shard::Operations& message) {
  HolderSession* const session = session_of(message.holder);
  if (session == nullptr) return {};
  switch (session->hear(node, message)) {
    case HolderSession::Hears::stale:
      ++counters_.stale;
      send(node, shard::NotOwner{message.holder, message.stream, session->stream(), {}, 0});
      return {};
    case HolderSession::Hears::new_stream:
      drop_waiting(message.holder);
      break;
    case HolderSession::Hears::yes:
      break;
  }
  silent_.erase(message.holder);
  due_.insert(message.holder);
  urgent_ = urgent_ || message.urgent;
  for (std::size_t i = session->first_new(message); i < message.operations.size(); ++i) {
    ++counters_.operations;
    if (Result<void> taken = take(message.holder, *session, message.operations[i]); !taken) return taken;
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  return {};
}

Result<void> ShardOwner::take(const Incarnation& holder, HolderSession& session, const shard::Operation& operation) {
  if (const auto* back = std::get_if<shard::SliceReturn>(&operation)) {
    session.took();
    return take(holder, *back);
  }
  const auto* const entry = std::get_if<shard::EntryOperation>(&operation);
  if (entry == nullptr) {
    session.took();
    return {};
  }
  const Result<proto::LedgerEntry> decoded = proto::decode_ledger_entry(entry->frame);
  const auto* const reservation = decoded ? std::get_if<Reservation>(&decoded->body) : nullptr;
  const bool right = decoded && is_allowed(decoded->body, options_.shard, options_.shards) &&
                     (reservation == nullptr || reservation->holder == holder);
  if (right) return take(holder, session, decoded->body);
  ++counters_.refused;
  session.refuse(session.next(), LedgerError::invalid,
                 decoded ? "the shard takes no such entry from this holder" : decoded.error().message, std::nullopt);
  session.took();
  return {};
}

Result<void> ShardOwner::take(const Incarnation& holder, HolderSession& session, const proto::EntryBody& body) {
  const std::uint64_t sequence = session.next();
  session.took();
  const RequestId request = storage::request_id_of(body);
  if (Result<void> decided = decide_waiting_of(request); !decided) return decided;
  const Result<Applied> applied = writer_.add(body);
  if (!applied) return fail(applied.error());
  if (applied->outcome != Outcome::refused) return {};
  std::optional<BudgetShortfall> shortfall;
  if (applied->error == LedgerError::budget_exhausted) shortfall = writer_.state().shortfall();
  if (shortfall && may_wait(session, body, *applied)) {
    ++counters_.waited;
    session.wait(sequence);
    const std::int64_t now_ns = clock_.monotonic_ns();
    const std::int64_t deadline_ns = now_ns + wait_ns(shortfall->budget_id);
    waiting_.emplace(next_waiting_, Waiting{holder, sequence, request, body, std::move(*shortfall), now_ns, deadline_ns});
    waiting_requests_.emplace(request, next_waiting_++);
    return {};
  }
  ++counters_.refused;
  session.refuse(sequence, applied->error, text_of(applied->error), std::move(shortfall));
  return {};
}

Result<void> ShardOwner::take(const Incarnation& holder, const shard::SliceReturn& back) {
  if (const auto round = rounds_.find(back.budget); round != rounds_.end() && back.recall >= round->second.number) {
    round->second.unanswered.erase(holder);
    urgent_ = true;
  }
  const BudgetAccount* const budget = writer_.state().budgets().find(back.budget);
  const SliceAccount* const slice = budget == nullptr ? nullptr : BudgetState::slice_of(*budget, holder);
  if (slice == nullptr || slice->opened != back.opened) return {};  // of a slice that has ended
  // All of it is there (cluster/slice_keeper.hpp); a holder that says otherwise gets no more than what is.
  const PicoUsd amount = std::min(back.total - slice->returned, slice->left);
  if (amount.value <= 0) return {};
  const Result<Applied> applied = writer_.add(proto::SliceReturned{back.budget, amount, holder});
  if (!applied) return fail(applied.error());
  return {};
}

void ShardOwner::on(const std::string& node, const shard::Demand& demand) {
  HolderSession* const session = session_of(demand.holder);
  if (session == nullptr) return;
  session->heard_at(node);
  silent_.erase(demand.holder);
  for (const shard::BudgetDemand& wanted : demand.budgets) {
    const BudgetAccount* const budget = writer_.state().budgets().find(wanted.budget);
    if (budget == nullptr || budget->status.budget.soft) continue;
    const SliceAccount* const slice = BudgetState::slice_of(*budget, demand.holder);
    if (slice != nullptr && (slice->opened != wanted.opened || slice->granted > wanted.seen))
      to_tell_.emplace(wanted.budget, demand.holder);
    desk_.report(*budget, demand.holder, wanted);
  }
}

Result<void> ShardOwner::end_holder(const Incarnation& holder, bool spent, const std::string& why) {
  drop_waiting(holder);
  sessions_.erase(holder);
  due_.erase(holder);
  silent_.erase(holder);
  desk_.forget(holder);
  for (auto& [budget, round] : rounds_) {
    round.unanswered.erase(holder);
    round.to_ask.erase(holder);
  }
  urgent_ = true;
  const Result<Applied> applied = writer_.end_holder(holder, spent, why);
  if (!applied) return fail(applied.error());
  return {};
}

Result<Applied> ShardOwner::add(const proto::EntryBody& body) { return writer_.add(body); }

// ---- what becomes of it

bool ShardOwner::is_dirty() const {
  return writer_.pending_entries() > 0 || !due_.empty() || !to_tell_.empty() || !ended_.empty() || desk_.has_reported() ||
         allotments_.is_dirty() || parts_.is_dirty() ||
         clock_.monotonic_ns() >= next_wake_ns();
}

Result<void> ShardOwner::commit_if_large() {
  if (writer_.pending_bytes() < options_.commit_bytes_max) return {};
  return writer_.commit();
}

Result<void> ShardOwner::commit() {
  end_rounds();
  allotments_.end_rounds();
  if (Result<void> decided = decide_waiting(); !decided) return decided;
  if (Result<void> allotted = deal_allotments(); !allotted) return allotted;
  if (Result<void> dealt = deal(); !dealt) return dealt;
  recall_surplus();
  if (Result<void> committed = writer_.commit(); !committed) return committed;
  urgent_ = false;
  tell_acknowledgements();
  tell_grants();
  tell_recalls();
  tell_allotments();
  for (SendToNode& answer : ended_) effects_.emplace_back(std::move(answer));
  ended_.clear();
  return {};
}

Result<void> ShardOwner::deal() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (const SliceDesk::Key& key : desk_.take_reported()) {
    const auto& [id, holder] = key;
    BudgetAccount* const budget = writer_.state().budgets().find(id);
    // What is asked back for somebody who waits is not dealt out again.
    if (budget == nullptr || rounds_.contains(id)) continue;
    const PicoUsd amount = desk_.grant_for(*budget, holder, now_ns);
    if (amount.value <= 0) continue;
    const Result<Applied> granted = writer_.add(proto::SliceGranted{id, amount, holder});
    if (!granted) return fail(granted.error());
    if (granted->outcome != Outcome::applied) continue;  // the holder has ended
    ++counters_.grants;
    to_tell_.insert(key);
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  return {};
}

void ShardOwner::recall_surplus() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (const BudgetAccount* budget : writer_.state().budgets().touched()) {
    for (const auto& [holder, slice] : budget->slices) {
      if (!SliceDesk::surplus_keep(*budget, slice.left)) continue;
      const SliceDesk::Key key{budget->status.budget.id, holder};
      if (surplus_asked_ns_.size() >= surplus_asked_max) surplus_asked_ns_.clear();
      const auto [asked, first] = surplus_asked_ns_.try_emplace(key, now_ns);
      if (!first && now_ns - asked->second < surplus_again_ns) continue;
      asked->second = now_ns;
      surplus_.insert(key);
    }
  }
}

// ---- what goes out, once everything is durable

void ShardOwner::tell_acknowledgements() {
  for (const Incarnation& holder : std::exchange(due_, {})) {
    const auto at = sessions_.find(holder);
    if (at == sessions_.end()) continue;
    at->second.committed();
    if (auto acknowledgement = at->second.take_acknowledgement(holder)) send(at->second.node(), std::move(*acknowledgement));
  }
}

void ShardOwner::tell_grants() {
  std::map<Incarnation, std::vector<shard::Grant>> by_holder;
  for (const auto& [id, holder] : std::exchange(to_tell_, {})) {
    const BudgetAccount* const budget = writer_.state().budgets().find(id);
    const SliceAccount* const slice = budget == nullptr ? nullptr : BudgetState::slice_of(*budget, holder);
    if (slice != nullptr) by_holder[holder].push_back({id, slice->opened, slice->granted});
  }
  for (auto& [holder, grants] : by_holder) {
    const auto session = sessions_.find(holder);
    if (session == sessions_.end()) continue;
    for (std::size_t at = 0; at < grants.size(); at += shard::budgets_max) {
      const auto from = grants.begin() + static_cast<std::ptrdiff_t>(at);
      const auto to = grants.begin() + static_cast<std::ptrdiff_t>(std::min(at + shard::budgets_max, grants.size()));
      send(session->second.node(), shard::Grants{holder, {from, to}});
    }
  }
}

void ShardOwner::tell_recalls() {
  const auto recall = [this](const SliceDesk::Key& key, std::uint64_t number, bool all) {
    const auto session = sessions_.find(key.second);
    if (session == sessions_.end()) return false;
    const BudgetAccount* const budget = writer_.state().budgets().find(key.first);
    const SliceAccount* const slice = budget == nullptr ? nullptr : BudgetState::slice_of(*budget, key.second);
    if (slice == nullptr) return true;
    const PicoUsd keep = all ? PicoUsd{} : SliceDesk::surplus_keep(*budget, slice->left).value_or(slice->left);
    send(session->second.node(),
         shard::Recall{key.second, number, {{{key.first, slice->opened, slice->granted}, keep}}});
    ++counters_.recalls;
    return true;
  };
  for (auto& [id, round] : rounds_) {
    for (auto at = round.to_ask.begin(); at != round.to_ask.end();) {
      // One that nobody has heard of yet is asked when it says something.
      at = recall({id, *at}, round.number, true) ? round.to_ask.erase(at) : std::next(at);
    }
  }
  for (const SliceDesk::Key& key : std::exchange(surplus_, {})) recall(key, next_recall_++, false);
}

std::optional<shard::Message> not_owner(const shard::Message& message, std::string owner_node, std::uint64_t owner_epoch) {
  const auto* const operations = std::get_if<shard::Operations>(&message.body);
  if (operations == nullptr) return std::nullopt;
  return shard::Message{message.shard, message.epoch,
                        shard::NotOwner{operations->holder, operations->stream, 0, std::move(owner_node), owner_epoch}};
}

}  // namespace outlast::cluster
