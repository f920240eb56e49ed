// A shard of the ledger under virtual time: nodes that may own it over a shared log in memory, an auditor that follows
// that log entry by entry, and a network that drops, delays, repeats, reorders and cuts. From one seed.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/shard_owner.hpp"
#include "core/check.hpp"
#include "core/id.hpp"
#include "core/random.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace outlast::cluster::simulation {

inline constexpr ShardId the_shard = 0;

// What etcd is: the log, and who may append to it.
struct SharedShard {
  struct Batch {
    std::uint64_t first = 0;
    std::uint64_t next = 0;
    std::string records;
  };
  std::vector<Batch> batches;
  std::string owner;  // empty: none
  std::uint64_t epoch = 0;
  [[nodiscard]] std::uint64_t next_index() const { return batches.empty() ? 0 : batches.back().next; }
};

// A replica's local log; while its node owns the shard, the shared one comes first.
class ReplicaLog final : public storage::Log {
 public:
  ReplicaLog(storage::MemoryLog& local, SharedShard& shared, Random& random)
      : local_(local), shared_(shared), random_(random) {}
  std::uint64_t epoch = 0;        // 0: a replica
  std::uint64_t doubtful_of = 0;  // one of so many appends fails although it stands; 0: none

  Result<bool> get(storage::Table table, std::string_view key, std::string& value) const override {
    return local_.get(table, key, value);
  }
  Result<void> scan(storage::Table table, std::string_view from, std::string_view to,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return local_.scan(table, from, to, visit);
  }
  Result<void> read(std::uint64_t from, const std::function<bool(const storage::LogRecord&)>& visit) const override {
    return local_.read(from, visit);
  }
  Result<void> append(const storage::LogBatch& batch, const storage::TableChanges& changes) override {
    if (epoch != 0 && !batch.records.empty()) {
      if (shared_.epoch != epoch || shared_.next_index() != batch.first_index)
        return fail(storage::LedgerError::fenced, "another owner's epoch holds");
      std::uint64_t next = batch.first_index;
      const Result<void> parsed = storage::parse_batch(batch, [&next](const storage::LogRecord& record) {
        next = record.index + 1;
        return true;
      });
      check(parsed.has_value(), "a batch can be read");
      shared_.batches.push_back({batch.first_index, next, std::string(batch.records)});
      if (doubtful_of != 0 && random_.below(doubtful_of) == 0)
        return fail(storage::LedgerError::io, "nobody knows whether it stands");
    }
    return local_.append(batch, changes);
  }
  std::unique_ptr<storage::LedgerView> snapshot() const override { return local_.snapshot(); }

 private:
  storage::MemoryLog& local_;
  SharedShard& shared_;
  Random& random_;
};

// Of a cluster of one shard.
inline ShardMoney money_of(const std::vector<Budget>& budgets) {
  ShardMoney money;
  for (const Budget& budget : budgets) money.budgets.push_back({budget, false});
  return money;
}

// A node that may own the shard.
class OwnerNode {
 public:
  OwnerNode(std::string node, SharedShard& shared, Random& random, const Clock& clock, UuidGenerator& ids)
      : name(std::move(node)), shared_(shared), random_(random), clock_(clock), ids_(ids) {
    restart();
  }
  // What is not in its local log is lost, and comes again from the shared one.
  void restart() {
    owner.reset();
    writer_.reset();
    log_ = std::make_unique<ReplicaLog>(local_, shared_, random_);
    auto opened = storage::LedgerWriter::open_replica(*log_, clock_);
    check(opened.has_value(), "a replica opens", opened ? "" : opened.error().message);
    writer_ = std::move(*opened);
    up = true;
  }
  void stop() {
    owner.reset();
    up = false;
  }
  void follow() {
    for (const SharedShard::Batch& batch : shared_.batches) {
      if (batch.next <= writer_->next_index()) continue;
      const Result<void> followed = writer_->follow(batch.first, batch.records);
      check(followed.has_value(), "a replica follows", followed ? "" : followed.error().message);
    }
  }
  void lead(const std::vector<Budget>& budgets, std::uint64_t doubtful_of) {
    restart();
    follow();
    log_->epoch = shared_.epoch;
    log_->doubtful_of = doubtful_of;
    if (!writer_->lead(shared_.epoch, {ids_.next(), name, "test"})) return restart();
    OwnerOptions options;
    options.shard = the_shard;
    options.node = name;
    options.recall_ms = 30;
    owner = std::make_unique<ShardOwner>(options, *writer_, clock_);
    if (!owner->set_money(money_of(budgets))) restart();
  }
  // Does something as the owner; what fails makes it a replica again.
  template <class Do>
  void run(const Do& act) {
    if (owner != nullptr && !act(*owner)) restart();
  }
  [[nodiscard]] storage::LedgerWriter& writer() { return *writer_; }

  const std::string name;
  bool up = true;
  std::unique_ptr<ShardOwner> owner;

 private:
  SharedShard& shared_;
  Random& random_;
  const Clock& clock_;
  UuidGenerator& ids_;
  storage::MemoryLog local_;
  std::unique_ptr<ReplicaLog> log_;
  std::unique_ptr<storage::LedgerWriter> writer_;
};

// Follows the shared log one entry at a time and keeps what can be checked at the end.
class Auditor {
 public:
  explicit Auditor(const Clock& clock) {
    auto opened = storage::LedgerWriter::open_replica(local_, clock);
    check(opened.has_value(), "the auditor's replica opens");
    writer_ = std::move(*opened);
  }
  // The first rule that an entry broke; empty while all is well.
  std::string broken;
  struct Charges {
    PicoUsd charged;
    int ends = 0;
    std::set<std::uint16_t> attempts;
    std::set<std::uint16_t> extensions;
  };
  std::map<RequestId, Charges> requests;
  std::map<Incarnation, std::map<std::string, PicoUsd>> presumed_spent;  // by HolderEnded
  std::map<std::string, PicoUsd> spent;                                  // of each budget, all of those

  void follow(const SharedShard& shared) {
    for (; batches_ < shared.batches.size(); ++batches_) {
      follow(shared.batches[batches_].first, shared.batches[batches_].records);
    }
  }
  void follow(std::uint64_t first, std::string_view records) {
    const Result<void> parsed = storage::parse_batch({first, records}, [this](const storage::LogRecord& record) {
      take(record);
      return true;
    });
    check(parsed.has_value(), "a batch can be read");
  }
  [[nodiscard]] storage::LedgerWriter& writer() { return *writer_; }

 private:
  void take(const storage::LogRecord& record) {
    const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
    check(entry.has_value(), "an entry can be read");
    note(entry->body);
    const Result<void> followed = writer_->follow(record.index, record.record);
    if (!followed) broken = followed.error().message;
    for (const auto& [id, account] : writer_->state().budgets().all()) {
      PicoUsd slices;
      for (const auto& [holder, slice] : account->slices) slices += slice.left;
      if (slices != account->status.sliced) broken = "slices of " + id + " do not add up";
      // Where a person lowered the amount below what was spent already, nothing is added until there is room again.
      PicoUsd& pool = pools_[id];
      const bool changed = std::holds_alternative<proto::BudgetSet>(entry->body);
      if (!changed && account->pool().value < 0 && account->pool() < pool)
        broken = "the cap of " + id + " is exceeded at entry " + std::to_string(record.index);
      pool = account->pool();
    }
  }
  void note(const proto::EntryBody& body) {
    if (const auto* reservation = std::get_if<Reservation>(&body)) {
      requests[reservation->request_id];
    } else if (const auto* extension = std::get_if<ReservationExtension>(&body)) {
      requests[extension->request_id].extensions.insert(extension->number);
    } else if (const auto* attempt = std::get_if<AttemptLine>(&body)) {
      requests[attempt->request_id].charged += attempt->cost;
      requests[attempt->request_id].attempts.insert(attempt->number);
    } else if (const auto* settled = std::get_if<proto::Settled>(&body)) {
      Charges& charges = requests[settled->settlement.attempt.request_id];
      charges.charged += settled->settlement.attempt.cost;
      if (++charges.ends > 1) broken = "a request is charged twice";
    } else if (const auto* voided = std::get_if<proto::Voided>(&body)) {
      if (++requests[voided->reservation.request_id].ends > 1) broken = "a request ends twice";
    } else if (const auto* ended = std::get_if<proto::HolderEnded>(&body); ended != nullptr && ended->spent) {
      for (const auto& [id, account] : writer_->state().budgets().all()) {
        const auto* const slice = storage::BudgetState::slice_of(*account, ended->holder);
        if (slice == nullptr) continue;
        presumed_spent[ended->holder][id] = slice->left;
        spent[id] += slice->left;
      }
    }
  }

  storage::MemoryLog local_;
  std::unique_ptr<storage::LedgerWriter> writer_;
  std::size_t batches_ = 0;
  std::map<std::string, PicoUsd> pools_;  // what is free of each budget
};

// Between nodes by name. Perfect when `rough` is false, but that it takes a millisecond.
class Network {
 public:
  Network(Random& random, const ManualClock& clock) : random_(random), clock_(clock) {}
  bool rough = true;
  std::uint64_t drop_of = 20;       // one of so many
  std::uint64_t repeat_of = 20;
  std::uint64_t delay_ms_max = 12;  // any order within it
  std::set<std::pair<std::string, std::string>> cut;  // from, to

  void send(const std::string& from, const std::string& to, const shard::Message& message) {
    if (cut.contains({from, to})) return;
    if (rough && random_.below(drop_of) == 0) return;
    // What is sent can be read: now and then all the way.
    Parcel parcel{0, from, to, message};
    if (random_.below(16) == 0) {
      auto decoded = shard::decode(shard::encode(message)->bytes());
      check(decoded.has_value() && *decoded == message, "a message arrives as it was sent");
    }
    const int copies = rough && random_.below(repeat_of) == 0 ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      const std::uint64_t delay_ms = rough ? random_.below(delay_ms_max) : 1;
      parcels_.emplace(clock_.wall_ms() + static_cast<std::int64_t>(delay_ms), parcel);
    }
  }
  struct Parcel {
    std::int64_t at_ms;
    std::string from;
    std::string to;
    shard::Message message;
  };
  std::vector<Parcel> arrived() {
    std::vector<Parcel> due;
    const auto end = parcels_.upper_bound(clock_.wall_ms());
    for (auto at = parcels_.begin(); at != end; ++at) due.push_back(std::move(at->second));
    parcels_.erase(parcels_.begin(), end);
    return due;
  }
  // A process began: the connections of the one before it are gone, with all that was in them.
  void forget_from(const std::string& node) {
    std::erase_if(parcels_, [&node](const auto& parcel) { return parcel.second.from == node; });
  }

 private:
  Random& random_;
  const ManualClock& clock_;
  std::multimap<std::int64_t, Parcel> parcels_;
};

}  // namespace outlast::cluster::simulation
