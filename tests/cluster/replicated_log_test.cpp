// ReplicatedLog: what is acknowledged is in the shared log, whatever became of the answers; by seeds.
#include <catch2/catch.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cluster/etcd_coordination.hpp"
#include "cluster/memory_agreement.hpp"
#include "cluster/replicated_log.hpp"
#include "storage/memory_log.hpp"
#include "tests/cluster/etcd_fixture.hpp"

namespace outlast::cluster::replicated_log_test {
namespace {

using Fate = MemoryAgreement::Fate;
using storage::LedgerError;

Presence presence(const std::string& node) {
  Presence made;
  made.node = node;
  return made;
}

// Records of a batch: as many, each with that text.
std::string records(std::size_t count, const std::string& text) {
  std::string made;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t frame = storage::begin_record(made, Digest{});
    made += text;
    storage::finish_record(made, frame);
  }
  return made;
}

storage::TableChanges row(const std::string& key) {
  storage::TableChanges changes;
  changes.put(storage::Table::meta, key, "value");
  return changes;
}

// A node that owns a shard of a world.
struct Owner {
  explicit Owner(MemoryAgreement& world, const std::string& name = "a")
      : node(world.node(name)), shared(node->log(0)), log(*shared, local, {[this] { return may_go_on; }, {}, [this](std::string_view batch) { told.emplace_back(batch); }}) {}
  void own(const std::string& name = "a") {
    const Result<LeaseId> lease = node->start_lease(60, presence(name));
    REQUIRE(lease);
    const Result<std::uint64_t> claimed = node->claim(0, *lease, presence(name));
    REQUIRE(claimed);
    epoch = *claimed;
    log.lead(epoch);
  }
  bool may_go_on = true;
  std::vector<std::string> told;  // for replicas
  std::uint64_t epoch = 0;
  std::unique_ptr<Coordination> node;
  std::unique_ptr<SharedLog> shared;
  storage::MemoryLog local;
  ReplicatedLog log;
};

// As much of a LedgerWriter as catch_up() uses.
struct Follower {
  std::uint64_t next = 0;
  std::string all;
  [[nodiscard]] std::uint64_t next_index() const { return next; }
  Result<void> follow(std::uint64_t first_index, std::string_view batch) {
    if (first_index > next) return fail(LedgerError::corrupt, "a gap");
    return storage::parse_batch({first_index, batch}, [this](const storage::LogRecord& record) {
      if (record.index >= next) {
        all += record.frame;
        next = record.index + 1;
      }
      return true;
    });
  }
};

}  // namespace

TEST_CASE("an owner's batch is shared before it is its own; a replica's is its own only", "[agreement]") {
  ManualClock clock;
  MemoryAgreement world(clock, 1);
  Owner owner(world);
  REQUIRE(owner.log.append({0, records(2, "as a replica")}, row("r")));
  CHECK(world.batches(0).empty());
  CHECK(owner.local.batches().size() == 1);
  owner.local.batches().clear();

  owner.own();
  const std::string batch = records(3, "entry");
  REQUIRE(owner.log.append({0, batch}, row("k")));
  REQUIRE(world.batches(0).size() == 1);
  CHECK(world.batches(0)[0].records == batch);
  CHECK(world.batches(0)[0].next_index == 3);
  CHECK(world.batches(0)[0].epoch == owner.epoch);
  std::string value;
  const Result<bool> found = owner.log.get(storage::Table::meta, "k", value);
  REQUIRE(found);
  CHECK(*found);
  // Tables alone are nobody else's.
  const std::size_t calls = world.calls();
  REQUIRE(owner.log.append({3, {}}, row("folded")));
  CHECK(world.calls() == calls);
  CHECK(owner.log.snapshot()->get(storage::Table::meta, "folded", value).value());
}

TEST_CASE("a batch too large for the shared log goes there in pieces", "[agreement]") {
  ManualClock clock;
  MemoryAgreement world(clock, 1);
  Owner owner(world);
  owner.own();
  const std::string batch = records(50, std::string(60'000, 'x'));
  REQUIRE(owner.log.append({0, batch}, row("k")));
  REQUIRE(world.batches(0).size() == 3);
  std::string together;
  for (const SharedBatch& piece : world.batches(0)) {
    CHECK(piece.records.size() <= shared_batch_bytes_max);
    together += piece.records;
  }
  CHECK(together == batch);
  CHECK(world.batches(0).back().next_index == 50);
  const Result<void> refused = owner.log.append({50, records(1, std::string(shared_batch_bytes_max, 'x'))}, row("l"));
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), LedgerError::invalid));
  const Result<void> damaged = owner.log.append({50, "nonsense"}, row("m"));
  REQUIRE_FALSE(damaged);
  CHECK(is(damaged.error(), LedgerError::corrupt));
  CHECK(owner.local.batches().size() == 1);
}

TEST_CASE("who was replaced is told, and leaves its own log as it was", "[agreement]") {
  ManualClock clock;
  MemoryAgreement world(clock, 1);
  Owner old_owner(world);
  old_owner.own();
  REQUIRE(old_owner.log.append({0, records(1, "one")}, row("k")));
  REQUIRE(old_owner.node->release(0, old_owner.epoch));
  const auto is_fenced = [&old_owner] {
    const Result<void> appended = old_owner.log.append({1, records(1, "stale")}, row("stale"));
    return !appended && is(appended.error(), LedgerError::fenced);
  };
  CHECK(is_fenced());
  Owner new_owner(world, "b");
  new_owner.own("b");
  REQUIRE(new_owner.log.append({1, records(1, "two")}, row("l")));
  CHECK(is_fenced());
  CHECK(old_owner.local.batches().size() == 1);
  CHECK(world.batches(0).size() == 2);
  // The log goes on differently although the epoch holds.
  const Result<void> late = new_owner.log.append({1, records(1, "other")}, row("m"));
  REQUIRE_FALSE(late);
  CHECK(is(late.error(), LedgerError::fenced));
}

TEST_CASE("nothing is tried after the lease's own deadline, nor for ever", "[agreement]") {
  ManualClock clock;
  MemoryAgreement world(clock, 1);
  Owner owner(world);
  owner.own();
  world.cut_off("a", true);
  std::size_t calls = world.calls();
  const Result<void> never = owner.log.append({0, records(1, "x")}, row("k"));
  REQUIRE_FALSE(never);
  CHECK(is(never.error(), LedgerError::unavailable));
  CHECK(world.calls() - calls <= ReplicatedLog::tries_max);
  world.cut_off("a", false);
  owner.may_go_on = false;
  calls = world.calls();
  const Result<void> over = owner.log.append({0, records(1, "x")}, row("k"));
  REQUIRE_FALSE(over);
  CHECK(is(over.error(), LedgerError::unavailable));
  CHECK(world.calls() == calls);
  CHECK(world.batches(0).empty());
}

TEST_CASE("whatever became of the answers, an acknowledged batch stands once, and a copy never runs ahead",
          "[agreement]") {
  std::size_t acknowledged_total = 0;
  std::size_t failed_total = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    INFO(seed);
    ManualClock clock;
    MemoryAgreement world(clock, seed);
    Owner owner(world);
    owner.own();
    world.set_fate(MemoryAgreement::fates(seed, 100, 150, 100, 150));
    Random random(seed);
    std::uint64_t next_index = 0;
    std::string acknowledged;
    for (int i = 0; i < 40; ++i) {
      const std::size_t count = 1 + random.below(5);
      const std::string batch = records(count, "batch " + std::to_string(i) + " of " + std::to_string(seed));
      // Now and then the ownership ends while a batch is under way.
      if (random.below(200) == 0) world.node("admin")->release(0, owner.epoch);
      const Result<void> appended = owner.log.append({next_index, batch}, row("k"));
      if (!appended) {
        ++failed_total;
        break;
      }
      acknowledged += batch;
      next_index += count;
      ++acknowledged_total;
    }
    world.land();
    std::string shared;
    std::uint64_t expected = 0;
    for (const SharedBatch& batch : world.batches(0)) {
      REQUIRE(batch.first_index == expected);
      expected = batch.next_index;
      shared += batch.records;
    }
    REQUIRE(shared.starts_with(acknowledged));
    std::string local;
    for (const auto& [first, batch] : owner.local.batches()) local += batch;
    REQUIRE(local == acknowledged);

    // What replicas are sent stands, each batch once; late ones and those with a gap before them change nothing.
    Follower sent;
    BatchCodec codec;
    for (std::size_t i = 0; i < owner.told.size(); ++i) {
      if (i + 1 < owner.told.size()) CHECK(take_sent(codec, owner.told[i + 1], sent).value() == SentBatch::ahead);
      CHECK(take_sent(codec, owner.told[i], sent).value() == SentBatch::applied);
      CHECK(take_sent(codec, owner.told[i / 2], sent).value() == SentBatch::known);
    }
    CHECK(sent.next == next_index);

    // A replica that reads it all has the same, however often it is cut short.
    world.set_fate(MemoryAgreement::fates(seed + 1'000, 300, 0, 0, 0));
    Follower follower;
    const auto reader = world.node("r");
    const auto log = reader->log(0);
    for (int tries = 0; follower.next < expected && tries < 1'000; ++tries) {
      const Result<bool> done = catch_up(*log, follower, 3);
      if (done) CHECK(*done == (follower.next == expected));
    }
    CHECK(follower.next == expected);
  }
  CHECK(acknowledged_total > 10'000);
  CHECK(failed_total > 10);
}

TEST_CASE("an acknowledged batch stands once while members of a real etcd die and hang", "[etcd][agreement]") {
  if (!test::EtcdMembers::installed()) return;
  test::EtcdMembers members(3);
  EtcdOptions options = members.options();
  options.call_timeout_ms = 600;
  const auto client = std::move(*EtcdClient::start(options));
  EtcdCoordination node(*client, "faults");
  const LeaseId lease = test::eventually([&node] { return node.start_lease(600, presence("a")); });
  const std::uint64_t epoch = test::eventually([&node, lease] { return node.claim(0, lease, presence("a")); });
  const auto shared = node.log(0);
  storage::MemoryLog local;
  const auto until = std::chrono::steady_clock::now() + test::etcd_patience;
  ReplicatedLog log(*shared, local,
                    {[until] { return std::chrono::steady_clock::now() < until; },
                     [](std::uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }});
  log.lead(epoch);
  std::uint64_t next_index = 0;
  std::string acknowledged;
  const auto append_some = [&log, &next_index, &acknowledged](const std::function<void()>& fault = {}) {
    std::jthread in_the_middle;
    for (int i = 0; i < 30; ++i) {
      if (i == 10 && fault) in_the_middle = std::jthread(fault);
      const std::string batch = records(2, "entry " + std::to_string(next_index));
      const Result<void> appended = log.append({next_index, batch}, row("k"));
      INFO((appended ? "" : appended.error().message));
      REQUIRE(appended);
      acknowledged += batch;
      next_index += 2;
    }
  };
  append_some();
  for (const bool dies : {false, true, false}) {
    const std::size_t leader = members.leader();
    append_some([&members, leader, dies] { dies ? members.kill(leader) : members.pause(leader); });
    append_some();
    dies ? members.start(leader) : members.resume(leader);
  }
  std::string all;
  REQUIRE(test::wait_until([&shared, &all] {
    all.clear();
    return shared->read(0, [&all](const SharedBatch& batch) {
      all += batch.records;
      return true;
    }).has_value();
  }));
  CHECK(all == acknowledged);
}

}  // namespace outlast::cluster::replicated_log_test
