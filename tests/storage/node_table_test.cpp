// What the ledger keeps of a cluster's nodes, over the whole way: writer, rows, recovery, verification.
#include <catch2/catch.hpp>

#include <optional>
#include <set>

#include "core/random.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "storage/node_table.hpp"
#include "tests/storage/shared_node_log.hpp"

namespace outlast::storage::node_table_test {
namespace {

std::string key_of(int number) {
  std::string key(40, 'k');
  key.replace(0, std::to_string(number).size(), std::to_string(number));
  return key;
}

NodeEnrolled node_of(const std::string& name, int key, const std::string& token = {}) {
  return {name, key_of(key), "tcp://10.0.0.1:8083", {"gateway", "ledger"}, token, "ann"};
}

struct Bench {
  Bench() {
    log.leading = true;
    open();
  }
  void open() {
    writer.reset();
    auto opened = LedgerWriter::open(log, clock, UuidGenerator(clock, ++seed).next(), "test");
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  template <class Operation>
  Applied add(const Operation& operation) {
    const auto applied = writer->add(operation);
    REQUIRE(applied);
    REQUIRE(writer->commit());
    return *applied;
  }
  template <class Operation>
  bool applied(const Operation& operation) {
    return add(operation).outcome == Outcome::applied;
  }
  template <class Operation>
  LedgerError refusal(const Operation& operation) {
    const Applied applied = add(operation);
    CHECK(applied.outcome == Outcome::refused);
    return applied.error;
  }
  JoinTokenMade token(const std::string& id, std::int64_t age_ms = 3'600'000) {
    return {id, sha256(id), clock.wall_ms() + age_ms, "ann"};
  }
  MemberRecords records() {
    auto records = members_of(log);
    REQUIRE(records);
    return std::move(*records);
  }
  bool verifies() {
    REQUIRE(writer->commit_rows());
    const auto report = verify_ledger(*log.snapshot());
    REQUIRE(report);
    INFO(report->problem);
    CHECK(report->ok);
    return report->ok;
  }

  SharedBatches shared;
  SharedNodeLog log{shared};
  ManualClock clock;
  std::uint64_t seed = 0;
  std::unique_ptr<LedgerWriter> writer;
};

}  // namespace

TEST_CASE("the founder needs no token, and everyone after it does", "[ledger][cluster]") {
  Bench bench;
  CHECK(bench.applied(node_of("n1", 1)));
  CHECK(bench.refusal(node_of("n2", 2)) == LedgerError::bad_token);
  CHECK(bench.refusal(node_of("n2", 2, "t1")) == LedgerError::bad_token);
  REQUIRE(bench.applied(bench.token("t1")));
  CHECK(bench.applied(node_of("n2", 2, "t1")));
  bench.open();
  const MemberRecords records = bench.records();
  REQUIRE(records.nodes.size() == 2);
  CHECK(records.nodes[1].enrolled == node_of("n2", 2, "t1"));
  CHECK(records.nodes[1].state == NodeState::active);
  CHECK(records.nodes[1].enrolled_ms == bench.clock.wall_ms());
  CHECK(records.tokens.empty());
  CHECK(bench.verifies());
}

TEST_CASE("a join token lets one node in, once, and not for ever", "[ledger][cluster]") {
  Bench bench;
  REQUIRE(bench.applied(node_of("n1", 1)));
  REQUIRE(bench.applied(bench.token("t1")));
  REQUIRE(bench.applied(node_of("n2", 2, "t1")));
  CHECK(bench.refusal(node_of("n3", 3, "t1")) == LedgerError::bad_token);
  // The same node, whose answer was lost.
  CHECK(bench.add(node_of("n2", 2, "t1")).outcome == Outcome::duplicate);
  bench.open();
  CHECK(bench.refusal(node_of("n3", 3, "t1")) == LedgerError::bad_token);
  CHECK(bench.add(node_of("n2", 2, "t1")).outcome == Outcome::duplicate);

  REQUIRE(bench.applied(bench.token("t2", 1'000)));
  CHECK(bench.add(bench.token("t2", 1'000)).outcome == Outcome::duplicate);
  bench.clock.advance_ms(1'000);
  CHECK(bench.refusal(node_of("n3", 3, "t2")) == LedgerError::bad_token);
  REQUIRE(bench.records().tokens.size() == 1);
  REQUIRE(bench.applied(bench.token("t3")));
  CHECK(bench.records().tokens.size() == 1);  // the expired one went with it
  REQUIRE(bench.applied(JoinTokenMade{"t3", {}, 0, "bob"}));
  CHECK(bench.refusal(node_of("n3", 3, "t3")) == LedgerError::bad_token);
  CHECK(bench.add(JoinTokenMade{"t3", {}, 0, "bob"}).outcome == Outcome::duplicate);
  CHECK(bench.verifies());
}

TEST_CASE("a name or a key that is enrolled is nobody else's", "[ledger][cluster]") {
  Bench bench;
  REQUIRE(bench.applied(node_of("n1", 1)));
  REQUIRE(bench.applied(bench.token("t1")));
  CHECK(bench.refusal(node_of("n1", 2, "t1")) == LedgerError::taken);
  CHECK(bench.refusal(node_of("n2", 1, "t1")) == LedgerError::taken);
  CHECK(bench.refusal(node_of("n1", 2)) == LedgerError::bad_token);
  CHECK(bench.records().tokens.size() == 1);  // a refusal uses nothing up
  NodeEnrolled moved = node_of("n1", 1);
  moved.endpoint = "tcp://10.0.0.9:1";
  moved.roles = {"gateway"};
  CHECK(bench.applied(moved));
  CHECK(bench.add(moved).outcome == Outcome::duplicate);
  bench.open();
  CHECK(bench.records().nodes[0].enrolled == moved);
  CHECK(bench.verifies());
}

TEST_CASE("a removed node may come back, a revoked key never", "[ledger][cluster]") {
  Bench bench;
  REQUIRE(bench.applied(node_of("n1", 1)));
  for (int i = 2; i <= 3; ++i) {
    const std::string token = "t" + std::to_string(i);
    REQUIRE(bench.applied(bench.token(token)));
    REQUIRE(bench.applied(node_of("n" + std::to_string(i), i, token)));
  }
  CHECK(bench.applied(NodeChanged{"n2", NodeState::draining, "ann", "new disk"}));
  CHECK(bench.add(NodeChanged{"n2", NodeState::draining, "bob", ""}).outcome == Outcome::duplicate);
  CHECK(bench.applied(NodeChanged{"n2", NodeState::active, "ann", ""}));
  CHECK(bench.applied(NodeChanged{"n2", NodeState::removed, "ann", "sold"}));
  CHECK(bench.applied(NodeChanged{"n3", NodeState::revoked, "ann", "stolen"}));
  CHECK(bench.refusal(NodeChanged{"n2", NodeState::active, "ann", ""}) == LedgerError::not_enrolled);
  CHECK(bench.refusal(NodeChanged{"n3", NodeState::removed, "ann", ""}) == LedgerError::not_enrolled);
  CHECK(bench.refusal(NodeChanged{"n9", NodeState::removed, "ann", ""}) == LedgerError::unknown_node);
  CHECK(bench.refusal(NodeChanged{"n1", NodeState::removed, "ann", ""}) == LedgerError::last_node);
  CHECK(bench.refusal(NodeChanged{"n1", NodeState::revoked, "ann", ""}) == LedgerError::last_node);
  bench.open();
  CHECK(bench.records().find("n3")->state == NodeState::revoked);
  CHECK(bench.records().find("n3")->reason == "stolen");
  CHECK(bench.refusal(node_of("n2", 2)) == LedgerError::bad_token);
  CHECK(bench.refusal(node_of("n2", 2, "t2")) == LedgerError::bad_token);  // it was used up long ago
  REQUIRE(bench.applied(bench.token("t4")));
  CHECK(bench.refusal(node_of("n4", 2, "t4")) == LedgerError::taken);
  CHECK(bench.applied(node_of("n2", 2, "t4")));
  CHECK(bench.records().find("n2")->state == NodeState::active);
  CHECK(bench.records().find("n2")->reason.empty());
  REQUIRE(bench.applied(bench.token("t5")));
  CHECK(bench.refusal(node_of("n3", 3, "t5")) == LedgerError::key_revoked);
  CHECK(bench.applied(node_of("n3", 33, "t5")));
  bench.open();
  REQUIRE(bench.applied(bench.token("t6")));
  CHECK(bench.refusal(node_of("n4", 3, "t6")) == LedgerError::key_revoked);
  CHECK(bench.verifies());
}

TEST_CASE("member entries outside their limits are refused", "[ledger][cluster]") {
  Bench bench;
  const std::string key = key_of(1);
  const std::string endpoint = "tcp://10.0.0.1:1";
  for (const NodeEnrolled& bad :
       {NodeEnrolled{"", key, endpoint, {"ledger"}, "", ""}, NodeEnrolled{"a b", key, endpoint, {"ledger"}, "", ""},
        NodeEnrolled{std::string(65, 'n'), key, endpoint, {"ledger"}, "", ""},
        NodeEnrolled{"n", key + "0", endpoint, {"ledger"}, "", ""},
        NodeEnrolled{"n", std::string(40, '~'), endpoint, {"ledger"}, "", ""},
        NodeEnrolled{"n", key, "http://x", {"ledger"}, "", ""}, NodeEnrolled{"n", key, "tcp://a\nb", {"ledger"}, "", ""},
        NodeEnrolled{"n", key, "tcp://" + std::string(250, 'x'), {"ledger"}, "", ""},
        NodeEnrolled{"n", key, endpoint, {}, "", ""}, NodeEnrolled{"n", key, endpoint, {""}, "", ""},
        NodeEnrolled{"n", key, endpoint, std::vector<std::string>(9, "ledger"), "", ""},
        NodeEnrolled{"n", key, endpoint, {"ledger"}, "", std::string(1'025, 'x')}}) {
    CHECK(bench.refusal(bad) == LedgerError::invalid);
  }
  CHECK(bench.refusal(bench.token("")) == LedgerError::invalid);
  CHECK(bench.refusal(bench.token("t", 0)) == LedgerError::invalid);
  CHECK(bench.refusal(bench.token("t", join_token_age_ms_max + 1)) == LedgerError::invalid);
  REQUIRE(bench.applied(bench.token("t")));
  CHECK(bench.refusal(bench.token("t", 5)) == LedgerError::duplicate);
  CHECK(bench.refusal(SettingSet{"a/b", "1", ""}) == LedgerError::invalid);
  CHECK(bench.refusal(SettingSet{"a", std::string(setting_bytes_max + 1, 'x'), ""}) == LedgerError::invalid);
  for (std::size_t i = 1; i < join_tokens_max; ++i) {
    REQUIRE(bench.writer->add(bench.token("t" + std::to_string(i)))->outcome == Outcome::applied);
  }
  CHECK(bench.refusal(bench.token("one-more")) == LedgerError::overloaded);
  for (std::size_t i = 0; i < settings_max; ++i) {
    REQUIRE(bench.applied(SettingSet{"s" + std::to_string(i), "1", ""}));
  }
  CHECK(bench.refusal(SettingSet{"one-more", "1", ""}) == LedgerError::overloaded);
  for (std::size_t i = 0; i < settings_bytes_max / setting_bytes_max - 1; ++i) {
    REQUIRE(bench.applied(SettingSet{"s" + std::to_string(i), std::string(setting_bytes_max, 'x'), ""}));
  }
  CHECK(bench.refusal(SettingSet{"s63", std::string(setting_bytes_max, 'x'), ""}) == LedgerError::overloaded);
  CHECK(bench.verifies());
}

TEST_CASE("a full table takes a new node in place of the one that left longest ago", "[ledger][cluster]") {
  Bench bench;
  REQUIRE(bench.applied(node_of("n0", 100'000)));
  const auto join = [&bench](int number) {
    const std::string token = "t" + std::to_string(number);
    REQUIRE(bench.writer->add(bench.token(token))->outcome == Outcome::applied);
    const auto joined = bench.writer->add(node_of("n" + std::to_string(number), 100'000 + number, token));
    REQUIRE(joined);
    if (joined->outcome != Outcome::applied) REQUIRE(bench.applied(JoinTokenMade{token, {}, 0, ""}));
    return *joined;
  };
  for (std::size_t i = 1; i < nodes_max; ++i) REQUIRE(join(static_cast<int>(i)).outcome == Outcome::applied);
  CHECK(join(5'000).error == LedgerError::overloaded);
  bench.clock.advance_ms(5);
  REQUIRE(bench.applied(NodeChanged{"n7", NodeState::revoked, "", ""}));
  bench.clock.advance_ms(5);
  REQUIRE(bench.applied(NodeChanged{"n5", NodeState::removed, "", ""}));
  CHECK(join(5'001).outcome == Outcome::applied);
  REQUIRE(bench.writer->commit());
  bench.open();
  CHECK(bench.records().find("n7") == nullptr);
  CHECK(bench.records().find("n5") != nullptr);
  // Its key stays out all the same.
  REQUIRE(bench.applied(bench.token("t")));
  CHECK(bench.refusal(node_of("n7", 100'007, "t")) == LedgerError::key_revoked);
  CHECK(bench.verifies());
}

TEST_CASE("settings are kept, replaced and removed", "[ledger][cluster]") {
  Bench bench;
  CHECK(bench.applied(SettingSet{"routes", "a = 1", "ann"}));
  CHECK(bench.add(SettingSet{"routes", "a = 1", "bob"}).outcome == Outcome::duplicate);
  CHECK(bench.applied(SettingSet{"shards", "16", "ann"}));
  CHECK(bench.applied(SettingSet{"routes", "a = 2", "bob"}));
  bench.open();
  CHECK(bench.records().settings == std::map<std::string, std::string>{{"routes", "a = 2"}, {"shards", "16"}});
  CHECK(bench.applied(SettingSet{"routes", "", "bob"}));
  CHECK(bench.add(SettingSet{"routes", "", "bob"}).outcome == Outcome::duplicate);
  bench.open();
  CHECK(bench.records().settings == std::map<std::string, std::string>{{"shards", "16"}});
  CHECK(bench.verifies());
}

namespace {

// What the table should say, by plain rules.
struct Model {
  struct Node {
    int key = 0;
    NodeState state = NodeState::active;
  };
  std::map<std::string, Node> nodes;
  std::map<std::string, std::int64_t> tokens;
  std::set<int> revoked;

  [[nodiscard]] bool part(const std::string& name) const {
    const auto at = nodes.find(name);
    return at != nodes.end() && (at->second.state == NodeState::active || at->second.state == NodeState::draining);
  }
  [[nodiscard]] std::size_t parts() const {
    std::size_t count = 0;
    for (const auto& [name, node] : nodes) count += part(name) ? 1 : 0;
    return count;
  }
  bool enrol(const std::string& name, int key, const std::string& token, std::int64_t now_ms) {
    if (!nodes.empty() && (!tokens.contains(token) || tokens[token] <= now_ms)) return false;
    if (nodes.empty() && !token.empty() && (!tokens.contains(token) || tokens[token] <= now_ms)) return false;
    if (revoked.contains(key)) return false;
    if (part(name) && nodes[name].key != key) return false;
    for (const auto& [other, node] : nodes) {
      if (other != name && node.key == key) return false;
    }
    nodes[name] = {key, NodeState::active};
    tokens.erase(token);
    return true;
  }
  bool change(const std::string& name, NodeState state) {
    if (!nodes.contains(name) || nodes[name].state == state) return false;
    const bool leaves = state == NodeState::removed || state == NodeState::revoked;
    if (!part(name) && !(nodes[name].state == NodeState::removed && state == NodeState::revoked)) return false;
    if (part(name) && leaves && parts() == 1) return false;
    nodes[name].state = state;
    if (state == NodeState::revoked) revoked.insert(nodes[name].key);
    return true;
  }
};

}  // namespace

TEST_CASE("by seeds: nodes follow plain rules at every step, over crashes and restarts", "[ledger][cluster]") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    Bench bench;
    Model model;
    int tokens = 0;
    const auto any = [&random](std::uint64_t count) { return random.below(count); };
    for (int step = 0; step < 400; ++step) {
      CAPTURE(seed, step);
      const std::string name = "n" + std::to_string(any(5));
      const std::uint64_t what = any(10);
      if (what < 3) {
        const std::string token = "t" + std::to_string(tokens++);
        const auto age_ms = static_cast<std::int64_t>(any(40) + 1);
        REQUIRE(bench.applied(bench.token(token, age_ms)));
        model.tokens[token] = bench.clock.wall_ms() + age_ms;
      } else if (what < 7) {
        const int key = static_cast<int>(any(200));
        const std::string token = any(6) == 0 || tokens == 0 ? "" : "t" + std::to_string(tokens - 1 - static_cast<int>(any(3)));
        const NodeEnrolled wanted = node_of(name, key, token == "t-1" || token == "t-2" ? "" : token);
        const Model before = model;
        const Applied done = bench.add(wanted);
        const bool applied = done.outcome == Outcome::applied;
        CAPTURE(name, key, wanted.token, static_cast<int>(done.outcome), static_cast<int>(done.error));
        const bool same = before.part(name) && before.nodes.at(name).key == key;
        if (same && wanted.token.empty()) REQUIRE_FALSE(applied);  // nothing new
        else REQUIRE(applied == model.enrol(name, key, wanted.token, bench.clock.wall_ms()));
      } else {
        const auto state = static_cast<NodeState>(any(4));
        const bool expected = model.change(name, state);
        REQUIRE(bench.applied(NodeChanged{name, state, "ann", "why"}) == expected);
      }
      bench.clock.advance_ms(static_cast<std::int64_t>(any(5)));
      if (any(15) == 0) {
        if (any(2) == 0) {  // a crash takes along what was not committed
          REQUIRE(bench.writer->add(bench.token("lost" + std::to_string(step))));
          REQUIRE(bench.writer->add(NodeChanged{name, NodeState::removed, "ann", "lost"}));
        }
        bench.open();
      }
      const MemberRecords records = bench.records();
      REQUIRE(records.nodes.size() == model.nodes.size());
      for (const MemberRecord& record : records.nodes) {
        const Model::Node& node = model.nodes.at(record.enrolled.name);
        REQUIRE(record.enrolled.public_key == key_of(node.key));
        REQUIRE(record.state == node.state);
      }
      for (const auto& [id, expires_ms] : model.tokens) {
        const bool open = expires_ms > bench.clock.wall_ms();
        const bool kept = std::any_of(records.tokens.begin(), records.tokens.end(),
                                      [&id = id](const JoinTokenRecord& record) { return record.token.id == id; });
        REQUIRE((kept || !open));
      }
    }
    REQUIRE(bench.verifies());

    // Another node, which has the same entries, knows the same.
    SharedNodeLog other{bench.shared};
    auto replica = LedgerWriter::open_replica(other, bench.clock);
    REQUIRE(replica);
    for (const SharedBatches::Batch& batch : bench.shared.from(0)) {
      REQUIRE((*replica)->follow(batch.first_index, batch.records));
    }
    CHECK((*replica)->state_digest() == bench.writer->state_digest());
    const auto followed = members_of(other);
    REQUIRE(followed);
    CHECK(followed->nodes == bench.records().nodes);
    CHECK(followed->tokens == bench.records().tokens);
  }
}

}  // namespace outlast::storage::node_table_test
