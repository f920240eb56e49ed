// Holder: its thread: outcomes go to whoever submitted, what is served while cut off survives the process, and ends are
// orderly.
#include "cluster/holder.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "core/id.hpp"
#include "tests/cluster/watched.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::cluster::holder_test {
namespace {

using storage::LedgerError;
using outlast::test::Watched;

constexpr ShardId the_shard = 0;

// A holder on node n1, and the owner of its shard, on n2, as bare messages.
struct Bench {
  Bench(const std::string& folder, UuidGenerator& of_ids, std::vector<Incarnation> on_record = {},
        std::size_t submitted_max = 1'024)
      : ids(of_ids) {
    HolderOptions options;
    options.node = "n1";
    options.incarnation = me = ids.next();
    options.folder = folder;
    options.submitted_max = submitted_max;
    HolderPorts ports;
    ports.send = [this](const std::string& node, const shard::Message& message) { hear(node, message); };
    ports.look_for_owners = [] {};
    ports.disk_full = [this] { return disk_full.load(); };
    holder = std::make_unique<Holder>(options, clock, ports);
    REQUIRE(holder->start(1, on_record));
  }
  void connect(std::uint64_t epoch = 7) {
    Ownership owner;
    owner.node = "n2";
    owner.shard = the_shard;
    owner.epoch = epoch;
    holder->set_owners({owner});
    holder->peer_up("n2");
  }
  // On the holder's thread. The owner says that all is durable, but for what it refuses.
  void hear(const std::string& node, const shard::Message& message) {
    heard.wait([this] { return !shut; });
    heard.change([this, &message] { sent.push_back(message); });
    if (node != "n2") return;
    if (const auto* said = std::get_if<shard::Operations>(&message.body)) {
      shard::Acknowledgement told{said->holder, said->stream, ++number, said->first + said->operations.size() - 1, 0, {}, {}};
      for (std::uint64_t at = said->first; at <= told.up_to; ++at) {
        if (at == refused_sequence) {
          told.refusals.push_back({at, static_cast<std::uint16_t>(LedgerError::budget_exhausted), "no money", std::nullopt});
        }
      }
      holder->receive("n2", {message.shard, message.epoch, told});
    } else if (const auto* ends = std::get_if<shard::EndHolder>(&message.body)) {
      holder->receive("n2", {message.shard, message.epoch, shard::HolderEnded{ends->holder}});
    }
  }
  std::size_t operations_of(const Incarnation& whose) const {
    std::size_t count = 0;
    for (const shard::Message& message : sent) {
      const auto* const said = std::get_if<shard::Operations>(&message.body);
      if (said != nullptr && said->holder == whose) count = std::max(count, said->operations.size());
    }
    return count;
  }
  Reservation reservation() {
    Reservation made = storage::sample_reservation(ids.next());
    made.from_slices = true;
    return made;
  }

  UuidGenerator& ids;
  SystemClock clock;
  Incarnation me;
  std::atomic<bool> disk_full = false;
  Watched heard;  // of what follows
  std::vector<shard::Message> sent;
  bool shut = false;
  std::uint64_t number = 0;  // the thread's
  std::atomic<std::uint64_t> refused_sequence = 0;
  std::unique_ptr<Holder> holder;  // ends first
};

// A lane: what it was told.
struct Lane {
  explicit Lane(Bench& bench)
      : submitter(bench.holder->make_submitter(
            [this](std::uint64_t ticket) { told.change([this, ticket] { durable = std::max(durable, ticket); }); },
            [this](std::uint64_t ticket, const storage::Refused&) { told.change([this, ticket] { refused = ticket; }); })) {}
  bool durable_to(std::uint64_t ticket) {
    return told.wait([this, ticket] { return durable >= ticket; });
  }
  Watched told;  // of the next two
  std::uint64_t durable = 0;
  std::uint64_t refused = 0;
  std::unique_ptr<storage::LedgerSubmitter> submitter;
};

struct Folder {
  storage::TemporaryFolder folder;
  SystemClock clock;
  UuidGenerator ids{clock, 1};
};

}  // namespace

TEST_CASE("outcomes go to the lane that submitted, each once it stands", "[cluster][holder]") {
  Folder disk;
  Bench bench(disk.folder.path(), disk.ids);
  bench.connect();
  Lane first(bench);
  Lane second(bench);
  const Reservation reservation = bench.reservation();
  const Result<std::uint64_t> ticket = first.submitter->submit(reservation, true);
  REQUIRE(ticket);
  CHECK(first.durable_to(*ticket));
  bench.refused_sequence = 2;
  const Result<std::uint64_t> other = second.submitter->submit(bench.reservation(), true);
  REQUIRE(other);
  CHECK(second.told.wait([&second, &other] { return second.refused == *other; }));
  first.told.change([&first] { CHECK(first.refused == 0); });
  // Only who reserved a request may go on with it.
  const Result<std::uint64_t> stranger = second.submitter->submit(VoidReservation{reservation.request_id, "none"}, true);
  REQUIRE_FALSE(stranger);
  CHECK(is(stranger.error(), LedgerError::unknown_request));
  const Result<std::uint64_t> end = first.submitter->submit(VoidReservation{reservation.request_id, "none"}, true);
  REQUIRE(end);
  CHECK(first.durable_to(*end));
  CHECK(bench.holder->counters().refused == 1);
  CHECK(bench.holder->counters().spooled == 0);
}

TEST_CASE("what is served while cut off is in the spool, and the next process hands it over", "[cluster][holder]") {
  Folder disk;
  Incarnation before;
  {
    Bench bench(disk.folder.path(), disk.ids);
    before = bench.me;
    Lane lane(bench);
    const Reservation reservation = bench.reservation();
    REQUIRE(lane.submitter->submit(reservation, true));
    const Result<std::uint64_t> end = lane.submitter->submit(VoidReservation{reservation.request_id, "none"}, true);
    REQUIRE(end);
    CHECK(lane.durable_to(*end));
    CHECK(bench.holder->counters().spooled == 2);
    CHECK(bench.holder->counters().shards_cut_off == 2);  // it and the control shard
    CHECK(bench.sent.empty());
  }
  const auto left = storage::find_spools(disk.folder.path());
  REQUIRE(left);
  REQUIRE(left->size() == 1);
  CHECK(left->front().holder == before);

  Bench next(disk.folder.path(), disk.ids, {before});
  CHECK(next.holder->counters().handing_over);
  next.connect();
  REQUIRE(next.heard.wait([&next, before] { return next.operations_of(before) == 2; }));
  // Its file goes when the ledger has it; then its name does.
  Lane lane(next);
  REQUIRE(lane.submitter->submit(next.reservation(), true));
  const auto until = std::chrono::steady_clock::now() + Watched::patience;
  while (next.holder->counters().handing_over && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  CHECK_FALSE(next.holder->counters().handing_over);
  CHECK(storage::find_spools(disk.folder.path())->empty());
}

TEST_CASE("what waits for a holder's thread is bounded, and what ends a request finds room", "[cluster][holder]") {
  Folder disk;
  Bench bench(disk.folder.path(), disk.ids, {}, 4);
  bench.connect();
  Lane lane(bench);
  std::vector<RequestId> begun;
  bench.heard.change([&bench] { bench.shut = true; });
  // The thread stands in the first message that it sends; until then it takes in what comes.
  Result<void> refused;
  for (int i = 0; i < 100'000 && refused; ++i) {
    const Reservation reservation = bench.reservation();
    const Result<std::uint64_t> ticket = lane.submitter->submit(reservation, true);
    if (ticket) begun.push_back(reservation.request_id);
    else refused = fail(ticket.error());
  }
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), LedgerError::overloaded));
  const Result<std::uint64_t> end = lane.submitter->submit(VoidReservation{begun.front(), "none"}, true);
  REQUIRE(end);
  bench.heard.change([&bench] { bench.shut = false; });
  CHECK(lane.durable_to(*end));
}

TEST_CASE("a full disk refuses beginnings only; a holder that ended refuses all", "[cluster][holder]") {
  Folder disk;
  Bench bench(disk.folder.path(), disk.ids);
  bench.connect();
  Lane lane(bench);
  const Reservation reservation = bench.reservation();
  REQUIRE(lane.submitter->submit(reservation, true));
  bench.disk_full = true;
  const Result<std::uint64_t> full = lane.submitter->submit(bench.reservation(), true);
  REQUIRE_FALSE(full);
  CHECK(is(full.error(), LedgerError::disk_full));
  const Result<std::uint64_t> end = lane.submitter->submit(VoidReservation{reservation.request_id, "none"}, true);
  REQUIRE(end);
  CHECK(lane.durable_to(*end));
  bench.holder->stop();
  bench.disk_full = false;
  const Result<std::uint64_t> late = lane.submitter->submit(bench.reservation(), true);
  REQUIRE_FALSE(late);
  CHECK(is(late.error(), LedgerError::stopped));
}

TEST_CASE("a lane that is gone is told nothing", "[cluster][holder]") {
  Folder disk;
  Bench bench(disk.folder.path(), disk.ids);
  std::atomic<int> calls = 0;
  auto submitter = bench.holder->make_submitter([&calls](std::uint64_t) { ++calls; },
                                                [&calls](std::uint64_t, const storage::Refused&) { ++calls; });
  bench.heard.change([&bench] { bench.shut = true; });
  bench.connect();
  REQUIRE(submitter->submit(bench.reservation(), true));
  submitter.reset();
  bench.heard.change([&bench] { bench.shut = false; });
  Lane lane(bench);
  const Result<std::uint64_t> after = lane.submitter->submit(bench.reservation(), true);
  REQUIRE(after);
  CHECK(lane.durable_to(*after));
  CHECK(calls == 0);
}

}  // namespace outlast::cluster::holder_test
