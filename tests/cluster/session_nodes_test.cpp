// Which nodes a client's session keeps links to, by what they tell it.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "cluster/client_session.hpp"
#include "tests/cluster/session_bench.hpp"

namespace session_nodes_test {

using namespace outlast;
using namespace outlast::test;

TEST_CASE("a client that knows one node learns of the others and balances over all", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1), entry_of(2)});
  CHECK(bench.session.link_count() == 3);  // the seed's own entry opens nothing
  bench.bring_up(*bench.link_to(1));
  bench.bring_up(*bench.link_to(2));
  for (std::uint64_t id = 1; id <= 9; ++id) bench.submit(id);
  for (std::size_t link = 0; link < 3; ++link) {
    CHECK(std::count_if(bench.sent[link].begin(), bench.sent[link].end(), [](const link::ClientMessage& message) {
            return std::holds_alternative<link::Chat>(message);
          }) == 3);
  }
}

TEST_CASE("when the only node that a client was configured with dies, those that it learned of go on", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  const auto learned = *bench.link_to(1);
  bench.bring_up(learned);
  bench.submit(1);
  REQUIRE(bench.last_chat(0) != 0);
  bench.lose(0);
  CHECK(bench.last_chat(learned) != 0);
  CHECK(bench.ended.empty());
  bench.lose(learned);
  // Nobody is there to ask, so both are tried again.
  bench.advance_ms(200);
  CHECK(bench.link_to(0));
  CHECK(bench.link_to(1));
}

TEST_CASE("a node that left the list gets nothing new and is dropped when it is idle", "[session]") {
  Bench bench;
  bench.bring_up(0);
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  const auto learned = *bench.link_to(1);
  bench.bring_up(learned);
  bench.submit(1);
  bench.submit(2);
  const auto wire = bench.last_chat(learned);
  REQUIRE(wire != 0);
  bench.tell(0, 2, {entry_of(0)});
  CHECK(bench.link_to(1) == learned);
  bench.submit(3);
  CHECK(bench.last_chat(learned) == wire);
  bench.say(learned, finish(wire, 0));
  bench.say(learned, link::Done{wire, "d", 1, {}});
  CHECK(bench.ended.size() == 1);
  bench.tick();
  CHECK_FALSE(bench.link_to(1));
  CHECK(bench.session.link_count() == 1);
  // What its socket still says comes too late to matter.
  bench.session.received(learned, 2, link::NodeMessage(link::Goodbye{}), 10);
  bench.session.connected(0, 77);
  SECTION("and comes back with the list, on a link of its own") {
    bench.tell(0, 3, {entry_of(0), entry_of(1)});
    REQUIRE(bench.link_to(1));
    CHECK(*bench.link_to(1) != learned);
  }
}

TEST_CASE("a configured node stays, whatever the list says", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 1, {entry_of(0)});
  CHECK(bench.link_to(1));
  bench.tell(1, 2, {});
  CHECK(bench.link_to(0));
  CHECK(bench.link_to(1));
}

TEST_CASE("a node that drains gets nothing new, and serves again when the list says so", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 1, {entry_of(0), entry_of(1, true)});
  CHECK_FALSE(bench.link_to(1));
  for (std::uint64_t id = 1; id <= 4; ++id) bench.submit(id);
  bench.advance_ms(2'000);
  bench.say(0, link::Pong{1});
  CHECK_FALSE(bench.link_to(1));
  CHECK(bench.session.next_wake_ns() > bench.clock.monotonic_ns());
  SECTION("it ended draining") {
    bench.tell(0, 2, {entry_of(0), entry_of(1)});
    REQUIRE(bench.link_to(1));
  }
  SECTION("nobody else is left, so it is tried all the same") {
    bench.lose(0);
    bench.tick();
    CHECK(bench.link_to(1));
    CHECK(bench.ended.empty());
  }
}

TEST_CASE("the list with the highest version is believed, as long as a link stands behind it", "[session]") {
  Bench bench(2);
  bench.bring_up(0);
  bench.bring_up(1);
  bench.tell(0, 5, {entry_of(0), entry_of(1), entry_of(2)});
  bench.tell(1, 4, {entry_of(0), entry_of(1), entry_of(3)});
  CHECK(bench.link_to(2));
  CHECK_FALSE(bench.link_to(3));
  bench.lose(0);
  bench.tick();
  CHECK(bench.link_to(3));
  CHECK_FALSE(bench.link_to(2));
  bench.lose(1);
  bench.advance_ms(200);
  CHECK(bench.link_to(3));  // nobody says anything, so the last word holds
}

TEST_CASE("a list is believed only after the welcome, and only where it can be connected to", "[session]") {
  Bench bench;
  bench.tick();
  bench.session.connected(0, bench.connections[0]);
  bench.perform();
  bench.tell(0, 1, {entry_of(0), entry_of(1)});
  CHECK(bench.session.link_count() == 1);
  bench.say(0, link::Welcome{1, "n0", {}});
  auto inproc = entry_of(1);
  inproc.address = "inproc://zap";
  auto no_key = entry_of(2);
  no_key.public_key = "";
  auto twice = entry_of(3);
  twice.address = "tcp://elsewhere:1";
  bench.tell(0, 1, {inproc, no_key, entry_of(3), twice});
  CHECK(bench.session.link_count() == 2);
  CHECK(bench.link_to(3));
}

TEST_CASE("of a big cluster each client takes some nodes, and keeps them when the list grows", "[session]") {
  SessionOptions options = options_for(1);
  options.learned_max = 8;
  Bench bench(1, options);
  bench.bring_up(0);
  std::vector<link::NodeEntry> list;
  for (std::size_t i = 0; i < 200; ++i) list.push_back(entry_of(i));
  bench.tell(0, 1, list);
  CHECK(bench.session.link_count() == 9);
  const auto before = bench.targets;
  list.push_back(entry_of(200));
  bench.tell(0, 2, list);
  CHECK(bench.session.link_count() == 9);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    kept += bench.link_to(i) && std::count(before.begin(), before.end(), endpoint_of(i)) > 0 ? 1 : 0;
  }
  CHECK(kept >= 8);
}

TEST_CASE("two clients of a big cluster choose different nodes", "[session]") {
  std::vector<link::NodeEntry> list;
  for (std::size_t i = 0; i < 200; ++i) list.push_back(entry_of(i));
  std::map<std::string, int> chosen;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    auto some = list;
    choose_some(some, 8, seed, list[7].public_key);
    CHECK(some.size() == 8);
    CHECK(std::find(some.begin(), some.end(), list[7]) != some.end());
    for (const auto& node : some) ++chosen[node.public_key];
  }
  CHECK(chosen.size() > 180);  // 700 draws of 199
  for (const auto& [key, times] : chosen) CHECK((times < 16 || key == list[7].public_key));
}

}  // namespace session_nodes_test
