#include "proto/ledger_codec.hpp"

#include <catch2/catch.hpp>

#include <fstream>
#include <limits>
#include <map>

#include "core/crypto.hpp"
#include "core/random.hpp"

namespace outlast::proto::ledger_codec_test {
namespace {

RequestId id_of(std::uint8_t last) {
  RequestId id = *Uuid::parse("019a3f00-1122-7334-8556-778899aabb00");
  id.bytes[15] = last;
  return id;
}

AttemptLine line_of(std::uint8_t last) {
  AttemptLine line;
  line.request_id = id_of(last);
  line.number = 2;
  line.deployment = "fable-alpha";
  line.provider = "alpha";
  line.model = "claude-fable-5";
  line.status = AttemptStatus::cut;
  line.http_status = 200;
  line.usage = {11, 12, 0, 0, 0, 0, 13, 14, 0, UsageSource::reported};
  line.cost = {987'654'321};
  line.price_known = true;
  line.price_version = "2026-01";
  line.first_event_ms = 15;
  line.duration_ms = 16;
  return line;
}

// One entry of each kind, by name. The golden frames are these, so they never change; new ones may
// be added.
std::map<std::string, LedgerEntry> samples() {
  AttemptLine rare = line_of(5);
  rare.status = AttemptStatus::in_doubt;
  rare.usage = {1, 2, 3, 4, 5, 6, 7, 8, 9, UsageSource::estimated};
  rare.cost = {(static_cast<__int128>(1) << 80) + 3};
  AttemptLine terms = line_of(6);
  terms.usage = {1, 0, 0, 0, 0, 0, 2, 0, 0, UsageSource::reported};
  terms.service_tier = "priority";
  terms.inference_geo = "us";
  terms.batch = true;
  terms.contract = "ea-2026";
  terms.units = {3, 4, 5, 6};
  VirtualKey key{"key_abc", {"acme", "search", "ann"}, "laptop",
                 {},        1'760'000'000'000,         std::nullopt};
  for (std::size_t i = 0; i < key.hash.size(); ++i) key.hash[i] = static_cast<std::uint8_t>(i);
  const Reservation reservation{
      id_of(1), {"acme", "search", "ann"}, "key_abc", "smart", {25'000'000}, true, 900, 256};
  Reservation full = reservation;
  full.request_id = id_of(3);
  full.tags = {"nightly", ""};
  full.session = "run-7";
  full.candidates = {{"alpha", "claude-fable-5"}, {"beta", "gpt-fable"}};
  full.from_slices = true;
  full.idempotency.emplace();
  full.idempotency->key.fill(7);
  full.idempotency->parameters.fill(9);
  Reservation held = reservation;
  held.request_id = id_of(4);
  held.from_slices = true;
  held.holder = id_of(8);
  return {
      {"incarnation", {{1, 0, 1'760'000'000'000}, IncarnationStarted{id_of(9), "outlast 0.1.0"}}},
      {"reserve", {{1, 1, 1'760'000'000'001}, reservation}},
      {"attempt", {{1, 2, 1'760'000'000'002}, line_of(1)}},
      {"settle", {{1, 3, 1'760'000'000'003}, Settled{{line_of(1)}, {-5}}}},
      {"settle_rare",
       {{2, 4, 1'760'000'000'003}, Settled{{rare}, {static_cast<__int128>(7) << 70}}}},
      {"settle_terms", {{2, 4, 1'760'000'000'003}, Settled{{terms}, {}}}},
      {"void", {{2, 5, 1'760'000'000'004}, Voided{{id_of(2), "no deployment answered"}, {1}}}},
      {"key_created", {{2, 6, 1'760'000'000'005}, KeyCreated{key}}},
      {"key_revoked", {{2, 7, 1'760'000'000'006}, KeyRevoked{"key_abc"}}},
      {"prices", {{2, 8, 1'760'000'000'007}, PricesRecorded{"2026-01", "[prices]\n"}}},
      {"reserve_full", {{2, 9, 1'760'000'000'008}, full}},
      {"extend", {{2, 10, 1'760'000'000'009}, ReservationExtension{id_of(3), 2, {31}, 64, true}}},
      {"budget_set",
       {{2, 11, 1'760'000'000'010},
        BudgetSet{{"bud_a",
                   "search",
                   {ScopeKind::team, "acme/search"},
                   {500'000'000'000'000},
                   BudgetPeriod::month,
                   "Europe/Berlin",
                   true},
                  "ann",
                  1'759'269'600'000,
                  1'761'951'600'000}}},
      {"budget_removed", {{2, 12, 1'760'000'000'011}, BudgetRemoved{"bud_a", "ann"}}},
      {"budget_rolled",
       {{2, 13, 1'760'000'000'012}, BudgetRolled{"bud_a", 1'761'951'600'000, 1'764'543'600'000}}},
      {"slice_granted", {{2, 14, 1'760'000'000'013}, SliceGranted{"bud_a", {17}}}},
      {"slice_returned", {{2, 15, 1'760'000'000'014}, SliceReturned{"bud_a", {16}}}},
      {"commitment_added",
       {{2, 16, 1'760'000'000'015},
        CommitmentAdded{{"com_a",
                         "alpha",
                         {"claude-fable-5", "claude-fable-mini"},
                         CommitmentUnit::tokens,
                         5'000'000'000,
                         {static_cast<__int128>(1) << 70},
                         1'760'000'000'000,
                         1'790'000'000'000,
                         true},
                        "ann"}}},
      {"commitment_ended", {{2, 17, 1'760'000'000'016}, CommitmentEnded{"com_a", "ann"}}},
      {"breaker_tripped",
       {{2, 18, 1'760'000'000'017},
        BreakerTripped{"brk_a", "night", "key:key_abc", "session run-7", SpendAction::throttle, "it lasted 36001 s"}}},
      {"breaker_reset",
       {{2, 19, 1'760'000'000'018}, BreakerReset{"brk_a", "ann", "looked at it", {20'000'000'000'000}}}},
      {"breaker_rule", {{2, 20, 1'760'000'000'019}, BreakerRuleChange{"night", "{}", "ann", "new"}}},
      {"reserve_held", {{7, 21, 1'760'000'000'020}, held}},
      {"slice_granted_to", {{7, 22, 1'760'000'000'021}, SliceGranted{"bud_a", {17}, id_of(8)}}},
      {"slice_returned_by", {{7, 23, 1'760'000'000'022}, SliceReturned{"bud_a", {16}, id_of(8)}}},
      {"owner_started",
       {{7, 24, 1'760'000'000'023}, OwnerStarted{id_of(7), "node-a", "outlast 0.4.0"}}},
      {"holder_ended", {{7, 25, 1'760'000'000'024}, HolderEnded{id_of(8), true, "its lease ended"}}},
      {"node_enrolled",
       {{7, 26, 1'760'000'000'025},
        NodeEnrolled{"node-b", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "tcp://10.0.0.2:7421",
                     {"gateway", "ledger"}, "tok_a", "ann", id_of(8)}}},
      {"node_changed",
       {{7, 27, 1'760'000'000'026},
        NodeChanged{"node-b", NodeState::draining, "ann", "a new disk"}}},
      {"join_token_made",
       {{7, 28, 1'760'000'000'027}, JoinTokenMade{"tok_a", key.hash, 1'760'000'900'000, "ann"}}},
      {"setting_set", {{7, 29, 1'760'000'000'028}, SettingSet{"shards", "16", "ann"}}},
      {"budget_set_away",
       {{7, 30, 1'760'000'000'029},
        BudgetSet{{"bud_t", "", {ScopeKind::tag, "nightly"}, {7'000'000}, BudgetPeriod::total, "UTC", false},
                  "ann",
                  0,
                  0,
                  true}}},
      {"commitment_added_away",
       {{7, 31, 1'760'000'000'030},
        CommitmentAdded{{"com_t", "alpha", {}, CommitmentUnit::money, 90, {80}, 1'760'000'000'000, 1'790'000'000'000,
                         false},
                        "ann",
                        true}}},
      {"allotment_granted",
       {{7, 32, 1'760'000'000'031}, AllotmentGranted{"bud_t", false, 513, static_cast<__int128>(3) << 70, 0}}},
      {"allotment_returned",
       {{7, 33, 1'760'000'000'032}, AllotmentReturned{"com_t", true, 2, 45, 32}}},
  };
}

std::string encoded(const LedgerEntry& entry) {
  LedgerEncoder encoder;
  std::string frame;
  const std::size_t size = encoder.append(frame, entry);
  CHECK(size == frame.size());
  return frame;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

}  // namespace

TEST_CASE("every kind of entry reads back as it was written", "[ledger][proto]") {
  for (const auto& [name, entry] : samples()) {
    INFO(name);
    const std::string frame = encoded(entry);
    CHECK(frame.size() % 8 == 0);
    const Result<LedgerEntry> decoded = decode_ledger_entry(frame);
    REQUIRE(decoded);
    CHECK(*decoded == entry);
  }
}

TEST_CASE("frames read back at any alignment", "[ledger][proto]") {
  const LedgerEntry entry = samples().at("settle");
  for (std::size_t offset = 0; offset < 8; ++offset) {
    const std::string moved = std::string(offset, 'x') + encoded(entry);
    const Result<LedgerEntry> decoded = decode_ledger_entry(std::string_view(moved).substr(offset));
    REQUIRE(decoded);
    CHECK(*decoded == entry);
  }
}

TEST_CASE("one encoder writes the same bytes whatever it wrote before", "[ledger][proto]") {
  LedgerEncoder encoder;
  std::string all;
  std::string apart;
  for (int round = 0; round < 3; ++round) {
    for (const auto& [name, entry] : samples()) {
      encoder.append(all, entry);
      apart += encoded(entry);
    }
    const LedgerEntry large{{1, 9, 0}, PricesRecorded{"large", std::string(100'000, 'p')}};
    encoder.append(all, large);
    apart += encoded(large);
  }
  CHECK(all == apart);
}

TEST_CASE("extreme numbers and texts survive", "[ledger][proto]") {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  AttemptLine line;
  line.number = 65'535;
  line.http_status = 65'535;
  line.usage = {most, most, most, most, most, most, most, most, most, UsageSource::reported};
  line.cost = {static_cast<__int128>(static_cast<unsigned __int128>(1) << 127)};  // the least
  line.first_event_ms = 4'294'967'295U;
  line.deployment = std::string("a\0b", 3);
  line.model = "\xff\xfe";
  const LedgerEntry entry{{most, most, std::numeric_limits<std::int64_t>::min()}, line};
  const Result<LedgerEntry> decoded = decode_ledger_entry(encoded(entry));
  REQUIRE(decoded);
  CHECK(*decoded == entry);
}

TEST_CASE("a reservation carries its tags and its session", "[ledger][proto]") {
  Reservation reservation;
  reservation.tags = {"nightly", std::string("a\0b", 3)};
  reservation.session = "run 7";
  const LedgerEntry entry{{1, 2, 3}, reservation};
  const Result<LedgerEntry> decoded = decode_ledger_entry(encoded(entry));
  REQUIRE(decoded);
  CHECK(*decoded == entry);
}

// tests/proto/ledger_frames.txt holds a line `name hex` for each kind. Of a struct that has grown
// since, there is a line `name@version` for the frame of each earlier version too.
TEST_CASE("golden frames of earlier versions still decode, and are still written",
          "[ledger][proto]") {
  std::ifstream file(OUTLAST_SOURCE_DIR "/tests/proto/ledger_frames.txt");
  REQUIRE(file);
  const std::map<std::string, LedgerEntry> known = samples();
  std::size_t count = 0;
  for (std::string name, hex; file >> name >> hex;) {
    INFO(name);
    const std::string sample = name.substr(0, name.find('@'));
    REQUIRE(known.contains(sample));
    const std::string frame = from_hex(hex);
    const Result<LedgerEntry> decoded = decode_ledger_entry(frame);
    REQUIRE(decoded);
    CHECK(*decoded == known.at(sample));
    if (sample != name) continue;  // read, and no longer written
    ++count;
    const std::string now = encoded(known.at(name));
    CHECK(to_hex({reinterpret_cast<const std::uint8_t*>(now.data()), now.size()}) == hex);
  }
  CHECK(count == known.size());
}

TEST_CASE("bytes that are no entry give an error, never a crash", "[ledger][proto]") {
  CHECK(is(decode_ledger_entry("").error(), LedgerCodecError::malformed));
  CHECK(is(decode_ledger_entry("12345678").error(), LedgerCodecError::malformed));
  CHECK(is(decode_ledger_entry(std::string(ledger_frame_bytes_max + 8, '\0')).error(),
           LedgerCodecError::too_large));
  Random random(11);
  std::size_t errors = 0;
  for (const auto& [name, entry] : samples()) {
    const std::string frame = encoded(entry);
    for (std::size_t size = 0; size < frame.size(); ++size)
      CHECK_FALSE(decode_ledger_entry(frame.substr(0, size)));
    CHECK_FALSE(decode_ledger_entry(frame + std::string(8, '\0')));
    for (int i = 0; i < 2'000; ++i) {
      std::string changed = frame;
      for (std::uint64_t n = random.below(4) + 1; n > 0; --n) {
        changed[random.below(changed.size())] = static_cast<char>(random.next());
      }
      if (!decode_ledger_entry(changed)) ++errors;
    }
  }
  CHECK(errors > 1'000);
}

TEST_CASE("an entry of a kind from a later version is named as such", "[ledger][proto]") {
  std::string frame = encoded(samples().at("prices"));
  // The union's discriminant is the first 16 bits after epoch, index and time: it counts up from 0.
  const std::size_t discriminant = 8 + 8 + 24;
  REQUIRE(frame[discriminant] == 7);
  frame[discriminant] = 99;
  CHECK(is(decode_ledger_entry(frame).error(), LedgerCodecError::unknown_kind));
}

TEST_CASE("print golden frames", "[.golden]") {
  for (const auto& [name, entry] : samples()) {
    const std::string frame = encoded(entry);
    std::printf(
        "%s %s\n", name.c_str(),
        to_hex({reinterpret_cast<const std::uint8_t*>(frame.data()), frame.size()}).c_str());
  }
}

}  // namespace outlast::proto::ledger_codec_test
