#include "cluster/versions.hpp"

#include <catch2/catch.hpp>

namespace versions_test {

using namespace outlast;
using namespace outlast::cluster;

namespace {

Presence presence(const std::string& node, std::uint16_t min, std::uint16_t max) {
  Presence presence;
  presence.node = node;
  presence.version_min = min;
  presence.version_max = max;
  return presence;
}

const std::vector<Member> members = {
    {"a", NodeState::active, {}}, {"b", NodeState::draining, {}}, {"c", NodeState::active, {}}};

}  // namespace

TEST_CASE("The log's format rises when every node that may come back understands it", "[versions]") {
  auto nodes = versions_of(members, {presence("a", 1, 3), presence("b", 1, 1), presence("c", 1, 2)});
  CHECK(highest_common(nodes) == 1);
  CHECK(rise_of(1, nodes) == std::nullopt);
  nodes = versions_of(members, {presence("a", 1, 3), presence("b", 2, 3), presence("c", 1, 2)});
  CHECK(rise_of(1, nodes) == 2);
  CHECK(rise_of(2, nodes) == std::nullopt);
  CHECK(may_pin(1, 2, nodes));
  const auto too_high = may_pin(1, 3, nodes);
  REQUIRE_FALSE(too_high);
  CHECK(is(too_high.error(), AgreementError::refused));
  CHECK(too_high.error().message.find("c (1 to 2)") != std::string::npos);
}

TEST_CASE("A node that is away holds the format where it is, until it is removed", "[versions]") {
  const auto nodes = versions_of(members, {presence("a", 1, 2), presence("c", 1, 2)});
  CHECK(rise_of(1, nodes) == std::nullopt);
  const auto refused = may_pin(1, 2, nodes);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("b (away)") != std::string::npos);
  CHECK(highest_common(nodes).error().message.find("start or remove") != std::string::npos);

  auto without_b = members;
  without_b[1].state = NodeState::removed;
  CHECK(rise_of(1, versions_of(without_b, {presence("a", 1, 2), presence("c", 1, 2)})) == 2);
  without_b[1].state = NodeState::revoked;
  CHECK(rise_of(1, versions_of(without_b, {presence("a", 1, 2), presence("c", 1, 2)})) == 2);
}

TEST_CASE("A stranger's presence has no say in the format", "[versions]") {
  const auto nodes = versions_of({{"a", NodeState::active, {}}}, {presence("a", 1, 2), presence("stranger", 1, 1)});
  CHECK(rise_of(1, nodes) == 2);
}

TEST_CASE("The log's format never goes back", "[versions]") {
  const auto nodes = versions_of(members, {presence("a", 1, 2), presence("b", 1, 2), presence("c", 1, 2)});
  CHECK(may_pin(2, 2, nodes));
  const auto refused = may_pin(2, 1, nodes);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("cannot go back") != std::string::npos);
}

TEST_CASE("A build that cannot read the log does not run", "[versions]") {
  CHECK(may_run({1, 2}, 1));
  CHECK(may_run({1, 2}, 2));
  const auto older = may_run({1, 2}, 3);
  REQUIRE_FALSE(older);
  CHECK(older.error().message.find("cannot be downgraded") != std::string::npos);
  const auto newer = may_run({4, 5}, 3);
  REQUIRE_FALSE(newer);
  CHECK(newer.error().message.find("in between") != std::string::npos);
}

TEST_CASE("Nodes without a version in common are named", "[versions]") {
  const auto nodes = versions_of(members, {presence("a", 3, 4), presence("b", 1, 2), presence("c", 1, 4)});
  const auto none = highest_common(nodes);
  REQUIRE_FALSE(none);
  CHECK(none.error().message.find("b (1 to 2)") != std::string::npos);
  CHECK(rise_of(1, nodes) == std::nullopt);
}

TEST_CASE("The setting of the log's format is a number or nothing", "[versions]") {
  CHECK(parse_log_format("") == log_format_first);
  CHECK(parse_log_format("7") == 7);
  for (const char* text : {"0", "-1", "1x", " 1", "65536", "one"}) {
    INFO(text);
    CHECK_FALSE(parse_log_format(text));
  }
}

}  // namespace versions_test
