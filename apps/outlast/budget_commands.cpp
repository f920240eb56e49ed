// outlast budget set | list | remove
#include <cstdlib>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/budget.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

struct SetOptions {
  std::string scope;
  std::string amount;
  std::string period;
  std::string time_zone = "UTC";
  std::string name;
  std::string id;
  bool soft = false;
};

Result<void> set_budget(const GlobalOptions& global, const SetOptions& options) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("scope").string(options.scope).key("amount_usd").string(options.amount);
  json.key("period").string(options.period).key("time_zone").string(options.time_zone);
  json.key("soft").boolean(options.soft).key("name").string(options.name);
  if (!options.id.empty()) json.key("id").string(options.id);
  json.key("by").string(who_asks()).end_object();
  const auto answer = api->call("POST", "budgets", body);
  if (!answer) return fail(answer.error());
  const auto made = parse_object(answer->body, "the node's answer");
  if (!made) return fail(made.error());
  if (global.json) {
    print(made->dump() + "\n");
    return {};
  }
  const std::string per = options.period == "total" ? " in total" : " per " + options.period;
  print(bold(printable(text_of(*made, "id"))) + " " + printable(options.scope) + ": " + options.amount + " USD" + per +
        (options.soft ? ", soft" : "") + "\n");
  return {};
}

Result<void> list_budgets(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "budgets");
  if (!answer) return fail(answer.error());
  const auto list = parse_object(answer->body, "the node's answer");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  using Align = Table::Align;
  Table table({{"ID"}, {"SCOPE"}, {"NAME"}, {"PER"}, {"AMOUNT USD", Align::right}, {"USED", Align::right},
               {"HELD", Align::right}, {"LEFT", Align::right}, {"REFUSED", Align::right}, {"RESETS"}});
  for (const Json& budget : member_of(*list, "budgets")) {
    const Json& soft = member_of(budget, "soft");
    const bool is_soft = soft.is_boolean() && soft.get<bool>();
    table.add({text_of(budget, "id"), text_of(budget, "scope"), text_of(budget, "name"),
               text_of(budget, "period") + (is_soft ? " (soft)" : ""), text_of(budget, "amount_usd"),
               text_of(budget, "used_usd"), text_of(budget, "held_usd"), text_of(budget, "left_usd"),
               std::to_string(count_of(budget, "refusals")), time_of(budget, "resets_ms")});
  }
  print(table.text());
  return {};
}

Result<void> remove_budget(const GlobalOptions& global, const std::string& id) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("DELETE", "budgets/" + url_encoded(id) + "?by=" + url_encoded(who_asks()));
  if (!answer) {
    if (is(answer.error(), CliError::not_found)) {
      return fail(CliError::not_found, "there is no budget '" + printable(id) + "'; 'outlast budget list' shows all");
    }
    return fail(answer.error());
  }
  print(global.json ? answer->body + "\n" : "removed " + printable(id) + "\n");
  return {};
}

}  // namespace

std::string who_asks() {
  for (const char* variable : {"SUDO_USER", "USER", "LOGNAME"}) {
    const char* const value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return std::string(value).substr(0, 64);
  }
  return "cli";
}

void add_budget_commands(CommandLine& line) {
  CLI::App* budgets = line.add_group("budget", "limits on what a tenant, key, tag, model or provider may spend");
  auto options = std::make_shared<SetOptions>();
  CLI::App* set = line.add_command(*budgets, "set", "sets a budget, or changes the one of the same scope, period and name",
                                   [&line, options] { return set_budget(line.options, *options); });
  set->add_option("scope", options->scope,
                  "organisation:ORG, team:ORG/TEAM, user:ORG/TEAM/USER, key:ID, tag:TAG, model:MODEL, provider:PROVIDER")
      ->required()
      ->type_name("KIND:VALUE");
  set->add_option("--amount", options->amount, "US dollars, at most 12 decimals")->required()->type_name("USD");
  set->add_option("--per", options->period, "day, week, month or total")
      ->required()
      ->check(CLI::IsMember({"day", "week", "month", "total"}))
      ->type_name("PERIOD");
  set->add_option("--tz", options->time_zone, "IANA time zone in which days begin [UTC]")->type_name("ZONE");
  set->add_option("--name", options->name, "what callers are told when it is used up")->type_name("NAME");
  set->add_option("--id", options->id, "changes this one, as 'outlast budget list' shows it")->type_name("ID");
  set->add_flag("--soft", options->soft, "counts and reports, refuses nothing");

  line.add_command(*budgets, "list", "shows every budget and where it stands",
                   [&line] { return list_budgets(line.options); });

  auto id = std::make_shared<std::string>();
  CLI::App* remove = line.add_command(*budgets, "remove", "ends a budget; what was spent stays in the ledger",
                                      [&line, id] { return remove_budget(line.options, *id); });
  remove->add_option("id", *id, "bud_…, as 'outlast budget list' shows it")->required()->type_name("ID");
}

}  // namespace outlast::apps
