// outlast commitment add | list | end
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "core/clock.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

struct AddOptions {
  std::string provider;
  std::vector<std::string> models;
  std::string tokens;
  std::string usd;
  std::string price;
  std::string from;
  std::string until;
  bool rollover = false;
};

Result<std::int64_t> moment_of(const std::string& option, const std::string& text) {
  const auto moment = parse_time_argument(text, SystemClock().wall_ms());
  if (moment) return *moment;
  return fail(CliError::usage,
              option + ": '" + printable(text) + "' is not a time; write 2026-11-01 or 2026-11-01T12:00Z, in UTC");
}

Result<void> add_commitment(const GlobalOptions& global, const AddOptions& options) {
  if (options.tokens.empty() == options.usd.empty()) {
    return fail(CliError::usage, "a commitment is of tokens or of money: give --tokens or --usd");
  }
  const auto from = moment_of("--from", options.from);
  if (!from) return fail(from.error());
  const auto until = moment_of("--until", options.until);
  if (!until) return fail(until.error());
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("provider").string(options.provider).key("models").begin_array();
  for (const std::string& model : options.models) json.string(model);
  json.end_array();
  if (options.tokens.empty()) json.key("usd").string(options.usd);
  else json.key("tokens").string(options.tokens);
  json.key("price_usd").string(options.price).key("from_ms").number(*from).key("until_ms").number(*until);
  json.key("rollover").boolean(options.rollover).key("by").string(who_asks()).end_object();
  const auto answer = api->call("POST", "commitments", body);
  if (!answer) return fail(answer.error());
  const auto made = parse_object(answer->body, "the node's answer");
  if (!made) return fail(made.error());
  print(global.json ? made->dump() + "\n" : bold(printable(text_of(*made, "id"))) + "\n");
  return {};
}

bool holds_true(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return value.is_boolean() && value.get<bool>();
}

// "runs out 2026-12-01T…", "120000 will expire unused", "on pace".
std::string forecast_of(const Json& commitment) {
  if (holds_true(commitment, "ended")) return "ended";
  if (!holds_true(commitment, "active")) return text_of(commitment, "left") == "0" ? "used up" : "not in force";
  if (!member_of(commitment, "runs_out_ms").is_null()) return "runs out " + time_of(commitment, "runs_out_ms");
  const std::string unused = text_of(commitment, "unused_at_end");
  if (unused == "0" || unused == "0.00") return "used up by then";
  return unused + (holds_true(commitment, "rollover") ? " will roll over" : " will expire unused");
}

std::string models_of(const Json& commitment) {
  std::string models;
  for (const Json& model : member_of(commitment, "models")) {
    models.append(models.empty() ? "" : ",").append(plain_text(model));
  }
  return models.empty() ? "all" : models;
}

Result<void> list_commitments(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "commitments");
  if (!answer) return fail(answer.error());
  const auto list = parse_object(answer->body, "the node's answer");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  using Align = Table::Align;
  Table table({{"ID"}, {"PROVIDER"}, {"MODELS"}, {"UNIT"}, {"BOUGHT", Align::right}, {"USED", Align::right},
               {"LEFT", Align::right}, {"PACE"}, {"UNTIL"}, {"FORECAST"}, {"PRICE AT PACE", Align::right},
               {"AT FULL USE", Align::right}, {"LIST", Align::right}});
  for (const Json& commitment : member_of(*list, "commitments")) {
    const bool active = holds_true(commitment, "active");
    table.add({text_of(commitment, "id"), text_of(commitment, "provider"), models_of(commitment),
               text_of(commitment, "unit"), text_of(commitment, "units"), text_of(commitment, "used"),
               text_of(commitment, "left"),
               !active ? "" : holds_true(commitment, "behind") ? "behind" : "ahead", time_of(commitment, "until_ms"),
               forecast_of(commitment), text_of(commitment, "price_at_pace_usd"),
               text_of(commitment, "price_at_full_use_usd"), text_of(commitment, "list_price_usd")});
  }
  print(table.text());
  print(dim("Prices are in US dollars per million tokens, or per dollar at list price.") + "\n");
  return {};
}

Result<void> end_commitment(const GlobalOptions& global, const std::string& id) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("DELETE", "commitments/" + url_encoded(id) + "?by=" + url_encoded(who_asks()));
  if (!answer) {
    if (is(answer.error(), CliError::not_found)) {
      return fail(CliError::not_found,
                  "there is no commitment '" + printable(id) + "'; 'outlast commitment list' shows all");
    }
    return fail(answer.error());
  }
  print(global.json ? answer->body + "\n" : "ended " + printable(id) + "\n");
  return {};
}

}  // namespace

void add_commitment_commands(CommandLine& line) {
  CLI::App* commitments = line.add_group("commitment", "tokens and money bought in bulk, drawn down first");
  auto options = std::make_shared<AddOptions>();
  CLI::App* add = line.add_command(*commitments, "add", "records what was bought",
                                   [&line, options] { return add_commitment(line.options, *options); });
  add->add_option("--provider", options->provider, "as the configuration names it")->required()->type_name("NAME");
  add->add_option("--models", options->models, "as the provider serves them; all of them when left out")
      ->delimiter(',')
      ->type_name("NAME,…");
  add->add_option("--tokens", options->tokens, "how many tokens, e.g. 5e9")->type_name("COUNT");
  add->add_option("--usd", options->usd, "or how much at list price, in US dollars")->type_name("USD");
  add->add_option("--price", options->price, "what was paid for all of it, in US dollars")->required()->type_name("USD");
  add->add_option("--from", options->from, "2026-11-01 or 2026-11-01T12:00Z, in UTC")->required()->type_name("TIME");
  add->add_option("--until", options->until, "when it expires; that moment is not in it")->required()->type_name("TIME");
  add->add_flag("--rollover", options->rollover, "what is left then stays usable");

  line.add_command(*commitments, "list", "shows use, pace, forecast and effective price of each",
                   [&line] { return list_commitments(line.options); });

  auto id = std::make_shared<std::string>();
  CLI::App* end = line.add_command(*commitments, "end", "draws no more from it",
                                   [&line, id] { return end_commitment(line.options, *id); });
  end->add_option("id", *id, "com_…, as 'outlast commitment list' shows it")->required()->type_name("ID");
}

}  // namespace outlast::apps
