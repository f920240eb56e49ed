#include "tests/cluster/simulate/sim_host.hpp"

#include <utility>

#include "cluster/durations.hpp"
#include "core/check.hpp"

namespace outlast::cluster::simulation {
namespace {

constexpr std::int64_t told_interval_ns = 500 * ns_per_ms;
constexpr std::int64_t poll_interval_ns = 1'000 * ns_per_ms;
constexpr std::int64_t sync_interval_ns = 1'000 * ns_per_ms;
constexpr std::int64_t retry_ns = 200 * ns_per_ms;

}  // namespace

SimHost::SimHost(ShardId shard, std::string node, Incarnation incarnation, const Clock& clock,
                 std::unique_ptr<SharedLog> shared, LossyLog& disk, const std::int64_t& deadline_ns, Election& election,
                 ShardId shards, ShardMoney money, SimHostPorts ports)
    : shard_(shard),
      node_(std::move(node)),
      incarnation_(incarnation),
      clock_(clock),
      shared_(std::move(shared)),
      disk_(disk),
      deadline_ns_(deadline_ns),
      election_(election),
      shards_(shards),
      money_(std::move(money)),
      ports_(std::move(ports)) {
  open_writer();
}

void SimHost::open_writer() {
  owner_.reset();
  writer_.reset();
  replicated_ = std::make_unique<ReplicatedLog>(*shared_, disk_, ReplicatedLogHooks{[this] { return may_lead(); }, {}, [this](std::string_view batch) {
                                                                                         ports_.appended(shard_, batch);
                                                                                       }});
  auto opened = storage::LedgerWriter::open_replica(*replicated_, clock_);
  check(opened.has_value(), "a replica opens", opened ? "" : opened.error().message);
  writer_ = std::move(*opened);
}

void SimHost::catch_up(std::uint64_t epoch) {
  tasks_.emplace_back([this, epoch] {
    catching_up_ = epoch;
    grew_ = true;
  });
}

void SimHost::lead(std::uint64_t epoch) {
  tasks_.emplace_back([this, epoch] {
    check(owner_ == nullptr, "a shard is led once at a time");
    catching_up_.reset();
    replicated_->lead(epoch);
    epoch_ = epoch;
    const Result<void> led = writer_->lead(epoch, proto::OwnerStarted{incarnation_, node_, "simulation"});
    if (!led) {
      stop_leading(led.error());
      return election_.failed(shard_, epoch);
    }
    OwnerOptions options;
    options.shard = shard_;
    options.node = node_;
    options.shards = shards_;
    owner_ = std::make_unique<ShardOwner>(options, *writer_, clock_);
    ports_.note("leads " + name_of_shard(shard_) + " in epoch " + std::to_string(epoch));
    keep(owner_->set_money(money_));
  });
}

void SimHost::step_down(std::uint64_t epoch) {
  tasks_.emplace_back([this, epoch] {
    catching_up_.reset();
    if (owner_) own();
    if (owner_) {
      owner_.reset();
      writer_->resign();
      replicated_->follow();
      grew_ = true;
    }
    ports_.note("stepped down from " + name_of_shard(shard_));
    election_.stepped_down(shard_, epoch);
  });
}

void SimHost::receive(const std::string& node, const shard::Message& message) {
  tasks_.emplace_back([this, node, message] {
    if (owner_) {
      keep(owner_->receive(node, message));
      return;
    }
    const auto* operations = std::get_if<shard::Operations>(&message.body);
    if (operations == nullptr) return;
    ports_.send(node, {message.shard, message.epoch, shard::NotOwner{operations->holder, operations->stream, 0, {}, 0}});
  });
}

void SimHost::stop_leading(const Error& why) {
  ports_.note("does not lead " + name_of_shard(shard_) + " any more: " + why.message);
  open_writer();
  grew_ = true;
}

bool SimHost::keep(const Result<void>& done) {
  if (done) return true;
  stop_leading(done.error());
  election_.failed(shard_, epoch_);
  return false;
}

void SimHost::own() {
  if (!may_lead()) {
    keep(fail(AgreementError::lease_lost, "the lease's deadline has passed"));
    return;
  }
  if (!keep(owner_->commit())) return;
  for (OwnerEffect& effect : owner_->take_effects()) {
    if (auto* send = std::get_if<SendToNode>(&effect)) ports_.send(send->node, send->message);
    else if (auto* to_shard = std::get_if<SendToShard>(&effect)) ports_.send_to_shard(to_shard->shard, to_shard->message);
  }
}

void SimHost::take_batch(const std::string& batch) {
  tasks_.emplace_back([this, batch] {
    if (owner_) return;
    const Result<SentBatch> taken = take_sent(codec_, batch, *writer_);
    // What an owner says stands in the log.
    if (!taken) broken = taken.error().message;
    else if (*taken == SentBatch::unreadable) broken = "an owner sent what is no batch";
    else if (*taken == SentBatch::ahead) grew_ = true;
  });
}

void SimHost::follow() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (!grew_ && now_ns - polled_ns_ < poll_interval_ns) return;
  polled_ns_ = now_ns;
  std::optional<std::uint64_t> end;
  if (catching_up_) {
    const Result<SharedTail> tail = shared_->tail();
    if (tail) end = tail->next_index;
  }
  const Result<bool> at_end = cluster::catch_up(*shared_, *writer_);
  if (!at_end) {
    // Whoever asks for more than the log has, or cannot apply what it has, broke a promise.
    if (!is(at_end.error(), AgreementError::unavailable)) broken = at_end.error().message;
    polled_ns_ += retry_ns - poll_interval_ns;
    grew_ = false;
    return;
  }
  grew_ = !*at_end;
  if (!grew_ && !read_to_end_) {
    read_to_end_ = true;
    tell_progress(true);
  }
  if (catching_up_ && end && writer_->next_index() >= *end) {
    const std::uint64_t epoch = *std::exchange(catching_up_, std::nullopt);
    election_.caught_up(shard_, epoch);
  }
}

void SimHost::tell_progress(bool always) {
  if (!read_to_end_) return;
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (!always && now_ns - told_ns_ < told_interval_ns) return;
  told_ns_ = now_ns;
  const std::uint64_t applied = owner_ ? writer_->next_index() - writer_->pending_entries() : writer_->next_index();
  if (owner_) tail_ = applied;
  election_.own_progress(shard_, applied, tail_);
}

void SimHost::step() {
  if (hangs) return;
  const auto tasks = std::exchange(tasks_, {});
  for (const auto& task : tasks) task();
  if (owner_) own();
  else follow();
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns - synced_ns_ >= sync_interval_ns) {
    synced_ns_ = now_ns;
    disk_.sync();
  }
  tell_progress(false);
}

void SimHost::finish() {
  if (owner_) return;
  check(writer_->finish().has_value(), "a replica finishes");
  disk_.sync();
}

}  // namespace outlast::cluster::simulation
