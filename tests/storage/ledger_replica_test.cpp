// One ledger on several nodes: an owner that writes, replicas that follow, owners that change, nodes
// that crash at any commit. By seeds, against the naive model of money and by the digest of all state.
#include <map>

#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/money_compare.hpp"
#include "tests/storage/money_operations.hpp"
#include "tests/storage/shared_node_log.hpp"

namespace outlast::storage::ledger_replica_test {
namespace {

class ClusterSimulation {
 public:
  explicit ClusterSimulation(std::uint64_t seed)
      : random_(seed), ids_(clock_, seed), operations_(random_, ids_, false, model_) {
    for (Node& node : nodes_) {
      node.log = std::make_unique<SharedNodeLog>(shared_);
      reopen(node);
    }
    lead(nodes_[0]);
  }

  void step() {
    if (random_.below(8) == 0) {
      commit();
      move_clocks();
    }
    switch (random_.below(40)) {
      case 0: return hand_over();
      case 1: return fail_over();
      case 2:
      case 3: return commit();
      case 4:
      case 5:
      case 6: return follow_some(any_replica());
      case 7: return write_rows(any_replica());
      case 8: return crash(any_replica());
      case 9: return end_holder();
      case 10: return operate_beside_money();
      default: return operate();
    }
  }
  void finish() {
    commit();
    for (Node& node : nodes_) {
      if (&node != owner_) follow_all(node);
      require_same_digest(node);
      storage::require_same_money(node.writer->state(), model_);
      const Digest before = node.writer->state_digest();
      REQUIRE(node.writer->finish());
      REQUIRE(node.writer->state_digest() == before);
      const Result<VerifyReport> report = verify_ledger(*node.log);
      REQUIRE(report);
      INFO(report->problem);
      REQUIRE(report->ok);
      CHECK((report->charged.value == model_.tenants_used));
    }
  }
  int owners = 0;
  int compared = 0;
  int from_slices = 0;
  int crashes = 0;
  int ended = 0;
  int allotted = 0;

 private:
  struct Node {
    ManualClock clock;  // no two agree
    std::unique_ptr<SharedNodeLog> log;
    std::unique_ptr<LedgerWriter> writer;
  };

  void move_clocks() {
    const auto ms = static_cast<std::int64_t>(random_.below(9'000'000));
    clock_.advance_ms(ms);
    for (Node& node : nodes_) {
      node.clock.advance_ms(ms);
      if (random_.below(4) == 0)
        node.clock.set_wall_ms(clock_.wall_ms() - 4'500'000 +
                               static_cast<std::int64_t>(random_.below(9'000'000)));
    }
  }
  void reopen(Node& node) {
    node.log->leading = false;
    Result<std::unique_ptr<LedgerWriter>> writer =
        LedgerWriter::open_replica(*node.log, node.clock);
    INFO((writer ? "" : writer.error().message));
    REQUIRE(writer);
    node.writer = std::move(*writer);
    require_same_digest(node);
  }
  // Whoever is at the same index has the same state, whatever it wrote when.
  void require_same_digest(Node& node) {
    const Digest digest = node.writer->state_digest();
    const auto [at, first] = digests_.emplace(node.writer->next_index(), digest);
    INFO("next index " << at->first);
    REQUIRE(at->second == digest);
    if (!first) ++compared;
  }
  Node& any_replica() {
    Node* node = owner_;
    while (node == owner_) node = &nodes_[random_.below(nodes_.size())];
    return *node;
  }

  Result<void> follow(Node& node, const SharedBatches::Batch& batch) {
    const Result<void> followed = node.writer->follow(batch.first_index, batch.records);
    INFO((followed ? "" : followed.error().message));
    if (followed) require_same_digest(node);
    return followed;
  }
  void follow_all(Node& node) {
    for (const SharedBatches::Batch& batch : shared_.from(node.writer->next_index()))
      REQUIRE(follow(node, batch));
  }
  // Some of what it lacks, perhaps after some that it has.
  void follow_some(Node& node) {
    const std::uint64_t next = node.writer->next_index();
    const std::uint64_t back = random_.below(3) == 0 ? random_.below(20) : 0;
    std::uint64_t most = 1 + random_.below(6);
    for (const SharedBatches::Batch& batch : shared_.from(next - std::min(next, back))) {
      REQUIRE(follow(node, batch));
      if (--most == 0) break;
    }
  }
  void write_rows(Node& node) {
    switch (random_.below(3)) {
      case 0: REQUIRE(node.writer->commit_rows()); break;
      case 1: REQUIRE(node.writer->finish()); break;
      default: REQUIRE(node.writer->fold());
    }
    require_same_digest(node);
  }
  // A replica dies: in the midst of a batch, or when it was durable.
  void crash(Node& node) {
    ++crashes;
    const std::vector<SharedBatches::Batch> rest = shared_.from(node.writer->next_index());
    if (!rest.empty()) {
      node.log->fail_next(random_.below(2) == 0 ? SharedNodeLog::Fate::lost
                                                : SharedNodeLog::Fate::done_but_failed);
      CHECK_FALSE(follow(node, rest.front()));
    }
    reopen(node);
  }

  void lead(Node& node) {
    follow_all(node);
    node.log->leading = true;
    owner_ = &node;
    epoch_ += 1 + random_.below(3);
    const Result<void> led =
        node.writer->lead(epoch_, {ids_.next(), "node", "outlast test"});
    INFO((led ? "" : led.error().message));
    REQUIRE(led);
    model_.roll(node.writer->time_ms());
    committed_ = model_;
    ++owners;
    require_same_digest(node);
    storage::require_same_money(node.writer->state(), model_);
  }
  void hand_over() {
    commit();
    Node& before = *owner_;
    Node& next = any_replica();
    if (random_.below(2) == 0) {
      before.writer->resign();
      before.log->leading = false;
      require_same_digest(before);
    } else {
      reopen(before);
    }
    lead(next);
  }
  // The owner dies, or cannot tell, while it commits. Anyone may be next, itself included.
  void fail_over() {
    if (owner_->writer->pending_entries() == 0) return hand_over();
    static constexpr SharedNodeLog::Fate fates[] = {SharedNodeLog::Fate::lost,
                                                    SharedNodeLog::Fate::shared_only,
                                                    SharedNodeLog::Fate::done_but_failed};
    const SharedNodeLog::Fate fate = fates[random_.below(std::size(fates))];
    owner_->log->fail_next(fate);
    CHECK_FALSE(owner_->writer->commit());
    if (fate == SharedNodeLog::Fate::lost) model_ = committed_;
    ++crashes;
    reopen(*owner_);
    lead(nodes_[random_.below(nodes_.size())]);
  }

  void commit() {
    LedgerWriter& writer = *owner_->writer;
    const std::uint64_t kind = random_.below(8);
    REQUIRE((kind == 0 ? writer.commit_rows() : kind == 1 ? writer.finish() : writer.commit()));
    committed_ = model_;
    require_same_digest(*owner_);
  }
  std::int64_t roll() {
    const LedgerWriter& writer = *owner_->writer;
    const std::int64_t time_ms = writer.pending_entries() > 0
                                     ? writer.time_ms()
                                     : std::max(writer.time_ms(), owner_->clock.wall_ms());
    model_.roll(time_ms);
    return time_ms;
  }
  void operate() {
    const proto::EntryBody operation = operations_.next();
    const Applied expected = apply_to(model_, operation, roll());
    const Result<Applied> applied = owner_->writer->add(operation);
    REQUIRE(applied);
    INFO("kind " << operation.index() << " error " << static_cast<int>(applied->error));
    REQUIRE(*applied == expected);
    if (const auto* const grant = std::get_if<proto::AllotmentGranted>(&operation);
        grant != nullptr && expected.outcome == Outcome::applied) {
      model_.opened_at(*grant, owner_->writer->next_index() - 1);
      ++allotted;
    }
    storage::require_same_money(owner_->writer->state(), model_);
    const auto* const reservation = std::get_if<Reservation>(&operation);
    if (reservation == nullptr || expected.outcome != Outcome::applied) return;
    for (const auto& hold : model_.requests.at(reservation->request_id).holds)
      from_slices += hold.from_slice > 0;
  }
  void end_holder() {
    const Incarnation holder = operations_.any_holder();
    const bool spent = random_.below(2) == 0;
    const Applied expected = model_.end_holder(holder, spent, roll());
    const Result<Applied> done = owner_->writer->end_holder(holder, spent, "its lease ended");
    REQUIRE(done);
    REQUIRE(*done == expected);
    ended += expected.outcome == Outcome::applied;
    operations_.replace_holder();
  }
  // What the model of money does not know: it is in the digest.
  void operate_beside_money() {
    roll();
    const std::string name = "n" + std::to_string(random_.below(4));
    LedgerWriter& writer = *owner_->writer;
    switch (random_.below(5)) {
      case 0: {
        VirtualKey key{name, {"acme", "search", "ann"}, "laptop", {}, 1, std::nullopt};
        REQUIRE(writer.add(proto::EntryBody(proto::KeyCreated{key})));
        return;
      }
      case 1: REQUIRE(writer.add(proto::KeyRevoked{name})); return;
      case 2: REQUIRE(writer.add(proto::PricesRecorded{name, ids_.next().to_string()})); return;
      case 3:
        REQUIRE(writer.add(BreakerTripped{name, "r", "key:k", "", SpendAction::throttle, "fast"}));
        return;
      default: REQUIRE(writer.add(BreakerReset{name, "ann", "seen", {7}}));
    }
  }

  ManualClock clock_;
  Random random_;
  UuidGenerator ids_;
  SharedBatches shared_;
  std::array<Node, 3> nodes_;
  Node* owner_ = nullptr;
  std::uint64_t epoch_ = 0;
  MoneyModel model_;
  MoneyModel committed_;
  std::map<std::uint64_t, Digest> digests_;  // by next index
  MoneyOperations operations_;
};

}  // namespace

TEST_CASE("replicas have the owner's state, through owners that change and nodes that crash",
          "[ledger][cluster]") {
  int owners = 0;
  int compared = 0;
  int from_slices = 0;
  int crashes = 0;
  int ended = 0;
  int allotted = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    ClusterSimulation simulation(seed);
    for (int i = 0; i < 400; ++i) simulation.step();
    simulation.finish();
    owners += simulation.owners;
    compared += simulation.compared;
    from_slices += simulation.from_slices;
    crashes += simulation.crashes;
    ended += simulation.ended;
    allotted += simulation.allotted;
  }
  INFO(owners << " owners, " << compared << " digests compared, " << crashes << " crashes");
  CHECK(owners > 400);
  CHECK(compared > 4'000);
  CHECK(from_slices > 100);
  CHECK(crashes > 400);
  CHECK(ended > 40);
  CHECK(allotted > 100);
}

TEST_CASE("many clusters of replicas", "[.slow][ledger][cluster]") {
  for (std::uint64_t seed = 1'000; seed < 2'000; ++seed) {
    INFO("seed " << seed);
    ClusterSimulation simulation(seed);
    for (int i = 0; i < 1'000; ++i) simulation.step();
    simulation.finish();
  }
}

}  // namespace outlast::storage::ledger_replica_test
