// outlast cluster status | apply | settings
#include "apps/config/cluster_routes.hpp"
#include "apps/outlast/admin_json.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/text_file.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t routes_bytes_max = 1U << 20;
constexpr std::size_t shown_value_max = 60;

std::string or_dash(std::string text) { return text.empty() ? "-" : text; }
std::string yes_or_no(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return !value.is_boolean() ? "-" : value.get<bool>() ? "yes" : "no";
}
// A number, or a dash for null.
std::string number_of(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return value.is_number() ? plain_text(value) : "-";
}

std::string list_of(const Json& texts) {
  std::string all;
  for (const Json& text : texts) all += (all.empty() ? "" : ",") + plain_text(text);
  return or_dash(all);
}

std::string nodes_table(const Json& nodes) {
  Table table({{"NODE"}, {"STATE"}, {"UP"}, {"ROLES"}, {"VERSION"}, {"SHARDS", Table::Align::right},
               {"LAG", Table::Align::right}, {"ENDPOINT"}});
  for (const Json& node : nodes) {
    table.add({text_of(node, "name"), text_of(node, "state"), yes_or_no(node, "up"), list_of(member_of(node, "roles")),
               or_dash(text_of(node, "version")), number_of(node, "shards_owned"), number_of(node, "lag_entries"),
               text_of(node, "endpoint")});
  }
  return table.text();
}

// "n2 -3": the replica is three entries behind.
std::string replicas_of(const Json& shard) {
  std::string all;
  for (const Json& replica : member_of(shard, "replicas")) {
    const std::string lag = number_of(replica, "lag_entries");
    all += (all.empty() ? "" : ", ") + text_of(replica, "node") + (lag == "0" ? "" : lag == "-" ? " ?" : " -" + lag);
  }
  return or_dash(all);
}

std::string shards_table(const Json& shards) {
  Table table({{"SHARD"}, {"OWNER"}, {"EPOCH", Table::Align::right}, {"ENTRIES", Table::Align::right}, {"REPLICAS"}});
  for (const Json& shard : shards) {
    table.add({plain_text(member_of(shard, "shard")), or_dash(text_of(shard, "owner")), number_of(shard, "epoch"),
               number_of(shard, "entries"), replicas_of(shard)});
  }
  return table.text();
}

// Empty when this node has none.
std::string problems_table(const Json& problems) {
  Table table({{"SHARD HERE"}, {"PROBLEM"}});
  bool any = false;
  for (const Json& problem : problems) {
    any = true;
    table.add({text_of(problem, "shard"), text_of(problem, "what")});
  }
  return any ? table.text() : std::string();
}

std::string etcd_table(const Json& etcd) {
  Table table({{"ETCD"}, {"HEALTHY"}, {"LEADER"}, {"VERSION"}, {"DATABASE BYTES", Table::Align::right}, {"WHY"}});
  for (const Json& member : member_of(etcd, "members")) {
    table.add({text_of(member, "url"), yes_or_no(member, "healthy"), yes_or_no(member, "leader"),
               or_dash(text_of(member, "version")), number_of(member, "db_bytes"), text_of(member, "why")});
  }
  return table.text();
}

Result<void> show_status(const GlobalOptions& global) {
  const auto status = call_admin(global, "GET", "cluster");
  if (!status) return fail(status.error());
  if (global.json) {
    print(status->dump() + "\n");
    return {};
  }
  print(bold("cluster " + printable(text_of(*status, "cluster"))) + ", as node " + printable(text_of(*status, "node")) +
        " sees it\n\n");
  print(nodes_table(member_of(*status, "nodes")) + "\n");
  print(shards_table(member_of(*status, "shards")) + "\n");
  print(etcd_table(member_of(*status, "etcd")));
  if (const std::string problems = problems_table(member_of(*status, "problems")); !problems.empty()) print("\n" + problems);
  return {};
}

Result<void> put_setting(const GlobalOptions& global, const std::string& name, const std::string& value,
                         const std::string& done) {
  std::string body;
  JsonWriter(body).begin_object().key("value").string(value).key("by").string(who_asks()).end_object();
  const auto answer = call_admin(global, "PUT", "cluster/settings/" + url_encoded(name), body);
  if (!answer) return fail(answer.error());
  print(global.json ? answer->dump() + "\n" : done);
  return {};
}

struct ApplyOptions {
  std::string file;
  bool remove = false;
};

Result<void> apply_routes(const GlobalOptions& global, const ApplyOptions& options) {
  const std::string name(routes_setting);
  if (options.remove == !options.file.empty())
    return fail(CliError::usage, "name one file, or --remove and none");
  if (options.remove) return put_setting(global, name, "", "every node goes by its own file again\n");
  const auto text = read_text_file(options.file, routes_bytes_max);
  if (!text) return fail(text.error());
  const auto routes = parse_routes(*text, options.file, ".", SecretUse::only_checked);
  if (!routes) return fail(CliError::failed, "these routes are refused:\n" + routes.error().message);
  return put_setting(global, name, *text, "all nodes go by " + printable(options.file) + ": " +
                                              std::to_string(routes->providers.size()) + " providers, " +
                                              std::to_string(routes->deployments.size()) + " deployments, " +
                                              std::to_string(routes->routes.size()) + " routes\n");
}

Result<void> show_settings(const GlobalOptions& global, const std::string& name) {
  if (!name.empty()) {
    const auto setting = call_admin(global, "GET", "cluster/settings/" + url_encoded(name));
    if (!setting) {
      if (!is(setting.error(), CliError::not_found)) return fail(setting.error());
      return fail(CliError::not_found, "there is no setting '" + printable(name) + "'; 'outlast cluster settings' shows all");
    }
    print(global.json ? setting->dump() + "\n" : printable(text_of(*setting, "value"), true) + "\n");
    return {};
  }
  const auto list = call_admin(global, "GET", "cluster/settings");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  Table table({{"NAME"}, {"BYTES", Table::Align::right}, {"VALUE"}});
  for (const Json& setting : member_of(*list, "settings")) {
    const std::string value = text_of(setting, "value");
    const bool whole = value.size() <= shown_value_max && value.find('\n') == std::string::npos;
    table.add({text_of(setting, "name"), std::to_string(value.size()), whole ? value : "…"});
  }
  print(table.text());
  return {};
}

}  // namespace

void add_cluster_commands(CommandLine& line) {
  CLI::App* cluster = line.add_group("cluster", "several nodes that work as one: their health, and what they go by");
  add_cluster_certificates(line, *cluster);
  add_cluster_demo(line, *cluster);
  line.add_command(*cluster, "status", "nodes, who owns which shard, lag, etcd", [&line] { return show_status(line.options); });

  auto apply_options = std::make_shared<ApplyOptions>();
  CLI::App* apply = line.add_command(*cluster, "apply",
                                     "has all nodes go by the [[provider]], [[deployment]] and [[route]] of a file",
                                     [&line, apply_options] { return apply_routes(line.options, *apply_options); });
  apply->add_option("file", apply_options->file, "TOML with these tables only; '-' is stdin")->type_name("FILE");
  apply->add_flag("--remove", apply_options->remove, "each node goes by its own file again");

  auto name = std::make_shared<std::string>();
  CLI::App* settings = line.add_command(*cluster, "settings", "shows what all nodes go by",
                                        [&line, name] { return show_settings(line.options, *name); });
  settings->add_option("name", *name, "one of them, whole")->type_name("NAME");
}

}  // namespace outlast::apps
