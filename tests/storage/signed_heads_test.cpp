#include "storage/signed_heads.hpp"

#include <sys/stat.h>

#include <fstream>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::signed_heads_test {
namespace {

namespace fs = std::filesystem;

LedgerOptions options_in(const std::string& data) {
  LedgerOptions options;
  options.path = data + "/ledger";
  options.data = data;
  options.node = "n1";
  options.head_interval_ms = 20;
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  return options;
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

std::unique_ptr<LedgerStore> open_in(const LedgerOptions& options, const Clock& clock) {
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(options, clock);
  INFO((store ? std::string() : store.error().message));
  REQUIRE(store);
  return std::move(*store);
}

std::string text_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_text(const std::string& file, const std::string& text) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace

TEST_CASE("a head is one line, and only its own line reads back", "[ledger]") {
  SignedHead head{"n1", 41, {}, 1'750'000'000'000, {}};
  head.hash[0] = 0xab;
  head.signature[63] = 7;
  const std::string line = line_of(head);
  CHECK(parse_signed_head(line) == head);
  for (std::size_t at = 0; at < line.size(); ++at) {
    std::string other = line;
    other[at] = static_cast<char>(other[at] ^ 1);
    CHECK(parse_signed_head(other) != head);
    CHECK(parse_signed_head(line.substr(0, at)) == std::nullopt);
  }
  CHECK(parse_signed_head("outlast-head 1 n1 007 " + to_hex(head.hash) + " 1 " +
                          to_hex(head.signature)) == std::nullopt);
}

TEST_CASE("a node signs its head while it runs and when it stops, and verify holds it to that",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const LedgerOptions options = options_in(folder.path());
  {
    const auto store = open_in(options, clock);
    add_requests(*store, clock, 20, 1);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (store->signed_heads()->heads.empty() ||
           store->signed_heads()->heads.back().index + 1 < store->status().entries) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::yield();
    }
    CHECK(store->verify()->signed_heads > 0);
    add_requests(*store, clock, 5, 2);
  }
  struct stat info {};
  REQUIRE(::stat((folder.path() + "/head.key").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  const auto reader = LedgerReader::open(options.path, options.data);
  REQUIRE(reader);
  const Result<VerifyReport> report = (*reader)->verify();
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
  const Result<SignedHeads> heads = read_signed_heads(folder.path());
  REQUIRE(heads);
  CHECK(heads->heads.size() == report->signed_heads);
  CHECK(heads->heads.back().index + 1 == report->entries);
  CHECK(heads->heads.back().hash == report->head_hash);
  CHECK(heads->heads.back().node == "n1");
}

TEST_CASE("a tail that was cut off with its head row is found by verify and refused at a start",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  LedgerOptions options = options_in(folder.path());
  {
    const auto store = open_in(options, clock);
    add_requests(*store, clock, 10, 1);
  }
  const std::string copy = folder.path() + "/copy";
  fs::copy(options.path, copy, fs::copy_options::recursive);
  std::uint64_t entries = 0;
  {
    const auto store = open_in(options, clock);
    add_requests(*store, clock, 10, 2);
    entries = store->status().entries;
  }
  // The ledger of before: whole in itself, so that only the signed head tells.
  fs::remove_all(options.path);
  fs::copy(copy, options.path, fs::copy_options::recursive);
  {
    const auto reader = LedgerReader::open(options.path, options.data);
    REQUIRE(reader);
    const Result<VerifyReport> report = (*reader)->verify();
    REQUIRE(report);
    INFO(report->problem);
    CHECK_FALSE(report->ok);
    CHECK(report->first_bad_index == 21);  // an incarnation and ten requests
    CHECK(report->problem.find("cut off") != std::string::npos);
  }
  const auto refused = LedgerStore::open(options, clock);
  REQUIRE_FALSE(refused);
  INFO(refused.error().message);
  CHECK(is(refused.error(), LedgerError::corrupt));
  CHECK(refused.error().message.find("entry " + std::to_string(entries - 1)) != std::string::npos);
  CHECK(refused.error().message.find("accept_cut = 21") != std::string::npos);
  options.accept_cut_at = 20;
  CHECK_FALSE(LedgerStore::open(options, clock));
  options.accept_cut_at = 21;
  {
    const auto store = open_in(options, clock);
    require_whole(*store);
    CHECK(fs::exists(folder.path() + "/heads.cut-21"));
  }
  open_in(options, clock);  // the setting may stay
}

TEST_CASE("another ledger in the place of the signed one is found", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const LedgerOptions options = options_in(folder.path());
  {
    const auto store = open_in(options, clock);
    add_requests(*store, clock, 3, 1);
  }
  fs::remove_all(options.path);
  {
    LedgerOptions unsigned_options = options;
    unsigned_options.data.clear();
    const auto store = open_in(unsigned_options, clock);
    add_requests(*store, clock, 10, 2);
  }
  const auto reader = LedgerReader::open(options.path, options.data);
  CHECK_FALSE((*reader)->verify()->ok);
  const auto refused = LedgerStore::open(options, clock);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("replaced") != std::string::npos);
}

TEST_CASE("head files are turned over, a torn last line goes, a damaged line is named",
          "[ledger]") {
  const TemporaryFolder folder;
  const auto append = [&folder](std::uint64_t from, std::uint64_t to) {
    Result<HeadSigner> signer = HeadSigner::open(folder.path(), "n1", 1'000);
    REQUIRE(signer);
    for (std::uint64_t index = from; index < to; ++index)
      REQUIRE(signer->append(index, sha256(std::to_string(index)), 5));
  };
  append(0, 10);
  CHECK(fs::exists(folder.path() + "/heads.1"));
  const std::string file = folder.path() + "/heads";
  CHECK(fs::file_size(file) <= 1'000);
  CHECK(read_signed_heads(folder.path())->heads.back().index == 9);
  std::ofstream(file, std::ios::app) << "outlast-head 1 n1 10 ab";
  CHECK(read_signed_heads(folder.path())->problem.empty());
  append(10, 11);
  Result<SignedHeads> heads = read_signed_heads(folder.path());
  CHECK(heads->problem.empty());
  CHECK(heads->heads.back().index == 10);
  std::string text = text_of(file);
  text[20] = static_cast<char>(text[20] ^ 1);
  write_text(file, text);
  CHECK(read_signed_heads(folder.path())->problem.find(file + ":1") == 0);
}

TEST_CASE("a new key leaves what the old one signed valid, and a key that others read is refused",
          "[ledger]") {
  const TemporaryFolder folder;
  const std::string key = folder.path() + "/head.key";
  REQUIRE(HeadSigner::open(folder.path(), "n1")->append(0, {}, 1));
  fs::remove(key);
  REQUIRE(HeadSigner::open(folder.path(), "n1")->append(1, {}, 2));
  const Result<SignedHeads> heads = read_signed_heads(folder.path());
  CHECK(heads->problem.empty());
  CHECK(heads->heads.size() == 2);
  ::chmod(key.c_str(), 0644);
  const Result<HeadSigner> refused = HeadSigner::open(folder.path(), "n1");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("chmod 600") != std::string::npos);
  ::chmod(key.c_str(), 0600);
  write_text(key, "none");
  CHECK_FALSE(HeadSigner::open(folder.path(), "n1"));
}

}  // namespace outlast::storage::signed_heads_test
