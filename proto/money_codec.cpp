// The entries that move or limit money before it is spent: reservations, budgets, commitments.
#include <algorithm>

#include "proto/ledger_wire.hpp"

namespace outlast::proto {
namespace {

template <class Builder>
void put_amount(Builder builder, PicoUsd amount) {
  builder.setAmountHigh(high_of(amount));
  builder.setAmountLow(low_of(amount));
}

// A digest of 32 bytes, or none where the field is absent.
bool take_digest(capnp::Data::Reader from, Digest& to) {
  if (from.size() == 0) return false;
  if (from.size() != to.size()) throw Malformed{"a digest that is not 32 bytes"};
  std::copy(from.begin(), from.end(), to.begin());
  return true;
}

}  // namespace

void fill(wire::Reservation::Builder to, const Reservation& from) {
  put_id(to, from.request_id);
  put_amount(to, from.amount);
  to.setInputTokensMax(from.input_tokens_max);
  to.setOutputTokensMax(from.output_tokens_max);
  to.setPriceKnown(from.price_known);
  to.setOrganisation(text_of(from.tenant.organisation));
  to.setTeam(text_of(from.tenant.team));
  to.setUser(text_of(from.tenant.user));
  to.setKeyId(text_of(from.key_id));
  to.setRoute(text_of(from.route));
  to.setFromSlices(from.from_slices);
  // What most requests lack takes no bytes beyond its pointer.
  if (!from.session.empty()) to.setSession(text_of(from.session));
  if (!from.tags.empty()) {
    auto tags = to.initTags(static_cast<unsigned>(from.tags.size()));
    for (unsigned i = 0; i < from.tags.size(); ++i) tags.set(i, text_of(from.tags[i]));
  }
  if (!from.candidates.empty()) {
    auto candidates = to.initCandidates(static_cast<unsigned>(from.candidates.size()));
    for (unsigned i = 0; i < from.candidates.size(); ++i) {
      candidates[i].setProvider(text_of(from.candidates[i].provider));
      candidates[i].setModel(text_of(from.candidates[i].model));
    }
  }
  if (from.idempotency) {
    const IdempotencyKey& idempotency = *from.idempotency;
    to.setIdempotencyKey({idempotency.key.data(), idempotency.key.size()});
    to.setIdempotencyParameters({idempotency.parameters.data(), idempotency.parameters.size()});
  }
  const Words holder = words_of(from.holder);
  to.setHolderHigh(holder.high);
  to.setHolderLow(holder.low);
}

Reservation read(wire::Reservation::Reader from) {
  Reservation to;
  to.request_id = uuid_of(from.getIdHigh(), from.getIdLow());
  to.tenant = {string_of(from.getOrganisation()), string_of(from.getTeam()),
               string_of(from.getUser())};
  to.key_id = string_of(from.getKeyId());
  to.route = string_of(from.getRoute());
  to.amount = amount_of(from.getAmountHigh(), from.getAmountLow());
  to.price_known = from.getPriceKnown();
  to.input_tokens_max = from.getInputTokensMax();
  to.output_tokens_max = from.getOutputTokensMax();
  to.session = string_of(from.getSession());
  to.from_slices = from.getFromSlices();
  for (const auto tag : from.getTags()) to.tags.push_back(string_of(tag));
  for (const auto candidate : from.getCandidates()) {
    to.candidates.push_back({string_of(candidate.getProvider()), string_of(candidate.getModel())});
  }
  IdempotencyKey idempotency;
  const bool key = take_digest(from.getIdempotencyKey(), idempotency.key);
  if (key != take_digest(from.getIdempotencyParameters(), idempotency.parameters)) {
    throw Malformed{"an idempotency key without its parameters, or these without a key"};
  }
  if (key) to.idempotency = idempotency;
  to.holder = uuid_of(from.getHolderHigh(), from.getHolderLow());
  return to;
}

void fill(wire::Extension::Builder to, const ReservationExtension& from) {
  put_id(to, from.request_id);
  put_amount(to, from.amount);
  to.setNumber(from.number);
  to.setOutputTokens(from.output_tokens);
  to.setFromSlices(from.from_slices);
}

ReservationExtension read(wire::Extension::Reader from) {
  return {uuid_of(from.getIdHigh(), from.getIdLow()), from.getNumber(),
          amount_of(from.getAmountHigh(), from.getAmountLow()), from.getOutputTokens(),
          from.getFromSlices()};
}

void fill(wire::BudgetSet::Builder to, const BudgetSet& from) {
  const Budget& budget = from.budget;
  to.setId(text_of(budget.id));
  to.setName(text_of(budget.name));
  to.setScopeKind(static_cast<std::uint8_t>(budget.scope.kind));
  to.setScope(text_of(budget.scope.value));
  put_amount(to, budget.amount);
  to.setPeriod(static_cast<std::uint8_t>(budget.period));
  to.setSoft(budget.soft);
  to.setTimeZone(text_of(budget.time_zone));
  to.setBy(text_of(from.by));
  to.setPeriodStartMs(from.period_start_ms);
  to.setPeriodEndMs(from.period_end_ms);
  to.setAway(from.away);
}

BudgetSet read(wire::BudgetSet::Reader from) {
  BudgetSet to;
  Budget& budget = to.budget;
  budget.id = string_of(from.getId());
  budget.name = string_of(from.getName());
  if (from.getScopeKind() >= std::size(scope_kind_names))
    throw Malformed{"a kind of scope of a later version"};
  budget.scope = {static_cast<ScopeKind>(from.getScopeKind()), string_of(from.getScope())};
  budget.amount = amount_of(from.getAmountHigh(), from.getAmountLow());
  if (from.getPeriod() >= std::size(budget_period_names))
    throw Malformed{"a budget's period of a later version"};
  budget.period = static_cast<BudgetPeriod>(from.getPeriod());
  budget.soft = from.getSoft();
  budget.time_zone = string_of(from.getTimeZone());
  to.by = string_of(from.getBy());
  to.period_start_ms = from.getPeriodStartMs();
  to.period_end_ms = from.getPeriodEndMs();
  to.away = from.getAway();
  return to;
}

void fill(wire::BudgetRemoved::Builder to, const BudgetRemoved& from) {
  to.setId(text_of(from.id));
  to.setBy(text_of(from.by));
}

BudgetRemoved read(wire::BudgetRemoved::Reader from) {
  return {string_of(from.getId()), string_of(from.getBy())};
}

void fill(wire::BudgetRolled::Builder to, const BudgetRolled& from) {
  to.setId(text_of(from.id));
  to.setPeriodStartMs(from.period_start_ms);
  to.setPeriodEndMs(from.period_end_ms);
}

BudgetRolled read(wire::BudgetRolled::Reader from) {
  return {string_of(from.getId()), from.getPeriodStartMs(), from.getPeriodEndMs()};
}

namespace {

template <class Moved>
void fill_moved(wire::SliceMoved::Builder to, const Moved& from) {
  to.setBudget(text_of(from.budget));
  put_amount(to, from.amount);
  const Words holder = words_of(from.holder);
  to.setHolderHigh(holder.high);
  to.setHolderLow(holder.low);
}

}  // namespace

void fill(wire::SliceMoved::Builder to, const SliceGranted& from) { fill_moved(to, from); }

void fill(wire::SliceMoved::Builder to, const SliceReturned& from) { fill_moved(to, from); }

void fill(wire::CommitmentAdded::Builder to, const CommitmentAdded& from) {
  const Commitment& commitment = from.commitment;
  to.setId(text_of(commitment.id));
  to.setProvider(text_of(commitment.provider));
  if (!commitment.models.empty()) {
    auto models = to.initModels(static_cast<unsigned>(commitment.models.size()));
    for (unsigned i = 0; i < commitment.models.size(); ++i)
      models.set(i, text_of(commitment.models[i]));
  }
  to.setUnit(static_cast<std::uint8_t>(commitment.unit));
  to.setRollover(commitment.rollover);
  to.setUnitsHigh(high_of({commitment.units}));
  to.setUnitsLow(low_of({commitment.units}));
  to.setPriceHigh(high_of(commitment.price));
  to.setPriceLow(low_of(commitment.price));
  to.setFromMs(commitment.from_ms);
  to.setUntilMs(commitment.until_ms);
  to.setBy(text_of(from.by));
  to.setAway(from.away);
}

CommitmentAdded read(wire::CommitmentAdded::Reader from) {
  CommitmentAdded to;
  Commitment& commitment = to.commitment;
  commitment.id = string_of(from.getId());
  commitment.provider = string_of(from.getProvider());
  for (const auto model : from.getModels()) commitment.models.push_back(string_of(model));
  if (from.getUnit() > static_cast<std::uint8_t>(CommitmentUnit::money))
    throw Malformed{"a commitment's unit of a later version"};
  commitment.unit = static_cast<CommitmentUnit>(from.getUnit());
  commitment.rollover = from.getRollover();
  commitment.units = amount_of(from.getUnitsHigh(), from.getUnitsLow()).value;
  commitment.price = amount_of(from.getPriceHigh(), from.getPriceLow());
  commitment.from_ms = from.getFromMs();
  commitment.until_ms = from.getUntilMs();
  to.by = string_of(from.getBy());
  to.away = from.getAway();
  return to;
}

void fill(wire::CommitmentEnded::Builder to, const CommitmentEnded& from) {
  to.setId(text_of(from.id));
  to.setBy(text_of(from.by));
}

CommitmentEnded read(wire::CommitmentEnded::Reader from) {
  return {string_of(from.getId()), string_of(from.getBy())};
}

namespace {

template <class Moved>
void fill_moved(wire::AllotmentMoved::Builder to, const Moved& from) {
  to.setSubject(text_of(from.subject));
  to.setCommitment(from.commitment);
  to.setShard(from.shard);
  put_amount(to, {from.amount});
  to.setOpened(from.opened);
}

}  // namespace

void fill(wire::AllotmentMoved::Builder to, const AllotmentGranted& from) { fill_moved(to, from); }

void fill(wire::AllotmentMoved::Builder to, const AllotmentReturned& from) { fill_moved(to, from); }

}  // namespace outlast::proto
