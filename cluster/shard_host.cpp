#include "cluster/shard_host.hpp"

#include <unistd.h>

#include <algorithm>
#include <future>
#include <utility>

#include "core/check.hpp"
#include "core/log.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::cluster {
namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t told_interval_ns = 500 * ms;
constexpr std::int64_t retry_ns = 200 * ms;   // after the shared log could not be read
// A batch costs etcd about as much as a hundred entries. So commits that nobody waits for keep a distance, as long as
// the last one took, but for this much; less when so many entries have come.
constexpr std::int64_t commit_distance_ns_max = 20 * ms;
constexpr std::uint64_t commit_entries_enough = 256;
constexpr std::size_t messages_max = 4'096;  // that wait: they are sent again
constexpr int exit_status_doubt = 70;

// As in a node on its own: after a failed write nobody knows what is on disk.
[[noreturn]] void die(ShardId shard, const Error& error) {
  log::error("shard_store_failed", {{"shard", name_of_shard(shard)}, {"reason", error.message}, {"effect", "exit 70"}});
  ::_exit(exit_status_doubt);
}

}  // namespace

bool is_for_owner(const shard::Message& message) {
  return std::holds_alternative<shard::Operations>(message.body) || std::holds_alternative<shard::Demand>(message.body) ||
         std::holds_alternative<shard::EndHolder>(message.body) || std::holds_alternative<shard::AllotmentDemand>(message.body) ||
         std::holds_alternative<shard::AllotmentTerms>(message.body) ||
         std::holds_alternative<shard::ReplicaProgress>(message.body);
}

Result<std::unique_ptr<ShardHost>> ShardHost::open(ShardHostOptions options, const Clock& clock, const Clock& boot_clock,
                                                   std::unique_ptr<SharedLog> log,
                                                   std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns,
                                                   ShardHostPorts ports) {
  auto store = storage::RocksLog::open(options.folder, nullptr, storage::RocksDuty::replica);
  if (!store) return fail(std::move(store.error()));
  std::unique_ptr<ShardHost> host(new ShardHost(std::move(options), clock, boot_clock, std::move(log), std::move(*store),
                                                std::move(lead_deadline_ns), std::move(ports)));
  if (const Result<void> opened = host->open_writer(); !opened) {
    Error error = opened.error();
    error.message = "the ledger in " + host->options_.folder + ": " + error.message;
    return fail(std::move(error));
  }
  host->durable_ = host->told_applied_ = host->writer_->next_index();
  host->thread_ = std::thread([raw = host.get()] { raw->run(); });
  return host;
}

ShardHost::ShardHost(ShardHostOptions options, const Clock& clock, const Clock& boot_clock,
                     std::unique_ptr<SharedLog> shared, std::unique_ptr<storage::RocksLog> log,
                     std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns, ShardHostPorts ports)
    : options_(std::move(options)),
      clock_(clock),
      boot_clock_(boot_clock),
      ports_(std::move(ports)),
      lead_deadline_ns_(std::move(lead_deadline_ns)),
      shared_(std::move(shared)),
      log_(std::move(log)),
      room_(messages_max) {
  working_.shard = options_.shard;
}

ShardHost::~ShardHost() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool ShardHost::post(Task task) const {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return false;
    tasks_.push_back(std::move(task));
  }
  arrived_.notify_one();
  return true;
}

template <class T>
std::optional<T> ShardHost::ask(std::function<T()> question) const {
  auto promise = std::make_shared<std::promise<T>>();
  std::future<T> answer = promise->get_future();
  if (!post([promise, question = std::move(question)] { promise->set_value(question()); })) return std::nullopt;
  try {
    return answer.get();
  } catch (const std::future_error&) {
    return std::nullopt;  // the host stopped before it came to it
  }
}

void ShardHost::set_lead_deadline(std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns) {
  post([this, deadline = std::move(lead_deadline_ns)] { lead_deadline_ns_ = deadline; });
}

void ShardHost::log_grew() {
  {
    const std::lock_guard lock(mutex_);
    if (status_.leading) return;  // by its own doing
  }
  post([this] {
    if (hinted_ns_ == 0) hinted_ns_ = clock_.monotonic_ns();
  });
}

void ShardHost::take_batch(std::string batch) {
  {
    const std::lock_guard lock(mutex_);
    if (!room_.enter(batch.size())) return;  // it stands in the shared log
  }
  post([this, batch = std::move(batch)] { take_sent(batch); });
}

void ShardHost::take_sent(std::string_view batch) {
  if (owner_ || working_.behind) return;
  const Result<SentBatch> taken = cluster::take_sent(codec_, batch, *writer_);
  if (!taken) {
    if (is(taken.error(), storage::LedgerError::io) || is(taken.error(), storage::LedgerError::disk_full)) {
      die(options_.shard, taken.error());
    }
    // The shared log says what is right.
    log::warning("sent_batch_refused", {{"shard", name_of_shard(options_.shard)}, {"error", taken.error().message}});
    if (const Result<void> opened = open_writer(); !opened) die(options_.shard, opened.error());
    grew_ = true;
  } else if (*taken == SentBatch::applied) {
    hinted_ns_ = 0;
    answer_currents();
  } else if (*taken != SentBatch::known) {
    grew_ = true;
  }
}

void ShardHost::catch_up(std::uint64_t epoch) {
  post([this, epoch] {
    catching_up_ = epoch;
    grew_ = true;
  });
}

void ShardHost::lead(std::uint64_t epoch) {
  post([this, epoch] {
    check(owner_ == nullptr, "a shard is led once at a time");
    catching_up_.reset();
    replicated_->lead(epoch);
    const Result<void> led =
        writer_->lead(epoch, proto::OwnerStarted{options_.incarnation, options_.node, options_.software});
    if (!led) {
      stop_leading(led.error());
      return ports_.failed(options_.shard, epoch);
    }
    OwnerOptions owner;
    owner.shard = options_.shard;
    owner.node = options_.node;
    owner.shards = options_.shards;
    owner.node_of = ports_.node_of;
    owner_ = std::make_unique<ShardOwner>(owner, *writer_, clock_);
    working_.mirrors = false;
    end_gone();
    if (!owner_) return;
    working_.epoch = epoch;
    log::info("shard_led", {{"shard", name_of_shard(options_.shard)}, {"epoch", epoch}, {"entries", writer_->next_index()}});
  });
}

void ShardHost::step_down(std::uint64_t epoch) {
  post([this, epoch] {
    catching_up_.reset();
    if (owner_) own();  // what has arrived is finished
    if (owner_) resign();
    ports_.stepped_down(options_.shard, epoch);
  });
}

void ShardHost::receive(std::string node, shard::Message message) {
  {
    const std::lock_guard lock(mutex_);
    if (!room_.enter(size_of(message))) return;
  }
  post([this, node = std::move(node), message = std::move(message)]() mutable {
    if (owner_) {
      const std::uint64_t before = committed();
      const std::int64_t start_ns = clock_.monotonic_ns();
      const std::uint64_t foreign = owner_->counters().foreign;
      const Result<void> received = owner_->receive(node, message);
      if (owner_->counters().foreign > foreign) note_foreign(node);
      if (keep(received)) count_commit(before, start_ns);
      return;
    }
    if (auto answer = not_owner(message, {}, 0)) ports_.send(node, std::move(*answer));
  });
}

void ShardHost::note_foreign(const std::string& node) {
  if (working_.foreign++ > 0) return;  // one line is enough; the metric counts
  log::warning("holder_of_another_node", {{"shard", name_of_shard(options_.shard)}, {"from", node}, {"effect", "not heard"}});
}

void ShardHost::set_money(std::shared_ptr<const std::vector<ShardMoney>> money) {
  post([this, money = std::move(money)] {
    money_ = money;
    if (owner_ && working_.mirrors) keep(owner_->set_money(own_money()));
  });
}

void ShardHost::mirror(std::uint64_t epoch) {
  post([this, epoch] {
    if (!owner_ || epoch != working_.epoch || !money_) return;
    working_.mirrors = keep(owner_->set_money(own_money()));
  });
}

void ShardHost::set_gone(std::shared_ptr<const std::vector<Incarnation>> gone) {
  post([this, gone = std::move(gone)] {
    if (gone_ == gone) return;
    gone_ = gone;
    end_gone();
  });
}

void ShardHost::end_gone() {
  if (!gone_) return;
  for (const Incarnation& holder : *gone_) {
    if (!owner_ || !keep(owner_->end_holder(holder, true, "its node was removed"))) return;
  }
}

void ShardHost::trim(std::uint64_t below) {
  post([this, below] {
    if (!owner_) return;
    const std::uint64_t index = std::min(below, durable_);
    const Result<void> trimmed = shared_->trim(index);
    if (trimmed) working_.trimmed = std::max(working_.trimmed, index);
    else log::warning("log_not_trimmed", {{"shard", name_of_shard(options_.shard)}, {"error", trimmed.error().message}});
  });
}

void ShardHost::when_current(Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (!stop_) asked_.push_back(std::exchange(done, nullptr));
  }
  if (done) return done(fail(storage::LedgerError::stopped, "the shard is stopping"));
  arrived_.notify_one();
}

// What the log holds now is what they want to see applied.
void ShardHost::begin_currents(std::vector<Done> asked) {
  if (asked.empty()) return;
  std::optional<Result<SharedTail>> tail;
  if (!owner_) tail.emplace(shared_->tail());
  for (Done& done : asked) {
    if (!tail) done({});
    else if (!*tail) done(fail(tail->error()));
    else currents_.emplace_back((*tail)->next_index, std::move(done));
  }
  grew_ = true;
}

HostStatus ShardHost::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::unique_ptr<storage::LedgerView> ShardHost::whole_snapshot() const {
  using Snapshot = std::shared_ptr<std::unique_ptr<storage::LedgerView>>;
  auto* self = const_cast<ShardHost*>(this);
  const auto snapshot = ask<Snapshot>([self] {
    if (self->owner_) self->own();
    // Nothing is pending now: only this node's rows are written, nothing of the log.
    if (const Result<void> written = self->writer_->commit_rows(); !written) die(self->options_.shard, written.error());
    return std::make_shared<std::unique_ptr<storage::LedgerView>>(self->log_->snapshot());
  });
  return snapshot ? std::move(**snapshot) : nullptr;
}

storage::MoneyStatus ShardHost::money() const {
  return ask<storage::MoneyStatus>([this] { return storage::money_of(writer_->state()); }).value_or(storage::MoneyStatus{});
}

Result<std::uint64_t> ShardHost::checkpoint(const std::string& folder) const {
  auto made = ask<Result<std::uint64_t>>([this, folder]() -> Result<std::uint64_t> {
    if (const Result<void> copied = log_->checkpoint(folder); !copied) return fail(copied.error());
    return writer_->next_index();
  });
  if (!made) return fail(storage::LedgerError::stopped, "the shard is stopping");
  return std::move(*made);
}

std::pair<std::uint64_t, Digest> ShardHost::digest() const {
  auto* self = const_cast<ShardHost*>(this);
  return ask<std::pair<std::uint64_t, Digest>>([self] {
           const Digest digest = self->writer_->state_digest();
           return std::pair(self->writer_->next_index(), digest);
         })
      .value_or(std::pair(std::uint64_t{0}, Digest{}));
}

Result<void> ShardHost::open_writer() {
  owner_.reset();
  writer_.reset();
  replicated_ = std::make_unique<ReplicatedLog>(
      *shared_, *log_,
      ReplicatedLogHooks{[this] { return may_lead(); },
                         [](std::uint32_t wait_ms) { std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms)); },
                         [this](std::string_view batch) { ports_.appended(options_.shard, batch); }});
  auto writer = storage::LedgerWriter::open_replica(*replicated_, clock_);
  if (!writer) return fail(std::move(writer.error()));
  writer_ = std::move(*writer);
  return {};
}

// In order, with nothing under way: the replica goes on as it is.
void ShardHost::resign() {
  owner_.reset();
  writer_->resign();
  replicated_->follow();
  grew_ = true;
}

// The state machine may hold what the log does not: it begins anew from the store.
void ShardHost::stop_leading(const Error& why) {
  log::warning("shard_not_led", {{"shard", name_of_shard(options_.shard)}, {"epoch", working_.epoch}, {"why", why.message}});
  if (const Result<void> opened = open_writer(); !opened) die(options_.shard, opened.error());
  grew_ = true;
}

bool ShardHost::may_lead() const {
  return boot_clock_.monotonic_ns() < lead_deadline_ns_->load(std::memory_order_acquire);
}

std::int64_t ShardHost::wake_ns() const {
  std::int64_t wake = std::min(told_ns_ + told_interval_ns, synced_ns_ + options_.sync_interval_ms * ms);
  if (owner_) return std::min({wake, owner_->next_wake_ns(), owner_->is_dirty() ? commit_after_ns_ : wake});
  if (hinted_ns_ != 0) wake = std::min(wake, hinted_ns_ + options_.sent_wait_ms * ms);
  return grew_ ? 0 : std::min(wake, polled_ns_ + options_.poll_interval_ms * ms);
}

void ShardHost::run() {
  if (ports_.applied) ports_.applied(writer_->state(), *log_, {});
  std::vector<Task> tasks;
  std::vector<Done> asked;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const std::int64_t wait_ns = wake_ns() - clock_.monotonic_ns();
      if (wait_ns > 0) {
        arrived_.wait_for(lock, std::chrono::nanoseconds(wait_ns),
                          [this] { return stop_ || !tasks_.empty() || !asked_.empty(); });
      }
      if (stop_) break;
      tasks.swap(tasks_);
      asked.swap(asked_);
      room_.clear();
    }
    for (const Task& task : tasks) task();
    tasks.clear();
    begin_currents(std::exchange(asked, {}));
    if (!owner_) follow();
    else if (commit_can_wait()) perform_effects();
    else own();
    tell_applied();
    sync_if_due();
    tell_progress(false);
  }
  for (auto& [index, done] : currents_) done(fail(storage::LedgerError::stopped, "the shard is stopping"));
  // What a start would replay otherwise; a replica's own rows.
  if (!owner_) {
    const Result<void> finished = writer_->finish();
    if (!finished) log::warning("shard_not_finished", {{"error", finished.error().message}});
  }
  {
    const std::lock_guard lock(mutex_);
    tasks_.clear();
    asked.swap(asked_);
  }
  // Whoever asked last waits for a word, too.
  for (const Done& done : asked) done(fail(storage::LedgerError::stopped, "the shard is stopping"));
}

// Whether the owner goes on.
bool ShardHost::keep(const Result<void>& done) {
  if (done) return true;
  const std::uint64_t epoch = working_.epoch;
  stop_leading(done.error());
  ports_.failed(options_.shard, epoch);
  return false;
}

void ShardHost::own() {
  if (!may_lead()) {
    keep(fail(AgreementError::lease_lost, "the lease's deadline has passed"));
    return;
  }
  const std::uint64_t before = committed();
  const std::int64_t start_ns = clock_.monotonic_ns();
  if (!keep(owner_->commit())) return;
  count_commit(before, start_ns);
  perform_effects();
}

// What arrives meanwhile rides with the next batch.
bool ShardHost::commit_can_wait() const {
  const std::int64_t now_ns = clock_.monotonic_ns();
  return now_ns < commit_after_ns_ && !owner_->is_urgent() && writer_->pending_entries() < commit_entries_enough &&
         now_ns < owner_->next_wake_ns();
}

void ShardHost::perform_effects() {
  for (OwnerEffect& effect : owner_->take_effects()) {
    if (auto* send = std::get_if<SendToNode>(&effect)) ports_.send(send->node, std::move(send->message));
    else if (auto* to_shard = std::get_if<SendToShard>(&effect)) ports_.send_to_shard(to_shard->shard, std::move(to_shard->message));
  }
}

// A batch was appended since the log ended at `before`.
void ShardHost::count_commit(std::uint64_t before, std::int64_t start_ns) {
  if (committed() == before) return;
  ++working_.batches;
  const std::int64_t now_ns = clock_.monotonic_ns();
  working_.commit_us_last = static_cast<std::uint64_t>((now_ns - start_ns) / 1'000);
  commit_after_ns_ = now_ns + std::min(now_ns - start_ns, commit_distance_ns_max);
  working_.commits.add(working_.commit_us_last);
}

void ShardHost::follow() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  const bool due = grew_ || now_ns - polled_ns_ >= options_.poll_interval_ms * ms ||
                   (hinted_ns_ != 0 && now_ns - hinted_ns_ >= options_.sent_wait_ms * ms);
  if (!due) return;
  hinted_ns_ = 0;
  if (working_.behind) {
    polled_ns_ = now_ns;
    grew_ = false;
    return ports_.behind(options_.shard);
  }
  polled_ns_ = now_ns;
  // A tail read after the claim: whoever owned the shard before cannot add to it any more.
  std::optional<std::uint64_t> end;
  if (catching_up_) {
    const Result<SharedTail> tail = shared_->tail();
    if (tail) end = tail->next_index;
  }
  const Result<bool> at_end = cluster::catch_up(*shared_, *writer_);
  if (!at_end) return follow_later(at_end.error());
  working_.problem.clear();
  grew_ = !*at_end;
  if (!grew_ && !read_to_end_) {
    read_to_end_ = true;
    tell_progress(true);
  }
  answer_currents();
  if (catching_up_ && end && writer_->next_index() >= *end) {
    const std::uint64_t epoch = *std::exchange(catching_up_, std::nullopt);
    ports_.caught_up(options_.shard, epoch);
  }
}

void ShardHost::follow_later(const Error& error) {
  if (is(error, storage::LedgerError::io) || is(error, storage::LedgerError::disk_full)) die(options_.shard, error);
  if (working_.problem != error.message) {
    log::warning("replica_does_not_follow", {{"shard", name_of_shard(options_.shard)}, {"error", error.message}});
  }
  working_.behind = is(error, AgreementError::trimmed);
  working_.problem = error.message;
  polled_ns_ += retry_ns - options_.poll_interval_ms * ms;
  grew_ = false;
  // Who waits to be current is told that this may last.
  for (auto& [index, done] : std::exchange(currents_, {})) done(fail(error));
}

void ShardHost::answer_currents() {
  if (currents_.empty()) return;
  tell_applied();  // first, so that what was asked for is published when it is answered
  const std::uint64_t applied = writer_->next_index();
  for (auto& [index, done] : std::exchange(currents_, {})) {
    if (index <= applied) done({});
    else currents_.emplace_back(index, std::move(done));
  }
}

void ShardHost::tell_applied() {
  if (!ports_.applied || told_applied_ == writer_->next_index()) return;
  std::vector<storage::StoredEntry> entries;
  const Result<void> read = storage::read_entries(*log_, told_applied_, [&entries](const storage::StoredEntry& entry) {
    entries.push_back(entry);
    return true;
  });
  if (!read) die(options_.shard, read.error());
  told_applied_ += entries.size();
  ports_.applied(writer_->state(), *log_, entries);
}

void ShardHost::sync_if_due() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns - synced_ns_ < options_.sync_interval_ms * ms) return;
  synced_ns_ = now_ns;
  log_->drop_ids_before(writer_->time_ms() - storage::dedup_age_ms_max);
  if (const Result<void> folded = writer_->fold(); !folded) die(options_.shard, folded.error());
  const std::uint64_t applied = owner_ ? committed() : writer_->next_index();
  if (durable_ == applied) return;
  if (const Result<void> synced = log_->sync(); !synced) die(options_.shard, synced.error());
  durable_ = applied;
}

void ShardHost::tell_progress(bool always) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  working_.leading = owner_ != nullptr;
  working_.applied = owner_ ? committed() : writer_->next_index();
  if (working_.leading) working_.tail = working_.applied;
  working_.durable = durable_;
  working_.open_reservations = writer_->state().open_count();
  {
    const std::lock_guard lock(mutex_);
    working_.dropped = room_.dropped();
    status_ = working_;
  }
  if (!read_to_end_) return;  // nobody may count on a replica that has not seen the log's end once
  if (!always && now_ns - told_ns_ < told_interval_ns) return;
  told_ns_ = now_ns;
  ports_.progress(working_);
}

}  // namespace outlast::cluster
