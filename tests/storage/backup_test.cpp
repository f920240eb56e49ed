#include "storage/backup.hpp"

#include <atomic>
#include <fstream>
#include <thread>

#include "storage/archiver.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::backup_test {
namespace {

namespace fs = std::filesystem;

LedgerOptions options_in(const std::string& data) {
  fs::create_directories(data);
  LedgerOptions options;
  options.path = data + "/ledger";
  options.data = data;
  options.head_interval_ms = 10;
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  return options;
}

std::unique_ptr<LedgerStore> open_in(const std::string& data, const Clock& clock) {
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(options_in(data), clock);
  INFO((store ? std::string() : store.error().message));
  REQUIRE(store);
  return std::move(*store);
}

void add_requests(LedgerStore& store, const Clock& clock, int requests, std::uint64_t seed) {
  WaitingSubmitter lane(store);
  UuidGenerator ids(clock, seed);
  for (int i = 0; i < requests; ++i) {
    const RequestId id = ids.next();
    lane.submit(sample_reservation(id), true);
    lane.submit(sample_settlement(id), false);
  }
  lane.wait();
}

std::string message_of(const Result<RestoreReport>& result) {
  return result ? std::string() : result.error().message;
}

}  // namespace

TEST_CASE("a replica that has no entries yet claims no folder for its backups", "[ledger]") {
  const TemporaryFolder folder;
  const auto log = RocksLog::open(folder.path() + "/ledger", nullptr, RocksDuty::replica);
  REQUIRE(log);
  const std::string backups = folder.path() + "/backups";
  const auto made = (*log)->backup(backups, 7);
  REQUIRE_FALSE(made);
  CHECK(is(made.error(), LedgerError::invalid));
  CHECK(made.error().message.find("has no entries yet") != std::string::npos);
  CHECK_FALSE(fs::exists(backups));
}

TEST_CASE("a backup's folder is one that the node's data do not hold", "[ledger]") {
  const TemporaryFolder folder;
  CHECK(check_backup_folder("/srv/backup", folder.path()));
  CHECK(is(check_backup_folder("backup", folder.path()).error(), LedgerError::invalid));
  CHECK(is(check_backup_folder(folder.path() + "/shards/b", folder.path()).error(), LedgerError::invalid));
}

TEST_CASE("a backup made under load restores to a whole prefix of the ledger", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const std::string data = folder.path() + "/data";
  const std::string backups = folder.path() + "/backups";
  std::vector<StoredEntry> entries;
  std::optional<BackupReport> report;
  {
    const auto store = open_in(data, clock);
    add_requests(*store, clock, 50, 1);
    std::atomic<bool> stop{false};
    std::thread load([&] {
      for (std::uint64_t seed = 2; !stop; ++seed) add_requests(*store, clock, 20, seed);
    });
    const Result<BackupReport> made = store->backup(backups, 7);
    stop = true;
    load.join();
    INFO((made ? std::string() : made.error().message));
    REQUIRE(made);
    report = *made;
    entries = entries_of(*store);
  }
  CHECK(report->entries >= 101);
  CHECK(report->entries <= entries.size());
  CHECK(report->head_hash == entries[report->entries - 1].hash);
  const std::string restored = folder.path() + "/restored";
  const Result<RestoreReport> done = restore_backup(backups, restored, false);
  INFO(message_of(done));
  REQUIRE(done);
  CHECK(done->verified.entries == report->entries);
  CHECK(done->verified.head_hash == report->head_hash);
  const auto store = open_in(restored, clock);
  require_whole(*store);
}

TEST_CASE("later backups add only what is new, and the oldest go", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const std::string data = folder.path() + "/data";
  const std::string backups = folder.path() + "/backups";
  for (std::uint32_t round = 1; round <= 4; ++round) {
    const auto store = open_in(data, clock);  // each start writes what it recovers to table files
    add_requests(*store, clock, 100, round);
    const Result<BackupReport> made = store->backup(backups, 2);
    REQUIRE(made);
    CHECK(made->id == round);
    CHECK(made->kept == std::min(round, 2U));
  }
  // Table files of earlier rounds are there once.
  std::set<std::string> shared;
  for (const auto& file : fs::directory_iterator(backups + "/shared_checksum"))
    shared.insert(file.path().filename());
  CHECK(shared.size() >= 3);
  const Result<RestoreReport> done = restore_backup(backups, folder.path() + "/again", false);
  INFO(message_of(done));
  REQUIRE(done);
  CHECK(done->id == 4);
}

TEST_CASE("a backup holds segments, and its restore reads them", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const std::string data = folder.path() + "/data";
  fs::create_directories(data);
  std::uint64_t entries = 0;
  {
    const auto log = RocksLog::open(data + "/ledger");
    UuidGenerator ids(clock, 1);
    const auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
    for (int i = 0; i < 60; ++i) {
      const RequestId id = ids.next();
      REQUIRE((*writer)->add(sample_reservation(id)));
      REQUIRE((*writer)->add(sample_settlement(id)));
      REQUIRE((*writer)->commit());
      clock.advance_ms(hour_ms);
    }
    REQUIRE((*writer)->finish());
    entries = (*writer)->next_index();
    ArchiveOptions options;
    options.before_ms = clock.wall_ms() - 20 * hour_ms;
    REQUIRE(archive_once(**log, options).value() > 0);
    const Result<BackupReport> made = backup_ledger(**log, data, folder.path() + "/backups", 7);
    INFO((made ? std::string() : made.error().message));
    REQUIRE(made);
    CHECK(made->segments == 1);
    CHECK(made->entries == entries);
  }
  const Result<RestoreReport> done =
      restore_backup(folder.path() + "/backups", folder.path() + "/new", false);
  INFO(message_of(done));
  REQUIRE(done);
  CHECK(done->verified.entries == entries);
}

TEST_CASE("a restore replaces no ledger unless it is told to, and then keeps the old one",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const std::string data = folder.path() + "/data";
  const std::string backups = folder.path() + "/backups";
  {
    const auto store = open_in(data, clock);
    add_requests(*store, clock, 10, 1);
    REQUIRE(store->backup(backups, 7));
    add_requests(*store, clock, 10, 2);
    CHECK(is(restore_backup(backups, data, true).error(), LedgerError::locked));
  }
  const Result<RestoreReport> refused = restore_backup(backups, data, false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("--force") != std::string::npos);
  const Result<RestoreReport> done = restore_backup(backups, data, true);
  INFO(message_of(done));
  REQUIRE(done);
  CHECK(fs::exists(done->moved_aside + "/CURRENT"));
  CHECK(done->verified.entries == 21);
  // The newer heads are still there: a start asks whether the loss is known.
  const auto start = LedgerStore::open(options_in(data), clock);
  REQUIRE_FALSE(start);
  CHECK(start.error().message.find("accept_cut = 21") != std::string::npos);
}

TEST_CASE("a folder that is not for backups of this ledger is refused", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const std::string backups = folder.path() + "/backups";
  const auto one = open_in(folder.path() + "/one", clock);
  const auto two = open_in(folder.path() + "/two", clock);
  REQUIRE(one->backup(backups, 7));
  CHECK(is(two->backup(backups, 7).error(), LedgerError::invalid));
  CHECK(is(one->backup("relative", 7).error(), LedgerError::invalid));
  CHECK(is(one->backup(folder.path() + "/one/backups", 7).error(), LedgerError::invalid));
  const std::string other = folder.path() + "/other";
  fs::create_directories(other);
  std::ofstream(other + "/letter") << "dear";
  CHECK(is(one->backup(other, 7).error(), LedgerError::invalid));
  CHECK(is(restore_backup(other, folder.path() + "/three", false).error(), LedgerError::invalid));
}

TEST_CASE("a damaged backup is not restored", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const std::string backups = folder.path() + "/backups";
  {
    const auto store = open_in(folder.path() + "/data", clock);
    add_requests(*store, clock, 200, 1);
    REQUIRE(store->backup(backups, 7));
  }
  std::string largest;
  for (const auto& file : fs::recursive_directory_iterator(backups)) {
    if (file.is_regular_file() &&
        (largest.empty() || file.file_size() > fs::file_size(largest))) {
      largest = file.path();
    }
  }
  std::fstream stream(largest, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(fs::file_size(largest) / 2);
  stream.seekg(middle);
  const char byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(middle);
  stream.put(byte);
  stream.close();
  const Result<RestoreReport> refused = restore_backup(backups, folder.path() + "/new", false);
  REQUIRE_FALSE(refused);
  INFO(refused.error().message);
  CHECK(is(refused.error(), LedgerError::corrupt));
  CHECK_FALSE(fs::exists(folder.path() + "/new/ledger"));
}

}  // namespace outlast::storage::backup_test
