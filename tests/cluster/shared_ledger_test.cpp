// The ledger's own writer over a ReplicatedLog: nodes that take turns in owning a shard while calls fail. By seeds.
#include <catch2/catch.hpp>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/memory_agreement.hpp"
#include "cluster/replicated_log.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace outlast::cluster::shared_ledger_test {
namespace {

using storage::LedgerWriter;

constexpr ShardId shard = 4;

class Node {
 public:
  Node(MemoryAgreement& world, const std::string& name, const Clock& clock, std::uint64_t seed)
      : ids_(clock, seed), clock_(clock), node_(world.node(name)), shared_(node_->log(shard)),
        log_(*shared_, local_, {[] { return true; }, {}}) {
    me_.node = name;
    me_.incarnation = ids_.next();
    reopen();
  }

  // Owns the shard, with all that it has; false when a call failed, or another owns it.
  bool own() {
    if (lease_ == 0 || !node_->keep_alive(lease_)) {
      const Result<LeaseId> lease = node_->start_lease(600, me_);
      lease_ = lease ? *lease : 0;
      if (lease_ == 0) return false;
    }
    const Result<std::uint64_t> epoch = node_->claim(shard, lease_, me_);
    if (!epoch || !catch_up_all()) return false;
    log_.lead(*epoch);
    epoch_ = *epoch;
    const Result<void> leads = writer_->lead(*epoch, {me_.incarnation, me_.node, "test"});
    if (!leads) reopen();
    return leads.has_value();
  }
  // Ids that are durable.
  bool reserve(std::size_t count, std::set<RequestId>& acknowledged) {
    std::vector<RequestId> ids;
    for (std::size_t i = 0; i < count; ++i) {
      Reservation reservation;
      reservation.request_id = ids_.next();
      reservation.tenant = {"acme", "search", "user"};
      reservation.key_id = "key_user";
      reservation.route = "smart";
      reservation.holder = me_.incarnation;
      ids.push_back(reservation.request_id);
      REQUIRE(writer_->add(reservation));
    }
    if (!writer_->commit()) {
      reopen();
      return false;
    }
    acknowledged.insert(ids.begin(), ids.end());
    return true;
  }
  void let_go() {
    (void)node_->release(shard, epoch_);
    log_.follow();
    if (writer_) reopen();
  }
  bool catch_up_all() {
    while (true) {
      const Result<bool> done = catch_up(*shared_, *writer_, 3);
      if (!done) {
        INFO(done.error().message);
        REQUIRE(is(done.error(), AgreementError::unavailable));
        return false;
      }
      if (*done) return true;
    }
  }
  [[nodiscard]] LedgerWriter& writer() { return *writer_; }
  [[nodiscard]] const storage::LedgerView& local() const { return local_; }

 private:
  void reopen() {
    log_.follow();
    writer_.reset();
    Result<std::unique_ptr<LedgerWriter>> opened = LedgerWriter::open_replica(log_, clock_);
    INFO((opened ? "" : opened.error().message));
    REQUIRE(opened);
    writer_ = std::move(*opened);
  }

  UuidGenerator ids_;
  const Clock& clock_;
  std::unique_ptr<Coordination> node_;
  std::unique_ptr<SharedLog> shared_;
  storage::MemoryLog local_;
  ReplicatedLog log_;
  std::unique_ptr<LedgerWriter> writer_;
  Presence me_;
  LeaseId lease_ = 0;
  std::uint64_t epoch_ = 0;
};

}  // namespace

TEST_CASE("owners take turns under faults, and every replica ends with the same ledger", "[agreement][ledger]") {
  std::size_t acknowledged_total = 0;
  int owners = 0;
  int failures = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    INFO(seed);
    ManualClock clock;
    MemoryAgreement world(clock, seed);
    Random random(seed);
    std::vector<std::unique_ptr<Node>> nodes;
    for (const char* name : {"a", "b", "c"})
      nodes.push_back(std::make_unique<Node>(world, name, clock, seed + nodes.size()));
    world.set_fate(MemoryAgreement::fates(seed, 40, 60, 40, 60));
    std::set<RequestId> acknowledged;
    for (int turn = 0; turn < 12; ++turn) {
      Node& owner = *nodes[random.below(nodes.size())];
      clock.advance_ms(1'000);
      if (!owner.own()) {
        ++failures;
        owner.let_go();
        continue;
      }
      ++owners;
      bool holds = true;
      for (std::uint64_t n = random.below(6); n > 0 && holds; --n) {
        holds = owner.reserve(1 + random.below(4), acknowledged);
        if (random.below(3) == 0) (void)nodes[random.below(nodes.size())]->catch_up_all();
        // Another may get in between, and this one notices at its next commit.
        if (random.below(20) == 0 && !world.owners().empty())
          (void)world.node("admin")->release(shard, world.owners().begin()->second.epoch);
      }
      if (!holds) ++failures;
      owner.let_go();
    }
    world.set_fate({});
    world.land();
    for (const auto& node : nodes) REQUIRE(node->catch_up_all());
    const Digest digest = nodes[0]->writer().state_digest();
    for (const auto& node : nodes) {
      CHECK(node->writer().next_index() == nodes[0]->writer().next_index());
      CHECK(node->writer().state_digest() == digest);
    }
    CHECK(nodes[0]->writer().state().open_count() >= acknowledged.size());
    for (const RequestId& id : acknowledged) CHECK(nodes[0]->writer().state().is_open(id));
    acknowledged_total += acknowledged.size();
  }
  CHECK(acknowledged_total > 1'000);
  CHECK(owners > 200);
  CHECK(failures > 30);
}

}  // namespace outlast::cluster::shared_ledger_test
