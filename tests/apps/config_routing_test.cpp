#include <catch2/catch.hpp>

#include <cstdlib>

#include "tests/apps/config_files.hpp"

namespace config_routing_test {

using outlast::apps::load_node_config;
using outlast::tests::alpha_lines;
using outlast::tests::errors_after_node;
using outlast::tests::fable_lines;
using outlast::tests::Folder;
using outlast::tests::node_lines;

TEST_CASE("mistakes in providers are named", "[config]") {
  CHECK(errors_after_node("[[provider]]\n") ==
        "FILE:4: key 'provider.name': is missing; write e.g. name = \"alpha\"\n"
        "FILE:4: key 'provider.dialect': is missing; write e.g. dialect = \"openai\" (one of "
        "openai, anthropic)\n"
        "FILE:4: key 'provider.base_url': is missing; write e.g. base_url = "
        "\"https://api.example.com/v1\"");
  CHECK(errors_after_node(
            "[[provider]]\nname = \"a\"\ndialect = \"gemini\"\nbase_url = \"http://h/v1\"\n") ==
        "FILE:6: key 'provider.dialect': 'gemini' is not known; write one of openai, anthropic");
  CHECK(errors_after_node(std::string(alpha_lines) + std::string(alpha_lines)) ==
        "FILE:9: key 'provider.name': 'alpha' is already the name of the provider of line 5; give "
        "each provider a name "
        "of its own");
  CHECK_THAT(
      errors_after_node(
          "[[provider]]\nname = \"a\"\ndialect = \"openai\"\nbase_url = \"ftp://h/v1\"\n"),
      Catch::StartsWith("FILE:7: key 'provider.base_url': 'ftp://h/v1' is not a base URL: ") &&
          Catch::EndsWith("; write http://HOST[:PORT][/PREFIX] or https://…"));
  CHECK_THAT(errors_after_node("[[provider]]\nname = \"a b\"\n"),
             Catch::Contains("FILE:5: key 'provider.name': is not a name"));
}

TEST_CASE("references to what is not there are refused with a suggestion", "[config]") {
  const std::string both = std::string(alpha_lines) + std::string(fable_lines);  // lines 4 to 11
  CHECK(errors_after_node(fable_lines) ==
        "FILE:6: key 'deployment.provider': there is no provider 'alpha'; add a [[provider]] of "
        "that name");
  CHECK(errors_after_node(both +
                          "[[deployment]]\nname = \"d\"\nprovider = \"alhpa\"\nmodel = \"m\"") ==
        "FILE:14: key 'deployment.provider': there is no provider 'alhpa'; did you mean 'alpha'?");
  CHECK(errors_after_node(
            both + "[[route]]\nname = \"smart\"\ndeployments = [\"opus-beta\", \"fable-alpha\"]") ==
        "FILE:14: key 'route.deployments': there is no deployment 'opus-beta'; known: fable-alpha");
  CHECK(
      errors_after_node(
          both + "[[route]]\nname = \"smart\"\ndeployments = [\"fable-alpha\", \"fable-alpha\"]") ==
      "FILE:14: key 'route.deployments': 'fable-alpha' stands in the list twice; name it once and "
      "give it a weight");
  CHECK(errors_after_node(both + "[[route]]\nname = \"smart\"\ndeployments = []") ==
        "FILE:14: key 'route.deployments': is empty; write e.g. deployments = [\"fable-alpha\", "
        "\"opus-beta\"]");
  CHECK(errors_after_node(both + "[[route]]\nname = \"smart\"\ndeployments = \"fable-alpha\"") ==
        "FILE:14: key 'route.deployments': is a string; write a list of strings, e.g. deployments "
        "= [\"a\", \"b\"]");
  CHECK(errors_after_node(both + "[[route]]\nname = \"smart\"") ==
        "FILE:12: key 'route.deployments': is missing; write e.g. deployments = [\"fable-alpha\", "
        "\"opus-beta\"]");
}

TEST_CASE("unknown keys in inline tables are found too", "[config]") {
  CHECK(errors_after_node(std::string(alpha_lines) + std::string(fable_lines) +
                          "timeouts = { conect_ms = 1 }") ==
        "FILE:12: key 'deployment.timeouts.conect_ms': is not known; did you mean 'connect_ms'?");
  CHECK(errors_after_node(std::string(alpha_lines) + std::string(fable_lines) + "timeouts = 5") ==
        "FILE:12: key 'deployment.timeouts': is an integer; write timeouts = { connect_ms = 5000, "
        "first_event_ms = 60000, "
        "idle_ms = 60000 }");
  CHECK(
      errors_after_node(std::string(alpha_lines) + std::string(fable_lines) +
                        "[[route]]\nname = \"r\"\ndeployments = [\"fable-alpha\"]\npolicy = { "
                        "attempts_max = 0 }") ==
      "FILE:15: key 'route.policy.attempts_max': 0 is out of range; write an integer from 1 to 16");
}

TEST_CASE("a credential comes from exactly one place, and its absence is named", "[config]") {
  const std::string alpha(alpha_lines);
  unsetenv("OUTLAST_TEST_UNSET");
  CHECK(errors_after_node(alpha + "api_key = { env = \"OUTLAST_TEST_UNSET\" }") ==
        "FILE:8: key 'provider.api_key.env': the environment variable OUTLAST_TEST_UNSET is not "
        "set; set it, or write "
        "api_key = { file = \"PATH\" }");
  CHECK(errors_after_node(alpha + "api_key = { file = \"no.key\" }") ==
        "FILE:8: key 'provider.api_key.file': 'FOLDER/no.key' cannot be read: No such file or "
        "directory; write the key "
        "into that file, readable by this user only");
  CHECK(errors_after_node(alpha + "api_key = { env = \"A\", file = \"B\" }") ==
        "FILE:8: key 'provider.api_key': names both env and file; write api_key = { env = \"NAME\" "
        "} or { file = "
        "\"PATH\" }");
  CHECK(errors_after_node(alpha + "api_key = {}") ==
        "FILE:8: key 'provider.api_key': names neither env nor file; write api_key = { env = "
        "\"NAME\" } or { file = "
        "\"PATH\" }");
  CHECK(errors_after_node(alpha + "api_key = { evn = \"A\" }") ==
        "FILE:8: key 'provider.api_key.evn': is not known; did you mean 'env'?\n"
        "FILE:8: key 'provider.api_key': names neither env nor file; write api_key = { env = "
        "\"NAME\" } or { file = "
        "\"PATH\" }");
}

TEST_CASE("no error message shows a secret", "[config]") {
  const std::string secret = "sk-topsecret";
  const Folder folder;
  setenv("OUTLAST_TEST_BAD_KEY", (secret + "\r\nx-injected: 1").c_str(), 1);
  folder.write("bad.key", secret + "\n" + secret + "\n");
  const std::string head =
      std::string(node_lines) + "[[provider]]\nname = \"a\"\ndialect = \"openai\"\n";
  for (const std::string& lines :
       {"base_url = \"http://h\"\napi_key = \"" + secret + "\"",
        std::string("base_url = \"http://user:") + secret + "@h\"",
        std::string("base_url = \"http://h\"\napi_key = { env = \"OUTLAST_TEST_BAD_KEY\" }"),
        std::string("base_url = \"http://h\"\napi_key = { file = \"bad.key\" }"),
        "base_url = \"http://h\"\napi_key = " + secret,
        "base_url = \"http://h\"\napi_key = { env: \"" + secret + "\" }"}) {
    const auto config = load_node_config(folder.write("node.toml", head + lines));
    CAPTURE(lines);
    REQUIRE_FALSE(config);
    CAPTURE(config.error().message);
    CHECK(config.error().message.find("topsecret") == std::string::npos);
    CHECK_THAT(config.error().message,
               Catch::Contains("api_key") || Catch::Contains("node.toml:8:"));
  }
}

}  // namespace config_routing_test
