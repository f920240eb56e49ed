#include "storage/ledger_state.hpp"

#include <algorithm>
#include <initializer_list>

#include "core/check.hpp"

namespace outlast::storage {
namespace {

bool short_enough(std::initializer_list<std::string_view> texts) {
  return std::all_of(texts.begin(), texts.end(),
                     [](std::string_view text) { return text.size() <= text_bytes_max; });
}

bool in_range(PicoUsd amount) { return amount.value >= 0 && amount <= amount_max; }

// A slash within a part would make two tenants share a balance.
bool valid(const TenantPath& tenant) {
  const auto part = [](std::string_view text) {
    return text.size() <= text_bytes_max && text.find('/') == text.npos;
  };
  return part(tenant.organisation) && part(tenant.team) && part(tenant.user);
}

bool valid(const Reservation& operation) {
  return in_range(operation.amount) && valid(operation.tenant) &&
         short_enough({operation.key_id, operation.route}) &&
         operation.session.size() <= session_bytes_max && operation.tags.size() <= tags_max &&
         operation.candidates.size() <= candidates_max &&
         std::all_of(operation.tags.begin(), operation.tags.end(),
                     [](const std::string& tag) { return tag.size() <= tag_bytes_max; }) &&
         std::all_of(operation.candidates.begin(), operation.candidates.end(),
                     [](const Purchase& candidate) {
                       return short_enough({candidate.provider, candidate.model});
                     });
}

bool valid(const AttemptLine& operation) {
  return in_range(operation.cost) && short_enough({operation.deployment, operation.provider,
                                                   operation.model, operation.price_version,
                                                   operation.service_tier, operation.inference_geo,
                                                   operation.contract});
}

// What an entry says of the operation that it came from.
const Reservation& operation_of(const Reservation& body) { return body; }
const AttemptLine& operation_of(const AttemptLine& body) { return body; }
const Settlement& operation_of(const proto::Settled& body) { return body.settlement; }
const VoidReservation& operation_of(const proto::Voided& body) { return body.reservation; }
const proto::PricesRecorded& operation_of(const proto::PricesRecorded& body) { return body; }

}  // namespace

LedgerState::LedgerState(const LedgerView& view, const RequestId& max_ended_id)
    : view_(view), planner_(budgets_, commitments_), cache_(view), recent_(max_ended_id) {}

Result<std::optional<DedupRow>> LedgerState::find_ended(const RequestId& id) const {
  if (recent_.surely_new(id)) return std::nullopt;
  std::string value;
  if (!changes_.find(Table::dedup, dedup_key(id), value)) {
    const Result<bool> found = view_.get(Table::dedup, dedup_key(id), value);
    if (!found) return fail(found.error());
    if (!*found) return std::nullopt;
  }
  DedupRow row;
  if (!decode(value, row))
    return fail(LedgerError::corrupt, "the dedup row of " + id.to_string() + " cannot be read");
  return row;
}

Result<std::optional<proto::EntryBody>> LedgerState::entry_at(std::uint64_t index) const {
  std::optional<proto::EntryBody> body;
  const Result<void> read = view_.read(index, [&body, index](const LogRecord& record) {
    if (record.index != index) return false;
    Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
    if (entry) body = std::move(entry->body);
    return false;
  });
  if (!read) return fail(read.error());
  return body;
}

// The operation's id was used by the entry at `index`: the first result if it says the same, else a
// refusal.
template <class Body, class T>
Result<Applied> LedgerState::repeated(std::uint64_t index, const T& operation,
                                      LedgerError otherwise) const {
  const Result<std::optional<proto::EntryBody>> body = entry_at(index);
  if (!body) return fail(body.error());
  if (!body->has_value()) {
    return fail(LedgerError::corrupt,
                "entry " + std::to_string(index) + " is missing or cannot be read");
  }
  const Body* same_kind = std::get_if<Body>(&**body);
  if (same_kind != nullptr && operation_of(*same_kind) == operation)
    return Applied{Outcome::duplicate, {}, {}};
  return refused(otherwise);
}

// settle, void or attempt without an open reservation.
template <class Body, class T>
Result<Applied> LedgerState::after_end(const RequestId& id, const T& operation) const {
  const Result<std::optional<DedupRow>> row = find_ended(id);
  if (!row) return fail(row.error());
  if (!row->has_value()) return refused(LedgerError::unknown_request);
  if constexpr (std::is_same_v<T, AttemptLine>) {
    for (const AttemptRef& attempt : (*row)->attempts) {
      if (attempt.number == operation.number) {
        return repeated<Body>(attempt.index, operation, LedgerError::already_ended);
      }
    }
    return refused(LedgerError::already_ended);
  } else {
    return repeated<Body>((*row)->end_index, operation, LedgerError::already_ended);
  }
}

Result<LedgerState::Open*> LedgerState::begin(const Reservation& reservation,
                                              const proto::EntryHeader& header,
                                              const SpendPlan* plan, bool charged) {
  Open& open = open_[reservation.request_id];
  open.reserve_index = header.index;
  open.payer = &cache_.payer_of(reservation);
  open.holder = reservation.holder;
  holders_.began(open.holder);
  open.amount = reservation.amount;
  open.input_tokens_max = reservation.input_tokens_max;
  open.output_tokens_max = reservation.output_tokens_max;
  open.price_known = reservation.price_known;
  open.labels = UsageLabels::of(reservation);
  ++open.payer->open;
  if (plan != nullptr) hold_funds(open, reservation, *plan, header.time_ms);
  if (charged) return &open;
  if (Result<void> held = cache_.hold(*open.payer, open.amount); !held)
    return fail(std::move(held.error()));
  return &open;
}

Result<void> LedgerState::take_attempt(Open& open, const proto::EntryHeader& header,
                                       const AttemptLine& attempt, bool charged) {
  open.attempts.push_back({attempt.number, header.index});
  open.attempts_cost += attempt.cost;
  if (open.row == RowState::current) open.row = RowState::stale;
  const Result<RowCache::Leg*> leg = fund(open, header, attempt, charged);
  if (!leg) return fail(leg.error());
  if (charged) return {};
  const auto rows = cache_.rollups(header.time_ms, *open.payer, *leg,
                                   static_cast<std::uint8_t>(attempt.status), open.labels.get());
  if (!rows) return fail(rows.error());
  for (UsageTotals* row : *rows) add_attempt(*row, attempt);
  return {};
}

// Releases what an ending reservation holds and returns by how much its attempts cost more.
Result<PicoUsd> LedgerState::close(Open& open, PicoUsd last_cost, bool charged) {
  release_funds(open);
  if (charged) return PicoUsd{};
  if (const Result<void> held = cache_.hold(*open.payer, {-open.amount.value}); !held)
    return fail(held.error());
  const PicoUsd total = open.attempts_cost + last_cost;
  if (!open.price_known || total <= open.amount) return PicoUsd{};
  const PicoUsd overrun = total - open.amount;
  if (const Result<void> over = cache_.overrun(*open.payer, overrun); !over)
    return fail(over.error());
  return overrun;
}

Result<PicoUsd> LedgerState::settle(OpenMap::iterator at, const proto::EntryHeader& header,
                                    const AttemptLine& attempt, bool charged) {
  RowCache::Payer& payer = *at->second.payer;
  const Result<RowCache::Leg*> leg = fund(at->second, header, attempt, charged);
  if (!leg) return fail(leg.error());
  const Result<PicoUsd> overrun = close(at->second, attempt.cost, charged);
  if (!overrun || charged) return overrun;
  const auto rows =
      cache_.rollups(header.time_ms, payer, *leg, static_cast<std::uint8_t>(attempt.status),
                     at->second.labels.get());
  if (!rows) return fail(rows.error());
  for (UsageTotals* row : *rows) {
    ++row->requests;
    if (!attempt.price_known) ++row->unpriced;
    if (attempt.estimated()) ++row->estimated;
    row->overrun += *overrun;
    add_attempt(*row, attempt);
  }
  return overrun;
}

Result<PicoUsd> LedgerState::release(OpenMap::iterator at, const proto::EntryHeader& header,
                                     bool charged) {
  const Result<PicoUsd> overrun = close(at->second, {}, charged);
  if (!overrun || charged) return overrun;
  const auto rows = cache_.rollups(header.time_ms, *at->second.payer, nullptr, status_void,
                                   at->second.labels.get());
  if (!rows) return fail(rows.error());
  for (UsageTotals* row : *rows) {
    ++row->requests;
    row->overrun += *overrun;
  }
  return overrun;
}

void LedgerState::put_dedup_row(const RequestId& id, const Open& open, std::uint64_t end_index) {
  row_.clear();
  encode(row_, DedupRow{open.reserve_index, end_index, open.attempts});
  changes_.put(Table::dedup, dedup_key(id), row_);
}

void LedgerState::forget(OpenMap::iterator at) {
  recent_.add(at->first);
  if (at->second.row != RowState::none) ended_rows_.push_back(at->first);
  --at->second.payer->open;
  holders_.done(at->second.holder);
  open_.erase(at);
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&,
                                   const proto::IncarnationStarted& operation) {
  if (!short_enough({operation.software})) return refused(LedgerError::invalid);
  budgets_.fence();
  for (auto& [id, open] : open_) {
    if (!open.budgets.empty() && open.holder.is_nil() && open.row == RowState::current)
      open.row = RowState::stale;
  }
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const Reservation& operation) {
  if (!valid(operation)) return refused(LedgerError::invalid);
  if (operation.request_id.unix_ms() < header.time_ms - dedup_age_ms_max)
    return refused(LedgerError::too_old);
  if (const auto at = open_.find(operation.request_id); at != open_.end()) {
    return repeated<Reservation>(at->second.reserve_index, operation, LedgerError::duplicate);
  }
  const Result<std::optional<DedupRow>> row = find_ended(operation.request_id);
  if (!row) return fail(row.error());
  if (row->has_value())
    return repeated<Reservation>((*row)->reserve_index, operation, LedgerError::duplicate);
  if (operation.idempotency) {
    const Result<std::optional<LedgerError>> used = key_used(header, operation);
    if (!used) return fail(used.error());
    if (*used) return refused(**used);
  }
  if (holders_.has_ended(operation.holder)) return refused(LedgerError::unknown_holder);
  const SpendPlan* const plan = plan_of(operation);
  if (plan != nullptr) {
    BudgetAccount* const budget = BudgetState::short_of(
        plan->budgets, {operation.holder, operation.amount, operation.from_slices});
    if (budget != nullptr) return exhausted(*budget, operation.amount);
  }
  if (const Result<Open*> open = begin(operation, header, plan, false); !open)
    return fail(open.error());
  if (operation.idempotency) remember_key(header, operation);
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const AttemptLine& operation) {
  if (!valid(operation)) return refused(LedgerError::invalid);
  const auto at = open_.find(operation.request_id);
  if (at == open_.end()) return after_end<AttemptLine>(operation.request_id, operation);
  Open& open = at->second;
  for (const AttemptRef& attempt : open.attempts) {
    if (attempt.number == operation.number) {
      return repeated<AttemptLine>(attempt.index, operation, LedgerError::duplicate);
    }
  }
  if (open.attempts.size() == attempts_per_request_max) return refused(LedgerError::invalid);
  if (const Result<void> taken = take_attempt(open, header, operation, false); !taken)
    return fail(taken.error());
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header, const Settlement& operation) {
  if (!valid(operation.attempt)) return refused(LedgerError::invalid);
  const RequestId& id = operation.attempt.request_id;
  const auto at = open_.find(id);
  if (at == open_.end()) return after_end<proto::Settled>(id, operation);
  const Result<PicoUsd> overrun = settle(at, header, operation.attempt, false);
  if (!overrun) return fail(overrun.error());
  put_dedup_row(id, at->second, header.index);
  forget(at);
  return Applied{Outcome::applied, {}, *overrun};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const VoidReservation& operation) {
  if (!short_enough({operation.reason})) return refused(LedgerError::invalid);
  const auto at = open_.find(operation.request_id);
  if (at == open_.end()) return after_end<proto::Voided>(operation.request_id, operation);
  const Result<PicoUsd> overrun = release(at, header, false);
  if (!overrun) return fail(overrun.error());
  put_dedup_row(operation.request_id, at->second, header.index);
  forget(at);
  return Applied{Outcome::applied, {}, *overrun};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader&, const VirtualKey& created) {
  if (created.id.empty() || created.revoked_ms || !valid(created.tenant) ||
      !short_enough({created.id, created.name})) {
    return refused(LedgerError::invalid);
  }
  if (const auto at = keys_.find(created.id); at != keys_.end()) {
    VirtualKey first = at->second;
    first.revoked_ms.reset();
    return first == created ? Applied{Outcome::duplicate, {}, {}} : refused(LedgerError::duplicate);
  }
  keys_.emplace(created.id, created);
  row_.clear();
  encode(row_, created);
  changes_.put(Table::meta, key_key(created.id), row_);
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::KeyRevoked& operation) {
  const auto at = keys_.find(operation.key_id);
  if (at == keys_.end()) return refused(LedgerError::unknown_key);
  if (at->second.revoked_ms) return Applied{Outcome::duplicate, {}, {}};
  at->second.revoked_ms = header.time_ms;
  row_.clear();
  encode(row_, at->second);
  changes_.put(Table::meta, key_key(operation.key_id), row_);
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::EntryHeader& header,
                                   const proto::PricesRecorded& operation) {
  if (!short_enough({operation.version}) || operation.toml.size() > prices_bytes_max) {
    return refused(LedgerError::invalid);
  }
  const std::string key = prices_key(operation.version);
  std::string value;
  bool found = changes_.find(Table::meta, key, value);
  if (!found) {
    const Result<bool> stored = view_.get(Table::meta, key, value);
    if (!stored) return fail(stored.error());
    found = *stored;
  }
  if (found) {
    std::uint64_t index = 0;
    if (!decode_index(value, index))
      return fail(LedgerError::corrupt, "the row of the prices' version cannot be read");
    const Result<Applied> latest =
        repeated<proto::PricesRecorded>(index, operation, LedgerError::duplicate);
    if (!latest || latest->outcome == Outcome::duplicate) return latest;
  }
  row_.clear();
  encode_index(row_, header.index);
  changes_.put(Table::meta, key, row_);
  return Applied{};
}

Result<Applied> LedgerState::apply(const proto::LedgerEntry& entry) {
  return std::visit(
      [this, &entry]<class Body>(const Body& body) -> Result<Applied> {
        if constexpr (std::is_same_v<Body, proto::Settled> || std::is_same_v<Body, proto::Voided>) {
          Result<Applied> applied = apply(entry.header, operation_of(body));
          const bool differs =
              applied && applied->outcome == Outcome::applied && applied->overrun != body.overrun;
          return differs ? refused(LedgerError::corrupt) : applied;
        } else if constexpr (std::is_same_v<Body, proto::KeyCreated>) {
          return apply(entry.header, body.key);
        } else {
          return apply(entry.header, body);
        }
      },
      entry.body);
}

TableChanges& LedgerState::collect(bool rows, bool open) {
  check(rows || !open, "open reservations are written with the balances that hold them");
  if (rows) cache_.collect(changes_);
  if (open) {
    for (const RequestId& id : ended_rows_) changes_.erase(Table::meta, open_key(id));
    ended_rows_.clear();
    budgets_.collect(changes_);
    holders_.collect(changes_);
    commitments_.collect(changes_);
    checkpoint();
  }
  return changes_;
}

void LedgerState::committed() {
  changes_.clear();
  batch_keys_.clear();
  cache_.trim();
}

}  // namespace outlast::storage
