#include "storage/ledger_store.hpp"

#include <atomic>
#include <future>
#include <thread>

#include "storage/entry_json.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/rows.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::ledger_store_test {
namespace {

using Dimension = UsageDimension;

template <class Start>
Result<void> wait_for(const Start& start) {
  std::promise<Result<void>> promise;
  std::future<Result<void>> future = promise.get_future();
  start([&promise](Result<void> result) { promise.set_value(std::move(result)); });
  REQUIRE(future.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  return future.get();
}

UsageReport usage(const LedgerStore& store, std::vector<Dimension> by,
                  std::optional<std::int64_t> since = {}, std::optional<std::int64_t> until = {}) {
  Result<UsageReport> report = store.usage({std::move(by), since, until});
  REQUIRE(report);
  return std::move(*report);
}

VirtualKey sample_key(const std::string& id) {
  return {id, {"acme", "search", "ann"}, "laptop", {}, 5, std::nullopt};
}

}  // namespace

TEST_CASE("a new ledger begins with its incarnation and is whole", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  const std::vector<StoredEntry> entries = entries_of(*store);
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].kind() == EntryKind::incarnation);
  CHECK(entries[0].header.index == 0);
  CHECK(entries[0].prev_hash == Digest{});
  CHECK(store->status().entries == 1);
  require_whole(*store);
}

TEST_CASE("a request is reserved, attempted and settled, each once", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  UuidGenerator ids(clock, 1);
  const RequestId id = ids.next();
  CHECK_FALSE(lane.run(sample_reservation(id)));
  CHECK_FALSE(lane.run(sample_reservation(id)));  // the same again
  CHECK(store->status().open_reservations == 1);
  CHECK_FALSE(lane.run(sample_attempt(id, 1, AttemptStatus::overloaded, 0)));
  CHECK_FALSE(lane.run(sample_settlement(id, 600'000, 2)));
  CHECK_FALSE(lane.run(sample_settlement(id, 600'000, 2)));
  const std::vector<StoredEntry> entries = entries_of(*store, 1);
  REQUIRE(entries.size() == 3);
  CHECK(std::get<Reservation>(entries[0].body) == sample_reservation(id));
  CHECK(std::get<AttemptLine>(entries[1].body) ==
        sample_attempt(id, 1, AttemptStatus::overloaded, 0));
  CHECK(std::get<proto::Settled>(entries[2].body).settlement == sample_settlement(id, 600'000, 2));
  CHECK(entries[2].prev_hash == entries[1].hash);
  CHECK(store->status().open_reservations == 0);
  require_whole(*store);
}

TEST_CASE("what the state machine refuses is told with a reason, before the ticket is durable",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  UuidGenerator ids(clock, 1);
  const RequestId id = ids.next();
  const RequestId unknown = ids.next();
  CHECK(is(*lane.run(sample_settlement(unknown)), LedgerError::unknown_request));
  CHECK(lane.run(sample_settlement(unknown))->message.find(unknown.to_string()) !=
        std::string::npos);
  CHECK_FALSE(lane.run(sample_reservation(id)));
  CHECK(is(*lane.run(sample_reservation(id, "ben")), LedgerError::duplicate));
  CHECK_FALSE(lane.run(sample_settlement(id)));
  CHECK(is(*lane.run(sample_settlement(id, 1)), LedgerError::already_ended));
  CHECK(is(*lane.run(VoidReservation{id, "late"}), LedgerError::already_ended));
  Uuid ancient = id;
  ancient.bytes[0] = 0;
  CHECK(is(*lane.run(sample_reservation(ancient)), LedgerError::too_old));
  CHECK(entries_of(*store, 1).size() == 2);
  require_whole(*store);
}

TEST_CASE("operations of many submitters are all told durable, each submitter's in order",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  constexpr int requests = 2'000;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::uint64_t lane = 1; lane <= 3; ++lane) {
    threads.emplace_back([&store, &clock, &wrong, lane] {
      std::mutex mutex;
      std::condition_variable told;
      std::uint64_t durable = 0;
      const auto submitter = store->make_submitter(
          [&](std::uint64_t ticket) {
            const std::lock_guard lock(mutex);
            if (ticket <= durable) ++wrong;
            durable = ticket;
            told.notify_one();
          },
          [&](std::uint64_t, const Refused&) { ++wrong; });
      UuidGenerator ids(clock, lane);
      std::uint64_t last = 0;
      for (int i = 0; i < requests; ++i) {
        const RequestId id = ids.next();
        if (!submitter->submit(sample_reservation(id), i % 7 == 0)) ++wrong;
        const Result<std::uint64_t> ticket = submitter->submit(sample_settlement(id), false);
        if (!ticket) ++wrong;
        else last = *ticket;
      }
      std::unique_lock lock(mutex);
      if (!told.wait_for(lock, std::chrono::seconds(60), [&] { return durable == last; })) ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(store->status().entries == 1 + 3 * 2 * requests);
  CHECK(usage(*store, {}).total.requests == 3 * requests);
  require_whole(*store);
}

TEST_CASE("a submitter that is gone is told nothing more, and loses nothing", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  auto store = open_store(folder.path(), clock);
  UuidGenerator ids(clock, 1);
  std::atomic<bool> gone{false};
  std::atomic<bool> told_late{false};
  {
    const auto submitter = store->make_submitter(
        [&](std::uint64_t) { told_late = told_late || gone; }, [&](std::uint64_t, const Refused&) {});
    for (int i = 0; i < 500; ++i)
      REQUIRE(submitter->submit(sample_reservation(ids.next()), i % 5 == 0));
  }
  gone = true;
  store.reset();  // commits what was submitted
  CHECK_FALSE(told_late);
  store = open_store(folder.path(), clock);
  CHECK(store->status().in_doubt_settled == 500);
}

TEST_CASE("a submitter may outlive its store, and is refused then", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  auto store = open_store(folder.path(), clock);
  const auto submitter =
      store->make_submitter([](std::uint64_t) {}, [](std::uint64_t, const Refused&) {});
  store.reset();
  UuidGenerator ids(clock, 1);
  CHECK(is(submitter->submit(sample_reservation(ids.next()), true).error(), LedgerError::stopped));
}

TEST_CASE("usage is summed by any dimension, for the hours that are asked for", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  clock.set_wall_ms(1'760'000'000'000 / hour_ms * hour_ms);
  const std::int64_t first_hour = clock.wall_ms();
  auto store = open_store(folder.path(), clock);
  UuidGenerator ids(clock, 1);
  {
    WaitingSubmitter lane(*store);
    const RequestId ann = ids.next();
    CHECK_FALSE(lane.run(sample_reservation(ann, "ann")));
    CHECK_FALSE(lane.run(sample_attempt(ann, 1, AttemptStatus::throttled, 0)));
    CHECK_FALSE(lane.run(sample_settlement(ann, 600'000, 2)));
    const RequestId voided = ids.next();
    CHECK_FALSE(lane.run(sample_reservation(voided, "ann")));
    CHECK_FALSE(lane.run(VoidReservation{voided, "no deployment answered"}));
    clock.advance_ms(hour_ms);
    const RequestId ben = ids.next();
    CHECK_FALSE(lane.run(sample_reservation(ben, "ben")));
    Settlement unpriced = sample_settlement(ben, 0);
    unpriced.attempt.price_known = false;
    unpriced.attempt.usage.source = UsageSource::estimated;
    unpriced.attempt.provider = "beta";
    unpriced.attempt.model = "opus";
    CHECK_FALSE(lane.run(unpriced));
  }
  const auto check = [&](const UsageReport& report) {
    CHECK(report.total.requests == 3);
    CHECK(report.total.attempts == 3);
    CHECK(report.total.failed_attempts == 1);
    CHECK(report.total.unpriced == 1);
    CHECK(report.total.estimated == 1);
    CHECK(report.total.cost == pico(600'000));
    CHECK(report.total.tokens[0] == 40);
    CHECK(report.total.tokens[6] == 7);
  };
  const UsageReport by_user = usage(*store, {Dimension::user});
  check(by_user);
  REQUIRE(by_user.rows.size() == 2);
  CHECK(by_user.rows[0].group == std::vector<std::string>{"ann"});
  CHECK(by_user.rows[0].totals.requests == 2);
  CHECK(by_user.rows[1].totals.unpriced == 1);
  const UsageReport by_model = usage(*store, {Dimension::model});
  REQUIRE(by_model.rows.size() == 1);
  CHECK(by_model.rows[0].group == std::vector<std::string>{"smart"});
  const UsageReport by_two = usage(*store, {Dimension::provider, Dimension::status});
  std::vector<std::vector<std::string>> groups;
  for (const UsageRow& row : by_two.rows) groups.push_back(row.group);
  CHECK(groups == std::vector<std::vector<std::string>>{
                      {"", "void"}, {"alpha", "ok"}, {"alpha", "throttled"}, {"beta", "ok"}});
  CHECK(usage(*store, {Dimension::model_served}).rows.size() == 3);
  CHECK(usage(*store, {}, first_hour + 1, first_hour + 2).total.requests == 2);
  CHECK(usage(*store, {}, first_hour + hour_ms).total.requests == 1);
  CHECK(usage(*store, {}, {}, first_hour + hour_ms).total.requests == 2);
  CHECK(usage(*store, {}, first_hour + 2 * hour_ms).total.requests == 0);
  require_whole(*store);
  store.reset();
  const Result<std::unique_ptr<LedgerReader>> reader = LedgerReader::open(folder.path());
  REQUIRE(reader);
  const Result<UsageReport> offline = (*reader)->usage({{Dimension::user}, {}, {}});
  REQUIRE(offline);
  check(*offline);
}

TEST_CASE("every dimension has a name that reads back", "[ledger]") {
  for (const std::string_view name : usage_dimension_names) {
    const std::optional<UsageDimension> dimension = parse_usage_dimension(name);
    REQUIRE(dimension);
    CHECK(name_of(*dimension) == name);
  }
  CHECK_FALSE(parse_usage_dimension("planet"));
}

TEST_CASE("keys and prices are durable when their callback says so", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  auto store = open_store(folder.path(), clock);
  const auto add = [&store](const VirtualKey& key) {
    return wait_for([&](auto done) { store->add_key(key, std::move(done)); });
  };
  const auto revoke = [&store](const std::string& id) {
    return wait_for([&](auto done) { store->revoke_key(id, std::move(done)); });
  };
  const auto prices = [&store](const std::string& toml) {
    return wait_for([&](auto done) { store->record_prices("v1", toml, std::move(done)); });
  };
  CHECK(add(sample_key("key_a")));
  CHECK(add(sample_key("key_b")));
  REQUIRE(store->keys().size() == 2);
  CHECK(revoke("key_a"));
  CHECK(store->keys()[0].revoked_ms);
  CHECK(is(revoke("key_c").error(), LedgerError::unknown_key));
  CHECK(prices("a"));
  CHECK(prices("a"));
  CHECK(prices("b"));
  store.reset();
  store = open_store(folder.path(), clock);
  REQUIRE(store->keys().size() == 2);
  CHECK(store->keys()[0].revoked_ms);
  CHECK_FALSE(store->keys()[1].revoked_ms);
  std::vector<EntryKind> kinds;
  for (const StoredEntry& entry : entries_of(*store)) kinds.push_back(entry.kind());
  CHECK(kinds == std::vector<EntryKind>{EntryKind::incarnation, EntryKind::key_created,
                                        EntryKind::key_created, EntryKind::key_revoked,
                                        EntryKind::prices, EntryKind::prices,
                                        EntryKind::incarnation});
  require_whole(*store);
}

TEST_CASE("a nearly full disk refuses new reservations and still takes what ends old ones",
          "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  LedgerOptions options;
  options.path = folder.path();
  options.ballast_bytes = 65'536;
  std::atomic<std::uint64_t> free_bytes{100ULL << 30};
  options.disk_space = [&free_bytes](const std::string&) -> Result<DiskSpace> {
    return DiskSpace{free_bytes, 1ULL << 40};
  };
  options.free_fraction_min = 0;
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(options, clock);
  REQUIRE(store);
  WaitingSubmitter lane(**store);
  UuidGenerator ids(clock, 1);
  const RequestId settled = ids.next();
  const RequestId voided = ids.next();
  CHECK_FALSE(lane.run(sample_reservation(settled)));
  CHECK_FALSE(lane.run(sample_reservation(voided)));
  free_bytes = options.free_bytes_min - 1;
  clock.advance_ms(100);
  CHECK(is(lane.submitter().submit(sample_reservation(ids.next()), true).error(),
           LedgerError::disk_full));
  CHECK((*store)->status().disk_full);
  CHECK_FALSE(lane.run(sample_attempt(settled, 1, AttemptStatus::cut, 1)));
  CHECK_FALSE(lane.run(sample_settlement(settled, 5, 2)));
  CHECK_FALSE(lane.run(VoidReservation{voided, "refused"}));
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/ballast"));
  free_bytes = options.free_bytes_min;
  clock.advance_ms(100);
  CHECK_FALSE(lane.run(sample_reservation(ids.next())));
}

TEST_CASE("an operation that nobody waits for is committed without an urgent one", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  UuidGenerator ids(clock, 1);
  lane.submit(sample_reservation(ids.next()), false);
  lane.wait();
  CHECK(store->status().entries == 2);
}

TEST_CASE("entries print as one JSON object each", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  const RequestId id = *Uuid::parse("01977420-dc00-7000-8000-000000000001");
  CHECK_FALSE(lane.run(sample_reservation(id)));
  CHECK_FALSE(lane.run(sample_settlement(id)));
  const std::vector<StoredEntry> entries = entries_of(*store);
  std::string reserve;
  append_entry_json(reserve, entries[1]);
  CHECK(reserve.starts_with(
      R"({"index":1,"epoch":1,"time_ms":1750000000000,"kind":"reserve","request_id":"01977420-dc00-7000-8000-000000000001",)"
      R"("attempt":null,"cost_pico_usd":null,"estimated":null,"tenant":"acme/search/ann","key_id":"key_ann","route":"smart",)"
      R"("amount_pico_usd":"1000000","price_known":true,"input_tokens_max":500,"output_tokens_max":100,)"
      R"("tags":[],"session":"","candidates":[],"from_slices":false,"idempotency_key":null,"prev_hash":")"));
  std::string settle;
  append_entry_json(settle, entries[2]);
  CHECK(
      settle.find(
          R"("kind":"settle","request_id":"01977420-dc00-7000-8000-000000000001","attempt":1,)"
          R"("cost_pico_usd":"600000","estimated":false,"deployment":"fable-alpha","provider":"alpha",)"
          R"("model":"claude-fable-5","status":"ok","http_status":200)") != std::string::npos);
  CHECK(settle.find(R"("tokens":{"input_uncached":40,)") != std::string::npos);
  CHECK(settle.ends_with("\"hash\":\"" + to_hex(entries[2].hash) + "\"}"));
}

}  // namespace outlast::storage::ledger_store_test
