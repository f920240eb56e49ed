#include "apps/report/money_json.hpp"

#include <algorithm>
#include <cctype>

#include <nlohmann/json.hpp>

#include "core/commitment_pace.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

using Json = nlohmann::json;

constexpr std::size_t by_bytes_max = 128;
constexpr std::size_t models_max = 64;
constexpr std::int64_t moment_ms_max = 32'503'680'000'000;  // the year 3000
constexpr __int128 tokens_most = static_cast<__int128>(1'000'000'000) * 1'000'000'000;
constexpr int exponent_max = 18;

Failure malformed(std::string message) { return fail(RequestError::malformed, std::move(message)); }

std::string in_quotes(std::string_view text) { return "'" + std::string(text.substr(0, 64)) + "'"; }

std::string decimal(__int128 value) { return PicoUsd{value}.to_string(); }

std::string units_text(CommitmentUnit unit, __int128 units) {
  return unit == CommitmentUnit::tokens ? decimal(units) : PicoUsd{units}.to_usd();
}

// The members of one JSON object, each asked for by its name; finish() refuses the others.
class Members {
 public:
  static Result<Members> parse(std::string_view body) {
    Members members;
    members.json_ = Json::parse(body, nullptr, false);
    if (!members.json_.is_object()) return malformed("send a JSON object; see docs/admin-api.md");
    return members;
  }

  [[nodiscard]] bool has(const char* name) const { return json_.contains(name) && !json_[name].is_null(); }

  Result<std::string> text(const char* name, std::string fallback, bool required = false) {
    seen_.emplace_back(name);
    if (!has(name)) {
      if (required) return malformed(in_quotes(name) + " is missing");
      return fallback;
    }
    if (!json_[name].is_string()) return malformed(in_quotes(name) + " must be a text");
    return json_[name].get<std::string>();
  }
  Result<bool> flag(const char* name) {
    seen_.emplace_back(name);
    if (!has(name)) return false;
    if (!json_[name].is_boolean()) return malformed(in_quotes(name) + " must be true or false");
    return json_[name].get<bool>();
  }
  Result<std::int64_t> moment(const char* name) {
    seen_.emplace_back(name);
    if (!has(name)) return malformed(in_quotes(name) + " is missing");
    const auto fault = malformed(in_quotes(name) + " must be milliseconds since 1970, before the year 3000");
    if (!json_[name].is_number_integer()) return fault;
    if (json_[name].is_number_unsigned() && json_[name].get<std::uint64_t>() > static_cast<std::uint64_t>(moment_ms_max)) {
      return fault;
    }
    const auto value = json_[name].get<std::int64_t>();
    if (value < 0 || value > moment_ms_max) return fault;
    return value;
  }
  Result<std::vector<std::string>> texts(const char* name) {
    seen_.emplace_back(name);
    std::vector<std::string> values;
    if (!has(name)) return values;
    const auto fault = malformed(in_quotes(name) + " must be a list of at most 64 texts");
    if (!json_[name].is_array() || json_[name].size() > models_max) return fault;
    for (const Json& one : json_[name]) {
      if (!one.is_string()) return fault;
      values.push_back(one.get<std::string>());
    }
    return values;
  }
  // An amount that is not negative, as a text, so that no reader rounds it.
  Result<PicoUsd> amount(const char* name) {
    const auto given = text(name, "", true);
    if (!given) return fail(given.error());
    const auto amount = PicoUsd::parse_usd(*given);
    if (!amount) return malformed(in_quotes(name) + ": " + amount.error().message);
    if (amount->value < 0) return malformed(in_quotes(name) + ": " + in_quotes(*given) + " is negative");
    return *amount;
  }
  Result<std::string> by() {
    auto given = text("by", "admin");
    if (given && (given->size() > by_bytes_max || given->empty())) return malformed("'by' has 1 to 128 bytes");
    return given;
  }
  [[nodiscard]] Result<void> finish() const {
    for (const auto& [name, value] : json_.items()) {
      if (std::find(seen_.begin(), seen_.end(), name) != seen_.end()) continue;
      std::string known;
      for (const std::string& one : seen_) known.append(known.empty() ? "" : ", ").append(one);
      return malformed(in_quotes(name) + " is not known; known are " + known);
    }
    return {};
  }

 private:
  Json json_;
  std::vector<std::string> seen_;
};

Result<BudgetPeriod> parse_period(const std::string& text) {
  const auto* const found = std::find(std::begin(budget_period_names), std::end(budget_period_names), text);
  if (found == std::end(budget_period_names)) {
    return malformed("'period': " + in_quotes(text) + " is not one of day, week, month, total");
  }
  return static_cast<BudgetPeriod>(found - std::begin(budget_period_names));
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Failure unknown(std::string_view kind, const std::string& name, std::string_view where) {
  return fail(RequestError::unknown_name,
              "there is no " + std::string(kind) + " " + in_quotes(name) + "; " + std::string(where));
}

void write_budget(JsonWriter& json, const BudgetStatus& status, std::uint64_t refusals) {
  const Budget& budget = status.budget;
  json.begin_object().key("id").string(budget.id).key("name").string(budget.name);
  json.key("scope").string(budget.scope.to_string()).key("amount_usd").string(budget.amount.to_usd());
  json.key("period").string(name_of(budget.period)).key("time_zone").string(budget.time_zone);
  json.key("soft").boolean(budget.soft).key("used_usd").string(status.used.to_usd());
  json.key("held_usd").string(status.held.to_usd()).key("sliced_usd").string(status.sliced.to_usd());
  json.key("left_usd").string(status.left().to_usd()).key("period_start_ms").number(status.period_start_ms);
  json.key("resets_ms");
  if (status.period_end_ms > 0) json.number(status.period_end_ms);
  else json.null();
  json.key("refusals").number(refusals).end_object();
}

void write_commitment(JsonWriter& json, const CommitmentStatus& status, std::int64_t now_ms) {
  const Commitment& commitment = status.commitment;
  const CommitmentPace pace = pace_of(status, now_ms);
  const auto units = [&](std::string_view name, __int128 count) {
    json.key(name).string(units_text(commitment.unit, count));
  };
  const bool tokens = commitment.unit == CommitmentUnit::tokens;
  json.begin_object().key("id").string(commitment.id).key("provider").string(commitment.provider);
  json.key("models").begin_array();
  for (const std::string& model : commitment.models) json.string(model);
  json.end_array().key("unit").string(tokens ? "tokens" : "usd");
  units("units", commitment.units);
  units("used", status.used);
  units("held", status.held);
  units("left", pace.left);
  units("even_pace", pace.even);
  json.key("price_usd").string(commitment.price.to_usd()).key("amortised_usd").string(status.amortised.to_usd());
  json.key("list_cost_usd").string(status.list_cost.to_usd()).key("from_ms").number(commitment.from_ms);
  json.key("until_ms").number(commitment.until_ms).key("rollover").boolean(commitment.rollover);
  json.key("ended").boolean(status.ended).key("active").boolean(pace.active).key("behind").boolean(pace.behind);
  units("unused_at_end", pace.unused_at_end);
  json.key("runs_out_ms");
  if (pace.runs_out_ms > 0) json.number(pace.runs_out_ms);
  else json.null();
  const __int128 at_pace = commitment.rollover ? commitment.units : commitment.units - pace.unused_at_end;
  json.key("price_at_full_use_usd").string(effective_price(commitment, commitment.units).to_usd());
  json.key("price_at_pace_usd").string(effective_price(commitment, at_pace).to_usd());
  Commitment list = commitment;
  list.price = status.list_cost;
  json.key("list_price_usd").string(effective_price(list, status.used).to_usd()).end_object();
}

}  // namespace

std::string budgets_json(const std::vector<BudgetStatus>& budgets,
                         const std::function<std::uint64_t(const std::string&)>& refusals_of) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("budgets").begin_array();
  for (const BudgetStatus& status : budgets) write_budget(json, status, refusals_of(status.budget.id));
  json.end_array().end_object();
  return text;
}

std::string commitments_json(const std::vector<CommitmentStatus>& commitments, std::int64_t now_ms) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("commitments").begin_array();
  for (const CommitmentStatus& status : commitments) write_commitment(json, status, now_ms);
  json.end_array().end_object();
  return text;
}

Result<BudgetRequest> read_budget_request(std::string_view body) {
  auto members = Members::parse(body);
  if (!members) return fail(members.error());
  const auto scope_text = members->text("scope", "", true);
  const auto amount = members->amount("amount_usd");
  const auto period_text = members->text("period", "", true);
  const auto time_zone = members->text("time_zone", "UTC");
  const auto soft = members->flag("soft");
  const auto name = members->text("name", "");
  const auto id = members->text("id", "");
  const auto by = members->by();
  if (const auto finished = members->finish(); !finished) return fail(finished.error());
  for (const auto* part : {&scope_text, &period_text, &time_zone, &name, &id, &by}) {
    if (!*part) return fail(part->error());
  }
  if (!amount) return fail(amount.error());
  if (!soft) return fail(soft.error());
  const auto scope = Scope::parse(*scope_text);
  if (!scope) return fail(scope.error());
  const auto period = parse_period(*period_text);
  if (!period) return fail(period.error());
  return BudgetRequest{{*id, *name, *scope, *amount, *period, *time_zone, *soft}, *by};
}

Result<CommitmentRequest> read_commitment_request(std::string_view body) {
  auto members = Members::parse(body);
  if (!members) return fail(members.error());
  const bool has_tokens = members->has("tokens");
  const bool has_usd = members->has("usd");
  const auto provider = members->text("provider", "", true);
  const auto models = members->texts("models");
  const auto tokens = members->text("tokens", "");
  const auto usd = has_usd ? members->amount("usd") : Result<PicoUsd>(PicoUsd{});
  if (!has_usd) static_cast<void>(members->text("usd", ""));
  const auto price = members->amount("price_usd");
  const auto from = members->moment("from_ms");
  const auto until = members->moment("until_ms");
  const auto rollover = members->flag("rollover");
  const auto by = members->by();
  if (const auto finished = members->finish(); !finished) return fail(finished.error());
  for (const auto* part : {&provider, &tokens, &by}) {
    if (!*part) return fail(part->error());
  }
  if (has_tokens == has_usd) return malformed("give either 'tokens' or 'usd'");
  if (!models) return fail(models.error());
  for (const auto* part : {&usd, &price}) {
    if (!*part) return fail(part->error());
  }
  for (const auto* part : {&from, &until}) {
    if (!*part) return fail(part->error());
  }
  if (!rollover) return fail(rollover.error());
  CommitmentRequest request{{.id = {},
                             .provider = *provider,
                             .models = *models,
                             .unit = has_tokens ? CommitmentUnit::tokens : CommitmentUnit::money,
                             .units = usd->value,
                             .price = *price,
                             .from_ms = *from,
                             .until_ms = *until,
                             .rollover = *rollover},
                            *by};
  if (has_tokens) {
    const auto count = parse_token_count(*tokens);
    if (!count) return fail(count.error());
    request.commitment.units = *count;
  }
  if (request.commitment.units == 0) return malformed("a commitment is of more than nothing");
  if (*until <= *from) return malformed("'until_ms' must be later than 'from_ms'");
  return request;
}

Result<__int128> parse_token_count(std::string_view text) {
  const auto fault = malformed(in_quotes(text) + " is not a whole number of tokens from 1 to 10^18; write e.g. 5e9");
  const std::size_t e = text.find_first_of("eE");
  const std::string_view mantissa = text.substr(0, e);
  int exponent = 0;
  if (e != std::string_view::npos) {
    const std::string_view digits = text.substr(e + 1);
    if (digits.empty() || digits.size() > 2) return fault;
    for (const char c : digits) {
      if (c < '0' || c > '9') return fault;
      exponent = exponent * 10 + (c - '0');
    }
    if (exponent > exponent_max) return fault;
  }
  __int128 value = 0;
  bool any_digit = false;
  bool fraction = false;
  for (const char c : mantissa) {
    if (c == '.' && !fraction) {
      fraction = true;
      continue;
    }
    if (c < '0' || c > '9' || value > tokens_most) return fault;
    any_digit = true;
    value = value * 10 + (c - '0');
    if (fraction && --exponent < 0) {
      if (c != '0') return fault;  // less than a token
      value /= 10;
      exponent = 0;
    }
  }
  for (; exponent > 0 && value <= tokens_most; --exponent) value *= 10;
  if (!any_digit || value == 0 || value > tokens_most) return fault;
  return value;
}

Result<void> check_known(const Scope& scope, const KnownNames& known) {
  switch (scope.kind) {
    case ScopeKind::provider:
      if (!holds(known.providers, scope.value)) return unknown("provider", scope.value, "the configuration names them");
      break;
    case ScopeKind::model:
      if (!holds(known.models, scope.value)) {
        return unknown("model", scope.value, "a budget names a model as a deployment has it in the configuration");
      }
      break;
    case ScopeKind::key:
      if (!holds(known.keys, scope.value)) return unknown("key", scope.value, "'outlast key list' shows their ids");
      break;
    default: break;
  }
  return {};
}

Result<void> check_known(const Commitment& commitment, const KnownNames& known) {
  if (!holds(known.providers, commitment.provider)) {
    return unknown("provider", commitment.provider, "the configuration names them");
  }
  for (const std::string& model : commitment.models) {
    if (!holds(known.models, model)) {
      return unknown("model", model, "a commitment names models as deployments have them in the configuration");
    }
  }
  return {};
}

}  // namespace outlast::apps
