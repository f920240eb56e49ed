#include "cluster/holder.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

using storage::LedgerError;
using storage::Refused;

constexpr int exit_status_doubt = 70;
constexpr auto stop_wait = std::chrono::seconds(3);
constexpr auto stop_look = std::chrono::milliseconds(5);
constexpr std::size_t received_max = 65'536;

[[noreturn]] void die(const Error& error) {
  log::error("holder_failed", {{"reason", error.message}, {"effect", "exit 70; restart to recover"}});
  ::_exit(exit_status_doubt);
}

RequestId request_of(const MeteringOperation& operation) {
  return std::visit(
      []<class T>(const T& concrete) {
        if constexpr (std::is_same_v<T, Settlement>) return concrete.attempt.request_id;
        else return concrete.request_id;
      },
      operation);
}

// Whether it may have to wait for other holders' slices.
bool asks_ledger(const MeteringOperation& operation) {
  if (const auto* reservation = std::get_if<Reservation>(&operation)) return !reservation->from_slices;
  const auto* extension = std::get_if<ReservationExtension>(&operation);
  return extension != nullptr && !extension->from_slices;
}

}  // namespace

// Of one lane; remembers which shard each of its requests is in.
class Holder::Submitter final : public storage::LedgerSubmitter {
 public:
  Submitter(Holder& holder, std::shared_ptr<Recipient> recipient)
      : holder_(holder), recipient_(std::move(recipient)), tickets_(ticket_groups(holder.shards_)) {}
  ~Submitter() override {
    const std::lock_guard lock(recipient_->mutex);
    recipient_->closed = true;
  }

  Result<std::uint64_t> submit(MeteringOperation operation, bool urgent) override {
    const RequestId id = request_of(operation);
    if (recipient_->any_ended.exchange(false)) {
      const std::lock_guard lock(recipient_->mutex);
      for (const RequestId& ended : recipient_->ended) shards_.erase(ended);
      recipient_->ended.clear();
    }
    ShardId shard = 0;
    if (auto* reservation = std::get_if<Reservation>(&operation)) {
      if (holder_.ports_.disk_full()) return fail(LedgerError::disk_full, "the ledger's disk is nearly full; free some space");
      reservation->holder = holder_.options_.incarnation;
      shard = shard_of(reservation->tenant.organisation, holder_.shards_);
    } else if (const auto known = shards_.find(id); known != shards_.end()) {
      shard = known->second;
    } else {
      return fail(LedgerError::unknown_request, "the request was not reserved by this process");
    }
    const bool ends = std::holds_alternative<Settlement>(operation) || std::holds_alternative<VoidReservation>(operation);
    const bool begins = std::holds_alternative<Reservation>(operation);
    const std::size_t group = std::size_t{shard} * 2 + (asks_ledger(operation) ? 1 : 0);
    const std::uint64_t ticket = (std::uint64_t{group} << storage::ticket_bits) | (tickets_[group] + 1);
    if (Result<void> pushed = holder_.push({shard, std::move(operation), urgent, {recipient_, ticket, begins ? id : RequestId{}, nullptr}}); !pushed) {
      return fail(std::move(pushed.error()));
    }
    ++tickets_[group];
    if (begins) shards_.emplace(id, shard);
    if (ends) shards_.erase(id);
    return ticket;
  }

  void hasten() override {
    {
      const std::lock_guard lock(holder_.mutex_);
      holder_.hastened_ = holder_.woken_ = true;
    }
    holder_.arrived_.notify_one();
  }

 private:
  Holder& holder_;
  const std::shared_ptr<Recipient> recipient_;
  std::vector<std::uint64_t> tickets_;  // by group
  std::unordered_map<RequestId, ShardId> shards_;
};

Holder::Holder(HolderOptions options, const Clock& clock, HolderPorts ports)
    : options_(std::move(options)), clock_(clock), ports_(std::move(ports)), room_(received_max) {}

Holder::~Holder() { stop(); }

Result<void> Holder::start(ShardId shards, std::span<const Incarnation> on_record) {
  check(!thread_.joinable(), "a holder is started once");
  shards_ = shards;
  auto before = storage::read_holders(options_.folder);
  if (!before) return fail(before.error());
  earlier_ = earlier_holders(*before, on_record, options_.incarnation);
  const auto files = storage::find_spools(options_.folder);
  if (!files) return fail(files.error());
  for (const storage::SpoolFile& file : *files) {
    ShardId shard = 0;
    const auto earlier = std::find_if(earlier_.begin(), earlier_.end(),
                                      [&file](const EarlierHolder& one) { return one.holder == file.holder; });
    if (!parse_shard(file.shard, shard) || earlier == earlier_.end()) continue;
    auto records = storage::read_spool(file);
    if (!records) return fail(records.error());
    if (!records->empty()) log::warning("spool_found", {{"shard", file.shard}, {"operations", records->size()}});
    earlier->spools[shard] = std::move(*records);
  }
  std::vector<Incarnation> holders{options_.incarnation};
  for (const EarlierHolder& one : earlier_) holders.push_back(one.holder);
  if (Result<void> written = storage::write_holders(options_.folder, holders); !written) return written;

  std::vector<ShardId> ids;
  for (ShardId shard = 0; shard < shards; ++shard) ids.push_back(shard);
  handover_ = std::make_unique<HolderHandover>(earlier_, ids, options_.incarnation, clock_);
  ids.push_back(control_shard);
  for (const ShardId shard : ids) {
    StreamOptions stream;
    stream.shard = shard;
    stream.holder = options_.incarnation;
    stream.has_spool = shard != control_shard;
    stream.spool_bytes_max = options_.spool_bytes_max;
    KeeperOptions keeper;
    keeper.shard = shard;
    keeper.holder = options_.incarnation;
    Part& part = parts_[shard];
    part.stream = std::make_unique<ShardStream>(stream, clock_);
    part.keeper = std::make_unique<SliceKeeper>(keeper, clock_);
  }
  up_.insert(options_.node);
  thread_ = std::thread([this] { run(); });
  return {};
}

void Holder::stop() {
  if (!thread_.joinable()) return;
  const auto until = std::chrono::steady_clock::now() + stop_wait;
  while (queued() > 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(stop_look);
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_one();
  thread_.join();
}

std::unique_ptr<storage::LedgerSubmitter> Holder::make_submitter(
    std::function<void(std::uint64_t)> on_durable,
    std::function<void(std::uint64_t, const storage::Refused&)> on_refused) {
  auto recipient = std::make_shared<Recipient>();
  recipient->on_durable = std::move(on_durable);
  recipient->on_refused = std::move(on_refused);
  return std::make_unique<Submitter>(*this, std::move(recipient));
}

void Holder::submit(ShardId shard, proto::EntryBody body, std::function<void(Result<void>)> done) {
  const auto call = done;
  if (Result<void> pushed = push({shard, std::move(body), true, {nullptr, 0, {}, std::move(done)}}); !pushed) call(std::move(pushed));
}

Result<void> Holder::push(Submitted submitted) {
  const auto* metering = std::get_if<MeteringOperation>(&submitted.operation);
  const bool begins = metering == nullptr || std::holds_alternative<Reservation>(*metering);
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return fail(LedgerError::stopped, "the node is stopping");
    if (submitted_.size() >= options_.submitted_max * (begins ? 1 : 2)) {
      return fail(LedgerError::overloaded, "the node has too many operations on their way to the ledger; try again later");
    }
    pending_.fetch_add(1, std::memory_order_relaxed);
    submitted_.push_back(std::move(submitted));
    woken_ = true;
  }
  arrived_.notify_one();
  return {};
}

void Holder::set_owners(const std::vector<Ownership>& owners) {
  {
    const std::lock_guard lock(work_mutex_);
    for (const Ownership& owner : owners) {
      Owner& known = owners_[owner.shard];
      if (owner.epoch > known.epoch) known = {owner.node, owner.epoch};
    }
    for (auto& [shard, part] : parts_) connect(shard, part);
  }
  const std::lock_guard lock(mutex_);
  woken_ = true;
  arrived_.notify_one();
}

// On the network thread, which must not wait for a spool's disk.
void Holder::peer_is(const std::string& node, bool up) {
  const std::lock_guard lock(mutex_);
  links_.emplace_back(node, up);
  woken_ = true;
  arrived_.notify_one();
}

void Holder::receive(std::string node, shard::Message message) {
  {
    const std::lock_guard lock(mutex_);
    if (!room_.enter(size_of(message))) return;
    received_.emplace_back(std::move(node), std::move(message));
    woken_ = true;
  }
  arrived_.notify_one();
}

void Holder::set_money(std::shared_ptr<const std::vector<ShardMoney>> money) {
  const std::lock_guard lock(work_mutex_);
  std::map<std::string_view, BudgetBook::Entry> crossing;
  std::vector<std::set<std::string_view>> kept(money->size());
  auto book = std::make_shared<BudgetBook>();
  const ShardId shards = shards_;
  book->shard_of = [shards](std::string_view organisation) { return std::size_t{shard_of(organisation, shards)}; };
  for (ShardId shard = 0; shard < money->size(); ++shard) {
    SliceKeeper& keeper = *parts_.at(shard).keeper;
    for (const auto& [budget, away] : (*money)[shard].budgets) {
      kept[shard].insert(budget.id);
      if (!crosses_shards(budget.scope) || shards == 1) {
        book->by_scope.add(budget.scope, {budget, budget.soft ? nullptr : keeper.slice_of(budget.id), {}});
        continue;
      }
      BudgetBook::Entry& entry = crossing[budget.id];
      entry.budget = budget;
      if (!budget.soft) entry.of_shards.push_back(keeper.slice_of(budget.id));
    }
  }
  for (auto& [id, entry] : crossing) {
    const Scope scope = entry.budget.scope;
    book->by_scope.add(scope, std::move(entry));
  }
  for (ShardId shard = 0; shard < money_->size(); ++shard) {
    for (const auto& [budget, away] : (*money_)[shard].budgets) {
      if (!kept[shard].contains(budget.id)) parts_.at(shard).keeper->forget(budget.id);
    }
  }
  money_ = std::move(money);
  book_ = std::move(book);
}

std::shared_ptr<const BudgetBook> Holder::budget_book() const {
  const std::lock_guard lock(work_mutex_);
  return book_;
}

HolderCounters Holder::counters() const {
  const std::lock_guard lock(work_mutex_);
  HolderCounters counters = counters_;
  counters.pending = queued();
  counters.handing_over = handover_ != nullptr && !handover_->is_done();
  {
    const std::lock_guard received(mutex_);
    counters.dropped = room_.dropped();
  }
  for (const auto& [shard, part] : parts_) {
    if (part.stream->is_cut_off()) ++counters.shards_cut_off;
    if (part.spool) counters.spool_bytes += part.spool->bytes();
  }
  return counters;
}

// Where the shard's owner is, as far as there is a link to it.
void Holder::connect(ShardId shard, Part& part) {
  const auto owner = owners_.find(shard);
  const bool reachable = owner != owners_.end() && up_.contains(owner->second.node);
  if (reachable && part.connected && part.epoch == owner->second.epoch) return;
  if (!reachable && !part.connected) return;
  part.connected = reachable;
  if (reachable) {
    part.owner = owner->second.node;
    part.epoch = owner->second.epoch;
    part.stream->connected(part.owner, part.epoch);
    part.keeper->connected(part.owner, part.epoch);
    if (shard != control_shard) handover_->connected(shard, part.owner, part.epoch);
  } else {
    part.stream->disconnected();
    part.keeper->disconnected();
    if (shard != control_shard) handover_->disconnected(shard);
  }
}

std::int64_t Holder::wake_ns() const {
  std::int64_t wake = handover_->next_wake_ns();
  for (const auto& [shard, part] : parts_) wake = std::min({wake, part.stream->next_wake_ns(), part.keeper->next_wake_ns()});
  return wake;
}

void Holder::run() {
  for (;;) {
    std::int64_t wake = 0;
    {
      const std::lock_guard work_lock(work_mutex_);
      work();
      wake = wake_ns();
    }
    std::unique_lock lock(mutex_);
    const std::int64_t wait_ns = wake - clock_.monotonic_ns();
    if (wait_ns > 0) {
      constexpr std::int64_t longest_ns = 1'000'000'000;
      arrived_.wait_for(lock, std::chrono::nanoseconds(std::min(wait_ns, longest_ns)), [this] { return woken_ || stop_; });
    }
    if (stop_) return;
  }
}

void Holder::work() {
  // Step 1 of what SliceKeeper asks for; the others follow in take_in().
  std::vector<std::pair<ShardId, shard::SliceReturn>> returns;
  for (auto& [shard, part] : parts_) {
    for (shard::SliceReturn& back : part.keeper->take_returns()) returns.emplace_back(shard, std::move(back));
  }
  std::vector<Submitted> submitted;
  std::vector<std::pair<std::string, shard::Message>> received;
  std::vector<std::pair<std::string, bool>> links;
  bool hastened = false;
  {
    const std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
    received.swap(received_);
    room_.clear();
    links.swap(links_);
    hastened = std::exchange(hastened_, false);
    woken_ = false;
  }
  for (const auto& [node, up] : links) {
    if (up) up_.insert(node);
    else up_.erase(node);
    for (auto& [shard, part] : parts_) connect(shard, part);
  }
  take_in(submitted);
  for (auto& [shard, back] : returns) parts_.at(shard).stream->push(std::move(back));
  for (const auto& [node, message] : received) {
    const auto part = parts_.find(message.shard);
    if (part == parts_.end()) continue;
    part->second.stream->receive(node, message);
    part->second.keeper->receive(node, message);
    handover_->receive(node, message);
  }
  for (auto& [shard, part] : parts_) {
    if (hastened && part.stream->size() > 0) part.stream->hasten();
    part.stream->tick();
    perform(shard, part);
    if (auto demand = part.keeper->take_demand()) ports_.send(part.keeper->node(), std::move(*demand));
  }
  handover_->tick();
  perform_handover();
}

void Holder::take_in(std::vector<Submitted>& submitted) {
  for (Submitted& one : submitted) {
    Part& part = parts_.at(one.shard);
    if (one.waiter.recipient) {
      one.waiter.recipient->open[storage::ticket_group(one.waiter.ticket)].emplace_back(one.waiter.ticket, false);
    }
    const auto* metering = std::get_if<MeteringOperation>(&one.operation);
    const auto pushed = metering != nullptr
                            ? part.stream->push(*metering, one.urgent)
                            : part.stream->push_control(std::get<proto::EntryBody>(one.operation), one.urgent);
    if (pushed) part.waiters.emplace(*pushed, std::move(one.waiter));
    else tell(one.waiter, Refused{pushed.error(), std::nullopt});
  }
}

void Holder::perform(ShardId shard, Part& part) {
  for (;;) {
    auto effects = part.stream->take_effects();
    if (effects.empty()) return;
    for (StreamEffect& effect : effects) {
      if (auto* send = std::get_if<SendToOwner>(&effect)) {
        ports_.send(send->node, std::move(send->message));
      } else if (const auto* durable = std::get_if<OperationsDurable>(&effect)) {
        for (auto at = part.waiters.lower_bound(durable->first); at != part.waiters.end() && at->first <= durable->last;) {
          tell(at->second, std::nullopt);
          at = part.waiters.erase(at);
        }
      } else if (auto* refused = std::get_if<OperationRefused>(&effect)) {
        if (refused->error == LedgerError::unknown_holder) {
          die(fail(LedgerError::unknown_holder, "the cluster has ended this process as a holder of slices: its node was away for "
                                                "too long, or was removed")
                  .value());
        }
        if (refused->was_durable) {
          ++counters_.served_and_refused;
          log::error("ledger_refused_what_was_served", {{"shard", name_of_shard(shard)}, {"error", refused->message}});
          continue;
        }
        const auto at = part.waiters.find(refused->sequence);
        if (at == part.waiters.end()) continue;
        tell(at->second, Refused{fail(refused->error, std::move(refused->message)).value(), refused->shortfall});
        part.waiters.erase(at);
      } else if (const auto* write = std::get_if<WriteSpool>(&effect)) {
        write_spool(shard, part, *write);
      } else if (std::holds_alternative<TruncateSpool>(effect)) {
        if (part.spool) {
          if (const Result<void> truncated = part.spool->truncate(); !truncated) die(truncated.error());
        }
      } else if (std::holds_alternative<OwnerHint>(effect)) {
        ports_.look_for_owners();  // a hint, not an authority
      }
    }
  }
}

void Holder::write_spool(ShardId shard, Part& part, const WriteSpool& write) {
  if (!part.spool) {
    auto made = storage::Spool::create(options_.folder, name_of_shard(shard), options_.incarnation, options_.spool_bytes_max);
    if (!made) die(made.error());
    part.spool = std::move(*made);
    log::warning("spooling", {{"shard", name_of_shard(shard)}, {"why", "the shard's owner cannot be reached"}});
  }
  const Result<void> written = part.spool->append(write.records);
  if (written) {
    counters_.spooled += write.records.size();
    part.stream->spooled();
  } else if (is(written.error(), LedgerError::overloaded)) {
    part.stream->spool_full();
  } else {
    die(written.error());
  }
}

void Holder::perform_handover() {
  for (HandoverEffect& effect : handover_->take_effects()) {
    if (auto* send = std::get_if<SendToNode>(&effect)) {
      ports_.send(send->node, std::move(send->message));
    } else if (const auto* refused = std::get_if<ReplayRefused>(&effect)) {
      ++counters_.served_and_refused;
      log::error("ledger_refused_what_was_served",
                 {{"shard", name_of_shard(refused->shard)}, {"error", refused->refused.message}});
    } else if (const auto* done = std::get_if<HolderDone>(&effect)) {
      const auto files = storage::find_spools(options_.folder);
      if (!files) die(files.error());
      for (const storage::SpoolFile& file : *files) {
        if (file.holder != done->holder) continue;
        if (const Result<void> removed = storage::remove_spool(file); !removed) die(removed.error());
      }
      std::erase_if(earlier_, [done](const EarlierHolder& one) { return one.holder == done->holder; });
      std::vector<Incarnation> holders{options_.incarnation};
      for (const EarlierHolder& one : earlier_) holders.push_back(one.holder);
      if (const Result<void> written = storage::write_holders(options_.folder, holders); !written) die(written.error());
      log::info("earlier_process_ended", {{"incarnation", done->holder.to_string()}});
    }
  }
}

// The outcome of one operation: durable, or refused.
void Holder::tell(Waiter& waiter, std::optional<storage::Refused> refused) {
  pending_.fetch_sub(1, std::memory_order_relaxed);
  if (refused) ++counters_.refused;
  if (waiter.done) {
    if (refused) waiter.done(fail(std::move(refused->error)));
    else waiter.done({});
    return;
  }
  Recipient& recipient = *waiter.recipient;
  auto& open = recipient.open[storage::ticket_group(waiter.ticket)];
  const auto at = std::lower_bound(open.begin(), open.end(), waiter.ticket,
                                   [](const auto& one, std::uint64_t ticket) { return one.first < ticket; });
  check(at != open.end() && at->first == waiter.ticket, "an operation has one outcome");
  at->second = true;
  const std::lock_guard lock(recipient.mutex);
  if (refused && !waiter.begins.is_nil()) {
    recipient.ended.push_back(waiter.begins);
    recipient.any_ended = true;
  }
  if (refused && !recipient.closed) recipient.on_refused(waiter.ticket, *refused);
  std::uint64_t reached = 0;
  while (!open.empty() && open.front().second) {
    reached = open.front().first;
    open.pop_front();
  }
  if (reached != 0 && !recipient.closed) recipient.on_durable(reached);
}

}  // namespace outlast::cluster
