#include "storage/ledger_store.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "core/id.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "storage/archiver.hpp"
#include "storage/commit_queue.hpp"
#include "storage/head_keeper.hpp"
#include "storage/ledger_error_text.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"

namespace outlast::storage {
namespace {

constexpr int exit_status_doubt =
    70;  // EX_SOFTWARE: nothing may be acknowledged after a failed write
constexpr std::size_t commit_operations_max = 4'096;
constexpr std::size_t commit_bytes_max = 4U << 20;

// After a failed write or sync nobody knows what is on disk: only a restart, which reads it, may go
// on.
[[noreturn]] void die(const Error& error) {
  log::error("ledger_write_failed",
             {{"reason", error.message}, {"effect", "exit 70; restart to recover"}});
  ::_exit(exit_status_doubt);
}

Error error_of(LedgerError error) { return fail(error, text_of(error)).value(); }

RequestId request_of(const MeteringOperation& operation) {
  return std::visit(
      []<class T>(const T& concrete) {
        if constexpr (std::is_same_v<T, Settlement>) return concrete.attempt.request_id;
        else return concrete.request_id;
      },
      operation);
}

class Submitter final : public LedgerSubmitter {
 public:
  Submitter(std::shared_ptr<CommitQueue> queue, std::shared_ptr<DiskGuard> disk,
            std::shared_ptr<Recipient> recipient)
      : queue_(std::move(queue)), disk_(std::move(disk)), recipient_(std::move(recipient)) {}
  ~Submitter() override {
    {
      const std::lock_guard lock(recipient_->mutex);
      recipient_->closed = true;
    }
    Submission farewell;
    farewell.farewell = std::move(recipient_);
    // Refused only by a stopped store, which needs no farewell.
    const Result<void> pushed = queue_->push(std::move(farewell), false);
    static_cast<void>(pushed);
  }

  Result<std::uint64_t> submit(MeteringOperation operation, bool urgent) override {
    if (std::holds_alternative<Reservation>(operation) && disk_->full()) {
      return fail(LedgerError::disk_full, "the ledger's disk is nearly full; free some space");
    }
    Submission submission{std::move(operation), nullptr, recipient_.get(), tickets_ + 1, nullptr};
    if (Result<void> pushed = queue_->push(std::move(submission), urgent); !pushed)
      return fail(std::move(pushed.error()));
    return ++tickets_;
  }

  void hasten() override { queue_->hasten(); }

 private:
  std::shared_ptr<CommitQueue> queue_;
  std::shared_ptr<DiskGuard> disk_;
  std::shared_ptr<Recipient> recipient_;
  std::uint64_t tickets_ = 0;
};

class Store final : public LedgerStore {
 public:
  Store(const LedgerOptions& options, const Clock& clock, std::unique_ptr<RocksLog> log,
        std::unique_ptr<LedgerWriter> writer, std::shared_ptr<DiskGuard> disk,
        std::unique_ptr<HeadKeeper> heads)
      : data_(options.data),
        clock_(clock),
        log_(std::move(log)),
        writer_(std::move(writer)),
        disk_(std::move(disk)),
        heads_(std::move(heads)),
        queue_(std::make_shared<CommitQueue>(options.queue_operations_max,
                                             std::chrono::milliseconds(options.lazy_commit_ms))) {
    publish_keys();
    publish_budgets();
    publish_counts();
    in_doubt_settled_ = writer_->in_doubt_settled();
    if (options.archive_after_days > 0) {
      archiver_.emplace(*log_, clock_, options.archive_after_days * 24 * hour_ms, die);
    }
    committer_ = std::thread([this] { run(); });
  }
  ~Store() override {
    queue_->stop();
    committer_.join();
  }

  std::unique_ptr<LedgerSubmitter> make_submitter(
      std::function<void(std::uint64_t)> on_durable,
      std::function<void(std::uint64_t, const Refused&)> on_refused) override {
    auto recipient = std::make_shared<Recipient>();
    recipient->on_durable = std::move(on_durable);
    recipient->on_refused = std::move(on_refused);
    const std::lock_guard lock(mutex_);
    recipients_.push_back(recipient);
    return std::make_unique<Submitter>(queue_, disk_, std::move(recipient));
  }

  void add_key(VirtualKey key, std::function<void(Result<void>)> done) override {
    push({std::move(key), std::move(done)});
  }
  void revoke_key(std::string key_id, std::function<void(Result<void>)> done) override {
    push({proto::KeyRevoked{std::move(key_id)}, std::move(done)});
  }
  void record_prices(std::string version, std::string toml,
                     std::function<void(Result<void>)> done) override {
    push({proto::PricesRecorded{std::move(version), std::move(toml)}, std::move(done)});
  }
  std::vector<VirtualKey> keys() const override {
    const std::lock_guard lock(mutex_);
    return keys_;
  }
  void set_budget(Budget budget, std::string by, std::function<void(Result<void>)> done) override {
    if (Result<void> good = check_budget(budget); !good) return done(std::move(good));
    push({proto::BudgetSet{std::move(budget), std::move(by)}, std::move(done)});
  }
  void remove_budget(std::string id, std::string by,
                     std::function<void(Result<void>)> done) override {
    push({proto::BudgetRemoved{std::move(id), std::move(by)}, std::move(done)});
  }
  std::vector<BudgetStatus> budgets() const override { return money(false).money.budgets; }
  std::shared_ptr<const BudgetBook> budget_book() const override {
    const std::lock_guard lock(mutex_);
    return budget_book_;
  }
  void add_commitment(Commitment commitment, std::string by,
                      std::function<void(Result<void>)> done) override {
    if (Result<void> good = check_commitment(commitment); !good) return done(std::move(good));
    push({proto::CommitmentAdded{std::move(commitment), std::move(by)}, std::move(done)});
  }
  void end_commitment(std::string id, std::string by,
                      std::function<void(Result<void>)> done) override {
    push({proto::CommitmentEnded{std::move(id), std::move(by)}, std::move(done)});
  }
  void record_breaker(BreakerOperation operation,
                      std::function<void(Result<void>)> done) override {
    std::visit(
        [this, &done]<class T>(T& concrete) { push({std::move(concrete), std::move(done)}); },
        operation);
  }
  Result<BreakerRecords> breakers() const override { return breakers_of(*log_->snapshot()); }
  void record_member(MemberOperation operation, std::function<void(Result<void>)> done) override {
    std::visit(
        [this, &done]<class T>(T& concrete) { push({std::move(concrete), std::move(done)}); },
        operation);
  }
  Result<MemberRecords> members() const override { return members_of(*log_->snapshot()); }
  std::vector<CommitmentStatus> commitments() const override {
    return money(false).money.commitments;
  }
  Result<std::vector<AccountBalance>> accounts() const override {
    const MoneyMoment moment = money(true);
    if (moment.view == nullptr) return fail(LedgerError::stopped, "the ledger is stopping");
    return accounts_of(*moment.view, moment.money);
  }

  Result<UsageReport> usage(const UsageQuery& query) const override {
    return usage_of(*whole_snapshot(), query);
  }
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const StoredEntry&)>& visit) const override {
    return read_entries(*log_->snapshot(), from, visit);
  }
  Result<VerifyReport> verify() const override {
    Result<SignedHeads> heads = signed_heads();
    if (!heads) return fail(std::move(heads.error()));
    return verify_with_heads(*whole_snapshot(), std::move(*heads));
  }
  Result<SignedHeads> signed_heads() const override {
    return data_.empty() ? SignedHeads{} : read_signed_heads(data_);
  }
  Result<BackupReport> backup(const std::string& folder, std::uint32_t keep) const override {
    const std::lock_guard lock(backup_mutex_);
    return backup_ledger(*log_, data_, folder, keep);
  }

  Result<std::vector<std::unique_ptr<LedgerView>>> views() const override {
    std::vector<std::unique_ptr<LedgerView>> views;
    views.push_back(log_->snapshot());
    return views;
  }

  Status status() const override {
    Status status;
    status.entries = entries_;
    status.open_reservations = open_reservations_;
    status.queued_operations = queue_->size();
    status.batches = batches_;
    status.disk_full = disk_->full();
    status.free_bytes = disk_->free_bytes();
    status.commit_us_last = commit_us_last_;
    status.in_doubt_settled = in_doubt_settled_;
    return status;
  }

 private:
  struct Refusal {
    Recipient* recipient;
    std::uint64_t ticket;
    Refused refused;
  };

  void push(ControlOperation&& operation) {
    Submission submission;
    submission.control = std::make_unique<ControlOperation>(std::move(operation));
    const std::function<void(Result<void>)> done = submission.control->done;
    if (Result<void> pushed = queue_->push(std::move(submission), true); !pushed)
      done(std::move(pushed));
  }

  // With balances and roll-ups of the same moment as the log, which the committer sees to.
  std::unique_ptr<LedgerView> whole_snapshot() const {
    SnapshotWanted wanted{std::make_shared<std::promise<std::unique_ptr<LedgerView>>>()};
    std::future<std::unique_ptr<LedgerView>> snapshot = wanted.promise->get_future();
    Submission submission;
    submission.control =
        std::make_unique<ControlOperation>(ControlOperation{std::move(wanted), nullptr});
    const Result<void> pushed = queue_->push(std::move(submission), true);
    return pushed ? snapshot.get() : log_->snapshot();
  }

  // Empty when the store is stopping.
  MoneyMoment money(bool with_view) const {
    MoneyWanted wanted{std::make_shared<std::promise<MoneyMoment>>(), with_view};
    std::future<MoneyMoment> moment = wanted.promise->get_future();
    Submission submission;
    submission.control =
        std::make_unique<ControlOperation>(ControlOperation{std::move(wanted), nullptr});
    return queue_->push(std::move(submission), true) ? moment.get() : MoneyMoment{};
  }

  void run();
  void commit(std::span<Submission> batch);
  void add(Submission& submission);
  void add_control(ControlOperation& control);
  void tell();
  void publish_keys();
  void publish_budgets();
  void publish_counts();
  void answer_readers();
  Refused refusal_of(LedgerError error) const;
  void forget(const std::shared_ptr<Recipient>& recipient);

  const std::string data_;
  const Clock& clock_;
  const std::unique_ptr<RocksLog> log_;
  const std::unique_ptr<LedgerWriter> writer_;
  const std::shared_ptr<DiskGuard> disk_;
  const std::unique_ptr<HeadKeeper> heads_;
  const std::shared_ptr<CommitQueue> queue_;
  std::optional<Archiver> archiver_;
  mutable std::mutex backup_mutex_;  // one at a time

  mutable std::mutex mutex_;  // of the three below
  std::vector<VirtualKey> keys_;
  std::vector<std::shared_ptr<Recipient>> recipients_;
  std::shared_ptr<const BudgetBook> budget_book_ = std::make_shared<const BudgetBook>();

  std::atomic<std::uint64_t> entries_{0};
  std::atomic<std::uint64_t> open_reservations_{0};
  std::atomic<std::uint64_t> batches_{0};
  std::atomic<std::uint64_t> commit_us_last_{0};
  std::uint64_t in_doubt_settled_ = 0;

  // The committer's, of the batch in work.
  std::vector<Recipient*> touched_;
  std::vector<Refusal> refusals_;
  std::vector<std::pair<std::function<void(Result<void>)>, Result<void>>> controls_;
  std::vector<SnapshotWanted> snapshots_;
  std::vector<MoneyWanted> money_wanted_;
  bool keys_changed_ = false;
  bool budgets_changed_ = false;

  std::thread committer_;  // last: it uses all of the above
};

void Store::run() {
  std::vector<Submission> arrived;
  while (queue_->take(arrived)) {
    for (std::size_t at = 0; at < arrived.size(); at += commit_operations_max) {
      commit(std::span(arrived).subspan(at, std::min(commit_operations_max, arrived.size() - at)));
    }
    arrived.clear();
  }
  if (const Result<void> finished = writer_->finish(); !finished) die(finished.error());
}

void Store::commit(std::span<Submission> batch) {
  disk_->release_ballast_if_full();
  const std::int64_t start_ns = clock_.monotonic_ns();
  for (Submission& submission : batch) {
    add(submission);
    if (writer_->pending_bytes() < commit_bytes_max) continue;
    if (const Result<void> written = writer_->commit(); !written) die(written.error());
  }
  const bool rows = !snapshots_.empty() ||
                    std::any_of(money_wanted_.begin(), money_wanted_.end(),
                                [](const MoneyWanted& wanted) { return wanted.with_view; });
  if (!money_wanted_.empty()) writer_->roll_periods();
  const Result<void> written = rows ? writer_->commit_rows() : writer_->commit();
  if (!written) die(written.error());
  answer_readers();
  log_->drop_ids_before(writer_->time_ms() - dedup_age_ms_max - 24 * hour_ms);
  commit_us_last_.store(static_cast<std::uint64_t>((clock_.monotonic_ns() - start_ns) / 1000),
                        std::memory_order_relaxed);
  publish_counts();
  batches_.fetch_add(1, std::memory_order_relaxed);
  if (keys_changed_) publish_keys();
  if (budgets_changed_) publish_budgets();
  tell();
  if (const Result<void> folded = writer_->fold(); !folded) die(folded.error());
}

void Store::add(Submission& submission) {
  if (submission.farewell != nullptr) return forget(submission.farewell);
  if (submission.control != nullptr) return add_control(*submission.control);
  Recipient* recipient = submission.recipient;
  if (recipient->batch_ticket == 0) touched_.push_back(recipient);
  recipient->batch_ticket = submission.ticket;
  const Result<Applied> applied = writer_->add(submission.operation);
  if (!applied) die(applied.error());
  if (applied->outcome != Outcome::refused) return;
  Refused refused = refusal_of(applied->error);
  refused.error.message =
      request_of(submission.operation).to_string() + ": " + refused.error.message;
  refusals_.push_back({recipient, submission.ticket, std::move(refused)});
}

void Store::add_control(ControlOperation& control) {
  if (auto* wanted = std::get_if<SnapshotWanted>(&control.operation))
    return snapshots_.push_back(std::move(*wanted));
  if (auto* wanted = std::get_if<MoneyWanted>(&control.operation))
    return money_wanted_.push_back(std::move(*wanted));
  const Result<Applied> applied = std::visit(
      [this]<class T>(const T& operation) -> Result<Applied> {
        if constexpr (std::is_same_v<T, SnapshotWanted> || std::is_same_v<T, MoneyWanted>)
          return Applied{};
        else return writer_->add(operation);
      },
      control.operation);
  if (!applied) die(applied.error());
  const auto is_one = [&control]<class... T>(std::type_identity<T>...) {
    return (std::holds_alternative<T>(control.operation) || ...);
  };
  if (is_one(std::type_identity<VirtualKey>(), std::type_identity<proto::KeyRevoked>()))
    keys_changed_ = true;
  if (is_one(std::type_identity<proto::BudgetSet>(), std::type_identity<proto::BudgetRemoved>()))
    budgets_changed_ = true;
  Result<void> result;
  if (applied->outcome == Outcome::refused) result = fail(refusal_of(applied->error).error);
  controls_.emplace_back(std::move(control.done), std::move(result));
}

void Store::tell() {
  for (const Refusal& refusal : refusals_) {
    const std::lock_guard lock(refusal.recipient->mutex);
    if (!refusal.recipient->closed) refusal.recipient->on_refused(refusal.ticket, refusal.refused);
  }
  for (Recipient* recipient : touched_) {
    const std::uint64_t ticket = std::exchange(recipient->batch_ticket, 0);
    const std::lock_guard lock(recipient->mutex);
    if (!recipient->closed) recipient->on_durable(ticket);
  }
  for (auto& [done, result] : controls_) done(std::move(result));
  refusals_.clear();
  touched_.clear();
  controls_.clear();
}

void Store::publish_keys() {
  keys_changed_ = false;
  std::vector<VirtualKey> keys;
  keys.reserve(writer_->state().keys().size());
  for (const auto& [id, key] : writer_->state().keys()) keys.push_back(key);
  const std::lock_guard lock(mutex_);
  keys_.swap(keys);
}

void Store::publish_budgets() {
  budgets_changed_ = false;
  std::shared_ptr<const BudgetBook> book = writer_->make_budget_book();
  const std::lock_guard lock(mutex_);
  budget_book_.swap(book);
}

void Store::answer_readers() {
  for (SnapshotWanted& wanted : snapshots_) wanted.promise->set_value(log_->snapshot());
  for (MoneyWanted& wanted : money_wanted_) {
    wanted.promise->set_value(
        {money_of(writer_->state()), wanted.with_view ? log_->snapshot() : nullptr});
  }
  snapshots_.clear();
  money_wanted_.clear();
}

// Of the operation that was refused last.
Refused Store::refusal_of(LedgerError code) const {
  Refused refused{error_of(code), std::nullopt};
  const LedgerState& state = writer_->state();
  if (code == LedgerError::overlap) {
    refused.error.message = "the commitment overlaps " + state.commitments().overlapped() +
                            ": both cover a model of the provider until the same moment; give it "
                            "another end, or other models";
  }
  if (code != LedgerError::budget_exhausted) return refused;
  refused.shortfall = state.shortfall();
  refused.error.message = "the budget " + refused.shortfall->budget_name + " has " +
                          refused.shortfall->left.to_usd() + " US dollars left of " +
                          refused.shortfall->amount.to_usd() + ", and " +
                          refused.shortfall->needed.to_usd() + " are needed";
  return refused;
}

void Store::publish_counts() {
  entries_.store(writer_->next_index(), std::memory_order_relaxed);
  open_reservations_.store(writer_->state().open_count(), std::memory_order_relaxed);
  if (heads_ != nullptr) heads_->publish({writer_->next_index(), writer_->head_hash()});
}

void Store::forget(const std::shared_ptr<Recipient>& recipient) {
  const std::lock_guard lock(mutex_);
  std::erase(recipients_, recipient);
}

// None where no data folder is named.
Result<std::unique_ptr<HeadKeeper>> start_heads(const LedgerOptions& options, const Log& log,
                                                const Clock& clock) {
  if (options.data.empty()) return nullptr;
  const Result<HeadRow> head = load_head(log);
  if (!head) return fail(head.error());
  if (Result<void> whole =
          check_last_head(options.data, log, head->next_index, options.accept_cut_at);
      !whole) {
    return fail(std::move(whole.error()));
  }
  Result<HeadSigner> signer = HeadSigner::open(options.data, options.node);
  if (!signer) return fail(std::move(signer.error()));
  return std::make_unique<HeadKeeper>(std::move(*signer), clock, options.head_interval_ms);
}

}  // namespace

Result<std::unique_ptr<LedgerStore>> LedgerStore::open(const LedgerOptions& options,
                                                       const Clock& clock) {
  Result<std::unique_ptr<RocksLog>> log = RocksLog::open(options.path, options.env);
  if (!log) return fail(std::move(log.error()));
  Result<std::unique_ptr<HeadKeeper>> heads = start_heads(options, **log, clock);
  if (!heads) return fail(std::move(heads.error()));
  auto disk = std::make_shared<DiskGuard>(
      options.path,
      DiskLimits{options.free_bytes_min, options.free_fraction_min, options.ballast_bytes},
      options.disk_space, clock);
  UuidGenerator ids(clock, secure_seed());
  Result<std::unique_ptr<LedgerWriter>> writer =
      LedgerWriter::open(**log, clock, ids.next(), options.software);
  if (!writer) {
    Error error = std::move(writer.error());
    error.message = "the ledger in " + options.path + ": " + error.message;
    return fail(std::move(error));
  }
  return std::unique_ptr<LedgerStore>(std::make_unique<Store>(
      options, clock, std::move(*log), std::move(*writer), std::move(disk), std::move(*heads)));
}

}  // namespace outlast::storage
