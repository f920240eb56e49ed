// ShardHost: the thread of a shard: how it follows, leads and ends, whatever the shared log does meanwhile.
#include "cluster/shard_host.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>
#include <thread>

#include "cluster/memory_agreement.hpp"
#include "core/id.hpp"
#include "tests/cluster/watched.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::cluster::shard_host_thread_test {
namespace {

using outlast::test::Watched;

constexpr ShardId the_shard = 0;

// What nodes share, for the host's thread and the test's. Reads of the log can be held.
struct World : Watched {
  ManualClock clock;  // of leases
  MemoryAgreement agreement{clock, 1};
  std::unique_ptr<Coordination> node = agreement.node("a");
  bool shut = false;
  std::size_t held = 0;

  std::uint64_t claim() {
    Result<std::uint64_t> epoch = fail(AgreementError::unavailable, "not yet");
    change([this, &epoch] {
      Presence presence;
      presence.node = "a";
      const Result<LeaseId> lease = node->start_lease(60, presence);
      epoch = node->claim(the_shard, lease.value(), presence);
    });
    REQUIRE(epoch);
    return *epoch;
  }
  void replace_owner(std::uint64_t epoch) {
    change([this, epoch] { REQUIRE(agreement.node("admin")->release(the_shard, epoch)); });
  }
  void cut(bool cut) {
    change([this, cut] { agreement.cut_off("a", cut); });
  }
  void shut_log() {
    change([this] { shut = true; });
  }
  void open_log() {
    change([this] { shut = false; });
  }
  bool holds_a_read() {
    return wait([this] { return held > 0; });
  }
  std::size_t batches() {
    std::size_t count = 0;
    change([this, &count] { count = agreement.batches(the_shard).size(); });
    return count;
  }
};

class GuardedLog final : public SharedLog {
 public:
  explicit GuardedLog(World& world) : world_(world) {
    world.change([this, &world] { log_ = world.node->log(the_shard); });
  }
  Result<void> append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) override {
    return guarded<void>([this, epoch, next_index, &batch] { return log_->append(epoch, next_index, batch); });
  }
  std::string_view last_append() const override { return log_->last_append(); }
  Result<SharedTail> tail() override {
    return guarded<SharedTail>([this] { return log_->tail(); });
  }
  Result<void> read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) override {
    world_.change([this] { ++world_.held; });
    world_.wait([this] { return !world_.shut; });
    world_.change([this] { --world_.held; });
    return guarded<void>([this, from, &visit] { return log_->read(from, visit); });
  }
  Result<void> trim(std::uint64_t below) override {
    return guarded<void>([this, below] { return log_->trim(below); });
  }

 private:
  template <class T, class Call>
  Result<T> guarded(const Call& call) {
    std::optional<Result<T>> result;
    world_.change([&result, &call] { result.emplace(call()); });
    return std::move(*result);
  }
  World& world_;
  std::unique_ptr<SharedLog> log_;
};

// A host of that world, and what it said.
struct Bench {
  explicit Bench(World& of) : world(of), ids(clock, 1), holder(ids.next()) {
    ShardHostOptions options;
    options.shard = the_shard;
    options.folder = folder.path() + "/shard";
    options.node = "a";
    options.incarnation = ids.next();
    options.poll_interval_ms = 10;
    options.sync_interval_ms = 10;
    auto opened = ShardHost::open(options, clock, boot_clock, std::make_unique<GuardedLog>(world), deadline, ports());
    REQUIRE(opened);
    host = std::move(*opened);
  }
  ShardHostPorts ports() {
    ShardHostPorts made;
    made.send = [this](const std::string&, const shard::Message& message) {
      heard.change([this, &message] { sent.push_back(message); });
    };
    made.appended = [](ShardId, std::string_view) {};
    made.progress = [this](const HostStatus& status) { heard.change([this, &status] { last = status; }); };
    made.behind = [this](ShardId) { heard.change([this] { behind = true; }); };
    made.caught_up = [this](ShardId, std::uint64_t epoch) { heard.change([this, epoch] { caught_up = epoch; }); };
    made.stepped_down = [this](ShardId, std::uint64_t epoch) { heard.change([this, epoch] { stepped_down = epoch; }); };
    made.failed = [this](ShardId, std::uint64_t epoch) { heard.change([this, epoch] { failed = epoch; }); };
    return made;
  }
  void lead(std::uint64_t epoch) {
    host->catch_up(epoch);
    REQUIRE(heard.wait([this, epoch] { return caught_up == epoch; }));
    host->lead(epoch);
    REQUIRE(heard.wait([this] { return last.leading; }));
  }
  // The next operation of one holder's stream.
  void reserve(std::uint64_t epoch) {
    Reservation reservation = storage::sample_reservation(ids.next());
    reservation.holder = holder;
    std::string frame;
    proto::LedgerEncoder().append(frame, {{0, 0, 0}, reservation});
    ++said;
    host->receive("b", {the_shard, epoch, shard::Operations{holder, 1, 1, said, 0, true, {shard::EntryOperation{frame}}}});
  }
  void say_nothing_much(std::uint64_t epoch) {
    host->receive("b", {the_shard, epoch, shard::Operations{holder, 1, 1, 1, 0, false, {}}});
  }
  template <class Body>
  std::size_t count() const {
    return static_cast<std::size_t>(std::count_if(
        sent.begin(), sent.end(), [](const shard::Message& one) { return std::holds_alternative<Body>(one.body); }));
  }
  bool acknowledged(std::uint64_t up_to) {
    return heard.wait([this, up_to] {
      return std::any_of(sent.begin(), sent.end(), [up_to](const shard::Message& one) {
        const auto* const told = std::get_if<shard::Acknowledgement>(&one.body);
        return told != nullptr && told->up_to >= up_to;
      });
    });
  }
  bool answers_that_it_is_no_owner(std::uint64_t epoch) {
    const std::size_t before = snapshot_of<shard::NotOwner>();
    say_nothing_much(epoch);
    return heard.wait([this, before] { return count<shard::NotOwner>() > before; });
  }
  template <class Body>
  std::size_t snapshot_of() {
    std::size_t found = 0;
    heard.change([this, &found] { found = count<Body>(); });
    return found;
  }
  // What when_current() says, once it says it.
  Result<void> current() {
    std::optional<Result<void>> told;
    host->when_current([this, &told](Result<void> done) { heard.change([&told, &done] { told.emplace(std::move(done)); }); });
    REQUIRE(heard.wait([&told] { return told.has_value(); }));
    return std::move(*told);
  }

  World& world;
  const storage::TemporaryFolder folder;
  SystemClock clock;
  ManualClock boot_clock;
  const std::shared_ptr<std::atomic<std::int64_t>> deadline =
      std::make_shared<std::atomic<std::int64_t>>(std::numeric_limits<std::int64_t>::max());
  UuidGenerator ids;
  const Incarnation holder;
  std::uint64_t said = 0;
  Watched heard;  // of what follows
  std::vector<shard::Message> sent;
  HostStatus last;
  bool behind = false;
  std::uint64_t caught_up = 0;
  std::uint64_t stepped_down = 0;
  std::uint64_t failed = 0;
  std::unique_ptr<ShardHost> host;  // ends first
};

}  // namespace

TEST_CASE("a shard's thread catches up, leads, acknowledges what stands, and steps down", "[cluster][host]") {
  World world;
  Bench bench(world);
  const std::uint64_t epoch = world.claim();
  CHECK(bench.answers_that_it_is_no_owner(epoch));
  bench.lead(epoch);
  bench.reserve(epoch);
  CHECK(bench.acknowledged(1));
  CHECK(world.batches() > 0);
  CHECK(bench.current());
  bench.host->step_down(epoch);
  REQUIRE(bench.heard.wait([&bench, epoch] { return bench.stepped_down == epoch; }));
  CHECK(bench.failed == 0);
  CHECK(bench.answers_that_it_is_no_owner(epoch));
  // A step down from what was never led is answered, too.
  bench.host->step_down(epoch + 1);
  CHECK(bench.heard.wait([&bench, epoch] { return bench.stepped_down == epoch + 1; }));

  // Another node's replica of the same log has the same state.
  Bench other(world);
  REQUIRE(other.current());
  CHECK(other.host->digest() == bench.host->digest());
}

TEST_CASE("the end of its lease ends an owner, though nobody tells it", "[cluster][host]") {
  World world;
  Bench bench(world);
  const std::uint64_t epoch = world.claim();
  bench.lead(epoch);
  bench.deadline->store(bench.boot_clock.monotonic_ns() + 1);
  bench.boot_clock.advance_ms(1);
  REQUIRE(bench.heard.wait([&bench, epoch] { return bench.failed == epoch; }));
  const std::size_t batches = world.batches();
  bench.reserve(epoch);
  CHECK(bench.answers_that_it_is_no_owner(epoch));
  CHECK(bench.snapshot_of<shard::Acknowledgement>() == 0);
  CHECK(world.batches() == batches);
  // It may lead again, in another epoch.
  bench.deadline->store(std::numeric_limits<std::int64_t>::max());
  world.replace_owner(epoch);
  bench.said = 0;
  const std::uint64_t later = world.claim();
  bench.lead(later);
  bench.reserve(later);
  CHECK(bench.acknowledged(1));
}

TEST_CASE("an owner that was replaced says nothing of what does not stand, and begins anew", "[cluster][host]") {
  World world;
  Bench bench(world);
  const std::uint64_t epoch = world.claim();
  bench.lead(epoch);
  world.replace_owner(epoch);
  bench.reserve(epoch);
  REQUIRE(bench.heard.wait([&bench, epoch] { return bench.failed == epoch; }));
  CHECK(bench.snapshot_of<shard::Acknowledgement>() == 0);
  REQUIRE(bench.current());
  Bench other(world);
  REQUIRE(other.current());
  CHECK(other.host->digest() == bench.host->digest());
}

TEST_CASE("an owner whose log does not answer gives up when its lease is over, and follows again", "[cluster][host]") {
  World world;
  Bench bench(world);
  const std::uint64_t epoch = world.claim();
  bench.lead(epoch);
  bench.deadline->store(bench.boot_clock.monotonic_ns() + 1'000'000'000);
  world.cut(true);
  bench.reserve(epoch);
  bench.boot_clock.advance_ms(1'000);
  REQUIRE(bench.heard.wait([&bench, epoch] { return bench.failed == epoch; }));
  CHECK(bench.snapshot_of<shard::Acknowledgement>() == 0);
  // Nobody is told to be current while the log cannot be read, nor left to wait.
  const Result<void> unreachable = bench.current();
  REQUIRE_FALSE(unreachable);
  CHECK(is(unreachable.error(), AgreementError::unavailable));
  world.cut(false);
  CHECK(bench.current());
}

TEST_CASE("messages that wait for a shard's thread are bounded, and what must come comes", "[cluster][host]") {
  constexpr std::size_t flood = 20'000;
  World world;
  Bench bench(world);
  world.shut_log();
  REQUIRE(world.holds_a_read());
  for (std::size_t i = 0; i < flood; ++i) bench.say_nothing_much(1);
  bench.host->step_down(1);
  world.open_log();
  REQUIRE(bench.heard.wait([&bench] { return bench.stepped_down == 1; }));
  const std::size_t answered = bench.snapshot_of<shard::NotOwner>();
  CHECK(answered > 0);
  CHECK(answered < flood);
}

TEST_CASE("whoever waits to be current is answered once, also by a host that ends", "[cluster][host]") {
  for (int round = 0; round < 10; ++round) {
    World world;
    std::atomic<int> answers = 0;
    {
      Bench bench(world);
      world.shut_log();
      REQUIRE(world.holds_a_read());
      for (int i = 0; i < 3; ++i) bench.host->when_current([&answers](const Result<void>&) { ++answers; });
      std::thread end([&bench] { bench.host.reset(); });
      world.open_log();
      end.join();
    }
    CHECK(answers == 3);
  }
}

}  // namespace outlast::cluster::shard_host_thread_test
