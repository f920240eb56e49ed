#include "cluster/checkpoint_transfer.hpp"

#include <catch2/catch.hpp>

#include <deque>
#include <filesystem>
#include <fstream>

#include "cluster/agreement_error.hpp"
#include "core/random.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace checkpoint_transfer_test {

using namespace outlast;
using namespace outlast::cluster;
using checkpoint::Message;
using storage::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t plenty = 1ULL << 40;

// What each side sends reaches the other as bytes.
Message over_the_wire(const Message& message) {
  const auto frame = checkpoint::encode(message);
  auto read = checkpoint::decode(frame->bytes());
  REQUIRE(read);
  CHECK(*read == message);
  return *read;
}

Result<void> transfer(CheckpointGiver& giver, CheckpointTaker& taker) {
  std::deque<Message> to_giver{taker.first()};
  while (!to_giver.empty()) {
    const auto answer = giver.receive("b", over_the_wire(to_giver.front()));
    to_giver.pop_front();
    if (!answer) continue;
    const auto next = taker.receive(over_the_wire(*answer));
    if (!next) return fail(next.error());
    to_giver.insert(to_giver.end(), next->begin(), next->end());
  }
  return {};
}

// A folder of files, as a copy would be.
CheckpointGiver::MakeCopy folder_of(std::vector<std::pair<std::string, std::size_t>> files) {
  return [files = std::move(files)](ShardId shard, const std::string& folder) -> Result<std::uint64_t> {
    Random random(shard);
    for (const auto& [name, bytes] : files) {
      const fs::path path = fs::path(folder) / name;
      fs::create_directories(path.parent_path());
      std::string data(bytes, '\0');
      for (char& c : data) c = static_cast<char>(random.next());
      std::ofstream(path, std::ios::binary) << data;
    }
    return 42;
  };
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("A running ledger's store arrives whole at a node that lost its own", "[checkpoint]") {
  const TemporaryFolder folder;
  const ManualClock clock;
  UuidGenerator ids(clock, 3);
  auto log = storage::RocksLog::open(folder.path() + "/a", nullptr, storage::RocksDuty::replica);
  REQUIRE(log);
  auto writer = storage::LedgerWriter::open(**log, clock, ids.next(), "test");
  REQUIRE(writer);
  for (int i = 0; i < 300; ++i) {
    const RequestId id = ids.next();
    REQUIRE((*writer)->add(storage::sample_reservation(id)));
    REQUIRE((*writer)->add(storage::sample_settlement(id)));
    REQUIRE((*writer)->commit());
  }
  const auto make_copy = [&](ShardId shard, const std::string& to) -> Result<std::uint64_t> {
    CHECK(shard == 5);
    if (auto made = (*log)->checkpoint(to); !made) return fail(made.error());
    return (*writer)->next_index();
  };
  CheckpointGiver giver(folder.path() + "/scratch", make_copy, clock);
  CheckpointTaker taker(5, folder.path() + "/b", 77, plenty, clock);
  REQUIRE(transfer(giver, taker));
  REQUIRE(taker.done());
  CHECK(giver.copies() == 0);
  CHECK(taker.next_index() == (*writer)->next_index());
  CHECK(taker.bytes_taken() == taker.bytes_total());
  const auto copy = storage::RocksLog::open(folder.path() + "/b", nullptr, storage::RocksDuty::replica);
  REQUIRE(copy);
  CHECK(storage::load_head(**copy)->next_index == (*writer)->next_index());
  const auto report = storage::verify_ledger(**copy);
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
}

TEST_CASE("Files of every size arrive as they are, and what lay there before is gone", "[checkpoint]") {
  const TemporaryFolder folder;
  const ManualClock clock;
  const std::size_t piece = checkpoint::chunk_bytes_max;
  CheckpointGiver giver(folder.path() + "/scratch",
                        folder_of({{"CURRENT", 16}, {"a.sst", piece}, {"b.sst", 3 * piece + 1}, {"empty", 0},
                                   {"segments/s.seg", piece - 1}, {"z", 0}}),
                        clock);
  const std::string to = folder.path() + "/b";
  fs::create_directories(to);
  std::ofstream(to + "/old.sst") << "old";
  CheckpointTaker taker(9, to, 1, plenty, clock);
  REQUIRE(transfer(giver, taker));
  REQUIRE(taker.done());
  REQUIRE(folder_of({{"CURRENT", 16}, {"a.sst", piece}, {"b.sst", 3 * piece + 1}, {"empty", 0},
                     {"segments/s.seg", piece - 1}, {"z", 0}})(9, folder.path() + "/same"));
  CHECK_FALSE(fs::exists(to + "/old.sst"));
  for (const char* name : {"CURRENT", "a.sst", "b.sst", "empty", "segments/s.seg", "z"}) {
    INFO(name);
    CHECK(contents(to + "/" + name) == contents(folder.path() + "/same/" + name));
  }
}

TEST_CASE("A copy that does not fit the disk is refused before a byte of it is written", "[checkpoint]") {
  const TemporaryFolder folder;
  const ManualClock clock;
  CheckpointGiver giver(folder.path() + "/scratch", folder_of({{"a", 600}, {"b", 600}}), clock);
  CheckpointTaker taker(1, folder.path() + "/b", 1, 1'000, clock);
  const auto done = transfer(giver, taker);
  REQUIRE_FALSE(done);
  CHECK(is(done.error(), AgreementError::refused));
  CHECK_FALSE(fs::exists(folder.path() + "/b"));
}

TEST_CASE("A giver bounds its copies and drops those that nobody asks about", "[checkpoint]") {
  const TemporaryFolder folder;
  ManualClock clock;
  CheckpointGiver giver(folder.path() + "/scratch", folder_of({{"a", 10}}), clock);
  CHECK(std::holds_alternative<checkpoint::Manifest>(giver.receive("b", {1, checkpoint::Wanted{1}})->body));
  CHECK(std::holds_alternative<checkpoint::Failed>(giver.receive("b", {1, checkpoint::Wanted{1}})->body));
  CHECK(std::holds_alternative<checkpoint::Manifest>(giver.receive("c", {1, checkpoint::Wanted{1}})->body));
  CHECK(std::holds_alternative<checkpoint::Failed>(giver.receive("d", {1, checkpoint::Wanted{1}})->body));
  // Of another node, out of bounds, of no copy.
  CHECK(std::holds_alternative<checkpoint::Failed>(giver.receive("d", {1, checkpoint::Place{0, 0}})->body));
  CHECK(std::holds_alternative<checkpoint::Failed>(giver.receive("b", {1, checkpoint::Place{1, 0}})->body));
  CHECK(std::holds_alternative<checkpoint::Failed>(giver.receive("b", {1, checkpoint::Place{0, 10}})->body));
  giver.peer_down("c");
  CHECK(giver.copies() == 1);
  clock.advance_ms(checkpoint_silence_ms_max + 1);
  giver.tick();
  CHECK(giver.copies() == 0);
  CHECK(fs::is_empty(folder.path() + "/scratch"));
}

TEST_CASE("A taker gives up on a peer that sends what was not asked for, and notices one that is silent", "[checkpoint]") {
  const TemporaryFolder folder;
  ManualClock clock;
  const auto begun = [&](CheckpointTaker& taker) {
    return taker.receive({7, checkpoint::Manifest{3, {{"a", 10}, {"b", 0}}}});
  };
  const Message lies[] = {{7, checkpoint::Chunk{{0, 1}, "x"}},
                          {7, checkpoint::Chunk{{0, 0}, "too short"}},
                          {7, checkpoint::Chunk{{1, 0}, ""}},
                          {7, checkpoint::Manifest{3, {}}},
                          {7, checkpoint::Wanted{1}},
                          {7, checkpoint::Failed{"no"}}};
  for (const Message& lie : lies) {
    CheckpointTaker taker(1, folder.path() + "/b", 7, plenty, clock);
    REQUIRE(begun(taker));
    CHECK_FALSE(taker.receive(lie));
    CHECK_FALSE(taker.done());
  }
  CheckpointTaker early(1, folder.path() + "/c", 7, plenty, clock);
  CHECK_FALSE(early.receive({7, checkpoint::Chunk{{0, 0}, "0123456789"}}));
  CheckpointTaker taker(1, folder.path() + "/d", 7, plenty, clock);
  REQUIRE(begun(taker));
  CHECK(taker.receive({8, checkpoint::Failed{"another transfer's"}}));
  CHECK_FALSE(taker.stalled());
  clock.advance_ms(checkpoint_silence_ms_max + 1);
  CHECK(taker.stalled());
}

TEST_CASE("A checkpoint's message from bytes is whole or refused", "[checkpoint]") {
  for (const char* name : {"", ".", "..", "../x", "/x", "a/../b", "a//b", "a/b/c", "a b", "a\\b"}) {
    INFO(name);
    CHECK_FALSE(checkpoint::safe_file_name(name));
    CHECK_FALSE(checkpoint::decode(checkpoint::encode({1, checkpoint::Manifest{1, {{name, 1}}}})->bytes()));
  }
  CHECK(checkpoint::safe_file_name("segments/00000000000000000012.seg"));
  const auto frame = checkpoint::encode({1, checkpoint::Chunk{{0, 0}, "0123456789abcdef"}});
  std::vector<std::byte> bytes(frame->bytes().begin(), frame->bytes().end());
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x41};
    const auto read = checkpoint::decode(damaged);  // never more than an error
    if (read && std::holds_alternative<checkpoint::Chunk>(read->body)) {
      CHECK(std::get<checkpoint::Chunk>(read->body).data == "0123456789abcdef");
    }
    CHECK_FALSE(checkpoint::decode(std::span(bytes).first(at)));
  }
}

}  // namespace checkpoint_transfer_test
