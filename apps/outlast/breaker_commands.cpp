// outlast breaker list | show | reset | rules | add | remove
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "core/json_writer.hpp"
#include "core/money.hpp"
#include "core/spend_breaker.hpp"

namespace outlast::apps {
namespace {

// Who does it and why, for the ledger.
struct Statement {
  std::string by;
  std::string reason;
};

struct ResetOptions {
  std::string id;
  std::string allow;
  Statement statement;
};

struct AddOptions {
  std::string name;
  std::string scope;
  std::string window_usd, window;
  std::uint32_t rate_factor = 0, history = 0;
  std::string rate_min_usd, sample;
  std::string session_max, session_max_usd, idle_gap;
  std::uint32_t repeats = 0;
  std::string within;
  std::string action = "hold";
  std::uint32_t requests_per_minute = 0, half_open_requests = 0;
  std::string half_open_after;
  Statement statement;
};

struct RemoveOptions {
  std::string name;
  Statement statement;
};

// "ann@host": the person who types, as far as this machine knows.
std::string default_by() {
  const char* user = std::getenv("USER");
  char host[65] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  return std::string(user != nullptr && *user != '\0' ? user : "somebody") + "@" + (host[0] != '\0' ? host : "unknown");
}

void write_statement(JsonWriter& json, const Statement& statement) {
  json.key("by").string(statement.by.empty() ? default_by() : statement.by);
  json.key("reason").string(statement.reason);
}

Result<Json> call(const GlobalOptions& global, const std::string& method, const std::string& path,
                  const std::string& body = {}) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call(method, path, body);
  if (!answer) return fail(answer.error());
  return parse_object(answer->body, "the node's answer");
}

std::string yes_or(std::string text, const char* otherwise) { return text.empty() ? otherwise : text; }

Result<void> list_breakers(const GlobalOptions& global) {
  const auto list = call(global, "GET", "breakers");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  const Json& breakers = member_of(*list, "breakers");
  if (breakers.empty()) {
    print("no spend breaker is open\n");
    return {};
  }
  Table table({{"ID"}, {"RULE"}, {"SCOPE"}, {"SESSION"}, {"ACTION"}, {"STATE"}, {"SINCE"}, {"WHY"}});
  for (const Json& one : breakers) {
    table.add({text_of(one, "id"), text_of(one, "rule"), text_of(one, "scope"), yes_or(text_of(one, "session"), "-"),
               text_of(one, "action"), text_of(one, "state"), time_of(one, "since_ms"), text_of(one, "why")});
  }
  print(table.text());
  return {};
}

Result<void> show_breaker(const GlobalOptions& global, const std::string& id) {
  const auto one = call(global, "GET", "breakers/" + url_encoded(id));
  if (!one) {
    if (!is(one.error(), CliError::not_found)) return fail(one.error());
    return fail(CliError::not_found, "no spend breaker '" + printable(id) + "' is open; 'outlast breaker list' shows those that are");
  }
  if (global.json) {
    print(one->dump() + "\n");
    return {};
  }
  Table table({{"WHAT"}, {"VALUE"}});
  for (const auto& [name, value] : one->items()) {
    table.add({name, name == "since_ms" ? time_of(*one, "since_ms") : printable(plain_text(value))});
  }
  print(table.text());
  return {};
}

Result<void> reset_breaker(const GlobalOptions& global, const ResetOptions& options) {
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  write_statement(json, options.statement);
  if (!options.allow.empty()) json.key("allow_usd").string(options.allow);
  json.end_object();
  const auto done = call(global, "POST", "breakers/" + url_encoded(options.id) + "/reset", body);
  if (!done) {
    if (!is(done.error(), CliError::not_found)) return fail(done.error());
    return fail(CliError::not_found,
                "no spend breaker '" + printable(options.id) + "' is open; 'outlast breaker list' shows those that are");
  }
  if (global.json) print(done->dump() + "\n");
  else print("reset " + printable(options.id) + (options.allow.empty() ? "" : "; may spend " + options.allow + " USD more") + "\n");
  return {};
}

// "window amount_usd=50.00 window_s=3600".
std::string limit_text(const Json& rule) {
  for (const std::string_view kind : spend_limit_names) {
    const Json& limit = member_of(rule, std::string(kind));
    if (!limit.is_object()) continue;
    std::string text(kind);
    for (const auto& [name, value] : limit.items()) text += " " + name + "=" + plain_text(value);
    return text;
  }
  return "-";
}

Result<void> list_rules(const GlobalOptions& global) {
  const auto list = call(global, "GET", "breaker-rules");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  Table table({{"NAME"}, {"SCOPE"}, {"LIMIT"}, {"ACTION"}, {"HALF-OPEN AFTER S", Table::Align::right}, {"FROM"}});
  for (const Json& one : member_of(*list, "rules")) {
    const Json& rule = member_of(one, "rule");
    table.add({text_of(rule, "name"), text_of(rule, "scope"), limit_text(rule), text_of(rule, "action"),
               plain_text(member_of(rule, "half_open_after_s")), text_of(one, "source")});
  }
  print(table.text());
  return {};
}

// Seconds of a duration that was checked; 0 for none.
std::uint64_t seconds_of(const std::string& duration) {
  return static_cast<std::uint64_t>(parse_duration_ms(duration).value_or(0)) / 1000;
}

void write_limit(JsonWriter& json, const AddOptions& options) {
  if (!options.window_usd.empty() || !options.window.empty()) {
    json.key("window").begin_object();
    if (!options.window_usd.empty()) json.key("amount_usd").string(options.window_usd);
    if (!options.window.empty()) json.key("window_s").number(seconds_of(options.window));
    json.end_object();
  }
  if (options.rate_factor > 0 || !options.rate_min_usd.empty()) {
    json.key("rate").begin_object();
    if (options.rate_factor > 0) json.key("factor").number(options.rate_factor);
    if (!options.rate_min_usd.empty()) json.key("min_amount_usd").string(options.rate_min_usd);
    if (options.history > 0) json.key("history").number(options.history);
    if (!options.sample.empty()) json.key("sample_s").number(seconds_of(options.sample));
    json.end_object();
  }
  if (!options.session_max.empty() || !options.session_max_usd.empty()) {
    json.key("session").begin_object();
    if (!options.session_max.empty()) json.key("max_duration_s").number(seconds_of(options.session_max));
    if (!options.session_max_usd.empty()) json.key("max_amount_usd").string(options.session_max_usd);
    if (!options.idle_gap.empty()) json.key("idle_gap_s").number(seconds_of(options.idle_gap));
    json.end_object();
  }
  if (options.repeats > 0 || !options.within.empty()) {
    json.key("repeats").begin_object();
    if (options.repeats > 0) json.key("count").number(options.repeats);
    if (!options.within.empty()) json.key("window_s").number(seconds_of(options.within));
    json.end_object();
  }
}

Result<void> add_rule(const GlobalOptions& global, const AddOptions& options) {
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  write_statement(json, options.statement);
  json.key("rule").begin_object().key("name").string(options.name).key("scope").string(options.scope);
  write_limit(json, options);
  json.key("action").string(options.action);
  if (options.requests_per_minute > 0) json.key("requests_per_minute").number(options.requests_per_minute);
  if (!options.half_open_after.empty()) json.key("half_open_after_s").number(seconds_of(options.half_open_after));
  if (options.half_open_requests > 0) json.key("half_open_requests").number(options.half_open_requests);
  json.end_object().end_object();
  const auto rule = call(global, "POST", "breaker-rules", body);
  if (!rule) return fail(rule.error());
  if (global.json) print(rule->dump() + "\n");
  else print("added " + printable(options.name) + ": " + printable(limit_text(*rule)) + " for " + printable(options.scope) + "\n");
  return {};
}

Result<void> remove_rule(const GlobalOptions& global, const RemoveOptions& options) {
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  write_statement(json, options.statement);
  json.end_object();
  const auto done = call(global, "DELETE", "breaker-rules/" + url_encoded(options.name), body);
  if (!done) {
    if (!is(done.error(), CliError::not_found)) return fail(done.error());
    return fail(CliError::not_found, "there is no rule '" + printable(options.name) + "'; 'outlast breaker rules' shows all");
  }
  if (global.json) print(done->dump() + "\n");
  else print("removed " + printable(options.name) + "\n");
  return {};
}

std::string amount_fault(const std::string& text) {
  const auto amount = PicoUsd::parse_usd(text);
  if (!amount) return amount.error().message;
  return amount->value > 0 ? std::string() : "'" + text + "' is not more than nothing; write US dollars, e.g. 20";
}

std::string duration_fault(const std::string& text) {
  const auto ms = parse_duration_ms(text);
  return ms && *ms >= 1'000 ? std::string() : "'" + text + "' is no duration; write e.g. 90s, 30m, 10h or 7d";
}

std::string scope_fault(const std::string& text) {
  const auto scope = SpendScope::parse(text);
  return scope ? std::string() : scope.error().message;
}

const CLI::Validator amount(amount_fault, "");
const CLI::Validator duration(duration_fault, "");

void add_statement(CLI::App& command, Statement& statement, bool reason_required) {
  command.add_option("--reason", statement.reason, "why, for the ledger")->required(reason_required)->type_name("TEXT");
  command.add_option("--by", statement.by, "who, for the ledger (default: USER@HOST)")->type_name("WHO");
}

void add_limit_options(CLI::App& add, AddOptions& options) {
  const auto money = [&add](const char* name, std::string& into, const char* help) {
    add.add_option(name, into, help)->type_name("USD")->check(amount)->group("Limit");
  };
  const auto time = [&add](const char* name, std::string& into, const char* help) {
    add.add_option(name, into, help)->type_name("TIME")->check(duration)->group("Limit");
  };
  money("--window-usd", options.window_usd, "so much within --window");
  time("--window", options.window, "e.g. 1h");
  add.add_option("--rate-factor", options.rate_factor, "so many times the scope's own median per sample")
      ->type_name("N")
      ->group("Limit");
  money("--rate-min-usd", options.rate_min_usd, "and at least so much in a sample");
  time("--sample", options.sample, "length of a sample (default 1m)");
  add.add_option("--history", options.history, "samples that the median is taken of (default 60)")
      ->type_name("N")
      ->group("Limit");
  time("--session-max", options.session_max, "a session that lasts so long, e.g. 10h");
  money("--session-max-usd", options.session_max_usd, "or costs so much");
  time("--idle-gap", options.idle_gap, "without requests for so long a session ends (default 15m)");
  add.add_option("--repeats", options.repeats, "so many identical requests of one key within --within")
      ->type_name("N")
      ->group("Limit");
  time("--within", options.within, "e.g. 10m");
}

}  // namespace

void add_breaker_commands(CommandLine& line) {
  CLI::App* breakers = line.add_group("breaker", "spend breakers: what stops a runaway before the invoice does");
  line.add_command(*breakers, "list", "shows the breakers that are open", [&line] { return list_breakers(line.options); });

  auto shown = std::make_shared<std::string>();
  CLI::App* show = line.add_command(*breakers, "show", "shows one that is open",
                                    [&line, shown] { return show_breaker(line.options, *shown); });
  show->add_option("id", *shown, "brk_…, as 'outlast breaker list' shows it")->required()->type_name("ID");

  auto reset_options = std::make_shared<ResetOptions>();
  CLI::App* reset = line.add_command(*breakers, "reset", "closes one; its counting starts anew, or goes on with --allow",
                                     [&line, reset_options] { return reset_breaker(line.options, *reset_options); });
  reset->add_option("id", reset_options->id, "brk_…, as 'outlast breaker list' shows it")->required()->type_name("ID");
  reset->add_option("--allow", reset_options->allow, "may spend so much more before it can trip again")
      ->type_name("USD")
      ->check(amount);
  add_statement(*reset, reset_options->statement, true);

  line.add_command(*breakers, "rules", "shows every rule, of the file and made here", [&line] { return list_rules(line.options); });

  auto add_options = std::make_shared<AddOptions>();
  CLI::App* add = line.add_command(*breakers, "add", "makes a rule, or changes one that was made here",
                                   [&line, add_options] { return add_rule(line.options, *add_options); });
  add->add_option("name", add_options->name, "a name of its own")->required()->type_name("NAME");
  add->add_option("--scope", add_options->scope, "KIND:VALUE, or KIND:* for each of a kind, e.g. user:*")
      ->required()
      ->type_name("SCOPE")
      ->check(CLI::Validator(scope_fault, ""));
  add_limit_options(*add, *add_options);
  add->add_option("--action", add_options->action, "notify, throttle or hold (default)")
      ->check(CLI::IsMember({"notify", "throttle", "hold"}))
      ->type_name("ACTION");
  add->add_option("--requests-per-minute", add_options->requests_per_minute, "with --action throttle")->type_name("N");
  add->add_option("--half-open-after", add_options->half_open_after, "tries again after so long (default: never)")
      ->type_name("TIME")
      ->check(duration);
  add->add_option("--half-open-requests", add_options->half_open_requests, "with so many requests (default 1)")
      ->type_name("N");
  add_statement(*add, add_options->statement, false);

  auto remove_options = std::make_shared<RemoveOptions>();
  CLI::App* remove = line.add_command(*breakers, "remove", "removes a rule that was made here, and closes its breakers",
                                      [&line, remove_options] { return remove_rule(line.options, *remove_options); });
  remove->add_option("name", remove_options->name, "as 'outlast breaker rules' shows it")->required()->type_name("NAME");
  add_statement(*remove, remove_options->statement, false);
}

}  // namespace outlast::apps
