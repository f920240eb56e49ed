// Damage: a tampered ledger is found out, with the entry; a damaged store does not open, and the
// file is named.
#include <fstream>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "storage/rocks_log.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::ledger_damage_test {
namespace {

namespace fs = std::filesystem;

void fill(LedgerStore& store, const Clock& clock, int requests) {
  WaitingSubmitter lane(store);
  UuidGenerator ids(clock, 1);
  for (int i = 0; i < requests; ++i) {
    const RequestId id = ids.next();
    lane.submit(sample_reservation(id), true);
    lane.submit(sample_settlement(id), false);
  }
  lane.wait();
}

// A ledger in memory, to be tampered with below the state machine.
struct Tampered {
  ManualClock clock;
  MemoryLog log;
  explicit Tampered(int requests) {
    UuidGenerator ids(clock, 1);
    Result<std::unique_ptr<LedgerWriter>> writer =
        LedgerWriter::open(log, clock, ids.next(), "test");
    REQUIRE(writer);
    for (int i = 0; i < requests; ++i) {
      const RequestId id = ids.next();
      REQUIRE((*writer)->add(sample_reservation(id)));
      REQUIRE((*writer)->add(sample_settlement(id)));
      if (i % 5 == 4) REQUIRE((*writer)->commit());
    }
    REQUIRE((*writer)->finish());
  }
  VerifyReport verify() {
    const Result<VerifyReport> report = verify_ledger(log);
    REQUIRE(report);
    CHECK(report->ok == report->problem.empty());
    return *report;
  }
};

std::vector<std::string> files_of(const std::string& path, const std::string& extension) {
  std::vector<std::string> files;
  for (const auto& file : fs::directory_iterator(path)) {
    if (file.path().extension() == extension && file.file_size() > 0)
      files.push_back(file.path().filename());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void flip_byte(const std::string& file, std::uint64_t at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  REQUIRE(stream);
  stream.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(stream.get() ^ 0x40);
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put(byte);
}

// Why the store does not open.
std::string refusal(const std::string& path, LedgerError expected = LedgerError::corrupt) {
  const SystemClock clock;
  LedgerOptions options;
  options.path = path;
  const Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(options, clock);
  REQUIRE_FALSE(store);
  INFO(store.error().message);
  CHECK(is(store.error(), expected));
  return store.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a byte changed anywhere in the log is found, at its entry", "[ledger]") {
  Random random(5);
  for (int round = 0; round < 60; ++round) {
    Tampered ledger(20);
    REQUIRE(ledger.verify().ok);
    auto batch = ledger.log.batches().begin();
    std::advance(batch, static_cast<long>(random.below(ledger.log.batches().size())));
    // The frame that the byte is in.
    std::string& records = batch->second;
    std::vector<std::pair<std::uint64_t, std::pair<std::size_t, std::size_t>>> frames;
    REQUIRE(parse_batch({batch->first, records}, [&](const LogRecord& record) {
      frames.push_back(
          {record.index,
           {static_cast<std::size_t>(record.frame.data() - records.data()), record.frame.size()}});
      return true;
    }));
    const auto& [index, place] = frames[random.below(frames.size())];
    const std::size_t at = place.first + random.below(place.second);
    records[at] = static_cast<char>(records[at] ^ (1 << random.below(8)));
    const VerifyReport report = ledger.verify();
    INFO(report.problem);
    CHECK_FALSE(report.ok);
    REQUIRE(report.first_bad_index);
    CHECK(*report.first_bad_index == index);
  }
}

TEST_CASE("an entry forged with a right chain is found by what follows from it", "[ledger]") {
  Tampered ledger(4);
  // Rewrites the whole log with one settlement made cheaper, and a chain that fits.
  std::string records;
  Digest hash{};
  proto::LedgerEncoder encoder;
  REQUIRE(read_entries(ledger.log, 0, [&](const StoredEntry& entry) {
    proto::LedgerEntry copy{entry.header, entry.body};
    if (auto* settled = std::get_if<proto::Settled>(&copy.body);
        settled != nullptr && copy.header.index == 4) {
      settled->settlement.attempt.cost = pico(1);
    }
    const std::size_t start = begin_record(records, hash);
    encoder.append(records, copy);
    finish_record(records, start);
    hash = entry_hash(hash, std::string_view(records).substr(start));
    return true;
  }));
  ledger.log.batches() = {{0, records}};
  HeadRow head;
  REQUIRE(decode(ledger.log.rows(Table::meta).at("h"), head));
  CHECK_FALSE(ledger.verify().ok);  // the head names another chain
  head.hash = hash;
  std::string row;
  encode(row, head);
  ledger.log.rows(Table::meta)["h"] = row;
  const VerifyReport report = ledger.verify();
  CHECK_FALSE(report.ok);
  CHECK(contains(report.problem, "roll-up"));
}

TEST_CASE("missing, repeated and reordered entries are found", "[ledger]") {
  SECTION("the last batch is gone") {
    Tampered ledger(20);
    ledger.log.batches().erase(std::prev(ledger.log.batches().end()));
    const VerifyReport report = ledger.verify();
    CHECK(report.first_bad_index == report.entries);
    CHECK_FALSE(report.ok);
  }
  SECTION("a batch in the middle is gone") {
    Tampered ledger(20);
    const auto middle = std::next(ledger.log.batches().begin(), 2);
    const std::uint64_t index = middle->first;
    ledger.log.batches().erase(middle);
    const VerifyReport report = ledger.verify();
    CHECK_FALSE(report.ok);
    CHECK(report.first_bad_index.value_or(0) + 1 >= index);
  }
  SECTION("the head row is behind") {
    Tampered ledger(20);
    HeadRow head;
    std::string& row = ledger.log.rows(Table::meta).at("h");
    REQUIRE(decode(row, head));
    head.next_index -= 1;
    head.rows_from = head.replay_from = head.next_index;
    row.clear();
    encode(row, head);
    CHECK_FALSE(ledger.verify().ok);
    const Result<std::unique_ptr<LedgerWriter>> writer =
        LedgerWriter::open(ledger.log, ledger.clock, {}, "test");
    REQUIRE_FALSE(writer);
    CHECK(is(writer.error(), LedgerError::corrupt));
  }
}

TEST_CASE("rows that do not follow from the log are found", "[ledger]") {
  Tampered ledger(20);
  SECTION("a balance") {
    for (auto& [key, value] : ledger.log.rows(Table::meta)) {
      if (key.starts_with("bt")) value[16] = static_cast<char>(value[16] ^ 1);
    }
    CHECK(contains(ledger.verify().problem, "balance"));
  }
  SECTION("a roll-up is gone") {
    ledger.log.rows(Table::rollup).clear();
    CHECK(contains(ledger.verify().problem, "roll-up"));
  }
  SECTION("a dedup row is gone") {
    auto& rows = ledger.log.rows(Table::dedup);
    rows.erase(std::next(rows.begin(), 3));
    CHECK(contains(ledger.verify().problem, "dedup row"));
  }
  SECTION("a key was smuggled in") {
    std::string row;
    encode(row, VirtualKey{"key_x", {"a", "b", "c"}, "", {}, 1, std::nullopt});
    ledger.log.rows(Table::meta)[key_key("key_x")] = row;
    CHECK(contains(ledger.verify().problem, "virtual key"));
  }
}

TEST_CASE("a second open of the same folder is refused and says who has it", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  const std::string message = refusal(folder.path(), LedgerError::locked);
  CHECK(contains(message, "another process"));
  CHECK(contains(message, std::to_string(::getpid())));
  CHECK(is(LedgerReader::open(folder.path()).error(), LedgerError::locked));
}

TEST_CASE("a stopped store can be read without writing to it", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  {
    const auto store = open_store(folder.path(), clock);
    fill(*store, clock, 50);
  }
  const auto listing = [&folder] {
    std::map<std::string, std::uintmax_t> files;
    for (const auto& file : fs::directory_iterator(folder.path()))
      files[file.path().filename()] = file.file_size();
    return files;
  };
  const auto before = listing();
  {
    const Result<std::unique_ptr<LedgerReader>> reader = LedgerReader::open(folder.path());
    REQUIRE(reader);
    std::size_t entries = 0;
    REQUIRE((*reader)->read(1, [&entries](const StoredEntry&) { return ++entries < 90; }));
    CHECK(entries == 90);
    CHECK((*reader)->usage({})->total.requests == 50);
    CHECK((*reader)->verify()->ok);
  }
  CHECK(listing() == before);
  const TemporaryFolder empty;
  CHECK(is(LedgerReader::open(empty.path()).error(), LedgerError::io));
}

TEST_CASE("a damaged table file keeps the store from opening and is named", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  {
    const auto store = open_store(folder.path(), clock);
    fill(*store, clock, 300);
  }
  open_store(folder.path(), clock).reset();  // recovery writes table files
  const std::vector<std::string> files = files_of(folder.path(), ".sst");
  REQUIRE_FALSE(files.empty());
  for (const std::string& file : files) {
    const std::string path = folder.path() + "/" + file;
    flip_byte(path, fs::file_size(path) / 3);
    CHECK(contains(refusal(folder.path()), file));
    flip_byte(path, fs::file_size(path) / 3);
  }
  SECTION("a missing one too") {
    fs::remove(folder.path() + "/" + files.front());
    CHECK(contains(refusal(folder.path()), files.front()));
  }
}

TEST_CASE("a write-ahead log damaged in the middle is refused and named, a torn tail is tolerated",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  {
    const auto store = open_store(folder.path(), clock);
    fill(*store, clock, 300);
  }
  const std::vector<std::string> logs = files_of(folder.path(), ".log");
  REQUIRE(logs.size() == 1);
  const std::string path = folder.path() + "/" + logs[0];
  SECTION("the middle") {
    flip_byte(path, fs::file_size(path) / 2);
    CHECK(contains(refusal(folder.path()), logs[0]));
  }
  SECTION("a record cut in half at the end") {
    // What a power loss leaves of a write that nobody was told about: half of a record.
    std::ofstream(path, std::ios::binary | std::ios::app)
        << std::string("\x11\x22\x33\x44\x00\x70\x01torn", 11);
    const auto store = open_store(folder.path(), clock);
    CHECK(store->usage({})->total.requests == 300);
    require_whole(*store);
  }
}

TEST_CASE("a missing or damaged CURRENT or manifest keeps the store from opening and is named",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  {
    const auto store = open_store(folder.path(), clock);
    fill(*store, clock, 50);
  }
  const std::string current = folder.path() + "/CURRENT";
  std::string manifest;
  std::ifstream(current) >> manifest;
  SECTION("CURRENT is gone") {
    fs::remove(current);
    CHECK(contains(refusal(folder.path()), "CURRENT"));
    CHECK_FALSE(fs::exists(current));
  }
  SECTION("CURRENT is empty") {
    std::ofstream(current, std::ios::trunc).flush();
    CHECK(contains(refusal(folder.path()), "CURRENT"));
  }
  SECTION("the manifest is gone") {
    fs::remove(folder.path() + "/" + manifest);
    CHECK(contains(refusal(folder.path()), manifest));
  }
  SECTION("the manifest is damaged") {
    flip_byte(folder.path() + "/" + manifest, 40);
    CHECK(contains(refusal(folder.path()), manifest));
  }
}

}  // namespace outlast::storage::ledger_damage_test
