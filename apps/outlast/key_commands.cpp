// outlast key create | list | revoke
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"
#include "core/tenant.hpp"

namespace outlast::apps {
namespace {

struct CreateOptions {
  std::string tenant;
  std::string name;
};

Result<void> create_key(const GlobalOptions& global, const CreateOptions& options) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  std::string body;
  JsonWriter(body)
      .begin_object()
      .key("tenant")
      .string(options.tenant)
      .key("name")
      .string(options.name)
      .end_object();
  const auto answer = api->call("POST", "keys", body);
  if (!answer) return fail(answer.error());
  const auto key = parse_object(answer->body, "the node's answer");
  if (!key) return fail(key.error());
  if (global.json) {
    print(key->dump() + "\n");
    return {};
  }
  print(bold(printable(text_of(*key, "key"))) + "\n");
  const std::string name = text_of(*key, "name");
  print(dim(printable(text_of(*key, "id") + " for " + text_of(*key, "tenant") +
                      (name.empty() ? "" : ", " + name) +
                      ". Keep the key now: it is not shown again.")) +
        "\n");
  return {};
}

Result<void> list_keys(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "keys");
  if (!answer) return fail(answer.error());
  const auto list = parse_object(answer->body, "the node's answer");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  Table table({{"ID"}, {"TENANT"}, {"NAME"}, {"CREATED"}, {"REVOKED"}});
  for (const Json& key : member_of(*list, "keys")) {
    table.add({text_of(key, "id"), text_of(key, "tenant"), text_of(key, "name"),
               time_of(key, "created_ms"), time_of(key, "revoked_ms")});
  }
  print(table.text());
  return {};
}

Result<void> revoke_key(const GlobalOptions& global, const std::string& id) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("DELETE", "keys/" + url_encoded(id));
  if (!answer) {
    if (is(answer.error(), CliError::not_found)) {
      return fail(CliError::not_found,
                  "there is no key '" + printable(id) + "'; 'outlast key list' shows all");
    }
    return fail(answer.error());
  }
  if (global.json) {
    std::string line;
    JsonWriter(line).begin_object().key("id").string(id).key("revoked").boolean(true).end_object();
    print(line + "\n");
  } else {
    print("revoked " + printable(id) + "\n");
  }
  return {};
}

std::string tenant_fault(const std::string& text) {
  const auto path = TenantPath::parse(text);
  return path ? std::string() : path.error().message;
}

}  // namespace

void add_key_commands(CommandLine& line) {
  CLI::App* keys =
      line.add_group("key", "virtual keys: what services send instead of a provider's key");
  auto create_options = std::make_shared<CreateOptions>();
  CLI::App* create = line.add_command(
      *keys, "create", "makes a key and shows it once",
      [&line, create_options] { return create_key(line.options, *create_options); });
  create->add_option("--tenant", create_options->tenant, "who pays: ORG/TEAM/USER")
      ->required()
      ->type_name("ORG/TEAM/USER")
      ->check(CLI::Validator(tenant_fault, ""));
  create->add_option("--name", create_options->name, "what it is for, for people")
      ->type_name("NAME");

  line.add_command(*keys, "list", "shows every key, without its text",
                   [&line] { return list_keys(line.options); });

  auto id = std::make_shared<std::string>();
  CLI::App* revoke = line.add_command(*keys, "revoke", "ends a key at once and for good",
                                      [&line, id] { return revoke_key(line.options, *id); });
  revoke->add_option("id", *id, "key_…, as 'outlast key list' shows it")
      ->required()
      ->type_name("ID");
}

}  // namespace outlast::apps
