#include "apps/config/spend_breaker_config.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "apps/config/secret_reader.hpp"
#include "apps/config/sections.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

constexpr std::uint64_t seconds_max = 366ULL * 24 * 3600;
constexpr std::size_t rule_name_length_max = 64;
constexpr std::size_t arguments_max = 32;
constexpr std::size_t argument_bytes_max = 4'096;
constexpr std::size_t url_bytes_max = 2'048;
constexpr std::string_view limit_advice =
    R"(write one of window = { amount_usd = "50", window_s = 3600 }, rate = { factor = 10, min_amount_usd = "1" }, )"
    R"(session = { max_duration_s = 36000, max_amount_usd = "20" }, repeats = { count = 20, window_s = 600 })";

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= rule_name_length_max && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

void read_amount(TableReader& reader, std::string_view key, bool required, PicoUsd& into) {
  const std::string example = std::string(key) + " = \"20.00\"";
  std::string text;
  if (!reader.has(key) && !required) return reader.ignore(key);
  if (!reader.required_text(key, text, example)) return;
  const auto amount = PicoUsd::parse_usd(text);
  if (!amount) return reader.error(key, amount.error().message + "; write US dollars, e.g. " + example);
  if (amount->value <= 0) return reader.error(key, "is not more than nothing; write US dollars, e.g. " + example);
  into = *amount;
}

template <class T>
void read_required(TableReader& reader, std::string_view key, T& into, std::uint64_t least, std::uint64_t most,
                   std::string_view example) {
  if (reader.has(key)) {
    reader.integer(key, into, least, most);
    return;
  }
  reader.ignore(key);
  reader.error(key, "is missing; write e.g. " + std::string(example));
}

SpendLimit read_window(TableReader reader) {
  SpendWindowLimit limit;
  read_amount(reader, "amount_usd", true, limit.amount);
  read_required(reader, "window_s", limit.window_s, 1, seconds_max, "window_s = 3600");
  reader.refuse_unknown_keys();
  return limit;
}

SpendLimit read_rate(TableReader reader) {
  SpendRateLimit limit;
  read_required(reader, "factor", limit.factor, 2, 10'000, "factor = 10");
  read_amount(reader, "min_amount_usd", true, limit.min_amount);
  reader.integer("history", limit.history, 1, 1'440);
  reader.integer("sample_s", limit.sample_s, 1, 86'400);
  reader.refuse_unknown_keys();
  return limit;
}

SpendLimit read_session(TableReader reader) {
  SpendSessionLimit limit;
  reader.integer("max_duration_s", limit.max_duration_s, 1, seconds_max);
  read_amount(reader, "max_amount_usd", false, limit.max_amount);
  reader.integer("idle_gap_s", limit.idle_gap_s, 1, seconds_max);
  if (!reader.has("max_duration_s") && !reader.has("max_amount_usd")) {
    reader.error("", "limits nothing; write max_duration_s, max_amount_usd or both");
  }
  reader.refuse_unknown_keys();
  return limit;
}

SpendLimit read_repeats(TableReader reader) {
  SpendRepeatLimit limit;
  read_required(reader, "count", limit.count, 2, 1'000'000, "count = 20");
  read_required(reader, "window_s", limit.window_s, 1, seconds_max, "window_s = 600");
  reader.refuse_unknown_keys();
  return limit;
}

void read_limit(TableReader& reader, SpendBreakerRule& rule) {
  using Read = SpendLimit (*)(TableReader);
  constexpr Read reads[] = {read_window, read_rate, read_session, read_repeats};
  std::size_t given = 0;
  for (std::size_t i = 0; i < std::size(reads); ++i) {
    const std::string_view key = spend_limit_names[i];
    if (!reader.has(key)) {
      reader.ignore(key);
      continue;
    }
    ++given;
    SpendLimit limit = reads[i](reader.table(key, limit_advice));
    if (given == 1) rule.limit = limit;
    else reader.error(key, "is a second limit of this rule; give each limit a [[breaker]] of its own");
  }
  if (given == 0) reader.error("", "has no limit; " + std::string(limit_advice));
}

void read_action(TableReader& reader, SpendBreakerRule& rule) {
  if (const auto index = reader.choice("action", spend_action_names)) rule.action = static_cast<SpendAction>(*index);
  const bool throttles = rule.action == SpendAction::throttle;
  if (throttles) {
    read_required(reader, "requests_per_minute", rule.requests_per_minute, 1, 1'000'000, "requests_per_minute = 6");
  } else if (reader.has("requests_per_minute")) {
    reader.ignore("requests_per_minute");
    reader.error("requests_per_minute", "belongs to action = \"throttle\" only; drop it or write that action");
  } else {
    reader.ignore("requests_per_minute");
  }
  reader.integer("half_open_after_s", rule.half_open_after_s, 0, seconds_max);
  reader.integer("half_open_requests", rule.half_open_requests, 1, 1'000);
}

SpendBreakerRule read_rule(TableReader& reader) {
  SpendBreakerRule rule;
  if (reader.required_text("name", rule.name, R"(name = "daily-per-user")") && !is_name(rule.name)) {
    reader.error("name", "is not a rule's name; write 1 to " + std::to_string(rule_name_length_max) +
                             " of A-Z a-z 0-9 . _ -");
  }
  std::string scope;
  if (reader.required_text("scope", scope, R"(scope = "user:*")")) {
    auto parsed = SpendScope::parse(scope);
    if (parsed) rule.scope = std::move(*parsed);
    else reader.error("scope", parsed.error().message);
  }
  read_limit(reader, rule);
  read_action(reader, rule);
  return rule;
}

void read_webhook(TableReader reader, const std::string& folder, gateway::SpendNotify& notify) {
  gateway::SpendWebhook webhook;
  std::string url;
  if (reader.required_text("url", url, R"(url = "https://hooks.example.com/outlast")")) {
    const std::size_t query = std::min(url.find('?'), url.size());
    if (url.find('@') != std::string::npos) {  // and do not repeat it: it may hold a password
      reader.error("url", "holds '@'; credentials do not stand in a URL: deliveries are signed with the secret");
    } else if (auto origin = http::Origin::parse(url.substr(0, query)); !origin || url.size() > url_bytes_max) {
      reader.error("url", "'" + url.substr(0, 200) + "' is not a URL; write http://HOST[:PORT]/PATH or https://…");
    } else {
      webhook.origin = std::move(*origin);
      webhook.path = webhook.origin.path_prefix.empty() ? "/" : "";
      webhook.path += url.substr(query);
    }
  }
  webhook.secret = read_secret(reader, "secret", folder, {"secret", "the webhook's secret"});
  if (!reader.has("secret")) {
    reader.error("secret", R"(is missing: it signs each delivery; write secret = { env = "NAME" } or { file = "PATH" })");
  }
  reader.integer("timeout_ms", webhook.timeout_ms, 1, 60'000);
  reader.integer("attempts_max", webhook.attempts_max, 1, 20);
  reader.refuse_unknown_keys();
  notify.webhook = std::move(webhook);
}

// True when either key is there.
bool read_notify(TableReader& reader, const std::string& folder, gateway::SpendNotify& notify) {
  const bool webhook = reader.has("notify");
  TableReader table = reader.table("notify", R"(notify = { url = "https://…", secret = { env = "NAME" } })");
  if (webhook && reader.holds_table("notify")) read_webhook(std::move(table), folder, notify);
  if (reader.texts("command", notify.command)) {
    const bool fits = !notify.command.empty() && notify.command.size() <= arguments_max &&
                      std::all_of(notify.command.begin(), notify.command.end(), [](const std::string& argument) {
                        return argument.size() <= argument_bytes_max && argument.find('\0') == std::string::npos;
                      });
    if (!fits || !notify.command.front().starts_with('/')) {
      reader.error("command", R"(is not a program and its arguments; write command = ["/usr/local/bin/page", "--ops"], )"
                              "with the program's whole path: there is no shell");
    }
  }
  return webhook || reader.has("command");
}

// JSON as the TOML that it would be. Null for what TOML has no word for.
bool put_json(toml::table& table, const std::string& key, const nlohmann::json& value) {
  if (value.is_string()) table.insert_or_assign(key, value.get<std::string>());
  else if (value.is_boolean()) table.insert_or_assign(key, value.get<bool>());
  else if (value.is_number_integer() && value >= std::numeric_limits<std::int64_t>::min() &&
           value <= std::numeric_limits<std::int64_t>::max()) table.insert_or_assign(key, value.get<std::int64_t>());
  else if (value.is_number_float()) table.insert_or_assign(key, value.get<double>());
  else return false;
  return true;
}

}  // namespace

void read_spend_breakers(TableReader& root, const std::string& folder, NodeConfig& config) {
  TableReader general = root.table("breakers", "[breakers]");
  if (general.text("link_base", config.breakers.link_base)) {
    if (!http::Origin::parse(config.breakers.link_base)) {
      general.error("link_base", "is not a base URL; write e.g. link_base = \"https://outlast.example.com\"");
    }
    while (config.breakers.link_base.ends_with('/')) config.breakers.link_base.pop_back();
  }
  read_notify(general, folder, config.breakers.notify);
  general.refuse_unknown_keys();
  std::map<std::string, std::uint32_t> names;
  for (TableReader& reader : root.tables("breaker")) {
    gateway::SpendFileRule rule;
    rule.rule = read_rule(reader);
    gateway::SpendNotify notify;
    if (read_notify(reader, folder, notify)) rule.notify = std::move(notify);
    reader.refuse_unknown_keys();
    const auto [first, added] = names.emplace(rule.rule.name, reader.line_of("name"));
    if (!added && !rule.rule.name.empty()) {
      reader.error("name", "'" + rule.rule.name + "' is already the name of the breaker of line " +
                               std::to_string(first->second) + "; give each breaker a name of its own");
    }
    if (config.breakers.rules.size() == spend_rules_max) {
      reader.error("", "is one too many; there may be " + std::to_string(spend_rules_max));
      return;
    }
    config.breakers.rules.push_back(std::move(rule));
  }
}

std::string spend_rule_json(const SpendBreakerRule& rule) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("name").string(rule.name).key("scope").string(rule.scope.to_string());
  json.key(name_of(rule.limit)).begin_object();
  if (const auto* window = std::get_if<SpendWindowLimit>(&rule.limit)) {
    json.key("amount_usd").string(window->amount.to_usd()).key("window_s").number(window->window_s);
  } else if (const auto* rate = std::get_if<SpendRateLimit>(&rule.limit)) {
    json.key("factor").number(rate->factor).key("min_amount_usd").string(rate->min_amount.to_usd());
    json.key("history").number(rate->history).key("sample_s").number(rate->sample_s);
  } else if (const auto* session = std::get_if<SpendSessionLimit>(&rule.limit)) {
    if (session->max_duration_s > 0) json.key("max_duration_s").number(session->max_duration_s);
    if (session->max_amount.value > 0) json.key("max_amount_usd").string(session->max_amount.to_usd());
    json.key("idle_gap_s").number(session->idle_gap_s);
  } else {
    const auto& repeats = std::get<SpendRepeatLimit>(rule.limit);
    json.key("count").number(repeats.count).key("window_s").number(repeats.window_s);
  }
  json.end_object().key("action").string(name_of(rule.action));
  if (rule.action == SpendAction::throttle) json.key("requests_per_minute").number(rule.requests_per_minute);
  json.key("half_open_after_s").number(rule.half_open_after_s);
  json.key("half_open_requests").number(rule.half_open_requests).end_object();
  return text;
}

Result<SpendBreakerRule> parse_spend_rule(std::string_view json) {
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) return fail(ConfigError::syntax, "a rule is a JSON object; see docs/breakers.md");
  toml::table document;
  for (const auto& [key, value] : parsed.items()) {
    if (value.is_object()) {
      toml::table inner;
      for (const auto& [inner_key, inner_value] : value.items()) {
        if (!put_json(inner, inner_key, inner_value)) {
          return fail(ConfigError::invalid, "rule: key '" + key + "." + inner_key + "' holds neither text nor number");
        }
      }
      document.insert_or_assign(key, std::move(inner));
    } else if (!put_json(document, key, value)) {
      return fail(ConfigError::invalid, "rule: key '" + key + "' holds neither text, number nor object");
    }
  }
  ConfigErrors errors("rule");
  TableReader reader(document, "", 0, errors);
  SpendBreakerRule rule = read_rule(reader);
  reader.refuse_unknown_keys();
  if (errors.empty()) return rule;
  std::string text = errors.text();  // "rule:0: key 'window.amount_usd': …": there are no lines to name
  constexpr std::string_view place = "rule:0: ";
  for (std::size_t at = 0; (at = text.find(place, at)) != std::string::npos;) text.erase(at, place.size());
  return fail(ConfigError::invalid, std::move(text));
}

}  // namespace outlast::apps
