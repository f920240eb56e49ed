// outlast status | deployments | models
#include <set>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/front_api.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

// "ledger.entries" and its value, for every scalar.
void add_scalars(Table& table, const std::string& prefix, const Json& object) {
  for (const auto& [name, value] : object.items()) {
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    if (value.is_object()) {
      add_scalars(table, path, value);
    } else {
      table.add({path, plain_text(value)});
    }
  }
}

Result<void> show_status(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "status");
  if (!answer) return fail(answer.error());
  const auto status = parse_object(answer->body, "the node's answer");
  if (!status) return fail(status.error());
  if (global.json) {
    print(status->dump() + "\n");
    return {};
  }
  Table table({{"WHAT"}, {"VALUE"}});
  add_scalars(table, "", *status);
  print(table.text());
  return {};
}

// A table of the objects of an array: a column per member, in the node's order.
std::string object_table(const Json& objects) {
  std::vector<Table::Column> columns;
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Json& object : objects) {
    if (!object.is_object()) continue;
    for (const auto& [name, value] : object.items()) {
      if (!seen.insert(name).second) continue;
      std::string title = name;
      for (char& c : title)
        c = c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      columns.push_back({title, value.is_number() ? Table::Align::right : Table::Align::left});
      names.push_back(name);
    }
  }
  Table table(columns);
  for (const Json& object : objects) {
    std::vector<std::string> cells;
    for (const std::string& name : names) cells.push_back(plain_text(member_of(object, name)));
    table.add(std::move(cells));
  }
  return table.text();
}

Result<void> show_deployments(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "deployments");
  if (!answer) return fail(answer.error());
  const auto list = parse_object(answer->body, "the node's answer");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  const Json& deployments = member_of(*list, "deployments");
  print(deployments.empty() ? "no deployments; add [[deployment]] to the node's configuration\n"
                            : object_table(deployments));
  return {};
}

struct ModelsOptions {
  std::string url;
  std::string key_file;
};

Result<void> show_models(const GlobalOptions& global, const ModelsOptions& options) {
  auto front = FrontApi::find(global, options.url, options.key_file);
  if (!front) return fail(front.error());
  const auto models = front->models();
  if (!models) return fail(models.error());
  if (global.json) {
    print(models->dump() + "\n");
    return {};
  }
  for (const Json& model : member_of(*models, "data"))
    print(printable(text_of(model, "id")) + "\n");
  return {};
}

}  // namespace

void add_node_commands(CommandLine& line) {
  line.add_command(line.app, "status", "what the node is doing",
                   [&line] { return show_status(line.options); });
  line.add_command(line.app, "deployments", "the health of every deployment",
                   [&line] { return show_deployments(line.options); });
  auto options = std::make_shared<ModelsOptions>();
  CLI::App* models =
      line.add_command(line.app, "models", "the routes and models that a key can ask for",
                       [&line, options] { return show_models(line.options, *options); });
  add_front_options(*models, options->url, options->key_file);
}

}  // namespace outlast::apps
