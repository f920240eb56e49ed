// Providers, deployments and routes: names, references, URLs and credentials.
#include <algorithm>

#include "apps/config/secret_reader.hpp"
#include "apps/config/sections.hpp"
#include "apps/config/words.hpp"
#include "http/client.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t name_length_max = 128;
constexpr std::size_t model_length_max = 256;
constexpr std::uint64_t timeout_ms_max = 3'600'000;
constexpr std::uint64_t weight_max = 1'000'000;
constexpr std::uint64_t priority_max = 1'000;
constexpr std::uint64_t concurrency_max = 1'000'000;
constexpr std::uint64_t attempts_most = 16;

constexpr std::string_view dialect_words[] = {"openai", "anthropic"};
constexpr gateway::Dialect dialects[] = {gateway::Dialect::openai, gateway::Dialect::anthropic};

// Names stand in headers, metrics and logs.
bool printable_without_spaces(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; });
}

// The names of one kind and the lines that gave them.
class Names {
 public:
  explicit Names(std::string_view kind) : kind_(kind) {}

  // Reads `name`; reports a malformed or repeated one. Empty when there is none to use.
  std::string read(TableReader& reader, std::string_view example) {
    std::string name;
    if (!reader.required_text("name", name, example)) return {};
    if (name.size() > name_length_max || !printable_without_spaces(name)) {
      reader.error("name",
                   "is not a name; write 1 to " + std::to_string(name_length_max) +
                       " printable ASCII characters without spaces, quotes and backslashes");
      return {};
    }
    const auto [first, added] = lines_.emplace(name, reader.line_of("name"));
    if (!added) {
      reader.error("name", "'" + name + "' is already the name of the " + std::string(kind_) +
                               " of line " + std::to_string(first->second) + "; give each " +
                               std::string(kind_) + " a name of its own");
    }
    return name;
  }

  // Reports a reference to a name that is not here.
  void require(TableReader& reader, std::string_view key, const std::string& name) const {
    if (lines_.contains(name)) return;
    std::vector<std::string_view> known;
    for (const auto& [other, line] : lines_) known.push_back(other);
    const std::string what = "there is no " + std::string(kind_) + " '" + name + "'; ";
    const std::string_view nearest = nearest_word(name, known);
    if (known.empty()) {
      reader.error(key, what + "add a [[" + std::string(kind_) + "]] of that name");
    } else if (nearest.empty()) {
      reader.error(key, what + "known: " + join_words(known));
    } else {
      reader.error(key, what + "did you mean '" + std::string(nearest) + "'?");
    }
  }

 private:
  std::string_view kind_;
  std::map<std::string, std::uint32_t> lines_;
};

constexpr std::string_view api_key_advice = R"(api_key = { env = "NAME" } or { file = "PATH" })";

void read_base_url(TableReader& reader, http::Origin& into) {
  std::string url;
  if (!reader.required_text("base_url", url, R"(base_url = "https://api.example.com/v1")")) return;
  if (url.find('@') != std::string::npos) {  // and do not repeat it: it may hold a password
    reader.error("base_url", "holds '@'; credentials do not stand in a URL, write " +
                                 std::string(api_key_advice));
    return;
  }
  auto origin = http::Origin::parse(url);
  if (!origin) {
    reader.error("base_url", "'" + url + "' is not a base URL: " + origin.error().message +
                                 "; write http://HOST[:PORT][/PREFIX] or https://…");
    return;
  }
  into = std::move(*origin);
}

void read_provider(TableReader& reader, const std::string& folder, bool secrets, Names& names,
                   NodeConfig& config) {
  gateway::Provider provider;
  provider.name = names.read(reader, R"(name = "alpha")");
  if (!reader.has("dialect")) {
    std::string absent;
    reader.required_text("dialect", absent,
                         R"(dialect = "openai" (one of )" + join_words(dialect_words) + ")");
  } else if (const auto index = reader.choice("dialect", dialect_words)) {
    provider.dialect = dialects[*index];
  }
  read_base_url(reader, provider.origin);
  provider.api_key = read_secret(reader, "api_key", folder, {"key", "the provider's key", secrets});
  read_price_label(reader, "contract", provider.contract);
  read_price_label(reader, "region", provider.region);
  reader.refuse_unknown_keys();
  config.providers.push_back(std::move(provider));
}

void read_deployment(TableReader& reader, const Names& providers, Names& names,
                     NodeConfig& config) {
  gateway::Deployment deployment;
  deployment.name = names.read(reader, R"(name = "fable-alpha")");
  if (reader.required_text("provider", deployment.provider, R"(provider = "alpha")")) {
    providers.require(reader, "provider", deployment.provider);
  }
  if (reader.required_text("model", deployment.model, R"(model = "claude-fable-5")") &&
      (deployment.model.size() > model_length_max || !printable_without_spaces(deployment.model))) {
    reader.error("model",
                 "is not a model's name; write it as the provider knows it, without spaces");
  }
  reader.integer("weight", deployment.weight, 0, weight_max);
  reader.integer("priority", deployment.priority, 0, priority_max);
  reader.integer("max_concurrency", deployment.max_concurrency, 0, concurrency_max);
  TableReader timeouts = reader.table(
      "timeouts", "timeouts = { connect_ms = 5000, first_event_ms = 60000, idle_ms = 60000 }");
  timeouts.integer("connect_ms", deployment.timeouts.connect_ms, 1, timeout_ms_max);
  timeouts.integer("first_event_ms", deployment.timeouts.first_byte_ms, 1, timeout_ms_max);
  timeouts.integer("idle_ms", deployment.timeouts.idle_ms, 1, timeout_ms_max);
  timeouts.refuse_unknown_keys();
  reader.refuse_unknown_keys();
  config.deployments.push_back(std::move(deployment));
}

void read_route(TableReader& reader, const Names& deployments, Names& names, NodeConfig& config) {
  gateway::Route route;
  route.name = names.read(reader, R"(name = "smart")");
  const std::string_view advice = R"(; write e.g. deployments = ["fable-alpha", "opus-beta"])";
  if (!reader.texts("deployments", route.deployments)) {
    if (!reader.has("deployments")) reader.error("deployments", "is missing" + std::string(advice));
  } else if (route.deployments.empty()) {
    reader.error("deployments", "is empty" + std::string(advice));
  }
  for (auto name = route.deployments.begin(); name != route.deployments.end(); ++name) {
    deployments.require(reader, "deployments", *name);
    if (std::find(route.deployments.begin(), name, *name) != name) {
      reader.error("deployments",
                   "'" + *name + "' stands in the list twice; name it once and give it a weight");
    }
  }
  TableReader policy = reader.table(
      "policy", "policy = { deadline_ms = 600000, attempts_max = 4, drain_on_disconnect = false, burn = false }");
  policy.integer("deadline_ms", route.policy.deadline_ms, 1, timeout_ms_max);
  policy.integer("attempts_max", route.policy.attempts_max, 1, attempts_most);
  policy.boolean("drain_on_disconnect", route.policy.drain_on_disconnect);
  policy.boolean("burn", route.policy.burn);
  policy.refuse_unknown_keys();
  reader.refuse_unknown_keys();
  config.routes.push_back(std::move(route));
}

}  // namespace

void read_routing(TableReader& root, const std::string& folder, NodeConfig& config, bool secrets) {
  Names providers("provider");
  for (TableReader& reader : root.tables("provider"))
    read_provider(reader, folder, secrets, providers, config);
  Names deployments("deployment");
  for (TableReader& reader : root.tables("deployment"))
    read_deployment(reader, providers, deployments, config);
  Names routes("route");
  for (TableReader& reader : root.tables("route")) read_route(reader, deployments, routes, config);
}

}  // namespace outlast::apps
