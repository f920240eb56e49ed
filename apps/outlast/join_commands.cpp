// outlast node init | join: on the machine that is to become a node, before its daemon starts. They write into the
// node's data folder and never over what says that the folder is another's.
#include <filesystem>
#include <optional>

#include "apps/config/cluster_identity.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/text_file.hpp"
#include "cluster/curve.hpp"
#include "cluster/join_client.hpp"
#include "core/clock.hpp"
#include "core/json_writer.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

using Step = ClusterIdentity::Step;

constexpr std::size_t key_secret_digits = 64;
constexpr std::size_t small_file_bytes_max = 4'096;
constexpr unsigned secret_mode = 0600;

struct InitOptions {
  std::string config;
  bool found = false;
};

struct JoinOptions {
  std::string token;
  std::string config;
};

// What the data folder says before a command changes anything.
struct Place {
  NodeConfig config;
  cluster::CurveKeys keys;
  std::optional<ClusterIdentity> identity;
};

std::filesystem::path in_data(const Place& place, const char* name) {
  return std::filesystem::path(place.config.data) / name;
}

Result<void> make_data_folder(const std::string& data) {
  std::error_code error;
  if (!std::filesystem::create_directories(data, error) && error)
    return fail(CliError::failed, "node.data " + data + " cannot be made: " + error.message());
  return {};
}

Result<Place> look_at(const std::string& file) {
  auto config = load_node_config(file);
  if (!config) return fail(CliError::failed, "this configuration is refused:\n" + config.error().message);
  if (config->cluster.name.empty()) {
    return fail(CliError::failed, file + " has no [cluster]; configs/outlast.toml shows what to write");
  }
  if (const auto made = make_data_folder(config->data); !made) return fail(made.error());
  auto identity = read_cluster_identity(config->data);
  if (!identity) return fail(CliError::failed, identity.error().message);
  auto keys = cluster::load_or_make_curve_keys(std::filesystem::path(config->data) / "zmq.key");
  if (!keys) return fail(CliError::failed, keys.error().message);
  // A folder that nobody let in yet is nobody's: another name or another cluster may be tried.
  const bool bound = *identity && ((*identity)->step != Step::joining ||
                                   std::filesystem::exists(std::filesystem::path(config->data) / "key.secret"));
  if (bound) {
    if (const auto good = check_identity(**identity, *config, keys->public_key); !good)
      return fail(CliError::failed, good.error().message);
  }
  return Place{std::move(*config), std::move(*keys), std::move(*identity)};
}

ClusterIdentity identity_of(const Place& place, Step step) {
  return {place.config.cluster.name, place.config.name, place.keys.public_key, step, {}, {}};
}

Result<void> write_identity(const Place& place, const ClusterIdentity& identity) {
  const auto written = write_cluster_identity(place.config.data, identity);
  if (!written) return fail(CliError::failed, written.error().message);
  return {};
}

void show(const GlobalOptions& global, const Place& place, std::string_view step, const std::string& text) {
  if (!global.json) return print(text);
  std::string line;
  JsonWriter json(line);
  json.begin_object().key("cluster").string(place.config.cluster.name).key("node").string(place.config.name);
  json.key("public_key").string(place.keys.public_key).key("data").string(place.config.data);
  json.key("step").string(step).end_object();
  print(line + "\n");
}

Result<void> init_node(const GlobalOptions& global, const InitOptions& options) {
  auto place = look_at(options.config);
  if (!place) return fail(place.error());
  const std::string who = "node " + place->config.name + " of cluster " + place->config.cluster.name;
  const std::string start = "start it: outlastd --config " + options.config + "\n";
  if (options.found) {
    if (place->identity && place->identity->step != Step::founder) {
      return fail(CliError::failed, identity_file(place->config.data) + " says that this node joins a cluster that is "
                                        "there already; found another one with another [node] data");
    }
    if (const auto written = write_identity(*place, identity_of(*place, Step::founder)); !written) return written;
    const std::string join = place->config.cluster.join_listen.empty()
                                 ? "To let others in, add join_listen under [cluster].\n"
                                 : "Then let others in: outlast node token\n";
    show(global, *place, "founder", bold(who) + " founds it; " + start + join);
    return {};
  }
  if (place->identity && place->identity->step != Step::joining) {
    const auto step = identity_step_names[static_cast<std::size_t>(place->identity->step)];
    show(global, *place, step, who + " is there already; " + start);
    return {};
  }
  show(global, *place, "new", bold(who) + " has its keys: " + place->keys.public_key + "\n" +
                                  "On a node of the cluster: outlast node token\n" +
                                  "Then here, with it on stdin: outlast node join - --config " + options.config + "\n");
  return {};
}

// A founder's folder that no daemon has run on: nothing in it counts yet.
bool is_unused_founder(const Place& place) {
  const auto there = [&place](const char* name) { return std::filesystem::exists(in_data(place, name)); };
  return place.identity && place.identity->step == Step::founder && !there("key.secret") && !there("shards") && !there("ledger");
}

// Nobody but the cluster knows whether a founder's folder founded it, or was one founder too many.
Failure takes_part_already(const Place& place) {
  const std::string there = "node " + place.config.name + " takes part in the cluster " + place.config.cluster.name +
                            " already; start it with 'outlastd --config FILE'";
  if (place.identity->step != Step::founder || std::filesystem::exists(in_data(place, "ledger"))) {
    return fail(CliError::failed, there);
  }
  return fail(CliError::failed, there + ". Unless outlastd says that the cluster does not know it, because another node founded " +
                                    "the cluster: then move " + identity_file(place.config.data) + ", " +
                                    in_data(place, "key.secret").string() + " and " + in_data(place, "shards").string() +
                                    " away and join again");
}

// A folder with a ledger or a secret of its own is a node already: joining would make its virtual keys worthless.
Result<void> check_may_join(Place& place, const cluster::JoinToken& token) {
  const ClusterConfig& config = place.config.cluster;
  if (token.cluster != config.name) {
    return fail(CliError::failed, "the token is of the cluster '" + printable(token.cluster) + "', and [cluster] name is '" +
                                      config.name + "'");
  }
  if (is_unused_founder(place)) place.identity.reset();
  if (place.identity && place.identity->step != Step::joining) return takes_part_already(place);
  if (config.listen.ends_with(":0") && config.advertise.empty()) {
    return fail(CliError::failed, "[cluster] listen takes any free port, so others cannot know it; write its port");
  }
  if (place.identity) return {};
  for (const char* name : {"key.secret", "ledger"}) {
    if (!std::filesystem::exists(in_data(place, name))) continue;
    return fail(CliError::failed, in_data(place, name).string() + " is of a node on its own, whose virtual keys would not " +
                                      "work any more; join with an empty [node] data, or let others join this one: "
                                      "outlast node init --found");
  }
  return {};
}

Result<void> write_secret(const Place& place, const std::string& secret) {
  const std::string file = in_data(place, "key.secret").string();
  if (secret.size() != key_secret_digits || secret.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return fail(CliError::failed, "the cluster's secret is of another version; use the cluster's own version of outlast");
  }
  if (std::filesystem::exists(file)) {
    const auto there = storage::read_whole_file(file, small_file_bytes_max);
    if (there && *there == secret + "\n") return {};
    return fail(CliError::failed, file + " is there and holds another secret; nothing was overwritten");
  }
  const auto written = storage::write_file_durably(file, secret + "\n", secret_mode);
  if (!written) return fail(CliError::failed, written.error().message);
  return {};
}

Result<void> join_node(const GlobalOptions& global, const JoinOptions& options) {
  std::string text = options.token;
  if (text == "-") {  // so that it does not stand in the list of processes
    auto read = read_text_file(text, small_file_bytes_max);
    if (!read) return fail(read.error());
    text = read->substr(0, read->find_last_not_of(" \r\n") + 1);
  }
  const auto token = cluster::JoinToken::parse(text);
  if (!token) return fail(CliError::failed, token.error().message);
  auto place = look_at(options.config);
  if (!place) return fail(place.error());
  if (const auto may = check_may_join(*place, *token); !may) return may;
  // From here on the folder is this cluster's, so that an answer that is lost can be asked for again.
  if (const auto written = write_identity(*place, identity_of(*place, Step::joining)); !written) return written;
  const ClusterConfig& config = place->config.cluster;
  const SystemClock clock;
  cluster::JoinCall call{*token,
                         place->keys,
                         place->config.name,
                         config.advertise.empty() ? config.listen : config.advertise,
                         place->config.roles,
                         std::string("outlast ") + OUTLAST_VERSION};
  const auto welcome = cluster::join_cluster(call, clock);
  if (!welcome) {
    const bool silent = is(welcome.error(), cluster::JoinError::unreachable);
    return fail(silent ? CliError::unreachable : CliError::failed, printable(welcome.error().message));
  }
  if (const auto written = write_secret(*place, welcome->secret); !written) return written;
  ClusterIdentity identity = identity_of(*place, Step::joined);
  for (const join::Node& node : welcome->nodes) identity.peers.push_back({node.name, node.public_key, node.endpoint});
  identity.settings = welcome->settings;
  if (const auto written = write_identity(*place, identity); !written) return written;
  show(global, *place, "joined",
       bold("node " + place->config.name + " may take part in cluster " + config.name) + ", with " +
           std::to_string(welcome->nodes.size()) + (welcome->nodes.size() == 1 ? " other" : " others") + "; start it: outlastd --config " + options.config + "\n");
  return {};
}

void add_config_option(CLI::App& command, std::string& into) {
  command.add_option("--config", into, "the node's configuration file")->required()->type_name("FILE");
}

}  // namespace

void add_join_commands(CommandLine& line, CLI::App& node) {
  auto init_options = std::make_shared<InitOptions>();
  CLI::App* init = line.add_command(node, "init", "makes the keys of a node of a cluster in its data folder",
                                    [&line, init_options] { return init_node(line.options, *init_options); });
  add_config_option(*init, init_options->config);
  init->add_flag("--found", init_options->found, "it is the first: the cluster begins with it");

  auto join_options = std::make_shared<JoinOptions>();
  CLI::App* join = line.add_command(node, "join", "becomes a node of the cluster that made the token",
                                    [&line, join_options] { return join_node(line.options, *join_options); });
  join->add_option("token", join_options->token, "as 'outlast node token' shows it, once; '-' reads it from stdin")->required()->type_name("TOKEN");
  add_config_option(*join, join_options->config);
}

}  // namespace outlast::apps
