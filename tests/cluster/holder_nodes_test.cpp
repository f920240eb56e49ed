#include "cluster/holder_nodes.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "core/clock.hpp"

namespace outlast::cluster::holder_nodes_test {

TEST_CASE("a process has the node that was said first", "[cluster][holder]") {
  ManualClock clock;
  UuidGenerator ids(clock, 1);
  const Incarnation first = ids.next();
  const Incarnation second = ids.next();
  HolderNodes nodes;
  CHECK(nodes.node_of(first).empty());
  nodes.learn(second, "n1");
  nodes.learn(first, "n1");
  nodes.learn(first, "n2");
  nodes.learn(Incarnation{}, "n2");
  CHECK(nodes.node_of(first) == "n1");
  CHECK(nodes.node_of(Incarnation{}).empty());
  CHECK(nodes.of("n1") == std::vector<Incarnation>{first, second});
  CHECK(nodes.of("n2").empty());
}

TEST_CASE("of too many processes the oldest are forgotten", "[cluster][holder]") {
  ManualClock clock;
  UuidGenerator ids(clock, 1);
  const Incarnation oldest = ids.next();
  HolderNodes nodes;
  nodes.learn(oldest, "n1");
  Incarnation newest{};
  for (std::size_t i = 0; i < HolderNodes::remembered_max; ++i) {
    clock.advance_ms(1);
    newest = ids.next();
    nodes.learn(newest, "n2");
  }
  CHECK(nodes.node_of(oldest).empty());
  CHECK(nodes.node_of(newest) == "n2");
  CHECK(nodes.of("n2").size() == HolderNodes::remembered_max);
}

}  // namespace outlast::cluster::holder_nodes_test
