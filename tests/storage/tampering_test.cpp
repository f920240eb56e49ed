// A thousand tamperings, each random: all are found by `verify`, those that leave a ledger whole in
// itself by its signed heads.
#include <fstream>

#include "storage/archiver.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "storage/signed_heads.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::tampering_test {
namespace {

namespace fs = std::filesystem;

// A ledger in memory, as it was after each commit, with a head signed there.
struct Ledger {
  ManualClock clock;
  MemoryLog log;
  std::vector<std::unique_ptr<LedgerView>> stages;
  SignedHeads heads;

  explicit Ledger(std::uint64_t seed, std::size_t signed_each = 1) {
    UuidGenerator ids(clock, seed);
    const auto writer = LedgerWriter::open(log, clock, ids.next(), "test");
    REQUIRE(writer);
    Random random(seed);
    for (int batch = 0; batch < 12; ++batch) {
      for (std::uint64_t i = 0; i <= random.below(4); ++i) {
        const RequestId id = ids.next();
        REQUIRE((*writer)->add(sample_reservation(id)));
        REQUIRE((*writer)->add(sample_settlement(id)));
      }
      REQUIRE((*writer)->finish());
      stages.push_back(log.snapshot());
      if (stages.size() % signed_each == 0)
        heads.heads.push_back({"n1", (*writer)->next_index() - 1, (*writer)->head_hash(), 1, {}});
    }
  }
  [[nodiscard]] bool found(const LedgerView& view) const {
    const Result<VerifyReport> report = verify_with_heads(view, heads);
    return !report || (!report->ok && !report->problem.empty());
  }
};

void flip(std::string& bytes, Random& random) {
  const std::size_t at = random.below(bytes.size());
  bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
}

std::vector<std::string> records_of(std::uint64_t first, const std::string& bytes) {
  std::vector<std::string> records;
  REQUIRE(parse_batch({first, bytes}, [&records](const LogRecord& record) {
    records.emplace_back(record.record);
    return true;
  }));
  return records;
}

std::string join(const std::vector<std::string>& records) {
  std::string bytes;
  for (const std::string& record : records) bytes += record;
  return bytes;
}

std::string text_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_text(const std::string& file, const std::string& text) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
}

auto random_batch(Ledger& ledger, Random& random) {
  auto batch = ledger.log.batches().begin();
  std::advance(batch, static_cast<long>(random.below(ledger.log.batches().size())));
  return batch;
}

}  // namespace

TEST_CASE("250 flipped bits of the log are found", "[ledger]") {
  Random random(1);
  for (std::uint64_t round = 0; round < 250; ++round) {
    Ledger ledger(round);
    REQUIRE_FALSE(ledger.found(ledger.log));
    flip(random_batch(ledger, random)->second, random);
    REQUIRE(ledger.found(ledger.log));
  }
}

TEST_CASE("150 deleted entries and batches are found", "[ledger]") {
  Random random(2);
  for (std::uint64_t round = 0; round < 150; ++round) {
    Ledger ledger(round);
    const auto batch = random_batch(ledger, random);
    auto records = records_of(batch->first, batch->second);
    records.erase(records.begin() + static_cast<long>(random.below(records.size())));
    if (records.empty() || random.below(3) == 0) ledger.log.batches().erase(batch);
    else batch->second = join(records);
    REQUIRE(ledger.found(ledger.log));
  }
}

TEST_CASE("150 changes of the order are found", "[ledger]") {
  Random random(3);
  for (std::uint64_t round = 0; round < 150; ++round) {
    Ledger ledger(round);
    auto& batches = ledger.log.batches();
    if (random.below(2) == 0) {
      const auto one = std::next(batches.begin(), static_cast<long>(1 + random.below(5)));
      const auto other = std::next(one, static_cast<long>(1 + random.below(5)));
      std::swap(one->second, other->second);
    } else {
      const auto batch = std::next(batches.begin(), static_cast<long>(1 + random.below(11)));
      auto records = records_of(batch->first, batch->second);
      const std::size_t at = random.below(records.size() - 1);
      std::swap(records[at], records[at + 1]);
      batch->second = join(records);
    }
    REQUIRE(ledger.found(ledger.log));
  }
}

TEST_CASE("150 tails cut off at a batch, with every row that follows, are found by signed heads",
          "[ledger]") {
  Random random(4);
  for (std::uint64_t round = 0; round < 150; ++round) {
    const std::size_t signed_each = 1 + random.below(3);
    const Ledger ledger(round, signed_each);
    // Cut to a moment before the last signed head.
    const std::size_t stage =
        random.below(ledger.stages.size() / signed_each * signed_each - 1);
    const Result<VerifyReport> whole = verify_ledger(*ledger.stages[stage]);
    REQUIRE(whole);
    REQUIRE(whole->ok);  // nothing in the ledger itself tells
    REQUIRE(ledger.found(*ledger.stages[stage]));
  }
}

TEST_CASE("200 changes of segment files are found", "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  {
    const auto log = RocksLog::open(folder.path());
    REQUIRE(log);
    UuidGenerator ids(clock, 1);
    const auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
    REQUIRE(writer);
    for (int i = 0; i < 40; ++i) {
      const RequestId id = ids.next();
      REQUIRE((*writer)->add(sample_reservation(id)));
      REQUIRE((*writer)->add(sample_settlement(id)));
      REQUIRE((*writer)->commit());
      clock.advance_ms(hour_ms);
      ArchiveOptions options;
      options.before_ms = clock.wall_ms() - 2 * hour_ms;
      REQUIRE((*writer)->commit_rows());
      if (i % 10 == 9) REQUIRE(archive_once(**log, options).value() > 0);
    }
    REQUIRE((*writer)->finish());
  }
  std::vector<std::string> files;
  for (const auto& file : fs::directory_iterator(folder.path() + "/segments"))
    files.push_back(file.path());
  REQUIRE(files.size() == 4);
  const auto whole = [&folder] {
    const auto reader = LedgerReader::open(folder.path());
    if (!reader) return false;
    const Result<VerifyReport> report = (*reader)->verify();
    return report && report->ok;
  };
  REQUIRE(whole());
  Random random(6);
  for (int round = 0; round < 200; ++round) {
    const std::string& file = files[random.below(files.size())];
    const std::string good = text_of(file);
    std::string bytes = good;
    switch (random.below(4)) {
      case 0: bytes.resize(random.below(bytes.size())); break;
      case 1: bytes.erase(random.below(bytes.size()), 1 + random.below(40)); break;
      default: flip(bytes, random);
    }
    write_text(file, bytes);
    INFO("round " << round);
    REQUIRE_FALSE(whole());
    write_text(file, good);
  }
  REQUIRE(whole());
}

TEST_CASE("100 changes of signed heads are found", "[ledger]") {
  const TemporaryFolder folder;
  const Ledger ledger(1);
  {
    Result<HeadSigner> signer = HeadSigner::open(folder.path(), "n1");
    REQUIRE(signer);
    for (const SignedHead& head : ledger.heads.heads)
      REQUIRE(signer->append(head.index, head.hash, 5));
  }
  const std::string file = folder.path() + "/heads";
  const std::string good = text_of(file);
  const auto whole = [&] {
    Result<SignedHeads> heads = read_signed_heads(folder.path());
    REQUIRE(heads);
    const Result<VerifyReport> report = verify_with_heads(ledger.log, std::move(*heads));
    return report && report->ok;
  };
  REQUIRE(whole());
  Random random(7);
  for (int round = 0; round < 100; ++round) {
    std::string bytes = good;
    // Not the last line end: a line without one was never whole.
    const std::size_t at = random.below(bytes.size() - 1);
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
    write_text(file, bytes);
    INFO("byte " << at);
    REQUIRE_FALSE(whole());
  }
}

}  // namespace outlast::storage::tampering_test
