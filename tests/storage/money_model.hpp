// A naive model of budgets, slices and their holders, commitments, allotments and idempotency keys: maps, loops
// and plain rules, slow and obvious, to compare the state machine with.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/calendar.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::storage {

class MoneyModel {
 public:
  struct ModelSlice {
    __int128 left = 0;
    __int128 granted = 0;
    __int128 returned = 0;
    int birth = 0;  // which slice of that holder
  };
  struct ModelAllotment {
    __int128 granted = 0;
    __int128 returned = 0;
    std::uint64_t opened = 0;
  };
  using ModelAllotments = std::map<std::uint16_t, ModelAllotment>;
  // What may be spent of an amount here.
  static __int128 part_of(__int128 amount, bool away, const ModelAllotments& allotments) {
    __int128 part = away ? 0 : amount;
    for (const auto& [shard, one] : allotments) {
      part += away ? one.granted : -one.granted;
      part -= away ? one.returned : -one.returned;
    }
    return part;
  }
  struct ModelBudget {
    Budget budget;
    __int128 used = 0;
    __int128 held = 0;
    Period period;
    std::map<Incarnation, ModelSlice> slices;  // by holder; nil: the writer's, never told apart
    bool away = false;
    ModelAllotments allotments;
    [[nodiscard]] __int128 sliced() const {
      __int128 sum = 0;
      for (const auto& [holder, slice] : slices) sum += slice.left;
      return sum;
    }
    [[nodiscard]] __int128 total() const { return used + held + sliced(); }
    [[nodiscard]] __int128 part() const { return part_of(budget.amount.value, away, allotments); }
  };
  struct ModelCommitment {
    Commitment commitment;
    __int128 used = 0;
    __int128 held = 0;
    __int128 amortised = 0;
    __int128 list_cost = 0;
    bool ended = false;
    bool away = false;
    ModelAllotments allotments;
    [[nodiscard]] __int128 free() const {
      return part_of(commitment.units, away, allotments) - used - held;
    }
    [[nodiscard]] bool active(std::int64_t now) const {
      return !ended && commitment.from_ms <= now &&
             (now < commitment.until_ms || commitment.rollover);
    }
  };
  struct Hold {
    std::string budget;
    int birth = 0;  // which budget of that id
    int slice = 0;  // which slice of the request's holder
    __int128 from_slice = 0;
    __int128 charged = 0;
  };
  struct Request {
    Reservation reservation;
    __int128 amount = 0;
    std::uint64_t output_tokens_max = 0;
    std::map<std::uint16_t, AttemptLine> attempts;
    std::map<std::uint16_t, ReservationExtension> extensions;
    std::optional<std::variant<Settlement, VoidReservation>> end;
    std::vector<Hold> holds;
    std::map<std::string, __int128> commitments;  // held units, also of zero
    std::uint64_t order = 0;
  };

  // What the writer does before the first entry at a time.
  void roll(std::int64_t now) {
    for (auto& [id, one] : budgets) {
      if (one.period.end_ms == 0 || now < one.period.end_ms) continue;
      one.period = *period_at(one.budget.period, one.budget.time_zone, now);
      one.used = 0;
      ++rolls;
    }
  }
  void fence() {
    for (auto& [id, one] : budgets) one.slices.erase(Incarnation{});
  }

  Applied apply(const Reservation& op, std::int64_t now) {
    if (const auto at = requests.find(op.request_id); at != requests.end())
      return at->second.reservation == op ? again() : no(LedgerError::duplicate);
    if (op.idempotency) {
      const auto used = keys.find(op.idempotency->key);
      if (used != keys.end() && used->second.unix_ms() >= now - dedup_age_ms_max) {
        const Request& other = requests.at(used->second);
        if (other.reservation.idempotency->parameters != op.idempotency->parameters)
          return no(LedgerError::mismatch);
        return no(other.end ? LedgerError::duplicate : LedgerError::in_progress);
      }
    }
    if (ended.contains(op.holder)) return no(LedgerError::unknown_holder);
    for (auto& [id, one] : budgets) {
      if (matches(one.budget.scope, op) && is_short(one, op.holder, op.amount.value, op.from_slices))
        return no(LedgerError::budget_exhausted);
    }
    Request request{op, op.amount.value, op.output_tokens_max, {}, {}, {}, {}, {}, ++order};
    for (auto& [id, one] : budgets) {
      if (!matches(one.budget.scope, op)) continue;
      request.holds.push_back({id, births.at(id), 0, 0, 0});
      hold(one, request.holds.back(), op.holder, op.amount.value, op.from_slices);
    }
    if (!op.candidates.empty()) {
      for (ModelCommitment* one : covering(op.candidates[0].provider, op.candidates[0].model)) {
        if (one->active(now)) request.commitments[one->commitment.id] = 0;
      }
    }
    hold_units(request, op.amount.value,
               static_cast<__int128>(op.input_tokens_max) + op.output_tokens_max, now);
    if (op.idempotency) keys[op.idempotency->key] = op.request_id;
    requests.emplace(op.request_id, std::move(request));
    return yes();
  }

  Applied apply(const ReservationExtension& op, std::int64_t now) {
    const auto at = requests.find(op.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    Request& request = at->second;
    const Incarnation& holder = request.reservation.holder;
    if (request.end) return no(LedgerError::already_ended);
    if (const auto same = request.extensions.find(op.number); same != request.extensions.end())
      return same->second == op ? again() : no(LedgerError::duplicate);
    for (const Hold& one : request.holds) {
      ModelBudget* const budget = budget_of(one);
      if (budget != nullptr && is_short(*budget, holder, op.amount.value, op.from_slices))
        return no(LedgerError::budget_exhausted);
    }
    for (Hold& one : request.holds) {
      ModelBudget* const budget = budget_of(one);
      if (budget != nullptr) hold(*budget, one, holder, op.amount.value, op.from_slices);
    }
    hold_units(request, op.amount.value, op.output_tokens, now);
    request.amount += op.amount.value;
    request.output_tokens_max += op.output_tokens;
    request.extensions[op.number] = op;
    return yes();
  }

  Applied apply(const AttemptLine& op, std::int64_t now) {
    const auto at = requests.find(op.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    Request& request = at->second;
    const LedgerError otherwise = request.end ? LedgerError::already_ended : LedgerError::duplicate;
    if (const auto same = request.attempts.find(op.number); same != request.attempts.end())
      return same->second == op ? again() : no(otherwise);
    if (request.end) return no(otherwise);
    request.attempts[op.number] = op;
    charge(request, op, now);
    return yes();
  }
  Applied apply(const Settlement& op, std::int64_t now) {
    const auto at = requests.find(op.attempt.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    if (at->second.end) return ended_before(at->second, op);
    charge(at->second, op.attempt, now);
    return end(at->second, op, op.attempt.cost.value);
  }
  Applied apply(const VoidReservation& op, std::int64_t) {
    const auto at = requests.find(op.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    if (at->second.end) return ended_before(at->second, op);
    return end(at->second, op, 0);
  }

  Applied apply(const proto::BudgetSet& op, std::int64_t now) {
    const auto at = budgets.find(op.budget.id);
    const Period period = *period_at(op.budget.period, op.budget.time_zone, now);
    if (at == budgets.end()) {
      budgets[op.budget.id] = {op.budget, 0, 0, period, {}, op.away, {}};
      ++births[op.budget.id];
      return yes();
    }
    ModelBudget& one = at->second;
    if (one.away != op.away) return no(LedgerError::invalid);
    if (one.budget == op.budget) return again();
    if (one.budget.scope != op.budget.scope) return no(LedgerError::invalid);
    one.budget = op.budget;
    one.period = period;
    if (op.budget.soft) one.slices.clear();
    return yes();
  }
  Applied apply(const proto::BudgetRemoved& op, std::int64_t) {
    return budgets.erase(op.id) > 0 ? yes() : no(LedgerError::unknown_budget);
  }
  Applied apply(const proto::SliceGranted& op, std::int64_t) {
    if (ended.contains(op.holder)) return no(LedgerError::unknown_holder);
    const auto at = budgets.find(op.budget);
    if (at == budgets.end()) return no(LedgerError::unknown_budget);
    ModelBudget& one = at->second;
    if (one.budget.soft || op.amount.value <= 0 ||
        one.total() + op.amount.value > one.part()) {
      return no(LedgerError::invalid);
    }
    ModelSlice& slice = one.slices[op.holder];
    if (slice.birth == 0) slice.birth = ++slice_births;
    slice.left += op.amount.value;
    slice.granted += op.amount.value;
    return yes();
  }
  Applied apply(const proto::SliceReturned& op, std::int64_t) {
    if (ended.contains(op.holder)) return no(LedgerError::unknown_holder);
    const auto at = budgets.find(op.budget);
    if (at == budgets.end()) return no(LedgerError::unknown_budget);
    const auto slice = at->second.slices.find(op.holder);
    if (op.amount.value <= 0 || slice == at->second.slices.end() ||
        op.amount.value > slice->second.left) {
      return no(LedgerError::invalid);
    }
    slice->second.left -= op.amount.value;
    slice->second.returned += op.amount.value;
    return yes();
  }
  Applied apply(const proto::OwnerStarted&, std::int64_t) { return yes(); }
  Applied apply(const proto::HolderEnded& op, std::int64_t) {
    for (const auto& [id, request] : requests) {
      if (!request.end && request.reservation.holder == op.holder)
        return no(LedgerError::in_progress);
    }
    if (!sliced_holders().contains(op.holder)) return again();
    for (auto& [id, one] : budgets) {
      const auto slice = one.slices.find(op.holder);
      if (slice == one.slices.end()) continue;
      if (op.spent) one.used += slice->second.left;
      one.slices.erase(slice);
    }
    ended.insert(op.holder);
    return yes();
  }
  // What the writer does to end a holder.
  Applied end_holder(const Incarnation& holder, bool spent, std::int64_t now) {
    settle_in_doubt(&holder, now);
    return apply(proto::HolderEnded{holder, spent, ""}, now);
  }
  Applied apply(const proto::CommitmentAdded& op, std::int64_t) {
    const Commitment& added = op.commitment;
    if (const auto at = commitments.find(added.id); at != commitments.end()) {
      const bool same = at->second.commitment == added && at->second.away == op.away;
      return same ? again() : no(LedgerError::duplicate);
    }
    for (const auto& [id, one] : commitments) {
      bool shared = added.models.empty() || one.commitment.models.empty();
      for (const std::string& model : added.models) shared = shared || one.commitment.covers(model);
      if (!one.ended && shared && one.commitment.provider == added.provider &&
          one.commitment.until_ms == added.until_ms) {
        return no(LedgerError::overlap);
      }
    }
    commitments[added.id] = {added, 0, 0, 0, 0, false, op.away, {}};
    return yes();
  }
  Applied apply(const proto::CommitmentEnded& op, std::int64_t) {
    const auto at = commitments.find(op.id);
    if (at == commitments.end()) return no(LedgerError::unknown_commitment);
    if (at->second.ended) return again();
    at->second.ended = true;
    return yes();
  }

  // What a home opens has the number of the entry, which only the ledger knows: see opened_at().
  Applied apply(const proto::AllotmentGranted& op, std::int64_t) {
    const Subject subject = subject_of(op.subject, op.commitment);
    if (subject.allotments == nullptr) return unknown(op.commitment);
    ModelAllotments& all = *subject.allotments;
    const auto at = all.find(op.shard);
    const bool known = at != all.end();
    if (op.amount < 0) return no(LedgerError::invalid);
    if (!subject.away) {
      const bool opens = !known && op.opened == 0;
      const bool adds = known && op.opened == at->second.opened && op.amount > 0;
      const bool has = op.amount == 0 || op.amount <= subject.free;
      if (subject.soft || !has || !(opens || adds)) return no(LedgerError::invalid);
      all[op.shard].granted += op.amount;
      return yes();
    }
    if (op.opened == 0 || (!known && !all.empty())) return no(LedgerError::invalid);
    if (known && op.opened == at->second.opened) {
      if (op.amount == 0) return no(LedgerError::invalid);
      at->second.granted += op.amount;
      return yes();
    }
    if (known && (op.commitment || op.opened < at->second.opened)) return no(LedgerError::invalid);
    all[op.shard] = {op.amount, 0, op.opened};
    return yes();
  }
  Applied apply(const proto::AllotmentReturned& op, std::int64_t) {
    const Subject subject = subject_of(op.subject, op.commitment);
    if (subject.allotments == nullptr) return unknown(op.commitment);
    const auto at = subject.allotments->find(op.shard);
    if (at == subject.allotments->end() || at->second.opened != op.opened || op.amount <= 0)
      return no(LedgerError::invalid);
    const __int128 out = at->second.granted - at->second.returned;
    if (op.amount > (subject.away ? std::min(out, subject.free) : out)) return no(LedgerError::invalid);
    at->second.returned += op.amount;
    return yes();
  }
  void opened_at(const proto::AllotmentGranted& op, std::uint64_t index) {
    if (op.opened == 0) subject_of(op.subject, op.commitment).allotments->at(op.shard).opened = index;
  }
  // Zero where there is none.
  [[nodiscard]] std::uint64_t opened_of(const std::string& id, bool commitment, std::uint16_t shard) {
    const Subject subject = subject_of(id, commitment);
    if (subject.allotments == nullptr || !subject.allotments->contains(shard)) return 0;
    return subject.allotments->at(shard).opened;
  }

  // What a restart does: the slices end, then what is open is settled in doubt.
  void restart(std::int64_t now) {
    fence();
    roll(now);
    settle_in_doubt(nullptr, now);
  }
  // Of one holder, or of all.
  void settle_in_doubt(const Incarnation* holder, std::int64_t now) {
    std::map<std::uint64_t, Request*> open;
    for (auto& [id, request] : requests) {
      const bool asked = holder == nullptr || request.reservation.holder == *holder;
      if (asked && !request.end) open[request.order] = &request;
    }
    for (auto& [order_of, request] : open) {
      AttemptLine line;
      line.request_id = request->reservation.request_id;
      line.number = static_cast<std::uint16_t>(
          request->attempts.empty() ? 1 : request->attempts.rbegin()->first + 1);
      line.status = AttemptStatus::in_doubt;
      line.usage.source = UsageSource::estimated;
      line.usage.input_uncached = request->reservation.input_tokens_max;
      line.usage.output_text = request->output_tokens_max;
      line.price_known = request->reservation.price_known;
      __int128 left = request->amount;
      for (const auto& [number, attempt] : request->attempts) left -= attempt.cost.value;
      line.cost = {std::max<__int128>(left, 0)};
      apply(Settlement{line}, now);
    }
  }

  // Those who have slices, and those with slices or open requests; never the nil one.
  [[nodiscard]] std::set<Incarnation> sliced_holders() const {
    std::set<Incarnation> found;
    for (const auto& [id, one] : budgets) {
      for (const auto& [holder, slice] : one.slices) found.insert(holder);
    }
    found.erase(Incarnation{});
    return found;
  }
  [[nodiscard]] std::set<Incarnation> holders() const {
    std::set<Incarnation> found = sliced_holders();
    for (const auto& [id, request] : requests) {
      if (!request.end) found.insert(request.reservation.holder);
    }
    found.erase(Incarnation{});
    return found;
  }

  std::map<RequestId, Request> requests;
  std::set<Incarnation> ended;
  std::map<std::string, ModelBudget> budgets;
  std::map<std::string, int> births;
  std::map<std::string, ModelCommitment> commitments;
  std::map<Digest, RequestId> keys;
  std::map<std::string, __int128> payable;
  __int128 tenants_used = 0;
  std::uint64_t order = 0;
  int slice_births = 0;
  int rolls = 0;

 private:
  static Applied yes(PicoUsd overrun = {}) { return {Outcome::applied, {}, overrun}; }
  static Applied again() { return {Outcome::duplicate, {}, {}}; }
  static Applied no(LedgerError error) { return {Outcome::refused, error, {}}; }

  static Applied unknown(bool commitment) {
    return no(commitment ? LedgerError::unknown_commitment : LedgerError::unknown_budget);
  }

  // A budget or a commitment, as allotments see it.
  struct Subject {
    ModelAllotments* allotments = nullptr;  // null: there is none
    bool away = false;
    bool soft = false;
    __int128 free = 0;
  };
  Subject subject_of(const std::string& id, bool commitment) {
    if (commitment) {
      const auto at = commitments.find(id);
      if (at == commitments.end()) return {};
      return {&at->second.allotments, at->second.away, false, at->second.free()};
    }
    const auto at = budgets.find(id);
    if (at == budgets.end()) return {};
    ModelBudget& one = at->second;
    return {&one.allotments, one.away, one.budget.soft, one.part() - one.total()};
  }

  static bool matches(const Scope& scope, const Reservation& op) {
    const TenantPath& tenant = op.tenant;
    switch (scope.kind) {
      case ScopeKind::organisation: return scope.value == tenant.organisation;
      case ScopeKind::team: return scope.value == tenant.organisation + "/" + tenant.team;
      case ScopeKind::user: return scope.value == tenant.to_string();
      case ScopeKind::key: return scope.value == op.key_id;
      case ScopeKind::tag:
        return std::find(op.tags.begin(), op.tags.end(), scope.value) != op.tags.end();
      default:
        return std::any_of(op.candidates.begin(), op.candidates.end(),
                           [&scope](const Purchase& candidate) {
                             return scope.value == (scope.kind == ScopeKind::model
                                                        ? candidate.model
                                                        : candidate.provider);
                           });
    }
  }
  // The slice that pays for all of it; null when none does.
  static ModelSlice* paying(ModelBudget& one, const Incarnation& holder, __int128 amount,
                            bool from_slices) {
    const auto slice = one.slices.find(holder);
    const bool pays = from_slices && !one.budget.soft && slice != one.slices.end() &&
                      slice->second.left >= amount;
    return pays ? &slice->second : nullptr;
  }
  static bool is_short(ModelBudget& one, const Incarnation& holder, __int128 amount,
                       bool from_slices) {
    if (one.budget.soft || amount == 0) return false;
    if (paying(one, holder, amount, from_slices) != nullptr) return false;
    return one.total() + amount > one.part();
  }
  static void hold(ModelBudget& one, Hold& hold, const Incarnation& holder, __int128 amount,
                   bool from_slices) {
    const auto slice = one.slices.find(holder);
    const int birth = slice == one.slices.end() ? 0 : slice->second.birth;
    if (hold.slice != birth) hold.from_slice = 0;
    hold.slice = birth;
    one.held += amount;
    ModelSlice* const pays = paying(one, holder, amount, from_slices);
    if (pays == nullptr) return;
    pays->left -= amount;
    hold.from_slice += amount;
  }
  ModelBudget* budget_of(const Hold& hold) {
    const auto at = budgets.find(hold.budget);
    return at == budgets.end() || births[hold.budget] != hold.birth ? nullptr : &at->second;
  }

  std::vector<ModelCommitment*> covering(const std::string& provider, const std::string& model) {
    std::vector<ModelCommitment*> found;
    for (auto& [id, one] : commitments) {
      if (one.commitment.provider == provider && one.commitment.covers(model))
        found.push_back(&one);
    }
    std::stable_sort(found.begin(), found.end(), [](const auto* a, const auto* b) {
      return a->commitment.until_ms < b->commitment.until_ms;
    });
    return found;
  }
  static __int128 half_even(__int128 a, __int128 b) {
    const __int128 quotient = a / b;
    const __int128 twice = 2 * (a % b);
    return quotient + (twice > b || (twice == b && quotient % 2 != 0) ? 1 : 0);
  }
  // Takes units off a need of money and tokens; returns the money that goes with them.
  static __int128 cover(const Commitment& by, __int128 units, __int128& money, __int128& tokens) {
    const __int128 before = money;
    if (by.unit == CommitmentUnit::tokens) {
      money = half_even(money * (tokens - units), tokens);
      tokens -= units;
    } else {
      tokens = tokens * (money - units) / money;
      money -= units;
    }
    return before - money;
  }
  void hold_units(Request& request, __int128 money, __int128 tokens, std::int64_t now) {
    if (request.reservation.candidates.empty()) return;
    const Purchase& first = request.reservation.candidates[0];
    for (ModelCommitment* one : covering(first.provider, first.model)) {
      const Commitment& commitment = one->commitment;
      const auto held = request.commitments.find(commitment.id);
      if (held == request.commitments.end() || !one->active(now)) continue;
      const __int128 units =
          std::min(one->free(),
                   commitment.unit == CommitmentUnit::tokens ? tokens : money);
      if (units == 0) continue;
      cover(commitment, units, money, tokens);
      held->second += units;
      one->held += units;
    }
  }
  void charge(Request& request, const AttemptLine& line, std::int64_t now) {
    __int128 money = line.cost.value;
    __int128 tokens = line.usage.input_total() + line.usage.output_total();
    for (ModelCommitment* one : covering(line.provider, line.model)) {
      const Commitment& commitment = one->commitment;
      const auto at = request.commitments.find(commitment.id);
      const __int128 held = at == request.commitments.end() ? 0 : at->second;
      const __int128 free = one->active(now) ? one->free() : 0;
      const __int128 units =
          std::min(held + free, commitment.unit == CommitmentUnit::tokens ? tokens : money);
      if (units == 0) continue;
      if (held > 0) {
        const __int128 from_hold = std::min(units, held);
        at->second -= from_hold;
        one->held -= from_hold;
      }
      one->used += units;
      one->list_cost += cover(commitment, units, money, tokens);
      one->amortised = commitment.price.value * one->used / commitment.units;
    }
    payable[line.provider] += money;
    tenants_used += line.cost.value;
    for (Hold& hold : request.holds) {
      ModelBudget* const budget = budget_of(hold);
      if (budget == nullptr) continue;
      const Scope& scope = budget->budget.scope;
      if (scope.kind == ScopeKind::model && scope.value != line.model) continue;
      if (scope.kind == ScopeKind::provider && scope.value != line.provider) continue;
      const __int128 covered = std::min<__int128>(line.cost.value, request.amount - hold.charged);
      hold.charged += covered;
      budget->held -= covered;
      budget->used += budget->budget.soft ? line.cost.value : covered;
    }
  }
  template <class T>
  Applied ended_before(const Request& request, const T& op) {
    return *request.end == std::variant<Settlement, VoidReservation>(op)
               ? again()
               : no(LedgerError::already_ended);
  }
  template <class T>
  Applied end(Request& request, const T& op, __int128 last_cost) {
    request.end = op;
    for (const Hold& hold : request.holds) {
      ModelBudget* const budget = budget_of(hold);
      if (budget == nullptr) continue;
      budget->held -= request.amount - hold.charged;
      const auto slice = budget->slices.find(request.reservation.holder);
      if (slice != budget->slices.end() && slice->second.birth == hold.slice)
        slice->second.left += std::max<__int128>(hold.from_slice - hold.charged, 0);
    }
    for (const auto& [id, units] : request.commitments) commitments[id].held -= units;
    request.commitments.clear();
    __int128 total = last_cost;
    for (const auto& [number, attempt] : request.attempts) total += attempt.cost.value;
    const __int128 over = total - request.amount;
    return request.reservation.price_known && over > 0 ? yes({over}) : yes();
  }
};

}  // namespace outlast::storage
