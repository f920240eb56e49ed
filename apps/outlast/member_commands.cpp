// outlast node token | list | drain | undrain | remove | revoke
#include <cstdio>

#include "apps/outlast/admin_json.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

struct TokenOptions {
  std::string expires = "1h";
  std::string withdraw;
};

struct ChangeOptions {
  std::string name;
  std::string reason;
  std::string by;
};

// What a command does to a node, and what it says then.
struct Action {
  const char* word;
  const char* help;
  const char* done;
};
constexpr Action actions[] = {
    {"drain", "has a node hand its shards over, and say at /readyz that callers should go elsewhere", "drains"},
    {"undrain", "has it take part again", "takes part again"},
    {"remove", "ends its part; it may come back by another token", "is removed"},
    {"revoke", "refuses its key for ever, at once: for a machine that was lost or stolen", "is revoked"},
};

Result<void> make_token(const GlobalOptions& global, const TokenOptions& options) {
  if (!options.withdraw.empty()) {
    const auto done = call_admin(global, "DELETE", "cluster/tokens/" + url_encoded(options.withdraw));
    if (!done) {
      if (!is(done.error(), CliError::not_found)) return fail(done.error());
      return fail(CliError::not_found, "there is no open token '" + printable(options.withdraw) + "'");
    }
    print(global.json ? done->dump() + "\n" : "withdrawn " + printable(options.withdraw) + "\n");
    return {};
  }
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("expires_s").number(parse_duration_ms(options.expires).value_or(0) / 1'000);
  json.key("by").string(who_asks()).end_object();
  const auto token = call_admin(global, "POST", "cluster/tokens", body);
  if (!token) return fail(token.error());
  if (global.json) {
    print(token->dump() + "\n");
    return {};
  }
  // Alone on stdout, so that it can go through a pipe; on a command line every process of a machine could read it.
  print(bold(printable(text_of(*token, "token"))) + "\n");
  std::fprintf(stderr,
               "lets one node into %s until %s; it is not shown again. On the new machine: "
               "outlast node join - --config FILE, which reads it from stdin. To withdraw it: outlast node token --withdraw %s\n",
               printable(text_of(*token, "cluster")).c_str(), time_of(*token, "expires_ms").c_str(),
               printable(text_of(*token, "id")).c_str());
  return {};
}

std::string roles_of(const Json& node) {
  std::string roles;
  for (const Json& role : member_of(node, "roles")) roles += (roles.empty() ? "" : ",") + plain_text(role);
  return roles;
}

Result<void> list_nodes(const GlobalOptions& global) {
  const auto list = call_admin(global, "GET", "cluster/nodes");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  Table table({{"NAME"}, {"STATE"}, {"ROLES"}, {"ENDPOINT"}, {"ENROLLED"}, {"CHANGED"}, {"BY"}, {"REASON"}});
  for (const Json& node : member_of(*list, "nodes")) {
    table.add({text_of(node, "name"), text_of(node, "state"), roles_of(node), text_of(node, "endpoint"),
               time_of(node, "enrolled_ms"), time_of(node, "changed_ms"), text_of(node, "changed_by"),
               text_of(node, "reason")});
  }
  print(table.text());
  return {};
}

Result<void> change_node(const GlobalOptions& global, const Action& action, const ChangeOptions& options) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("by").string(options.by.empty() ? who_asks() : options.by);
  json.key("reason").string(options.reason).end_object();
  const auto done = call_admin(global, "POST", "cluster/nodes/" + url_encoded(options.name) + "/" + action.word, body);
  if (!done) {
    if (!is(done.error(), CliError::not_found)) return fail(done.error());
    return fail(CliError::not_found, "there is no node '" + printable(options.name) + "'; 'outlast node list' shows all");
  }
  print(global.json ? done->dump() + "\n" : printable(options.name) + " " + action.done + "\n");
  return {};
}

std::string age_fault(const std::string& text) {
  constexpr std::int64_t minute_ms = 60'000;
  constexpr std::int64_t week_ms = 7LL * 24 * 60 * minute_ms;
  const auto ms = parse_duration_ms(text);
  return ms && *ms >= minute_ms && *ms <= week_ms ? std::string()
                                                  : "'" + text + "' is no age of a token; write 1m to 7d, e.g. 1h";
}

}  // namespace

void add_member_commands(CommandLine& line) {
  CLI::App* node = line.add_group("node", "the nodes of a cluster: who may take part");
  add_join_commands(line, *node);

  auto token_options = std::make_shared<TokenOptions>();
  CLI::App* token = line.add_command(*node, "token", "makes a token that lets one machine join, and shows it once",
                                     [&line, token_options] { return make_token(line.options, *token_options); });
  token->add_option("--expires", token_options->expires, "after so long it lets nobody in (default 1h)")
      ->type_name("TIME")
      ->check(CLI::Validator(age_fault, ""));
  token->add_option("--withdraw", token_options->withdraw, "ends an open one instead: jt_…")->type_name("ID");

  line.add_command(*node, "list", "shows every node and its state", [&line] { return list_nodes(line.options); });

  for (const Action& action : actions) {
    auto options = std::make_shared<ChangeOptions>();
    CLI::App* change = line.add_command(*node, action.word, action.help, [&line, &action, options] {
      return change_node(line.options, action, *options);
    });
    change->add_option("name", options->name, "as 'outlast node list' shows it")->required()->type_name("NAME");
    change->add_option("--reason", options->reason, "why, for the ledger")->type_name("TEXT");
    change->add_option("--by", options->by, "who, for the ledger (default: USER@HOST)")->type_name("WHO");
  }
}

}  // namespace outlast::apps
