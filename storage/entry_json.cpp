#include "storage/entry_json.hpp"

#include "core/json_writer.hpp"

namespace outlast::storage {
namespace {

class EntryWriter {
 public:
  explicit EntryWriter(std::string& out) : json_(out) {}
  void write(const StoredEntry& entry, std::string_view ledger_shard);

  void operator()(const proto::IncarnationStarted& body) {
    text("incarnation", body.incarnation.to_string());
    text("software", body.software);
  }
  void operator()(const Reservation& body) {
    tenant(body.tenant);
    text("key_id", body.key_id);
    text("route", body.route);
    text("amount_pico_usd", body.amount.to_string());
    json_.key("price_known").boolean(body.price_known);
    json_.key("input_tokens_max").number(body.input_tokens_max);
    json_.key("output_tokens_max").number(body.output_tokens_max);
    texts("tags", body.tags);
    text("session", body.session);
    json_.key("candidates").begin_array();
    for (const Purchase& candidate : body.candidates) {
      json_.begin_object();
      text("provider", candidate.provider);
      text("model", candidate.model);
      json_.end_object();
    }
    json_.end_array();
    json_.key("from_slices").boolean(body.from_slices);
    if (!body.holder.is_nil()) text("holder", body.holder.to_string());
    json_.key("idempotency_key");
    if (body.idempotency) json_.string(to_hex(body.idempotency->key));
    else json_.null();
  }
  void operator()(const AttemptLine& body) {
    text("deployment", body.deployment);
    text("provider", body.provider);
    text("model", body.model);
    text("status", name_of(body.status));
    json_.key("http_status").number(static_cast<std::uint64_t>(body.http_status));
    json_.key("price_known").boolean(body.price_known);
    text("price_version", body.price_version);
    text("service_tier", body.service_tier);
    text("inference_geo", body.inference_geo);
    json_.key("batch").boolean(body.batch);
    text("contract", body.contract);
    json_.key("first_event_ms").number(static_cast<std::uint64_t>(body.first_event_ms));
    json_.key("duration_ms").number(static_cast<std::uint64_t>(body.duration_ms));
    json_.key("tokens").begin_object();
    for (const UsageBucket& bucket : usage_buckets)
      json_.key(bucket.name).number(body.usage.*bucket.member);
    json_.end_object();
    json_.key("units").begin_object();
    for (const BilledUnit& unit : billed_units)
      json_.key(unit.plural).number(body.units.*unit.member);
    json_.end_object();
  }
  void operator()(const proto::Settled& body) {
    (*this)(body.settlement.attempt);
    text("overrun_pico_usd", body.overrun.to_string());
  }
  void operator()(const proto::Voided& body) {
    text("reason", body.reservation.reason);
    text("overrun_pico_usd", body.overrun.to_string());
  }
  void operator()(const proto::KeyCreated& body) {
    text("key_id", body.key.id);
    tenant(body.key.tenant);
    text("name", body.key.name);
    json_.key("created_ms").number(body.key.created_ms);
  }
  void operator()(const proto::KeyRevoked& body) { text("key_id", body.key_id); }
  void operator()(const proto::PricesRecorded& body) {
    text("price_version", body.version);
    text("toml", body.toml);
  }
  void operator()(const ReservationExtension& body) {
    json_.key("number").number(static_cast<std::uint64_t>(body.number));
    text("amount_pico_usd", body.amount.to_string());
    json_.key("output_tokens").number(body.output_tokens);
    json_.key("from_slices").boolean(body.from_slices);
  }
  void operator()(const proto::BudgetSet& body) {
    text("budget", body.budget.id);
    text("name", body.budget.name);
    text("scope", body.budget.scope.to_string());
    text("amount_pico_usd", body.budget.amount.to_string());
    text("period", name_of(body.budget.period));
    text("time_zone", body.budget.time_zone);
    json_.key("soft").boolean(body.budget.soft);
    json_.key("period_start_ms").number(body.period_start_ms);
    json_.key("period_end_ms").number(body.period_end_ms);
    if (body.away) json_.key("away").boolean(true);
    text("by", body.by);
  }
  void operator()(const proto::BudgetRemoved& body) {
    text("budget", body.id);
    text("by", body.by);
  }
  void operator()(const proto::BudgetRolled& body) {
    text("budget", body.id);
    json_.key("period_start_ms").number(body.period_start_ms);
    json_.key("period_end_ms").number(body.period_end_ms);
  }
  void operator()(const proto::SliceGranted& body) { slice(body.budget, body.amount, body.holder); }
  void operator()(const proto::SliceReturned& body) { slice(body.budget, body.amount, body.holder); }
  void operator()(const proto::CommitmentAdded& body) {
    const Commitment& commitment = body.commitment;
    text("commitment", commitment.id);
    text("provider", commitment.provider);
    texts("models", commitment.models);
    text("unit", commitment.unit == CommitmentUnit::tokens ? "tokens" : "pico_usd");
    text("units", PicoUsd{commitment.units}.to_string());
    text("price_pico_usd", commitment.price.to_string());
    json_.key("from_ms").number(commitment.from_ms);
    json_.key("until_ms").number(commitment.until_ms);
    json_.key("rollover").boolean(commitment.rollover);
    if (body.away) json_.key("away").boolean(true);
    text("by", body.by);
  }
  void operator()(const proto::CommitmentEnded& body) {
    text("commitment", body.id);
    text("by", body.by);
  }
  void operator()(const BreakerTripped& body) {
    text("breaker", body.id);
    text("rule", body.rule);
    text("scope", body.scope);
    text("session", body.session);
    text("action", name_of(body.action));
    text("why", body.why);
  }
  void operator()(const BreakerReset& body) {
    text("breaker", body.id);
    text("by", body.by);
    text("reason", body.reason);
    text("allowance_pico_usd", body.allowance.to_string());
  }
  void operator()(const BreakerRuleChange& body) {
    text("rule", body.name);
    text("definition", body.definition);
    text("by", body.by);
    text("reason", body.reason);
  }
  void operator()(const proto::OwnerStarted& body) {
    text("incarnation", body.incarnation.to_string());
    text("node", body.node);
    text("software", body.software);
  }
  void operator()(const proto::HolderEnded& body) {
    text("holder", body.holder.to_string());
    json_.key("spent").boolean(body.spent);
    text("why", body.why);
  }
  void operator()(const NodeEnrolled& body) {
    text("node", body.name);
    text("public_key", body.public_key);
    text("endpoint", body.endpoint);
    texts("roles", body.roles);
    text("token", body.token);
    if (!body.incarnation.is_nil()) text("incarnation", body.incarnation.to_string());
    text("by", body.by);
  }
  void operator()(const NodeChanged& body) {
    text("node", body.name);
    text("state", name_of(body.state));
    text("by", body.by);
    text("reason", body.reason);
  }
  void operator()(const JoinTokenMade& body) {
    text("token", body.id);
    json_.key("expires_ms").number(body.expires_ms);
    text("by", body.by);
  }
  void operator()(const SettingSet& body) {
    text("setting", body.name);
    text("value", body.value);
    text("by", body.by);
  }
  void operator()(const proto::AllotmentGranted& body) { allotment(body); }
  void operator()(const proto::AllotmentReturned& body) { allotment(body); }

 private:
  void text(std::string_view name, std::string_view value) { json_.key(name).string(value); }
  void texts(std::string_view name, const std::vector<std::string>& values) {
    json_.key(name).begin_array();
    for (const std::string& value : values) json_.string(value);
    json_.end_array();
  }
  void slice(std::string_view budget, PicoUsd amount, const Incarnation& holder) {
    text("budget", budget);
    if (!holder.is_nil()) text("holder", holder.to_string());
    text("amount_pico_usd", amount.to_string());
  }
  template <class Moved>
  void allotment(const Moved& body) {
    text(body.commitment ? "commitment" : "budget", body.subject);
    json_.key("shard").number(static_cast<std::uint64_t>(body.shard));
    text(body.commitment ? "units" : "amount_pico_usd", PicoUsd{body.amount}.to_string());
    json_.key("opened").number(body.opened);
  }
  void tenant(const TenantPath& path) { text("tenant", path.to_string()); }
  JsonWriter json_;
};

const AttemptLine* line_of(const proto::EntryBody& body) {
  if (const auto* settled = std::get_if<proto::Settled>(&body)) return &settled->settlement.attempt;
  return std::get_if<AttemptLine>(&body);
}

void EntryWriter::write(const StoredEntry& entry, std::string_view ledger_shard) {
  const RequestId request_id = request_id_of(entry.body);
  const AttemptLine* line = line_of(entry.body);
  json_.begin_object();
  if (!ledger_shard.empty()) text("ledger_shard", ledger_shard);
  json_.key("index").number(entry.header.index);
  json_.key("epoch").number(entry.header.epoch);
  json_.key("time_ms").number(entry.header.time_ms);
  text("kind", name_of(entry.kind()));
  json_.key("request_id");
  if (request_id.is_nil()) json_.null();
  else json_.string(request_id.to_string());
  json_.key("attempt");
  if (line == nullptr) json_.null();
  else json_.number(static_cast<std::uint64_t>(line->number));
  json_.key("cost_pico_usd");
  if (line == nullptr) json_.null();
  else json_.string(line->cost.to_string());
  json_.key("estimated");
  if (line == nullptr) json_.null();
  else json_.boolean(line->estimated());
  std::visit(*this, entry.body);
  text("prev_hash", to_hex(entry.prev_hash));
  text("hash", to_hex(entry.hash));
  json_.end_object();
}

}  // namespace

void append_entry_json(std::string& out, const StoredEntry& entry, std::string_view ledger_shard) {
  EntryWriter(out).write(entry, ledger_shard);
}

}  // namespace outlast::storage
