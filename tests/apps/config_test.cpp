#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>

#include "tests/apps/config_files.hpp"

namespace config_test {

using outlast::is;
using outlast::apps::ConfigError;
using outlast::apps::load_node_config;
using outlast::apps::NodeConfig;
using outlast::tests::errors_after_node;
using outlast::tests::errors_of;
using outlast::tests::Folder;
using outlast::tests::node_lines;

TEST_CASE("a whole configuration is read into its fields", "[config]") {
  const Folder folder;
  folder.write("prices.toml", R"(
version = "2026-11-01"
[[price]]
provider = "alpha"
model = "claude-fable-5"
input = "3"
output = "15.00"
)");
  folder.write("beta.key", "sk-beta\n");
  setenv("OUTLAST_TEST_ALPHA_KEY", "sk-alpha", 1);
  const std::string file = folder.write("node.toml", R"(
[node]
name = "n1"
data = "var/n1"
roles = ["ledger", "gateway"]
[http]
listen = "[::1]:0"
admin_listen = "localhost:8081"
lanes = 3
[zmq]
listen = "tcp://127.0.0.1:8082"
[limits]
head_bytes_max = 4096
body_bytes_max = 1048576
connections_max = 7
head_timeout_ms = 1
body_timeout_ms = 2
idle_timeout_ms = 3
write_stall_timeout_ms = 4
drain_timeout_ms = 0
default_output_tokens_max = 512
disk_free_bytes_min = 0
ballast_bytes = 1024
[log]
format = "json"
level = "debug"
[[provider]]
name = "alpha"
dialect = "openai"
base_url = "http://127.0.0.1:9001/v1"
api_key = { env = "OUTLAST_TEST_ALPHA_KEY" }
[[provider]]
name = "beta"
dialect = "anthropic"
base_url = "https://api.example.com"
api_key = { file = "beta.key" }
[[deployment]]
name = "fable-alpha"
provider = "alpha"
model = "claude-fable-5"
weight = 5
priority = 2
max_concurrency = 9
timeouts = { connect_ms = 10, first_event_ms = 20, idle_ms = 30 }
[[deployment]]
name = "opus-beta"
provider = "beta"
model = "claude-opus-5"
[[route]]
name = "smart"
deployments = ["fable-alpha", "opus-beta"]
policy = { deadline_ms = 1000, attempts_max = 2, drain_on_disconnect = true, burn = true }
[prices]
file = "prices.toml"
unpriced = "refuse"
)");
  const auto loaded = load_node_config(file);
  if (!loaded) FAIL(loaded.error().message);
  const NodeConfig& config = *loaded;
  CHECK(config.file == file);
  CHECK(config.name == "n1");
  CHECK(config.data == "var/n1");
  CHECK(config.roles == std::vector<std::string>{"ledger", "gateway"});
  CHECK(config.http_listen == "[::1]:0");
  CHECK(config.admin_listen == "localhost:8081");
  CHECK(config.lanes == 3);
  CHECK(config.zmq_listen == "tcp://127.0.0.1:8082");
  CHECK(config.limits.http.head_bytes_max == 4096);
  CHECK(config.limits.http.body_bytes_max == 1'048'576);
  CHECK(config.limits.http.connections_max == 7);
  CHECK(config.limits.http.head_timeout_ms == 1);
  CHECK(config.limits.http.body_timeout_ms == 2);
  CHECK(config.limits.http.idle_timeout_ms == 3);
  CHECK(config.limits.http.write_stall_timeout_ms == 4);
  CHECK(config.limits.drain_timeout_ms == 0);
  CHECK(config.limits.default_output_tokens_max == 512);
  CHECK(config.limits.disk_free_bytes_min == 0);
  CHECK(config.limits.ballast_bytes == 1024);
  CHECK(config.log_format == outlast::log::Format::json);
  CHECK(config.log_level == outlast::log::Level::debug);
  REQUIRE(config.providers.size() == 2);
  CHECK(config.providers[0].api_key == "sk-alpha");
  CHECK(config.providers[0].origin == outlast::http::Origin{false, "127.0.0.1", 9001, "/v1"});
  CHECK(config.providers[1].dialect == outlast::gateway::Dialect::anthropic);
  CHECK(config.providers[1].api_key == "sk-beta");
  CHECK(config.providers[1].origin == outlast::http::Origin{true, "api.example.com", 443, ""});
  REQUIRE(config.deployments.size() == 2);
  CHECK(config.deployments[0].provider == "alpha");
  CHECK(config.deployments[0].model == "claude-fable-5");
  CHECK(config.deployments[0].weight == 5);
  CHECK(config.deployments[0].priority == 2);
  CHECK(config.deployments[0].max_concurrency == 9);
  CHECK(config.deployments[0].timeouts.connect_ms == 10);
  CHECK(config.deployments[0].timeouts.first_byte_ms == 20);
  CHECK(config.deployments[0].timeouts.idle_ms == 30);
  CHECK(config.deployments[1].weight == 1);
  REQUIRE(config.routes.size() == 1);
  CHECK(config.routes[0].deployments == std::vector<std::string>{"fable-alpha", "opus-beta"});
  CHECK(config.routes[0].policy.deadline_ms == 1000);
  CHECK(config.routes[0].policy.attempts_max == 2);
  CHECK(config.routes[0].policy.drain_on_disconnect);
  CHECK(config.routes[0].policy.burn);
  CHECK(config.prices_file == folder.path() + "/prices.toml");
  CHECK(config.prices.version() == "2026-11-01");
  CHECK(config.prices.find({.provider = "alpha", .model = "claude-fable-5"}) != nullptr);
  CHECK_THAT(config.prices_toml, Catch::Contains("[[price]]"));
  CHECK(config.refuse_unpriced);
}

TEST_CASE("a name and a data folder are enough, and everything else has a default", "[config]") {
  const Folder folder;
  const auto config = load_node_config(folder.write("node.toml", std::string(node_lines)));
  if (!config) FAIL(config.error().message);
  CHECK(config->http_listen == "127.0.0.1:8080");
  CHECK(config->zmq_listen.empty());
  CHECK(config->roles == std::vector<std::string>{"gateway", "ledger"});
  CHECK(config->prices.version() == "none");
  CHECK_FALSE(config->refuse_unpriced);
}

TEST_CASE("each mistake gives one line with file, line, key, what is wrong and what is right",
          "[config]") {
  struct Case {
    std::string_view lines;  // after [node], so from line 4 on
    std::string_view error;
  };
  const auto [lines, error] = GENERATE(values<Case>({
      {"[http]\nlisen = \"127.0.0.1:1\"",
       "FILE:5: key 'http.lisen': is not known; did you mean 'listen'?"},
      {"[htpt]\nlisten = \"127.0.0.1:1\"",
       "FILE:4: key 'htpt': is not known; did you mean 'http'?"},
      {"[zmq]\ncompression = 1",
       "FILE:5: key 'zmq.compression': is not known; the keys here are listen"},
      {"[http]\nlisten = \"8080\"",
       "FILE:5: key 'http.listen': '8080' is not an address; write HOST:PORT, e.g. 127.0.0.1:8080, "
       "[::1]:8080 or, for "
       "every interface, 0.0.0.0:8080"},
      {"[http]\nlisten = \"0.0.0.0:8080\"",
       "FILE:5: key 'http.listen': '0.0.0.0:8080' can be reached from other machines, and without "
       "TLS they could read "
       "keys; set tls_cert and tls_key, or accept that with allow_plaintext = true under [http]"},
      {"[http]\nlisten = \"127.0.0.1:9\"\nadmin_listen = \"127.0.0.1:9\"",
       "FILE:6: key 'http.admin_listen': is the same address as listen; give the admin interface a "
       "port of its own"},
      {"[http]\nlanes = 5000",
       "FILE:5: key 'http.lanes': 5000 is out of range; write an integer from 0 to 1024"},
      {"[http]\nlanes = \"two\"",
       "FILE:5: key 'http.lanes': is a string; write an integer from 0 to 1024"},
      {"[http]\nlisten = 8080",
       "FILE:5: key 'http.listen': is an integer; write a string in quotes"},
      {"[http]\nallow_plaintext = \"yes\"",
       "FILE:5: key 'http.allow_plaintext': is a string; write true or false"},
      {"[http]\ntls_cert = \"c.pem\"",
       "FILE:5: key 'http.tls_cert': stands without tls_key; give both as PEM files, or neither\n"
       "FILE:5: key 'http.tls_cert': 'FOLDER/c.pem' cannot be read: No such file or directory; "
       "name a PEM file"},
      {"[zmq]\nlisten = \"127.0.0.1:8082\"",
       "FILE:5: key 'zmq.listen': '127.0.0.1:8082' is not a ZeroMQ address; write tcp://HOST:PORT, "
       "e.g. "
       "tcp://127.0.0.1:8082"},
      {"[limits]\nbody_bytes_max = -1",
       "FILE:5: key 'limits.body_bytes_max': -1 is out of range; write an integer from 1024 to "
       "1073741824"},
      {"[log]\nlevel = \"verbose\"",
       "FILE:5: key 'log.level': 'verbose' is not known; write one of debug, info, warning, error"},
      {"log = 3", "FILE:4: key 'node.log': is not known; the keys here are name, data, roles"},
      {"[prices]\nfile = \"none.toml\"",
       "FILE:5: key 'prices.file': 'FOLDER/none.toml' cannot be read: No such file or directory; "
       "name a price book, seen "
       "from this file's folder"},
      {"[prices]\nunpriced = \"refuse\"",
       "FILE:5: key 'prices.unpriced': 'refuse' without a price book would refuse every request; "
       "add file = "
       "\"prices.toml\""},
      {"[provider]\nname = \"alpha\"",
       "FILE:4: key 'provider': is a table; write [[provider]] once for each"},
  }));
  CHECK(errors_after_node(lines) == error);
}

TEST_CASE("mistakes in [node] are named by line", "[config]") {
  CHECK(errors_of("") ==
        "FILE:1: key 'node.name': is missing; write e.g. name = \"n1\" under [node]\n"
        "FILE:1: key 'node.data': is missing; write e.g. data = \"var/n1\" under [node]");
  CHECK(errors_of("node = 7") ==
        "FILE:1: key 'node': is an integer; write [node]\n"
        "FILE:1: key 'node.name': is missing; write e.g. name = \"n1\" under [node]\n"
        "FILE:1: key 'node.data': is missing; write e.g. data = \"var/n1\" under [node]");
  CHECK(errors_of("[node]\nname = \"n 1\"\ndata = \"\"\n") ==
        "FILE:2: key 'node.name': is not a node's name; write 1 to 64 of A-Z a-z 0-9 . _ -\n"
        "FILE:3: key 'node.data': is empty; write e.g. data = \"var/n1\" under [node]");
  CHECK(errors_after_node("roles = [\"gateway\", \"ledger\", \"gpu\"]") == "no error");
  CHECK(errors_after_node("roles = [\"gateway\", \"ledger\", \"distill\", \"cook\"]") ==
        "FILE:4: key 'node.roles': 'distill' is not in this version; write roles = [\"gateway\", "
        "\"ledger\"]\n"
        "FILE:4: key 'node.roles': 'cook' is not known; write roles = [\"gateway\", \"ledger\"]");
  CHECK(errors_after_node("roles = [\"gateway\"]") ==
        "FILE:4: key 'node.roles': a node without [cluster] is gateway and ledger together; write "
        "roles = [\"gateway\", "
        "\"ledger\"]");
}

TEST_CASE("a listener for other machines is accepted when its plain text is accepted in words",
          "[config]") {
  CHECK(
      errors_after_node(
          "[http]\nallow_plaintext = true\nlisten = \"0.0.0.0:8080\"\nadmin_listen = \"[::]:1\"") ==
      "no error");
  CHECK_THAT(errors_after_node("[http]\nallow_plaintext = false\nadmin_listen = \"192.0.2.1:1\""),
             Catch::Contains("http.admin_listen"));
}

TEST_CASE("addresses of this machine need no TLS, and what is no address is refused", "[config]") {
  for (const char* address : {"127.0.0.1:0", "127.8.9.10:65535", "[::1]:80", "localhost:1"}) {
    CAPTURE(address);
    CHECK(errors_after_node("[http]\nlisten = \"" + std::string(address) + "\"") == "no error");
  }
  for (const char* address :
       {"", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:8o",
        "127.0.0:80", "::1:80", "[::1:80", "[zz]:80", "*:80", "a b:80", "http://a:80"}) {
    CAPTURE(address);
    CHECK_THAT(errors_after_node("[http]\nlisten = \"" + std::string(address) + "\""),
               Catch::Contains("is not an address"));
  }
}

TEST_CASE("all mistakes are told at once, in the order of their lines", "[config]") {
  CHECK(errors_after_node(
            "extra = 1\n[http]\nlanes = -1\n[log]\nformat = \"xml\"\n[[provider]]\nname = \"a\"\n"
            "dialect = \"openai\"\nbase_url = \"http://h\"\nweight = 1") ==
        "FILE:4: key 'node.extra': is not known; the keys here are name, data, roles\n"
        "FILE:6: key 'http.lanes': -1 is out of range; write an integer from 0 to 1024\n"
        "FILE:8: key 'log.format': 'xml' is not known; write one of text, json\n"
        "FILE:13: key 'provider.weight': is not known; the keys here are name, dialect, base_url, "
        "api_key, contract, region");
}

TEST_CASE("what is not TOML and what is not a file are errors of their own kind", "[config]") {
  const Folder folder;
  const auto syntax = load_node_config(folder.write("node.toml", "[node]\nname = \n"));
  REQUIRE_FALSE(syntax);
  CHECK(is(syntax.error(), ConfigError::syntax));
  CHECK_THAT(syntax.error().message, Catch::Contains("node.toml:2: is not TOML: "));
  const auto missing = load_node_config(folder.path() + "/missing.toml");
  REQUIRE_FALSE(missing);
  CHECK(is(missing.error(), ConfigError::unreadable));
  CHECK_THAT(missing.error().message,
             Catch::Contains("missing.toml: cannot be read: No such file or directory"));
  const auto directory = load_node_config(folder.path());
  REQUIRE_FALSE(directory);
  CHECK(is(directory.error(), ConfigError::unreadable));
}

TEST_CASE("a value from the file cannot forge an error line of its own", "[config]") {
  const std::string errors = errors_after_node("[log]\nlevel = \"a\\nFILE:1: forged\"");
  CHECK(std::count(errors.begin(), errors.end(), '\n') == 0);
}

TEST_CASE("errors of the price book name its own file and stand with the others", "[config]") {
  const Folder folder;
  folder.write("prices.toml",
               "version = \"1\"\n[[price]]\nprovider = \"a\"\nmodel = \"m\"\ninput = \"1\"\n");
  const auto config = load_node_config(
      folder.write("node.toml", "[node]\nname = \"n\"\n[prices]\nfile = \"prices.toml\"\n"));
  REQUIRE_FALSE(config);
  CHECK(
      config.error().message ==
      folder.path() +
          "/node.toml:1: key 'node.data': is missing; write e.g. data = \"var/n1\" under [node]\n" +
          folder.path() +
          "/prices.toml:2: key 'price.output': is missing; write US dollars per million tokens, "
          "e.g. "
          "output = \"2.50\"");
}

}  // namespace config_test
