// ShardHost: what a replica takes from its owner and what it reads by itself; and when an owner's batches begin.
#include "cluster/shard_host.hpp"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "storage/memory_log.hpp"
#include "tests/cluster/etcd_fixture.hpp"

namespace outlast::cluster::shard_host_test {
namespace {

constexpr std::uint64_t the_epoch = 7;
constexpr std::int64_t ms = 1'000'000;

// A shared log that counts, for several threads. Each append takes `append_ms` of the clock's time.
class CountedLog final : public SharedLog {
 public:
  struct Shared {
    std::mutex mutex;
    std::vector<SharedBatch> batches;
    std::size_t reads = 0;
    std::int64_t append_ms = 0;
    ManualClock* clock = nullptr;
  };
  explicit CountedLog(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  Result<void> append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) override {
    const std::lock_guard lock(shared_->mutex);
    codec_.encode(batch.first_index, next_index, epoch, batch.records, appended_);
    shared_->batches.push_back({batch.first_index, next_index, epoch, std::string(batch.records)});
    shared_->clock->advance_ms(shared_->append_ms);
    return {};
  }
  [[nodiscard]] std::string_view last_append() const override { return appended_; }
  Result<SharedTail> tail() override {
    const std::lock_guard lock(shared_->mutex);
    return SharedTail{0, shared_->batches.empty() ? 0 : shared_->batches.back().next_index};
  }
  Result<void> read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) override {
    std::vector<SharedBatch> batches;
    {
      const std::lock_guard lock(shared_->mutex);
      ++shared_->reads;
      batches = shared_->batches;
    }
    for (const SharedBatch& batch : batches) {
      if (batch.next_index > from && !visit(batch)) break;
    }
    return {};
  }
  Result<void> trim(std::uint64_t) override { return {}; }

 private:
  const std::shared_ptr<Shared> shared_;
  BatchCodec codec_;
  std::string appended_;
};

// A host over that log.
struct Bench {
  Bench() : ids(clock, 1) {
    clock.advance_ms(1'000);
    world->clock = &clock;
    ShardHostOptions options;
    options.folder = folder.path() / "ledger";
    options.node = "alpha";
    options.incarnation = ids.next();
    ShardHostPorts ports;
    ports.send = [this](const std::string&, shard::Message) {
      const std::lock_guard lock(world->mutex);
      ++said;
    };
    ports.appended = [this](ShardId, std::string_view batch) {
      const std::lock_guard lock(world->mutex);
      sent.emplace_back(batch);
    };
    ports.progress = [](const HostStatus&) {};
    ports.behind = [](ShardId) {};
    ports.caught_up = ports.stepped_down = ports.failed = [](ShardId, std::uint64_t) {};
    auto opened = ShardHost::open(std::move(options), clock, clock, std::make_unique<CountedLog>(world), deadline, ports);
    REQUIRE(opened);
    host = std::move(*opened);
    settle();
  }
  // The thread has come to the end of what it was handed.
  void settle() { (void)host->money(); (void)host->money(); }
  std::size_t reads() const {
    const std::lock_guard lock(world->mutex);
    return world->reads;
  }
  std::size_t batches() const {
    const std::lock_guard lock(world->mutex);
    return world->batches.size();
  }
  bool applied(std::uint64_t entries) const {
    return test::wait_until([this, entries] { return host->status().applied == entries; });
  }

  ManualClock clock;
  UuidGenerator ids;
  test::TestFolder folder;
  std::shared_ptr<CountedLog::Shared> world = std::make_shared<CountedLog::Shared>();
  std::shared_ptr<std::atomic<std::int64_t>> deadline = std::make_shared<std::atomic<std::int64_t>>(3'600'000 * ms);
  std::size_t said = 0;
  std::vector<std::string> sent;
  std::unique_ptr<ShardHost> host;
};

Reservation reservation_of(const RequestId& id, const Incarnation& holder) {
  Reservation made;
  made.request_id = id;
  made.tenant = {"acme", "search", "ann"};
  made.price_known = true;
  made.amount = {1'000};
  made.holder = holder;
  return made;
}

// Batches of an owner elsewhere, one entry each, as the shared log has them and as they are sent.
struct Elsewhere {
  explicit Elsewhere(Bench& bench, std::size_t count) {
    storage::MemoryLog log;
    auto writer = storage::LedgerWriter::open_replica(log, bench.clock);
    REQUIRE(writer);
    REQUIRE((*writer)->lead(the_epoch, {bench.ids.next(), "beta", "test"}));
    const Incarnation holder = bench.ids.next();
    while ((*writer)->next_index() < count) {
      REQUIRE((*writer)->add(reservation_of(bench.ids.next(), holder)));
      REQUIRE((*writer)->commit());
    }
    BatchCodec codec;
    for (const auto& [first, records] : log.batches()) {
      batches.push_back({first, first + 1, the_epoch, records});
      codec.encode(first, first + 1, the_epoch, records, sent.emplace_back());
    }
  }
  std::vector<SharedBatch> batches;
  std::vector<std::string> sent;
};

}  // namespace

TEST_CASE("a replica applies what its owner sends without a look at the shared log", "[host]") {
  Bench bench;
  const Elsewhere owner(bench, 4);
  const std::size_t before = bench.reads();
  for (const std::string& batch : owner.sent) bench.host->take_batch(batch);
  bench.host->take_batch(owner.sent[1]);  // late, and again
  CHECK(bench.applied(4));
  bench.settle();
  CHECK(bench.reads() == before);
}

TEST_CASE("a replica that missed a batch of its owner reads it from the shared log", "[host]") {
  Bench bench;
  const Elsewhere owner(bench, 4);
  bench.world->batches = owner.batches;
  const std::size_t before = bench.reads();
  SECTION("when a later one comes") { bench.host->take_batch(owner.sent[3]); }
  SECTION("when what comes is no batch") { bench.host->take_batch("no batch"); }
  SECTION("when a hint is followed by nothing for a moment") {
    bench.host->log_grew();
    bench.settle();
    CHECK(bench.reads() == before);
    bench.clock.advance_ms(200);
    bench.settle();
  }
  CHECK(bench.applied(4));
  CHECK(bench.reads() > before);
}

TEST_CASE("a replica that cannot take what it was sent goes by the shared log", "[host]") {
  Bench bench;
  const Elsewhere owner(bench, 4);
  const Elsewhere other(bench, 4);
  bench.world->batches = owner.batches;
  bench.host->take_batch(owner.sent[0]);
  REQUIRE(bench.applied(1));
  bench.host->take_batch(other.sent[1]);  // of another chain
  CHECK(bench.applied(4));
}

TEST_CASE("an owner's batches keep a distance while nobody waits for one", "[host]") {
  Bench bench;
  bench.world->append_ms = 10;
  bench.host->lead(the_epoch);
  const Incarnation holder = bench.ids.next();
  std::uint64_t next = 1;
  const auto say = [&bench, &holder, &next](bool urgent) {
    std::string frame;
    proto::LedgerEncoder().append(frame, proto::LedgerEntry{{0, 0, 0}, reservation_of(bench.ids.next(), holder)});
    bench.host->receive("beta", {0, the_epoch, shard::Operations{holder, 1, 1, next++, 0, urgent, {shard::EntryOperation{frame}}}});
    bench.settle();
  };
  bench.settle();
  REQUIRE(bench.batches() == 1);  // that it leads
  say(false);
  REQUIRE(bench.batches() == 2);
  say(false);
  say(false);
  CHECK(bench.batches() == 2);
  SECTION("until it has passed") {
    bench.clock.advance_ms(10);
    bench.settle();
    CHECK(bench.batches() == 3);
  }
  SECTION("and begin at once when somebody does") {
    say(true);
    CHECK(bench.batches() == 3);
  }
  SECTION("and what has come is finished when it steps down") {
    bench.host->step_down(the_epoch);
    bench.settle();
    CHECK(bench.batches() == 3);
  }
  CHECK(bench.host->status().commits.counts != CommitTimes{}.counts);
  const std::lock_guard lock(bench.world->mutex);
  CHECK(bench.sent.size() == bench.world->batches.size());
}

}  // namespace outlast::cluster::shard_host_test
