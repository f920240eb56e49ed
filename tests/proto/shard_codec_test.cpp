#include "proto/shard_codec.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "core/random.hpp"

namespace outlast::shard::shard_codec_test {
namespace {

Uuid id_of(std::uint8_t byte) {
  Uuid id;
  id.bytes.fill(byte);
  return id;
}

std::vector<std::pair<std::string, Message>> samples() {
  const Incarnation holder = id_of(7);
  const PicoUsd large{(static_cast<__int128>(3) << 64) + 5};
  BudgetShortfall shortfall{"bud_1", "search", {100}, {-3}, {7}, BudgetPeriod::month, 1'750'000'000'000};
  return {
      {"operations",
       {3, 9, Operations{holder, 2, 17, 18, 4, true,
                         {SkippedOperation{}, EntryOperation{std::string("\0bytes\xff", 7)},
                          SliceReturn{"bud_1", 12, large, 5}}}}},
      {"operations_none", {3, 9, Operations{holder, 2, 17, 18, 4, false, {}}}},
      {"demand", {0, 1, Demand{holder, {{"bud_1", 12, large, {6}, {7}}, {"bud_2", 0, {}, {}, {}}}}}},
      {"acknowledgement",
       {3, 9, Acknowledgement{holder, 2, 6, 40, 41, {18, 30},
                              {{19, 13, "no money", shortfall}, {20, 7, "unknown", std::nullopt}}}}},
      {"grants", {3, 9, Grants{holder, {{"bud_1", 12, large}}}}},
      {"recall", {3, 9, Recall{holder, 8, {{{"bud_1", 12, large}, {50}}}}}},
      {"not_owner", {3, 9, NotOwner{holder, 2, 5, "beta", 11}}},
      {"end_holder", {3, 9, EndHolder{holder, true, "its disk was wiped"}}},
      {"holder_ended", {3, 9, HolderEnded{holder}}},
      {"tail", {0xffff, 9, Tail{1'000}}},
      {"progress", {3, 9, ReplicaProgress{998}}},
      {"node_progress", {0xffff, 0, NodeProgress{holder, {{3, 998, true}, {0xffff, 7, false}}}}},
      {"free", {3, 0, ShardFree{}}},
      {"batch", {3, 9, AppendedBatch{std::string("\1\0a batch\xff", 10)}}},
      {"allotment_demand",
       {3, 0, AllotmentDemand{5, {{"bud_1", false, 12, large.value, 6, 1'750'000'000'000, 7, 8, 9, 10},
                                  {"com_1", true, 0, 0, 0, 0, 0, 0, 11, 0}}}}},
      {"allotment_terms",
       {5, 0, AllotmentTerms{3, {{"bud_1", false, 12, large.value, 6, 1'750'000'000'000, 8, 10},
                                 {"com_1", true, 13, 5, 0, 0, 0, 0}}}}},
  };
}

}  // namespace

TEST_CASE("each message of a shard decodes to what was encoded, at any alignment", "[proto][shard]") {
  for (const auto& [name, message] : samples()) {
    INFO(name);
    const FramePtr frame = encode(message);
    for (std::size_t offset = 0; offset < 8; ++offset) {
      std::vector<std::byte> bytes(offset + frame->size());
      std::copy(frame->bytes().begin(), frame->bytes().end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
      const Result<Message> again = decode(std::span<const std::byte>(bytes).subspan(offset));
      REQUIRE(again);
      CHECK(*again == message);
    }
    // The fuzz target's seeds are made here.
    if (const char* folder = std::getenv("OUTLAST_WRITE_CORPUS")) {
      std::ofstream file(std::string(folder) + "/" + name, std::ios::binary);
      file.put('\0');
      file.write(reinterpret_cast<const char*>(frame->bytes().data()), static_cast<std::streamsize>(frame->size()));
    }
  }
}

TEST_CASE("a damaged message of a shard is an error or another message, never worse", "[proto][shard]") {
  Random random(4);
  std::size_t refused = 0;
  for (const auto& [name, message] : samples()) {
    const FramePtr frame = encode(message);
    for (int i = 0; i < 2'000; ++i) {
      std::vector<std::byte> bytes(frame->bytes().begin(), frame->bytes().end());
      for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips)
        bytes[random.below(bytes.size())] ^= static_cast<std::byte>(1U << random.below(8));
      if (random.below(3) == 0) bytes.resize(random.below(bytes.size()));
      if (!decode(bytes)) ++refused;
    }
  }
  CHECK(refused > 1'000);
}

TEST_CASE("a shard's message over a limit is refused by name", "[proto][shard]") {
  const FramePtr frame = encode({1, 1, Grants{id_of(1), {{std::string(64, 'b'), 1, {1}}}}});
  REQUIRE(decode(frame->bytes()));
  const FramePtr longer = encode({1, 1, Grants{id_of(1), {{std::string(65, 'b'), 1, {1}}}}});
  const Result<Message> refused = decode(longer->bytes());
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), FrameError::too_large));
  // Money that goes one way is never negative.
  const FramePtr negative = encode({1, 1, Grants{id_of(1), {{"b", 1, {-1}}}}});
  const Result<Message> malformed = decode(negative->bytes());
  REQUIRE_FALSE(malformed);
  CHECK(is(malformed.error(), FrameError::malformed));
  CHECK_FALSE(decode({}));
}

TEST_CASE("what owners of shards tell each other is bounded, and of no negative amount", "[proto][shard]") {
  const auto error_of = [](const Body& body) {
    const Result<Message> message = decode(encode({1, 0, body})->bytes());
    return message ? std::string() : message.error().message;
  };
  AllotmentAsk ask;
  ask.subject = std::string(subject_bytes_max, 's');
  AllotmentTerm term;
  term.subject = ask.subject;
  CHECK(error_of(AllotmentDemand{2, {subjects_max, ask}}).empty());
  CHECK(error_of(AllotmentTerms{2, {subjects_max, term}}).empty());
  for (__int128 AllotmentAsk::*amount :
       {&AllotmentAsk::granted, &AllotmentAsk::returned, &AllotmentAsk::needed, &AllotmentAsk::wanted}) {
    AllotmentAsk negative = ask;
    negative.*amount = -1;
    CHECK_FALSE(error_of(AllotmentDemand{2, {negative}}).empty());
  }
  for (__int128 AllotmentTerm::*amount : {&AllotmentTerm::granted, &AllotmentTerm::returned}) {
    AllotmentTerm negative = term;
    negative.*amount = -1;
    CHECK_FALSE(error_of(AllotmentTerms{2, {negative}}).empty());
  }
  ask.subject += 's';
  term.subject += 's';
  CHECK_FALSE(error_of(AllotmentDemand{2, {ask}}).empty());
  CHECK_FALSE(error_of(AllotmentTerms{2, {term}}).empty());
}

TEST_CASE("texts for people are cut to what a decoder takes", "[proto][shard]") {
  const FramePtr frame = encode({1, 1, EndHolder{id_of(1), false, std::string(5'000, 'x')}});
  const Result<Message> message = decode(frame->bytes());
  REQUIRE(message);
  CHECK(std::get<EndHolder>(message->body).why.size() == reason_bytes_max);
}

}  // namespace outlast::shard::shard_codec_test
