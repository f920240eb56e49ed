#include <catch2/catch.hpp>

#include "gateway/routing_table.hpp"

namespace routing_table_test {

using namespace outlast::gateway;
using outlast::Result;
using outlast::is;

namespace {

Provider provider(std::string name) { return {std::move(name), Dialect::openai, {}, ""}; }

Deployment deployment(std::string name, std::string provider_name, std::string model) {
  return {.name = std::move(name), .provider = std::move(provider_name), .model = std::move(model)};
}

using Indexes = std::vector<std::uint32_t>;

Indexes indexes_of(const RoutingTable& table, std::string_view name) {
  const ResolvedRoute* route = table.find(name);
  return route == nullptr ? Indexes{} : route->deployments;
}

}  // namespace

TEST_CASE("a route resolves to its deployments in the order written", "[routing]") {
  const auto table = RoutingTable::make(
      {provider("alpha"), provider("beta")},
      {deployment("fable-alpha", "alpha", "fable"), deployment("opus-beta", "beta", "opus")},
      {{"smart", {"opus-beta", "fable-alpha"}, {.deadline_ms = 5'000, .attempts_max = 2, .drain_on_disconnect = true}}});
  REQUIRE(table);
  const ResolvedRoute* smart = (*table)->find("smart");
  REQUIRE(smart != nullptr);
  CHECK(smart->name == "smart");
  CHECK(smart->deployments == Indexes{1, 0});
  CHECK(smart->policy.deadline_ms == 5'000);
  CHECK(smart->policy.attempts_max == 2);
  CHECK(smart->policy.drain_on_disconnect);
  CHECK((*table)->provider_of(0).name == "alpha");
  CHECK((*table)->provider_of(1).name == "beta");
}

TEST_CASE("a model's name resolves to all of its deployments, and a deployment's to itself", "[routing]") {
  const auto table = RoutingTable::make({provider("alpha"), provider("beta")},
                                        {deployment("fable-alpha", "alpha", "fable"), deployment("opus", "beta", "opus-5"),
                                         deployment("fable-beta", "beta", "fable")},
                                        {});
  REQUIRE(table);
  CHECK(indexes_of(**table, "fable") == Indexes{0, 2});
  CHECK(indexes_of(**table, "opus-5") == Indexes{1});
  CHECK(indexes_of(**table, "opus") == Indexes{1});
  CHECK(indexes_of(**table, "fable-beta") == Indexes{2});
  CHECK((*table)->find("fable")->name == "fable");
  CHECK((*table)->find("smart") == nullptr);
  CHECK((*table)->find("") == nullptr);
  CHECK((*table)->find("Fable") == nullptr);
}

TEST_CASE("a route's name wins over a model's, and a model's over a deployment's", "[routing]") {
  const auto table = RoutingTable::make(
      {provider("alpha")},
      {deployment("b", "alpha", "a"), deployment("other", "alpha", "b"), deployment("third", "alpha", "c")},
      {{"c", {"other"}, {}}});
  REQUIRE(table);
  CHECK(indexes_of(**table, "b") == Indexes{1});      // the model, not the deployment
  CHECK(indexes_of(**table, "c") == Indexes{1});      // the route, not the model
  CHECK(indexes_of(**table, "third") == Indexes{2});
}

TEST_CASE("every name that can be asked for is listed once", "[routing]") {
  const auto table = RoutingTable::make({provider("alpha")},
                                        {deployment("fable", "alpha", "fable"), deployment("fable-2", "alpha", "fable")},
                                        {{"smart", {"fable"}, {}}});
  REQUIRE(table);
  std::vector<std::string> names;
  for (const auto& [name, route] : (*table)->routes()) {
    CHECK(name == route.name);
    names.push_back(name);
  }
  CHECK(names == std::vector<std::string>{"fable", "fable-2", "smart"});
}

TEST_CASE("a table with a repeated, unknown or missing name is refused, and the message names it", "[routing]") {
  struct Wrong {
    const char* what;
    std::vector<Provider> providers;
    std::vector<Deployment> deployments;
    std::vector<Route> routes;
    RoutingError error;
    std::vector<std::string> words;
  };
  const auto alpha = provider("alpha");
  const auto fable = deployment("fable-alpha", "alpha", "fable");
  const Wrong wrongs[] = {
      {"provider twice", {alpha, alpha}, {fable}, {}, RoutingError::duplicate_name, {"provider", "alpha", "twice"}},
      {"deployment twice", {alpha}, {fable, fable}, {}, RoutingError::duplicate_name, {"deployment", "fable-alpha"}},
      {"route twice", {alpha}, {fable}, {{"smart", {"fable-alpha"}, {}}, {"smart", {"fable-alpha"}, {}}},
       RoutingError::duplicate_name, {"route", "smart"}},
      {"unknown provider", {alpha}, {deployment("d", "gamma", "m")}, {}, RoutingError::unknown_name, {"'d'", "gamma"}},
      {"unknown deployment", {alpha}, {fable}, {{"smart", {"fable-alpha", "nobody"}, {}}}, RoutingError::unknown_name,
       {"smart", "nobody"}},
      {"empty route", {alpha}, {fable}, {{"smart", {}, {}}}, RoutingError::out_of_range, {"smart", "at least one"}},
      {"a deployment twice in a route", {alpha}, {fable}, {{"smart", {"fable-alpha", "fable-alpha"}, {}}},
       RoutingError::duplicate_name, {"smart", "fable-alpha"}},
  };
  for (const Wrong& wrong : wrongs) {
    INFO(wrong.what);
    const auto table = RoutingTable::make(wrong.providers, wrong.deployments, wrong.routes);
    REQUIRE_FALSE(table);
    CHECK(is(table.error(), wrong.error));
    for (const std::string& word : wrong.words) CHECK_THAT(table.error().message, Catch::Contains(word));
  }
}

}  // namespace routing_table_test
