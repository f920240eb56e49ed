// The newest entries of several shards, as replicas come and go.
#include <map>

#include <catch2/catch.hpp>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/merged_tail.hpp"

namespace outlast::apps::merged_tail_test {
namespace {

// Shards of a few entries, each a time; those at other nodes cannot be read.
class Shards final : public LedgerSource {
 public:
  Result<LedgerShards> shards() override {
    LedgerShards all;
    for (const auto& [shard, times] : times) {
      if (elsewhere.contains(shard)) all.elsewhere.push_back({shard, elsewhere[shard]});
      else all.here.push_back(shard);
    }
    return all;
  }
  Result<std::uint64_t> entries(const std::string& shard) override { return times[shard].size(); }
  Result<std::uint64_t> read(const std::string& shard, std::uint64_t from, std::uint64_t limit, const std::function<void(std::string_view)>& visit) override {
    if (elsewhere.contains(shard) || is_broken) return fail(CliError::failed, "no replica of shard " + shard);
    std::uint64_t count = 0;
    for (; count < limit && from + count < times[shard].size(); ++count)
      visit(R"({"time_ms": )" + std::to_string(times[shard][from + count]) + R"(, "shard": ")" + shard + "\"}");
    return count;
  }
  Result<std::string> verify(const std::string&) override { return ""; }
  Result<std::string> heads() override { return ""; }
  Result<std::string> usage(const storage::UsageQuery&) override { return ""; }
  Result<std::string> usage_focus(const storage::UsageQuery&) override { return ""; }
  Result<std::string> reconcile(const ReconcileQuery&, const std::string&) override { return ""; }
  Result<std::string> reprice(const RepriceQuery&) override { return ""; }

  std::map<std::string, std::vector<int>> times;
  std::map<std::string, std::vector<std::string>> elsewhere;  // the nodes that have it
  bool is_broken = false;
};

// "5a": the entry of time 5 in shard a.
MergedTail tail_of(Shards& shards, std::uint64_t page = 100) {
  const auto line_of = [](std::string_view json) {
    const auto time = json.find(": ") + 2;
    return std::string(json.substr(time, json.find(',') - time)) + json[json.size() - 3] + " ";
  };
  return {shards, line_of, page};
}

using Changes = std::vector<std::string>;

}  // namespace

TEST_CASE("the newest of several shards are shown by their times, and what comes since once", "[cli]") {
  Shards shards;
  shards.times = {{"a", {1, 4, 9}}, {"b", {2, 3, 8}}};
  MergedTail tail = tail_of(shards, 4);
  CHECK(tail.newest({"a", "b"}, 4).value() == "3b 4a 8b 9a ");
  CHECK(tail.next(false).value().lines.empty());
  shards.times["a"].insert(shards.times["a"].end(), {11, 14, 15});
  shards.times["b"].push_back(12);
  const auto news = tail.next(false).value();
  CHECK(news.lines == "11a 12b 14a ");  // half a page of each
  CHECK(news.more);
  CHECK(tail.next(true).value().lines == "15a ");
}

TEST_CASE("a tail goes on when a replica leaves the node, comes back, or is new", "[cli]") {
  Shards shards;
  shards.times = {{"a", {1}}, {"b", {2}}, {"c", {3, 4}}};
  shards.elsewhere = {{"c", {"n2"}}};
  MergedTail tail = tail_of(shards);
  CHECK(tail.newest({"a", "b"}, 10).value() == "1a 2b ");
  shards.elsewhere["b"] = {"n2", "n3"};
  shards.times["a"].push_back(5);
  shards.times["b"].push_back(6);
  auto news = tail.next(false).value();  // nobody looked, but it cannot be read
  CHECK(news.lines == "5a ");
  CHECK(news.changes == Changes{"no longer at this node: shard b (n2, n3)"});
  CHECK(tail.next(true).value().changes.empty());
  shards.elsewhere.clear();
  CHECK(tail.next(false).value().changes.empty());
  news = tail.next(true).value();
  CHECK(news.changes == Changes{"shard b is at this node now; shown from entry 1 on", "shard c is at this node now; shown from entry 2 on"});
  shards.times["c"].push_back(7);
  CHECK(tail.next(false).value().lines == "6b 7c ");
}

TEST_CASE("a tail ends when a shard that is here cannot be read", "[cli]") {
  Shards shards;
  shards.times = {{"a", {1}}, {"b", {2}}};
  MergedTail tail = tail_of(shards);
  CHECK(tail.newest({"a", "b"}, 10));
  shards.is_broken = true;
  const auto news = tail.next(false);
  REQUIRE_FALSE(news);
  CHECK(news.error().message == "no replica of shard b");
}

}  // namespace outlast::apps::merged_tail_test
