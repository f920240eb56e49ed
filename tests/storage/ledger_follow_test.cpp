// What a replica takes over of a shared log, and what it refuses.
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/shared_node_log.hpp"

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"

namespace outlast::storage::ledger_follow_test {
namespace {

// Records of entries made here, so that each can be wrong in one way. The chain goes on from one
// batch to the next.
class Forge {
 public:
  ManualClock clock;
  UuidGenerator ids{clock, 1};
  proto::EntryHeader header{3, 0, 1'750'000'000'000};  // of the next entry
  Digest hash{};

  std::string entry(const proto::EntryBody& body) {
    std::string records;
    const std::size_t start = begin_record(records, hash);
    encoder_.append(records, proto::LedgerEntry{header, body});
    finish_record(records, start);
    hash = entry_hash(hash, std::string_view(records).substr(start));
    ++header.index;
    return records;
  }
  std::string owner() { return entry(proto::OwnerStarted{ids.next(), "node-a", "test"}); }
  std::string reserve() { return entry(sample_reservation(ids.next())); }

 private:
  proto::LedgerEncoder encoder_;
};

// Made in this order, which operands of + are not.
std::string joined(std::initializer_list<std::string> records) {
  std::string all;
  for (const std::string& one : records) all += one;
  return all;
}

std::unique_ptr<LedgerWriter> open_replica(Log& log, const Clock& clock) {
  Result<std::unique_ptr<LedgerWriter>> writer = LedgerWriter::open_replica(log, clock);
  REQUIRE(writer);
  return std::move(*writer);
}

void require_corrupt(const Result<void>& followed, const std::string& what) {
  REQUIRE_FALSE(followed);
  INFO(followed.error().message);
  CHECK(is(followed.error(), LedgerError::corrupt));
  CHECK(followed.error().message.find(what) != std::string::npos);
}

}  // namespace

TEST_CASE("a replica takes over batches, and skips what it has", "[ledger][cluster]") {
  Forge forge;
  MemoryLog log;
  auto replica = open_replica(log, forge.clock);
  const std::string first = joined({forge.owner(), forge.reserve()});
  const std::string second = forge.reserve();
  const std::string third = joined({forge.reserve(), forge.reserve()});
  REQUIRE(replica->follow(0, first));
  CHECK(replica->epoch() == 3);
  CHECK(replica->next_index() == 2);
  REQUIRE(replica->follow(0, first));
  CHECK(replica->next_index() == 2);
  REQUIRE(replica->follow(0, first + second));
  CHECK(replica->next_index() == 3);
  replica = open_replica(log, forge.clock);
  CHECK(replica->next_index() == 3);
  REQUIRE(replica->follow(2, second + third));
  CHECK(replica->next_index() == 5);
  CHECK(replica->state().open_count() == 4);
  CHECK(replica->head_hash() == forge.hash);
  REQUIRE(verify_ledger(log));
  CHECK(verify_ledger(log)->ok);
}

TEST_CASE("a replica goes on as the owner in the same object", "[ledger][cluster]") {
  Forge forge;
  MemoryLog log;
  const auto replica = open_replica(log, forge.clock);
  REQUIRE(replica->follow(0, joined({forge.owner(), forge.reserve()})));
  REQUIRE(replica->lead(9, {forge.ids.next(), "node-b", "test"}));
  REQUIRE(replica->add(sample_reservation(forge.ids.next())));
  REQUIRE(replica->commit());
  std::vector<std::uint64_t> epochs;
  REQUIRE(read_entries(log, 0, [&epochs](const StoredEntry& entry) {
    epochs.push_back(entry.header.epoch);
    return true;
  }));
  CHECK(epochs == std::vector<std::uint64_t>{3, 3, 9, 9});
  CHECK(verify_ledger(log)->ok);
}

TEST_CASE("a replica refuses what does not follow, and names the entry", "[ledger][cluster]") {
  Forge forge;
  MemoryLog log;
  const auto replica = open_replica(log, forge.clock);
  const std::string known = joined({forge.owner(), forge.reserve()});
  REQUIRE(replica->follow(0, known));
  const Digest before = replica->state_digest();

  SECTION("a gap") {
    static_cast<void>(forge.reserve());
    require_corrupt(replica->follow(3, forge.reserve()), "entry 2 of the shared log is missing");
  }
  SECTION("another entry than the one that is here") {
    Forge other;
    std::string different = other.owner();
    static_cast<void>(other.ids.next());
    different += other.reserve();
    require_corrupt(replica->follow(0, different), "entry 1 of the shared log is not the one");
  }
  SECTION("a break in the chain") {
    forge.hash[0] ^= 1;
    require_corrupt(replica->follow(2, forge.reserve()), "entry 2 of the shared log does not cont");
  }
  SECTION("a later break in the chain") {
    std::string records = forge.reserve();
    forge.hash[0] ^= 1;
    records += forge.reserve();
    require_corrupt(replica->follow(2, records), "entry 3 of the shared log does not cont");
  }
  SECTION("another index") {
    forge.header.index = 7;
    require_corrupt(replica->follow(2, forge.reserve()), "entry 2 of the shared log says that it");
  }
  SECTION("a time before the last") {
    --forge.header.time_ms;
    require_corrupt(replica->follow(2, forge.reserve()), "entry 2 of the shared log is stamped");
  }
  SECTION("an epoch that no owner began") {
    ++forge.header.epoch;
    require_corrupt(replica->follow(2, forge.reserve()), "entry 2 of the shared log is of epoch 4");
  }
  SECTION("an earlier owner") {
    --forge.header.epoch;
    require_corrupt(replica->follow(2, forge.owner()), "entry 2 of the shared log is of epoch 2");
  }
  SECTION("what is refused after those before it") {
    const std::string records = forge.entry(proto::Voided{{forge.ids.next(), ""}, {}});
    require_corrupt(replica->follow(2, records), "entry 2 of the shared log is not allowed");
  }
  SECTION("what stands already") {
    const Reservation one = sample_reservation(forge.ids.next());
    const std::string records = joined({forge.entry(one), forge.entry(one)});
    require_corrupt(replica->follow(2, records), "entry 3 of the shared log is not allowed");
  }
  SECTION("an overrun that does not follow") {
    const Reservation one = sample_reservation(forge.ids.next());
    const std::string records =
        joined({forge.entry(one),
                forge.entry(proto::Settled{sample_settlement(one.request_id), {1}})});
    require_corrupt(replica->follow(2, records), "entry 3 of the shared log is not allowed");
  }
  SECTION("no entry") {
    std::string records = forge.reserve();
    records[60] = static_cast<char>(records[60] ^ 0x40);
    CHECK_FALSE(replica->follow(2, records));
  }
  SECTION("a record that is cut short") {
    const std::string records = forge.reserve();
    CHECK_FALSE(replica->follow(2, records.substr(0, records.size() - 1)));
  }
  // Nothing of it is durable.
  const auto reopened = open_replica(log, forge.clock);
  CHECK(reopened->next_index() == 2);
  CHECK(reopened->state_digest() == before);
  REQUIRE(reopened->follow(0, known));
}

TEST_CASE("the digest of the state changes with whatever the state has", "[ledger][cluster]") {
  Forge forge;
  MemoryLog log;
  const auto writer = open_replica(log, forge.clock);
  REQUIRE(writer->lead(1, {forge.ids.next(), "node-a", "test"}));
  REQUIRE(writer->add(sample_reservation(forge.ids.next())));
  REQUIRE(writer->finish());
  const Digest digest = writer->state_digest();
  for (const Table table : {Table::meta, Table::dedup, Table::rollup}) {
    auto& rows = log.rows(table);
    const auto damaged = [&] {
      for (auto at = rows.begin(); at != rows.end(); ++at) {
        if (table != Table::meta || at->first.front() == balance_prefix) return at;
      }
      return rows.end();
    }();
    if (damaged == rows.end()) continue;
    const std::string value = damaged->second;
    damaged->second.back() = static_cast<char>(damaged->second.back() ^ 1);
    CHECK(writer->state_digest() != digest);
    damaged->second = value;
    CHECK(writer->state_digest() == digest);
  }
  REQUIRE(writer->add(sample_reservation(forge.ids.next())));
  CHECK(writer->state_digest() != digest);
}

}  // namespace outlast::storage::ledger_follow_test
