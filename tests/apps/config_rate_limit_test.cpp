#include <catch2/catch.hpp>

#include "tests/apps/config_files.hpp"

namespace config_rate_limit_test {

using outlast::apps::load_node_config;
using outlast::gateway::RateScopeKind;
using outlast::tests::alpha_lines;
using outlast::tests::errors_after_node;
using outlast::tests::fable_lines;
using outlast::tests::Folder;
using outlast::tests::node_lines;

TEST_CASE("rate limits are read, and a burst is one minute's worth where none is given",
          "[config]") {
  const Folder folder;
  const auto config = load_node_config(folder.write(
      "node.toml",
      std::string(node_lines) + std::string(alpha_lines) + std::string(fable_lines) +
          "[[rate_limit]]\nscope = \"team:acme/search\"\nrequests_per_minute = 600\n"
          "tokens_per_minute = 200000\nburst = 20\n"
          "[[rate_limit]]\nscope = \"key:*\"\ntokens_per_minute = 1000\nburst_tokens = 500\n"
          "[[rate_limit]]\nscope = \"deployment:fable-alpha\"\nrequests_per_minute = 60\n"));
  REQUIRE(config);
  REQUIRE(config->rate_limits.size() == 3);
  const auto& team = config->rate_limits[0];
  CHECK(team.scope.to_string() == "team:acme/search");
  CHECK(team.requests.per_minute == 600);
  CHECK(team.requests.burst == 20);
  CHECK(team.tokens.per_minute == 200'000);
  CHECK(team.tokens.burst == 200'000);
  const auto& key = config->rate_limits[1];
  CHECK(key.scope.each());
  CHECK(key.requests.per_minute == 0);
  CHECK(key.tokens.burst == 500);
  CHECK(config->rate_limits[2].scope.kind == RateScopeKind::deployment);
  CHECK(config->rate_limits[2].requests.burst == 60);
}

TEST_CASE("mistakes in rate limits are named", "[config]") {
  CHECK(errors_after_node("[[rate_limit]]\n") ==
        "FILE:4: key 'rate_limit.scope': is missing; write e.g. scope = \"team:acme/search\", or "
        "\"key:*\" for each key by itself\n"
        "FILE:4: key 'rate_limit.requests_per_minute': is missing, and tokens_per_minute is too; "
        "write at least one of them");
  CHECK_THAT(
      errors_after_node("[[rate_limit]]\nscope = \"model:m\"\nrequests_per_minute = 1\n"),
      Catch::StartsWith(
          "FILE:5: key 'rate_limit.scope': 'model:m' is nothing that a rate limit applies to: ") &&
          Catch::EndsWith("e.g. team:acme/search, or key:* for each key by itself"));
  CHECK_THAT(errors_after_node("[[rate_limit]]\nscope = \"team:acme\"\nrequests_per_minute = 1\n"),
             Catch::Contains("write team:ORGANISATION/TEAM"));
  CHECK_THAT(errors_after_node("[[rate_limit]]\nscope = \"key:*\"\nrequests_per_minute = 0\n"),
             Catch::StartsWith("FILE:6: key 'rate_limit.requests_per_minute': "));
  CHECK_THAT(errors_after_node("[[rate_limit]]\nscope = \"key:*\"\nrequests_per_minute = -5\n"),
             Catch::StartsWith("FILE:6: key 'rate_limit.requests_per_minute': "));
  CHECK_THAT(
      errors_after_node("[[rate_limit]]\nscope = \"key:*\"\ntokens_per_minute = 99000000000\n"),
      Catch::StartsWith("FILE:6: key 'rate_limit.tokens_per_minute': "));
  CHECK(
      errors_after_node("[[rate_limit]]\nscope = \"key:*\"\ntokens_per_minute = 9\nburst = 5\n") ==
      "FILE:7: key 'rate_limit.burst': stands without requests_per_minute; give both, or neither");
  CHECK(
      errors_after_node(
          "[[rate_limit]]\nscope = \"key:*\"\nrequests_per_minute = 9\nrequests_per_hour = 5\n") ==
      "FILE:7: key 'rate_limit.requests_per_hour': is not known; did you mean "
      "'requests_per_minute'?");
  CHECK(errors_after_node("[[rate_limit]]\nscope = \"key:*\"\nrequests_per_minute = 9\n"
                          "[[rate_limit]]\nscope = \"key:*\"\ntokens_per_minute = 9\n") ==
        "FILE:8: key 'rate_limit.scope': 'key:*' has a rate limit on line 5 already; write "
        "requests_per_minute and tokens_per_minute into one");
  CHECK(errors_after_node(
            std::string(alpha_lines) + std::string(fable_lines) +
            "[[rate_limit]]\nscope = \"deployment:fable-alhpa\"\nrequests_per_minute = 9\n") ==
        "FILE:13: key 'rate_limit.scope': there is no deployment 'fable-alhpa'; did you mean "
        "'fable-alpha'?");
}

}  // namespace config_rate_limit_test
