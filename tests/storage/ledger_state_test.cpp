// The state machine and the writer over a MemoryLog: against a naive model by seeds, through
// restarts and failed appends.
#include "storage/ledger_state.hpp"

#include <set>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/ledger_model.hpp"

namespace outlast::storage::ledger_state_test {
namespace {

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed) : random_(seed), ids_(clock_, seed) {
    start();
    committed_ = model_;
  }

  void step() {
    if (random_.below(10) == 0) {
      commit();  // a batch has one time
      clock_.advance_ms(static_cast<std::int64_t>(random_.below(2'000'000)));
    }
    switch (random_.below(100)) {
      case 0: return restart();
      case 1:
        return failed_commit(random_.below(2) == 0 ? MemoryLog::Fate::lost
                                                   : MemoryLog::Fate::done_but_failed);
      case 2:
      case 3:
      case 4:
      case 5: return commit();
      default: return operate();
    }
  }
  void finish() {
    REQUIRE(writer_->commit_rows());
    require_same_balances();
    require_same_usage();
    REQUIRE(writer_->finish());
    const Result<VerifyReport> report = verify_ledger(log_);
    REQUIRE(report);
    INFO(report->problem);
    CHECK(report->ok);
    CHECK(report->entries == writer_->next_index());
    CHECK(report->open_reservations == writer_->state().open_count());
  }
  std::set<int> errors_seen;
  std::size_t in_doubt_seen = 0;
  std::size_t duplicates_seen = 0;

 private:
  void start() {
    Result<std::unique_ptr<LedgerWriter>> writer =
        LedgerWriter::open(log_, clock_, ids_.next(), "test");
    INFO((writer ? "" : writer.error().message));
    REQUIRE(writer);
    writer_ = std::move(*writer);
    const std::size_t in_doubt = model_.settle_open(writer_->time_ms());
    REQUIRE(writer_->in_doubt_settled() == in_doubt);
    in_doubt_seen += in_doubt;
    committed_ = model_;
  }
  void restart() {
    commit();
    if (random_.below(2) == 0) REQUIRE(writer_->finish());
    writer_.reset();
    start();
  }
  void commit() {
    REQUIRE((random_.below(5) == 0 ? writer_->commit_rows() : writer_->commit()));
    committed_ = model_;
  }
  // The process would exit; what the next one finds is the state before or after, as a whole.
  void failed_commit(MemoryLog::Fate fate) {
    if (writer_->pending_entries() == 0) return;
    log_.set_fate([fate] { return fate; });
    CHECK_FALSE(writer_->commit());
    log_.set_fate(nullptr);
    if (fate == MemoryLog::Fate::lost) model_ = committed_;
    writer_.reset();
    start();
  }

  template <class T>
  void run(const T& operation) {
    const std::int64_t time_ms = std::max(writer_->time_ms(), clock_.wall_ms());
    const Applied expected = model_.apply(operation, time_ms);
    const std::uint64_t entries = writer_->next_index();
    const Result<Applied> applied = writer_->add(operation);
    REQUIRE(applied);
    INFO("outcome " << static_cast<int>(applied->outcome) << " error "
                    << static_cast<int>(applied->error));
    REQUIRE(*applied == expected);
    REQUIRE(writer_->next_index() == entries + (expected.outcome == Outcome::applied ? 1 : 0));
    if (expected.outcome == Outcome::refused) errors_seen.insert(static_cast<int>(expected.error));
    if (expected.outcome == Outcome::duplicate) ++duplicates_seen;
  }

  RequestId known_id() {
    if (known_.empty() || random_.below(20) == 0) return ids_.next();
    // Mostly the latest, so that most operations follow each other.
    const std::size_t back = random_.below(2) == 0
                                 ? random_.below(std::min<std::size_t>(known_.size(), 8))
                                 : random_.below(known_.size());
    return known_[known_.size() - 1 - back];
  }
  RequestId old_id() {
    ManualClock past;
    past.set_wall_ms(clock_.wall_ms() - dedup_age_ms_max -
                     static_cast<std::int64_t>(random_.below(1'000)) - 1);
    return UuidGenerator(past, random_.next()).next();
  }
  AttemptLine attempt(const RequestId& id, AttemptStatus status) {
    AttemptLine line = sample_attempt(id, static_cast<std::uint16_t>(1 + random_.below(3)), status,
                                      static_cast<std::int64_t>(random_.below(3) * 400'000));
    line.provider = random_.below(2) == 0 ? "alpha" : "beta";
    line.deployment = "fable-" + line.provider;
    line.price_known = random_.below(4) != 0;
    if (random_.below(4) == 0) line.usage.source = UsageSource::estimated;
    return line;
  }
  void operate() {
    switch (random_.below(8)) {
      case 0:
      case 1:
      case 2: {
        const bool fresh = random_.below(8) != 0;
        const RequestId id = random_.below(50) == 0 ? old_id() : fresh ? ids_.next() : known_id();
        Reservation reservation = sample_reservation(id, random_.below(2) == 0 ? "ann" : "ben");
        reservation.price_known = random_.below(5) != 0;
        if (known_.empty() || id > known_.back()) known_.push_back(id);
        return run(reservation);
      }
      case 3: return run(attempt(known_id(), static_cast<AttemptStatus>(1 + random_.below(6))));
      case 4:
      case 5:
      case 6:
        return run(Settlement{
            attempt(known_id(), random_.below(4) == 0 ? AttemptStatus::cut : AttemptStatus::ok)});
      default:
        return run(VoidReservation{known_id(),
                                   random_.below(2) == 0 ? "refused" : "no deployment answered"});
    }
  }

  void require_same_balances() {
    std::map<std::string, LedgerModel::Account> stored;
    for (const auto& [key, value] : log_.rows(Table::meta)) {
      BalanceRow row;
      if (key[0] != balance_prefix) continue;
      REQUIRE(decode(value, row));
      if (row == BalanceRow{}) continue;
      stored[key.substr(1)] = {row.held.value, row.used.value, row.overrun.value};
    }
    std::map<std::string, LedgerModel::Account> expected;
    for (const auto& [name, account] : model_.tenants) {
      if (account != LedgerModel::Account{}) expected["t" + name] = account;
    }
    for (const auto& [name, account] : model_.providers) {
      if (account != LedgerModel::Account{}) expected["p" + name] = account;
    }
    CHECK((stored == expected));
  }
  void require_same_usage() {
    const Result<UsageReport> report =
        usage_of(log_, {{UsageDimension::user, UsageDimension::key, UsageDimension::model,
                         UsageDimension::model_served, UsageDimension::provider,
                         UsageDimension::deployment, UsageDimension::status},
                        {},
                        {}});
    REQUIRE(report);
    std::map<std::vector<std::string>, UsageTotals> expected;
    for (const auto& [name, totals] : model_.rollups) {
      const auto& [tenant, key, route, model, provider, deployment, status] = name;
      const std::string status_name(
          status == status_void ? "void" : attempt_status_names[static_cast<std::size_t>(status)]);
      expected[{tenant.substr(tenant.rfind('/') + 1), key, route, model, provider, deployment,
                status_name}] += totals;
    }
    REQUIRE(report->rows.size() == expected.size());
    for (const UsageRow& row : report->rows) CHECK(row.totals == expected.at(row.group));
  }

  ManualClock clock_;
  Random random_;
  UuidGenerator ids_;
  MemoryLog log_;
  LedgerModel model_;
  LedgerModel committed_;
  std::unique_ptr<LedgerWriter> writer_;
  std::vector<RequestId> known_;
};

struct Ledger {
  ManualClock clock;
  UuidGenerator ids{clock, 1};
  MemoryLog log;
  std::unique_ptr<LedgerWriter> writer;
  Ledger() { reopen(); }
  void reopen() {
    writer.reset();
    Result<std::unique_ptr<LedgerWriter>> opened =
        LedgerWriter::open(log, clock, ids.next(), "test");
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  template <class T>
  Applied run(const T& operation) {
    const Result<Applied> applied = writer->add(operation);
    REQUIRE(applied);
    REQUIRE(writer->commit());
    return *applied;
  }
  LedgerError refusal(const auto& operation) {
    const Applied applied = run(operation);
    REQUIRE(applied.outcome == Outcome::refused);
    return applied.error;
  }
};

VirtualKey sample_key(const std::string& id) {
  return {id, {"acme", "search", "ann"}, "laptop", {}, 5, std::nullopt};
}

}  // namespace

TEST_CASE("random operations, restarts and failed appends leave what a naive model says",
          "[ledger]") {
  std::set<int> errors;
  std::size_t in_doubt = 0;
  std::size_t duplicates = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    Simulation simulation(seed);
    for (int i = 0; i < 400; ++i) simulation.step();
    simulation.finish();
    errors.merge(simulation.errors_seen);
    in_doubt += simulation.in_doubt_seen;
    duplicates += simulation.duplicates_seen;
  }
  // The simulation reaches what it is meant to reach.
  CHECK(errors == std::set<int>{6, 7, 8, 9});
  CHECK(in_doubt > 100);
  CHECK(duplicates > 100);
}

TEST_CASE("an overrun is recorded, not refused", "[ledger]") {
  Ledger ledger;
  const RequestId id = ledger.ids.next();
  ledger.run(sample_reservation(id));
  CHECK(ledger.run(sample_attempt(id, 1, AttemptStatus::cut, 700'000)).outcome == Outcome::applied);
  const Applied settled = ledger.run(sample_settlement(id, 600'000, 2));
  CHECK(settled.outcome == Outcome::applied);
  CHECK(settled.overrun == pico(300'000));
  std::vector<StoredEntry> entries;
  REQUIRE(read_entries(ledger.log, 3, [&entries](const StoredEntry& entry) {
    entries.push_back(entry);
    return true;
  }));
  REQUIRE(entries.size() == 1);
  CHECK(std::get<proto::Settled>(entries[0].body).overrun == pico(300'000));
}

TEST_CASE("amounts and texts outside their limits are refused", "[ledger]") {
  Ledger ledger;
  Reservation reservation = sample_reservation(ledger.ids.next());
  reservation.amount = pico(-1);
  CHECK(ledger.refusal(reservation) == LedgerError::invalid);
  reservation.amount = {amount_max.value + 1};
  CHECK(ledger.refusal(reservation) == LedgerError::invalid);
  reservation.amount = amount_max;
  reservation.route = std::string(text_bytes_max + 1, 'r');
  CHECK(ledger.refusal(reservation) == LedgerError::invalid);
  reservation.route = "r";
  reservation.tenant.team = "a/b";  // would share a balance with another tenant
  CHECK(ledger.refusal(reservation) == LedgerError::invalid);
  reservation.tenant.team = "ab";
  CHECK(ledger.run(reservation).outcome == Outcome::applied);
  CHECK(ledger.refusal(sample_settlement(reservation.request_id, -1)) == LedgerError::invalid);
  for (std::uint16_t i = 1; i <= attempts_per_request_max; ++i) {
    REQUIRE(ledger.run(sample_attempt(reservation.request_id, i, AttemptStatus::throttled, 0))
                .outcome == Outcome::applied);
  }
  CHECK(ledger.refusal(sample_attempt(reservation.request_id, 99, AttemptStatus::throttled, 0)) ==
        LedgerError::invalid);
}

TEST_CASE("keys are created once and revoked once, and survive a restart", "[ledger]") {
  Ledger ledger;
  CHECK(ledger.run(sample_key("key_a")).outcome == Outcome::applied);
  CHECK(ledger.run(sample_key("key_a")).outcome == Outcome::duplicate);
  VirtualKey other = sample_key("key_a");
  other.name = "desktop";
  CHECK(ledger.refusal(other) == LedgerError::duplicate);
  CHECK(ledger.refusal(proto::KeyRevoked{"key_b"}) == LedgerError::unknown_key);
  ledger.clock.advance_ms(77);
  CHECK(ledger.run(proto::KeyRevoked{"key_a"}).outcome == Outcome::applied);
  CHECK(ledger.run(proto::KeyRevoked{"key_a"}).outcome == Outcome::duplicate);
  CHECK(ledger.run(sample_key("key_a")).outcome == Outcome::duplicate);
  ledger.reopen();
  const auto& keys = ledger.writer->state().keys();
  REQUIRE(keys.size() == 1);
  CHECK(keys.at("key_a").tenant.user == "ann");
  CHECK(keys.at("key_a").revoked_ms == ledger.clock.wall_ms());
}

TEST_CASE("a price book is recorded when it differs from the latest of its version", "[ledger]") {
  Ledger ledger;
  const auto record = [&ledger](const std::string& version, const std::string& toml) {
    return ledger.run(proto::PricesRecorded{version, toml}).outcome;
  };
  CHECK(record("v1", "a") == Outcome::applied);
  CHECK(record("v1", "a") == Outcome::duplicate);
  CHECK(record("v1", "b") == Outcome::applied);
  CHECK(record("v1", "a") == Outcome::applied);
  CHECK(record("v2", "a") == Outcome::applied);
  ledger.reopen();
  CHECK(record("v2", "a") == Outcome::duplicate);
  CHECK(ledger.refusal(proto::PricesRecorded{"v3", std::string(prices_bytes_max + 1, 'p')}) ==
        LedgerError::invalid);
}

TEST_CASE("time in the ledger never goes back when the clock does", "[ledger]") {
  Ledger ledger;
  ledger.run(sample_reservation(ledger.ids.next()));
  const std::int64_t before = ledger.writer->time_ms();
  ledger.clock.set_wall_ms(before - 60'000);
  ledger.run(sample_reservation(ledger.ids.next()));
  CHECK(ledger.writer->time_ms() == before);
}

TEST_CASE("a reservation that stays open through checkpoints and a crash is settled once, in doubt",
          "[ledger]") {
  Ledger ledger;
  const RequestId old = ledger.ids.next();
  ledger.run(sample_reservation(old, "old"));
  for (std::uint64_t i = 0; i < LedgerWriter::open_entries / 2 + 100; ++i) {
    const RequestId id = ledger.ids.next();
    REQUIRE(ledger.writer->add(sample_reservation(id)));
    REQUIRE(ledger.writer->add(sample_settlement(id)));
    if (i % 1'000 == 0) REQUIRE(ledger.writer->commit());
  }
  ledger.run(sample_attempt(old, 1, AttemptStatus::cut, 250'000));
  CHECK(ledger.writer->state().open_count() == 1);
  const std::uint64_t next = ledger.writer->next_index();
  ledger.reopen();
  CHECK(ledger.writer->in_doubt_settled() == 1);
  CHECK(ledger.writer->state().open_count() == 0);
  std::vector<StoredEntry> entries;
  REQUIRE(read_entries(ledger.log, next, [&entries](const StoredEntry& entry) {
    entries.push_back(entry);
    return true;
  }));
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].kind() == EntryKind::incarnation);
  const AttemptLine& line = std::get<proto::Settled>(entries[1].body).settlement.attempt;
  CHECK(line.request_id == old);
  CHECK(line.number == 2);
  CHECK(line.status == AttemptStatus::in_doubt);
  CHECK(line.cost == pico(750'000));  // what was reserved, less what its attempt cost
  CHECK(line.estimated());
  ledger.reopen();
  CHECK(ledger.writer->in_doubt_settled() == 0);
  REQUIRE(ledger.writer->finish());
  const Result<VerifyReport> report = verify_ledger(ledger.log);
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
}

}  // namespace outlast::storage::ledger_state_test
