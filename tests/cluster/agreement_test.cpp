// What SharedLog and Coordination promise, of both implementations: a real etcd, and the one in memory.
#include <catch2/catch.hpp>

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/etcd_coordination.hpp"
#include "cluster/memory_agreement.hpp"
#include "core/random.hpp"
#include "tests/cluster/etcd_fixture.hpp"

namespace outlast::cluster::test::agreement_test {
namespace {

constexpr std::uint32_t ttl_s = 3;

class MemoryWorld {
 public:
  static bool usable() { return true; }
  std::unique_ptr<Coordination> node(const std::string& name) { return agreement_.node(name); }
  // Lets time pass until it holds.
  bool wait(const std::function<bool()>& holds) {
    for (int i = 0; i < 100; ++i) {
      agreement_.deliver_hints();
      if (holds()) return true;
      clock_.advance_ms(100);
      agreement_.tick();
    }
    return false;
  }

 private:
  ManualClock clock_;
  MemoryAgreement agreement_{clock_, 1};
};

// One member for all tests, and a cluster's name for each.
class EtcdWorld {
 public:
  static bool usable() { return EtcdMembers::installed(); }
  EtcdWorld() : cluster_("test-" + std::to_string(++clusters_)) {}
  std::unique_ptr<Coordination> node(const std::string&) {
    clients_.push_back(std::move(*EtcdClient::start(members().options())));
    return std::make_unique<EtcdCoordination>(*clients_.back(), cluster_);
  }
  bool wait(const std::function<bool()>& holds) { return wait_until(holds); }

 private:
  static EtcdMembers& members() {
    static EtcdMembers members;
    return members;
  }
  static inline int clusters_ = 0;
  const std::string cluster_;
  std::vector<std::unique_ptr<EtcdClient>> clients_;
};

Presence presence(const std::string& node, std::uint8_t incarnation = 1) {
  Presence made;
  made.node = node;
  made.incarnation.bytes[0] = incarnation;
  made.endpoint = "tcp://127.0.0.1:1";
  made.client_key = "key \"with\" \\ signs";
  made.roles = {"ledger", "gateway"};
  made.version_min = 1;
  made.version_max = 65'535;
  made.software = "test";
  return made;
}

template <class T>
void check_fails(const Result<T>& result, AgreementError code) {
  REQUIRE_FALSE(result);
  INFO(result.error().message);
  CHECK(is(result.error(), code));
}

std::vector<SharedBatch> read_all(SharedLog& log, std::uint64_t from) {
  std::vector<SharedBatch> batches;
  const Result<void> read = log.read(from, [&batches](const SharedBatch& batch) {
    batches.push_back(batch);
    return true;
  });
  INFO((read ? "" : read.error().message));
  REQUIRE(read);
  return batches;
}

std::uint64_t claimed(Coordination& node, ShardId shard, LeaseId lease, const Presence& me) {
  const Result<std::uint64_t> epoch = node.claim(shard, lease, me);
  INFO((epoch ? "" : epoch.error().message));
  REQUIRE(epoch);
  return *epoch;
}

}  // namespace

TEMPLATE_TEST_CASE("a shard has one owner, and every owner a later epoch", "[agreement]", MemoryWorld, EtcdWorld) {
  if (!TestType::usable()) return;
  TestType world;
  const auto a = world.node("a");
  const auto b = world.node("b");
  const Result<LeaseId> lease_a = a->start_lease(60, presence("a"));
  const Result<LeaseId> lease_b = b->start_lease(60, presence("b", 2));
  REQUIRE((lease_a && lease_b));
  const std::uint64_t first = claimed(*a, 3, *lease_a, presence("a"));
  CHECK(first > 0);
  check_fails(b->claim(3, *lease_b, presence("b", 2)), AgreementError::taken);
  CHECK(claimed(*a, 3, *lease_a, presence("a")) == first);  // as after an answer that was lost
  const std::uint64_t other = claimed(*b, control_shard, *lease_b, presence("b", 2));

  const Result<CoordinationView> view = b->view();
  REQUIRE(view);
  CHECK(view->nodes == std::vector<Presence>{presence("a"), presence("b", 2)});
  const std::vector<Ownership> owners{{3, "a", presence("a").incarnation, first},
                                      {control_shard, "b", presence("b", 2).incarnation, other}};
  CHECK(view->owners == owners);

  // Of an epoch that is not the present one, nothing happens.
  CHECK(b->release(3, first - 1));
  check_fails(b->claim(3, *lease_b, presence("b", 2)), AgreementError::taken);
  CHECK(a->release(3, first));
  CHECK(a->release(3, first));
  const std::uint64_t second = claimed(*b, 3, *lease_b, presence("b", 2));
  CHECK(second > first);
  CHECK(a->release(3, first));
  const Result<CoordinationView> later = a->view();
  REQUIRE(later);
  CHECK(later->revision > view->revision);
  REQUIRE(later->owners.size() == 2);
  CHECK(later->owners[0].node == "b");
  CHECK(later->owners[0].epoch == second);
}

TEMPLATE_TEST_CASE("an append stands for the owner only, and at the end only", "[agreement]", MemoryWorld, EtcdWorld) {
  if (!TestType::usable()) return;
  TestType world;
  const auto a = world.node("a");
  const auto b = world.node("b");
  const Result<LeaseId> lease_a = a->start_lease(60, presence("a"));
  const Result<LeaseId> lease_b = b->start_lease(60, presence("b"));
  REQUIRE((lease_a && lease_b));
  const auto log = a->log(7);
  const auto other_log = b->log(7);
  Result<SharedTail> tail = log->tail();
  REQUIRE(tail);
  CHECK(tail->next_index == 0);
  CHECK(read_all(*log, 0).empty());
  check_fails(log->append(1, 2, {0, "nobody owns it"}), AgreementError::fenced);

  const std::uint64_t epoch = claimed(*a, 7, *lease_a, presence("a"));
  check_fails(log->append(epoch, 7, {5, "not at the beginning"}), AgreementError::conflict);
  REQUIRE(log->append(epoch, 2, {0, "first"}));
  check_fails(log->append(epoch, 2, {0, "again"}), AgreementError::conflict);
  check_fails(log->append(epoch, 9, {4, "gap"}), AgreementError::conflict);
  check_fails(other_log->append(epoch + 1, 5, {2, "stranger"}), AgreementError::fenced);
  REQUIRE(log->append(epoch, 5, {2, "second"}));

  REQUIRE(a->release(7, epoch));
  check_fails(log->append(epoch, 6, {5, "after the end"}), AgreementError::fenced);
  const std::uint64_t next = claimed(*b, 7, *lease_b, presence("b"));
  check_fails(log->append(epoch, 6, {5, "stale"}), AgreementError::fenced);
  check_fails(log->append(epoch, 2, {0, "stale and at the wrong place"}), AgreementError::fenced);
  REQUIRE(other_log->append(next, 6, {5, "third"}));

  const std::vector<SharedBatch> batches = read_all(*log, 0);
  REQUIRE(batches.size() == 3);
  CHECK(batches[0].records == "first");
  CHECK(batches[0].epoch == epoch);
  CHECK(batches[1].first_index == 2);
  CHECK(batches[1].next_index == 5);
  CHECK(batches[2].records == "third");
  CHECK(batches[2].epoch == next);
  tail = other_log->tail();
  REQUIRE(tail);
  CHECK(tail->first_index == 0);
  CHECK(tail->next_index == 6);
  // Logs of other shards are apart.
  const auto apart = a->log(70);
  CHECK(read_all(*apart, 0).empty());
}

TEMPLATE_TEST_CASE("a log is read from any entry, in as many pages as it takes", "[agreement]", MemoryWorld,
                   EtcdWorld) {
  if (!TestType::usable()) return;
  TestType world;
  const auto node = world.node("a");
  const Result<LeaseId> lease = node->start_lease(60, presence("a"));
  REQUIRE(lease);
  const auto log = node->log(0);
  const std::uint64_t epoch = claimed(*node, 0, *lease, presence("a"));
  Random random(7);
  std::vector<SharedBatch> written;
  std::uint64_t next_index = 0;
  for (int i = 0; i < 150; ++i) {
    SharedBatch batch{next_index, next_index + 1 + random.below(40), epoch, {}};
    const std::size_t size = i % 50 == 49 ? shared_batch_bytes_max : 1 + random.below(300);
    while (batch.records.size() < size) batch.records.push_back(static_cast<char>(random.next()));
    REQUIRE(log->append(epoch, batch.next_index, {batch.first_index, batch.records}));
    next_index = batch.next_index;
    written.push_back(std::move(batch));
  }
  std::string too_large(shared_batch_bytes_max + 1, 'x');
  check_fails(log->append(epoch, next_index + 1, {next_index, too_large}), AgreementError::too_large);

  const auto equal_from = [&written](const std::vector<SharedBatch>& read, std::uint64_t from) {
    std::size_t skipped = 0;
    while (skipped < written.size() && written[skipped].next_index <= from) ++skipped;
    if (read.size() != written.size() - skipped) return false;
    for (std::size_t i = 0; i < read.size(); ++i) {
      if (read[i].records != written[skipped + i].records || read[i].first_index != written[skipped + i].first_index)
        return false;
    }
    return true;
  };
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t from = random.below(next_index + 1);
    INFO(from);
    CHECK(equal_from(read_all(*log, from), from));
  }
  int visits = 0;
  REQUIRE(log->read(0, [&visits](const SharedBatch&) { return ++visits < 3; }));
  CHECK(visits == 3);
  check_fails(log->read(next_index + 1, [](const SharedBatch&) { return true; }), AgreementError::corrupt);

  // Only whole batches go.
  const std::uint64_t below = written[100].first_index + 1;
  REQUIRE(log->trim(below));
  const Result<SharedTail> tail = log->tail();
  REQUIRE(tail);
  CHECK(tail->next_index == next_index);
  CHECK(tail->first_index == (written[100].next_index <= below ? written[101] : written[100]).first_index);
  CHECK(equal_from(read_all(*log, tail->first_index), tail->first_index));
  check_fails(log->read(tail->first_index - 1, [](const SharedBatch&) { return true; }), AgreementError::trimmed);
  REQUIRE(log->trim(next_index));
  const Result<SharedTail> empty = log->tail();
  REQUIRE(empty);
  CHECK(empty->first_index == next_index);
  CHECK(empty->next_index == next_index);
  CHECK(read_all(*log, next_index).empty());
  check_fails(log->read(next_index - 1, [](const SharedBatch&) { return true; }), AgreementError::trimmed);
  CHECK(log->append(epoch, next_index + 1, {next_index, "goes on"}));
}

TEMPLATE_TEST_CASE("what hangs on a lease goes when it is not renewed, or ended", "[agreement]", MemoryWorld,
                   EtcdWorld) {
  if (!TestType::usable()) return;
  TestType world;
  const auto a = world.node("a");
  const auto b = world.node("b");
  const Result<LeaseId> lease_a = a->start_lease(ttl_s, presence("a"));
  const Result<LeaseId> lease_b = b->start_lease(60, presence("b"));
  REQUIRE((lease_a && lease_b));
  const std::uint64_t epoch = claimed(*a, 1, *lease_a, presence("a"));
  REQUIRE(a->keep_alive(*lease_a));
  const auto log = a->log(1);
  REQUIRE(log->append(epoch, 1, {0, "in time"}));
  REQUIRE(world.wait([&b] {
    const Result<CoordinationView> view = b->view();
    return view && view->owners.empty() && view->nodes.size() == 1;
  }));
  check_fails(log->append(epoch, 2, {1, "too late"}), AgreementError::fenced);
  check_fails(a->keep_alive(*lease_a), AgreementError::lease_lost);
  check_fails(a->update(*lease_a, presence("a")), AgreementError::lease_lost);
  check_fails(a->claim(1, *lease_a, presence("a")), AgreementError::lease_lost);
  CHECK(a->end_lease(*lease_a));
  CHECK(claimed(*b, 1, *lease_b, presence("b")) > epoch);

  Presence changed = presence("b");
  changed.endpoint = "tcp://127.0.0.1:2";
  REQUIRE(b->update(*lease_b, changed));
  Result<CoordinationView> view = a->view();
  REQUIRE(view);
  CHECK(view->nodes == std::vector<Presence>{changed});
  REQUIRE(b->end_lease(*lease_b));
  view = a->view();
  REQUIRE(view);
  CHECK(view->nodes.empty());
  CHECK(view->owners.empty());
}

TEMPLATE_TEST_CASE("a node that started again is not taken for its last run", "[agreement]", MemoryWorld, EtcdWorld) {
  if (!TestType::usable()) return;
  TestType world;
  const auto old_run = world.node("a");
  const auto new_run = world.node("a");
  const Result<LeaseId> old_lease = old_run->start_lease(60, presence("a", 1));
  REQUIRE(old_lease);
  const std::uint64_t epoch = claimed(*old_run, 1, *old_lease, presence("a", 1));
  const Result<LeaseId> new_lease = new_run->start_lease(60, presence("a", 2));
  REQUIRE(new_lease);
  check_fails(old_run->claim(2, *old_lease, presence("a", 1)), AgreementError::lease_lost);
  check_fails(old_run->update(*old_lease, presence("a", 1)), AgreementError::lease_lost);
  check_fails(new_run->claim(1, *new_lease, presence("a", 2)), AgreementError::taken);
  // The last run's end takes its shard along, and not the new one's presence.
  REQUIRE(old_run->end_lease(*old_lease));
  CHECK(claimed(*new_run, 1, *new_lease, presence("a", 2)) > epoch);
  const Result<CoordinationView> view = new_run->view();
  REQUIRE(view);
  CHECK(view->nodes == std::vector<Presence>{presence("a", 2)});
}

TEMPLATE_TEST_CASE("a watcher hears of what changes", "[agreement]", MemoryWorld, EtcdWorld) {
  if (!TestType::usable()) return;
  // On another thread, in etcd's case; so they outlive the world.
  std::atomic<int> views{0};
  std::array<std::atomic<int>, 3> grew{};
  TestType world;
  const auto watcher = world.node("w");
  watcher->watch([&views] { ++views; },
                 [&grew](ShardId shard) {
                   if (shard < grew.size()) ++grew[shard];
                 });
  const auto node = world.node("a");
  const Result<LeaseId> lease = node->start_lease(60, presence("a"));
  REQUIRE(lease);
  REQUIRE(world.wait([&views] { return views > 0; }));
  // Nothing more comes of itself; then each change brings something.
  const std::uint64_t epoch = claimed(*node, 1, *lease, presence("a"));
  const int before = views;
  REQUIRE(node->release(1, epoch));
  const std::uint64_t again = claimed(*node, 1, *lease, presence("a"));
  REQUIRE(world.wait([&views, before] { return views > before; }));
  const auto log = node->log(1);
  REQUIRE(log->append(again, 1, {0, "one"}));
  REQUIRE(world.wait([&grew] { return grew[1] > 0; }));
  CHECK(grew[2] == 0);
}

}  // namespace outlast::cluster::test::agreement_test
