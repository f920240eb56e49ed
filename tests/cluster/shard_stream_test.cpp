#include "cluster/shard_stream.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace outlast::cluster::shard_stream_test {
namespace {

using storage::LedgerError;

constexpr ShardId the_shard = 3;

StreamOptions at_once() {
  StreamOptions options;
  options.unowned_spool_after_ms = 0;
  return options;
}

// A stream, and what it asked for, sorted.
struct Bench {
  explicit Bench(StreamOptions options = at_once()) : ids(clock, 1) {
    options.shard = the_shard;
    options.holder = holder = ids.next();
    stream = std::make_unique<ShardStream>(options, clock);
  }
  std::uint64_t reserve(bool from_slices, bool urgent = true) {
    Reservation reservation;
    reservation.request_id = ids.next();
    reservation.from_slices = from_slices;
    reservation.holder = holder;
    last = reservation.request_id;
    const Result<std::uint64_t> sequence = stream->push(reservation, urgent);
    REQUIRE(sequence);
    return *sequence;
  }
  std::uint64_t end(const RequestId& id) { return *stream->push(VoidReservation{id, "none"}, false); }
  void run(std::int64_t ms = 0) {
    clock.advance_ms(ms);
    stream->tick();
    for (StreamEffect& effect : stream->take_effects()) {
      if (auto* send = std::get_if<SendToOwner>(&effect)) sent.push_back(std::get<shard::Operations>(send->message.body));
      else if (auto* durable = std::get_if<OperationsDurable>(&effect))
        for (std::uint64_t at = durable->first; at <= durable->last; ++at) told.push_back(at);
      else if (auto* refusal = std::get_if<OperationRefused>(&effect)) refused.push_back(*refusal);
      else if (auto* write = std::get_if<WriteSpool>(&effect)) spool.push_back(*write);
      else if (std::holds_alternative<TruncateSpool>(effect)) ++truncated;
      else hints.push_back(std::get<OwnerHint>(effect));
    }
  }
  shard::Acknowledgement acknowledgement(std::uint64_t up_to) {
    return {holder, stream->stream(), ++number, up_to, 0, {}, {}};
  }
  void hear(shard::Body body, std::uint64_t epoch = 7, const std::string& node = "beta") {
    stream->receive(node, {the_shard, epoch, std::move(body)});
    run();
  }

  ManualClock clock;
  UuidGenerator ids;
  Incarnation holder;
  std::unique_ptr<ShardStream> stream;
  RequestId last;
  std::uint64_t number = 0;
  std::vector<shard::Operations> sent;
  std::vector<std::uint64_t> told;
  std::vector<OperationRefused> refused;
  std::vector<WriteSpool> spool;
  std::vector<OwnerHint> hints;
  int truncated = 0;
};

}  // namespace

TEST_CASE("a stream sends what is urgent at once and the rest together, in order", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(true, false);
  bench.reserve(true, false);
  bench.run();
  CHECK(bench.sent.empty());
  CHECK(bench.stream->next_wake_ns() == bench.clock.monotonic_ns() + 5'000'000);
  bench.run(5);
  REQUIRE(bench.sent.size() == 1);
  CHECK(bench.sent[0].first == 1);
  CHECK(bench.sent[0].base == 1);
  CHECK(bench.sent[0].operations.size() == 2);
  bench.reserve(true, false);
  bench.reserve(true, true);
  bench.run();
  REQUIRE(bench.sent.size() == 2);
  CHECK(bench.sent[1].first == 3);
  CHECK(bench.sent[1].urgent);
  bench.hear(bench.acknowledgement(4));
  CHECK(bench.told == std::vector<std::uint64_t>{1, 2, 3, 4});
  CHECK(bench.stream->size() == 0);
  CHECK(bench.spool.empty());
}

TEST_CASE("acknowledgements of another stream, epoch or node are dropped, and each outcome is told once",
          "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  for (int i = 0; i < 3; ++i) bench.reserve(false);
  bench.run();
  const shard::Acknowledgement good = bench.acknowledgement(2);
  shard::Acknowledgement old = good;
  --old.stream;
  bench.hear(old);
  bench.hear(good, 6);
  bench.hear(good, 7, "gamma");
  CHECK(bench.told.empty());
  bench.hear(good);
  bench.hear(good);
  CHECK(bench.told == std::vector<std::uint64_t>{1, 2});
  // The owner changes: what is not settled goes again, by a stream that begins with it.
  bench.sent.clear();
  bench.stream->connected("gamma", 8);
  bench.run();
  REQUIRE(bench.sent.size() == 1);
  CHECK(bench.sent[0].stream == good.stream + 1);
  CHECK(bench.sent[0].base == 3);
  CHECK(bench.sent[0].operations.size() == 1);
  // The first owner's word comes too late.
  bench.hear(shard::Acknowledgement{bench.holder, good.stream, 9, 3, 0, {}, {}});
  CHECK(bench.told.size() == 2);
}

TEST_CASE("a reservation that waits at the owner is told by itself, and refusals with what they say", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  for (int i = 0; i < 4; ++i) bench.reserve(false);
  bench.run();
  shard::Acknowledgement first = bench.acknowledgement(4);
  first.waiting = {2};
  BudgetShortfall shortfall;
  shortfall.budget_id = "bud_1";
  first.refusals = {{3, static_cast<std::uint16_t>(LedgerError::budget_exhausted), "short", shortfall}};
  bench.hear(first);
  CHECK(bench.told == std::vector<std::uint64_t>{1, 4});
  REQUIRE(bench.refused.size() == 1);
  CHECK(bench.refused[0].sequence == 3);
  CHECK(bench.refused[0].error == LedgerError::budget_exhausted);
  CHECK(bench.refused[0].shortfall->budget_id == "bud_1");
  CHECK(bench.stream->size() == 3);
  bench.hear(bench.acknowledgement(4));
  CHECK(bench.told == std::vector<std::uint64_t>{1, 4, 2});
  CHECK(bench.stream->size() == 0);
  // What it says next confirms what it heard.
  bench.reserve(false);
  bench.run();
  CHECK(bench.sent.back().confirmed == 2);
}

TEST_CASE("without an acknowledgement everything is sent again, ever more slowly", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(false);
  bench.run();
  for (int i = 0; i < 20; ++i) bench.run(100);
  CHECK(bench.sent.size() == 3);  // at 0, 400 and 1,200 ms
  CHECK(bench.sent.back().first == 1);
  // A gap that the owner tells of is filled at once.
  bench.reserve(false);
  bench.run();
  bench.sent.clear();
  shard::Acknowledgement gap = bench.acknowledgement(0);
  gap.resend_from = 1;
  bench.hear(gap);
  REQUIRE(bench.sent.size() == 1);
  CHECK(bench.sent[0].operations.size() == 2);
}

TEST_CASE("an owner that has forgotten a stream gets another one", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(false);
  bench.run();
  bench.hear(bench.acknowledgement(1));
  bench.reserve(false);
  bench.run();
  const std::uint64_t stream = bench.stream->stream();
  shard::Acknowledgement gap = bench.acknowledgement(0);
  gap.resend_from = 1;
  bench.hear(gap);
  CHECK(bench.stream->stream() == stream + 1);
  CHECK(bench.sent.back().base == 2);
  CHECK(bench.sent.back().operations.size() == 1);
}

TEST_CASE("who is not the owner is asked again later by a new stream", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(false);
  bench.run();
  const std::uint64_t stream = bench.stream->stream();
  bench.hear(shard::NotOwner{bench.holder, stream, 0, "gamma", 9});
  REQUIRE(bench.hints.size() == 1);
  CHECK(bench.hints[0].node == "gamma");
  CHECK(bench.stream->is_cut_off());
  CHECK(bench.sent.size() == 1);
  bench.run(50);
  REQUIRE(bench.sent.size() == 2);
  CHECK(bench.sent[1].stream == stream + 1);
  // One that has heard a newer stream says which.
  bench.hear(shard::NotOwner{bench.holder, stream + 1, stream + 40, "", 0});
  REQUIRE(bench.sent.size() == 3);
  CHECK(bench.sent[2].stream == stream + 41);
}

TEST_CASE("cut off, what slices cover and what ends requests counts as durable once it is in the spool",
          "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(true);
  const RequestId covered = bench.last;
  bench.run();
  bench.run(499);
  CHECK(bench.spool.empty());
  bench.run(1);
  REQUIRE(bench.spool.size() == 1);
  CHECK(bench.spool[0].records.size() == 1);
  CHECK(bench.told.empty());
  bench.reserve(false);
  bench.end(covered);
  bench.stream->push(shard::SliceReturn{"bud_1", 1, {5}, 0});
  bench.run();
  CHECK(bench.spool.size() == 1);  // one write at a time
  bench.stream->spooled();
  bench.run();
  CHECK(bench.told == std::vector<std::uint64_t>{1});
  REQUIRE(bench.spool.size() == 2);
  REQUIRE(bench.spool[1].records.size() == 1);
  CHECK(bench.spool[1].records[0].sequence == 3);
  bench.stream->spooled();
  bench.run();
  CHECK(bench.told == std::vector<std::uint64_t>{1, 3});
  // The owner is back: everything goes to it, and the spool is empty when it has said so.
  bench.sent.clear();
  bench.number = 0;
  bench.stream->connected("gamma", 8);
  bench.run();
  REQUIRE(bench.sent.size() == 1);
  CHECK(bench.sent[0].operations.size() == 4);
  bench.hear(bench.acknowledgement(2), 8, "gamma");
  CHECK(bench.truncated == 0);
  bench.hear(bench.acknowledgement(4), 8, "gamma");
  CHECK(bench.truncated == 1);
  CHECK(bench.told == std::vector<std::uint64_t>{1, 3, 2});
  CHECK_FALSE(bench.stream->is_cut_off());
}

TEST_CASE("what needs the ledger's word is refused after a while, and ended where it may stand", "[cluster][stream]") {
  Bench bench;
  bench.stream->connected("beta", 7);
  bench.reserve(false);
  bench.run();
  bench.stream->disconnected();
  bench.reserve(false);  // no owner has heard of this one
  REQUIRE(bench.stream->push_control(proto::KeyRevoked{"key_1"}, true));
  bench.run(9'999);
  CHECK(bench.refused.empty());
  bench.run(1);
  REQUIRE(bench.refused.size() == 3);
  for (const OperationRefused& refusal : bench.refused) CHECK(refusal.error == LedgerError::unavailable);
  bench.stream->connected("beta", 8);
  bench.run();
  const auto& operations = bench.sent.back().operations;
  REQUIRE(operations.size() == 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::holds_alternative<shard::SkippedOperation>(operations[i]));
  const auto entry = proto::decode_ledger_entry(std::get<shard::EntryOperation>(operations[3]).frame);
  REQUIRE(entry);
  CHECK(std::holds_alternative<proto::Voided>(entry->body));
  // Nobody is told of that void.
  bench.number = 0;
  shard::Acknowledgement last = bench.acknowledgement(4);
  last.refusals = {{4, static_cast<std::uint16_t>(LedgerError::unknown_request), "", std::nullopt}};
  bench.hear(last, 8);
  CHECK(bench.refused.size() == 3);
  CHECK(bench.told.empty());
  CHECK(bench.stream->size() == 0);
}

TEST_CASE("what waits for no longer than a handover is not left to one disk", "[cluster][stream]") {
  const std::int64_t patience_ms = StreamOptions().unowned_spool_after_ms;
  Bench bench{StreamOptions()};
  bench.stream->connected("beta", 7);
  bench.reserve(true);
  bench.run();
  bench.hear(bench.acknowledgement(1));
  bench.stream->disconnected();
  bench.run(10'000);  // nothing waits
  bench.reserve(true);
  bench.run(patience_ms - 1);
  CHECK(bench.spool.empty());
  CHECK(bench.stream->next_wake_ns() == bench.clock.monotonic_ns() + 1'000'000);
  // The next owner takes it over.
  bench.stream->connected("gamma", 8);
  bench.run();
  bench.hear(bench.acknowledgement(2), 8, "gamma");
  CHECK(bench.told == std::vector<std::uint64_t>{1, 2});
  CHECK(bench.spool.empty());
  // Nobody comes: it is served on this node's word, and so is at once what follows.
  bench.stream->disconnected();
  bench.reserve(true);
  bench.run(patience_ms);
  REQUIRE(bench.spool.size() == 1);
  bench.stream->spooled();
  bench.reserve(true);
  bench.run();
  CHECK(bench.spool.size() == 2);
}

TEST_CASE("a reservation with an idempotency key is not spooled", "[cluster][stream]") {
  Bench bench;
  Reservation reservation;
  reservation.request_id = bench.ids.next();
  reservation.from_slices = true;
  reservation.idempotency = IdempotencyKey{};
  REQUIRE(bench.stream->push(reservation, true));
  bench.run(600);
  CHECK(bench.spool.empty());
  // An extension that slices do not cover neither.
  REQUIRE(bench.stream->push(ReservationExtension{reservation.request_id, 1, {5}, 1, false}, true));
  bench.run();
  CHECK(bench.spool.empty());
  REQUIRE(bench.stream->push(ReservationExtension{reservation.request_id, 2, {5}, 1, true}, true));
  bench.run();
  CHECK(bench.spool.size() == 1);
}

TEST_CASE("a spool without room leaves reservations to be refused and ends to wait", "[cluster][stream]") {
  Bench bench;
  bench.reserve(true);
  const RequestId id = bench.last;
  bench.run();
  REQUIRE(bench.spool.size() == 1);
  bench.stream->spool_full();
  bench.end(id);
  bench.run();
  CHECK(bench.spool.size() == 1);
  bench.run(10'000);
  REQUIRE(bench.refused.size() == 1);
  CHECK(bench.refused[0].error == LedgerError::unavailable);
  CHECK(bench.stream->size() == 2);
  bench.stream->connected("beta", 7);
  bench.run();
  bench.hear(bench.acknowledgement(2));
  CHECK(bench.told == std::vector<std::uint64_t>{2});
  // There is room again.
  bench.stream->disconnected();
  bench.reserve(true);
  bench.run();
  CHECK(bench.spool.size() == 2);
}

TEST_CASE("a full stream refuses beginnings before ends", "[cluster][stream]") {
  StreamOptions options;
  options.operations_max = 4;
  Bench bench(options);
  for (int i = 0; i < 4; ++i) bench.reserve(true);
  Reservation more;
  more.request_id = bench.ids.next();
  const Result<std::uint64_t> refused = bench.stream->push(more, true);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), LedgerError::overloaded));
  for (int i = 0; i < 4; ++i) CHECK(bench.stream->push(VoidReservation{bench.last, "none"}, false));
  CHECK_FALSE(bench.stream->push(VoidReservation{bench.last, "none"}, false));
  bench.stream->push(shard::SliceReturn{"bud_1", 1, {5}, 0});
  CHECK(bench.stream->size() == 9);
}

TEST_CASE("a refusal of what the spool made durable is told as that", "[cluster][stream]") {
  Bench bench;
  bench.reserve(true);
  bench.run();
  bench.stream->spooled();
  bench.stream->connected("beta", 7);
  bench.run();
  shard::Acknowledgement first = bench.acknowledgement(1);
  first.refusals = {{1, static_cast<std::uint16_t>(LedgerError::budget_exhausted), "", std::nullopt}};
  bench.hear(first);
  REQUIRE(bench.refused.size() == 1);
  CHECK(bench.refused[0].was_durable);
  CHECK(bench.truncated == 1);
}

}  // namespace outlast::cluster::shard_stream_test
