// Old entries move to segments: what reads the ledger sees no difference, a crash at any step loses
// nothing, damage is found.
#include "storage/archiver.hpp"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/storage/child_process.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::archiver_test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t day_ms = 24 * hour_ms;

// Requests over some days, two a batch; the last one stays open.
void write_days(const std::string& path, ManualClock& clock, int days, int requests_per_day,
                std::uint64_t seed = 1) {
  const auto log = RocksLog::open(path);
  REQUIRE(log);
  UuidGenerator ids(clock, seed);
  const auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
  REQUIRE(writer);
  for (int day = 0; day < days; ++day) {
    for (int i = 0; i < requests_per_day; ++i) {
      const RequestId id = ids.next();
      REQUIRE((*writer)->add(sample_reservation(id)));
      REQUIRE((*writer)->add(sample_settlement(id)));
      if (i % 2 == 1) REQUIRE((*writer)->commit());
    }
    clock.advance_ms(day_ms);
  }
  REQUIRE((*writer)->finish());
}

ArchiveOptions before(std::int64_t time_ms) {
  ArchiveOptions options;
  options.before_ms = time_ms;
  return options;
}

std::vector<std::string> frames_of(const LedgerView& view, std::uint64_t from = 0) {
  std::vector<std::string> frames;
  const Result<void> read = view.read(from, [&](const LogRecord& record) {
    REQUIRE(record.index == from + frames.size());
    frames.emplace_back(record.frame);
    return true;
  });
  INFO((read ? std::string() : read.error().message));
  REQUIRE(read);
  return frames;
}

std::uint64_t log_first(const RocksLog& log) {
  std::uint64_t first = 0;
  REQUIRE(log.read_batches([&first](const LogBatch& batch) {
    first = batch.first_index;
    return false;
  }));
  return first;
}

std::vector<std::string> segment_files(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(path + "/segments", error))
    files.push_back(file.path());
  std::sort(files.begin(), files.end());
  return files;
}

Result<VerifyReport> verify_in(const std::string& path) {
  const auto reader = LedgerReader::open(path);
  if (!reader) return fail(reader.error());
  return (*reader)->verify();
}

}  // namespace

TEST_CASE("what moved to segments reads as before, from every index, and verifies", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const std::int64_t start = clock.wall_ms();
  write_days(folder.path(), clock, 6, 40);
  const auto log = RocksLog::open(folder.path());
  REQUIRE(log);
  const std::vector<std::string> frames = frames_of(**log);
  const auto old_view = (*log)->snapshot();
  for (int day = 1; day <= 3; ++day) {
    const Result<std::uint64_t> moved = archive_once(**log, before(start + day * day_ms));
    INFO((moved ? std::string() : moved.error().message));
    REQUIRE(moved);
    CHECK(*moved >= 80);
  }
  CHECK(*archive_once(**log, before(start + 3 * day_ms)) == 0);
  CHECK(segment_files(folder.path()).size() == 3);
  CHECK(log_first(**log) == 241);
  CHECK(frames_of(**log) == frames);
  CHECK(frames_of(*old_view) == frames);
  for (std::uint64_t from = 0; from < frames.size(); from += 7) {
    const std::vector<std::string> rest(frames.begin() + static_cast<long>(from), frames.end());
    REQUIRE(frames_of(**log, from) == rest);
  }
  const Result<VerifyReport> report = verify_ledger(**log);
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
  CHECK(report->entries == frames.size());
}

TEST_CASE("a repeated operation is compared with its entry in a segment", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const std::int64_t start = clock.wall_ms();
  write_days(folder.path(), clock, 3, 20);
  const auto log = RocksLog::open(folder.path());
  REQUIRE(archive_once(**log, before(start + 2 * day_ms)).value() > 0);
  std::optional<Reservation> first;
  REQUIRE(read_entries(**log, 1, [&first](const StoredEntry& entry) {
    first = std::get<Reservation>(entry.body);
    return false;
  }));
  UuidGenerator ids(clock, 9);
  const auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
  REQUIRE(writer);
  CHECK((*writer)->add(*first)->outcome == Outcome::duplicate);
  first->amount = pico(7);
  CHECK((*writer)->add(*first)->error == LedgerError::duplicate);
}

TEST_CASE("entries stay while a request among them or before them is open", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const auto log = RocksLog::open(folder.path());
  UuidGenerator ids(clock, 1);
  const auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
  REQUIRE(writer);
  const RequestId open = ids.next();
  for (int i = 0; i < 30; ++i) {
    const RequestId id = i == 10 ? open : ids.next();
    REQUIRE((*writer)->add(sample_reservation(id)));
    if (i != 10) REQUIRE((*writer)->add(sample_settlement(id)));
    REQUIRE((*writer)->commit());
  }
  clock.advance_ms(10 * day_ms);
  const std::int64_t now = clock.wall_ms();
  SECTION("known by its missing end") {
    CHECK(archive_once(**log, before(now)).value() == 21);
  }
  SECTION("known by the row of a checkpoint") {
    REQUIRE((*writer)->finish());
    CHECK(archive_once(**log, before(now)).value() == 21);
  }
  CHECK(archive_once(**log, before(now)).value() == 0);
  REQUIRE((*writer)->add(sample_settlement(open)));
  REQUIRE((*writer)->commit_rows());
  CHECK(archive_once(**log, before(now)).value() > 0);
  // The last batch stays, and fewer entries than are worth a file do as well.
  clock.advance_ms(day_ms);
  CHECK(archive_once(**log, before(clock.wall_ms())).value() == 0);
  ArchiveOptions few = before(clock.wall_ms());
  few.entries_min = 1'000;
  few.overdue_ms = 100 * day_ms;
  const RequestId last = ids.next();
  REQUIRE((*writer)->add(sample_reservation(last)));
  REQUIRE((*writer)->add(sample_settlement(last)));
  REQUIRE((*writer)->commit());
  CHECK(archive_once(**log, few).value() == 0);
}

// Not a test: the process that the next one ends.
TEST_CASE("archive and die", "[.child]") {
  if (std::getenv("OUTLAST_TEST_FOLDER") == nullptr) return;
  const auto log = RocksLog::open(std::getenv("OUTLAST_TEST_FOLDER"));
  ArchiveOptions options = before(std::atoll(std::getenv("OUTLAST_TEST_BEFORE")));
  options.reached = [step = std::atoi(std::getenv("OUTLAST_TEST_STEP"))](ArchiveStep at) {
    if (static_cast<int>(at) == step) ::_exit(9);
  };
  if (log) static_cast<void>(archive_once(**log, options).has_value());
  ::_exit(1);
}

TEST_CASE("a crash at any step of a move loses nothing and leaves no hole", "[ledger]") {
  for (const ArchiveStep step :
       {ArchiveStep::written, ArchiveStep::synced, ArchiveStep::renamed,
        ArchiveStep::folder_synced, ArchiveStep::moved, ArchiveStep::compacted}) {
    const TemporaryFolder folder;
    ManualClock clock;
    const std::int64_t start = clock.wall_ms();
    write_days(folder.path(), clock, 4, 30);
    std::vector<std::string> frames;
    {
      const auto log = RocksLog::open(folder.path());
      frames = frames_of(**log);
    }
    const int status = run_child("archive and die",
                                 {{"OUTLAST_TEST_FOLDER", folder.path()},
                                  {"OUTLAST_TEST_STEP", std::to_string(static_cast<int>(step))},
                                  {"OUTLAST_TEST_BEFORE", std::to_string(start + 2 * day_ms)}});
    REQUIRE(WEXITSTATUS(status) == 9);
    const auto log = RocksLog::open(folder.path());
    REQUIRE(log);
    INFO("step " << static_cast<int>(step));
    REQUIRE(frames_of(**log) == frames);
    // Files of moves that did not happen are gone.
    CHECK(segment_files(folder.path()).size() == (*log)->segments()->size());
    CHECK((*log)->segments()->size() == (step < ArchiveStep::moved ? 0U : 1U));
    REQUIRE(archive_once(**log, before(start + 3 * day_ms)).value() > 0);
    REQUIRE(frames_of(**log) == frames);
    CHECK(verify_ledger(**log)->ok);
  }
}

TEST_CASE("a damaged, swapped or missing segment is found and named", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const std::int64_t start = clock.wall_ms();
  write_days(folder.path(), clock, 4, 30);
  {
    const auto log = RocksLog::open(folder.path());
    REQUIRE(archive_once(**log, before(start + day_ms)).value() > 0);
    REQUIRE(archive_once(**log, before(start + 2 * day_ms)).value() > 0);
  }
  REQUIRE(verify_in(folder.path())->ok);
  const std::vector<std::string> files = segment_files(folder.path());
  REQUIRE(files.size() == 2);
  const auto found = [&](const std::string& named) {
    const Result<VerifyReport> report = verify_in(folder.path());
    const std::string message = report ? report->problem : report.error().message;
    INFO(message);
    CHECK((!report || !report->ok));
    CHECK(message.find(fs::path(named).filename().string()) != std::string::npos);
  };
  std::ifstream stream(files[0], std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(stream), {}};
  const auto write = [&files](const std::string& bytes) {
    std::ofstream(files[0], std::ios::binary | std::ios::trunc) << bytes;
  };
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    std::string bytes = good;
    const std::size_t at = random.below(bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
    write(bytes);
    found(files[0]);
  }
  write(good.substr(0, good.size() - 1));
  found(files[0]);
  write(good + "x");
  found(files[0]);
  write(good);
  fs::rename(files[0], files[0] + ".kept");
  found(files[0]);
  fs::copy(files[1], files[0]);
  found(files[0]);
  fs::remove(files[0]);
  fs::rename(files[0] + ".kept", files[0]);
  CHECK(verify_in(folder.path())->ok);
}

TEST_CASE("a segment of hostile bytes gives an error, never more", "[ledger]") {
  const TemporaryFolder folder;
  Random random(11);
  for (int round = 0; round < 500; ++round) {
    std::string bytes(random.below(700), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.below(256));
    SegmentRow row{5, 9, {}};
    // The hash of the header fits, as a forger of both would see to.
    if (bytes.size() >= 160) {
      const std::uint32_t format = 1;
      const std::uint32_t blocks = static_cast<std::uint32_t>(random.below(20));
      bytes.replace(8, 4, reinterpret_cast<const char*>(&format), 4);
      bytes.replace(12, 4, reinterpret_cast<const char*>(&blocks), 4);
      bytes.replace(16, 8, reinterpret_cast<const char*>(&row.first), 8);
      bytes.replace(24, 8, reinterpret_cast<const char*>(&row.last), 8);
      row.header_hash = sha256(std::string_view(bytes).substr(0, 160));
    }
    std::ofstream(folder.path() + "/" + segment_name(row), std::ios::binary | std::ios::trunc)
        << bytes;
    bool more = true;
    CHECK_FALSE(read_segment(folder.path(), row, 7, [](const LogRecord&) { return true; }, more));
    CHECK_FALSE(check_segment(folder.path(), row));
  }
}

TEST_CASE("a store archives on its own and goes on serving", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  write_days(folder.path(), clock, 5, 30);
  LedgerOptions options;
  options.path = folder.path();
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  options.archive_after_days = 1;
  const auto store = LedgerStore::open(options, clock);
  REQUIRE(store);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (segment_files(folder.path()).empty()) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
  WaitingSubmitter lane(**store);
  UuidGenerator ids(clock, 77);
  const RequestId id = ids.next();
  CHECK_FALSE(lane.run(sample_reservation(id)));
  CHECK_FALSE(lane.run(sample_settlement(id)));
  CHECK(entries_of(**store).size() == (*store)->status().entries);
  require_whole(**store);
  CHECK((*store)->usage({})->total.requests == 151);
}

}  // namespace outlast::storage::archiver_test
