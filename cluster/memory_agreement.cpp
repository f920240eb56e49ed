#include "cluster/memory_agreement.hpp"

#include <algorithm>
#include <utility>

#include "cluster/batch_codec.hpp"
#include "cluster/durations.hpp"

namespace outlast::cluster {
namespace {

Failure lease_lost(LeaseId lease) {
  return fail(AgreementError::lease_lost, "there is no lease " + std::to_string(lease));
}

}  // namespace

// A node's access to one log.
class MemoryAgreement::NodeLog final : public SharedLog {
 public:
  NodeLog(MemoryAgreement& world, std::string node, ShardId shard)
      : world_(world), node_(std::move(node)), shard_(shard) {}

  Result<void> append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) override {
    if (batch.records.size() > shared_batch_bytes_max)
      return fail(AgreementError::too_large, "the batch is larger than a shared log takes");
    SharedBatch made{batch.first_index, next_index, epoch, std::string(batch.records)};
    codec_.encode(batch.first_index, next_index, epoch, batch.records, appended_);
    MemoryAgreement& world = world_;
    const ShardId shard = shard_;
    return world_.write<void>(node_, AgreementCall::append, [&world, shard, made = std::move(made)] {
      return world.do_append(shard, made);
    });
  }
  [[nodiscard]] std::string_view last_append() const override { return appended_; }
  Result<SharedTail> tail() override {
    Result<void> begun = world_.before_read(node_, AgreementCall::tail);
    if (!begun) return fail(std::move(begun.error()));
    return world_.do_tail(shard_);
  }
  Result<void> read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) override {
    Result<void> begun = world_.before_read(node_, AgreementCall::read);
    if (!begun) return begun;
    while (true) {
      const Result<std::optional<SharedBatch>> found = world_.do_read(shard_, from);
      if (!found) return fail(found.error());
      if (!*found || !visit(**found)) return {};
      from = (*found)->next_index;
    }
  }
  Result<void> trim(std::uint64_t below) override {
    MemoryAgreement& world = world_;
    const ShardId shard = shard_;
    return world_.write<void>(node_, AgreementCall::trim, [&world, shard, below] {
      world.do_trim(shard, below);
      return Result<void>{};
    });
  }

 private:
  MemoryAgreement& world_;
  const std::string node_;
  const ShardId shard_;
  BatchCodec codec_;
  std::string appended_;
};

// A node's access to the rest.
class MemoryAgreement::Node final : public Coordination {
 public:
  Node(MemoryAgreement& world, std::string name) : world_(world), name_(std::move(name)) {}
  ~Node() override { world_.watchers_.erase(name_); }

  Result<LeaseId> start_lease(std::uint32_t ttl_s, const Presence& presence) override {
    MemoryAgreement& world = world_;
    return world_.write<LeaseId>(name_, AgreementCall::start_lease, [&world, ttl_s, presence] {
      return world.do_start_lease(ttl_s, presence);
    });
  }
  Result<void> update(LeaseId lease, const Presence& presence) override {
    MemoryAgreement& world = world_;
    return world_.write<void>(name_, AgreementCall::update, [&world, lease, presence] {
      return world.do_update(lease, presence);
    });
  }
  Result<void> keep_alive(LeaseId lease) override {
    MemoryAgreement& world = world_;
    return world_.write<void>(name_, AgreementCall::keep_alive, [&world, lease] { return world.do_keep_alive(lease); });
  }
  Result<void> end_lease(LeaseId lease) override {
    MemoryAgreement& world = world_;
    return world_.write<void>(name_, AgreementCall::end_lease, [&world, lease] {
      world.do_end_lease(lease);
      return Result<void>{};
    });
  }
  Result<std::uint64_t> claim(ShardId shard, LeaseId lease, const Presence& me) override {
    MemoryAgreement& world = world_;
    return world_.write<std::uint64_t>(name_, AgreementCall::claim, [&world, shard, lease, me] {
      return world.do_claim(shard, lease, me);
    });
  }
  Result<void> release(ShardId shard, std::uint64_t epoch) override {
    MemoryAgreement& world = world_;
    return world_.write<void>(name_, AgreementCall::release, [&world, shard, epoch] {
      return world.do_release(shard, epoch);
    });
  }
  Result<CoordinationView> view() override {
    Result<void> begun = world_.before_read(name_, AgreementCall::view);
    if (!begun) return fail(std::move(begun.error()));
    return world_.do_view();
  }
  std::unique_ptr<SharedLog> log(ShardId shard) override { return std::make_unique<NodeLog>(world_, name_, shard); }
  void watch(std::function<void()> view_changed, std::function<void(ShardId)> log_grew) override {
    Watcher& watcher = world_.watchers_[name_];
    watcher.view_changed = std::move(view_changed);
    watcher.log_grew = std::move(log_grew);
  }
  Result<void> compact() override { return {}; }  // it keeps no history
  std::vector<AgreementMember> members() override {
    AgreementMember member;
    member.endpoint = "memory";
    member.healthy = member.leader = true;
    return {member};
  }

 private:
  MemoryAgreement& world_;
  const std::string name_;
};

MemoryAgreement::MemoryAgreement(const Clock& clock, std::uint64_t seed) : clock_(clock), random_(seed) {}
MemoryAgreement::~MemoryAgreement() = default;

std::unique_ptr<Coordination> MemoryAgreement::node(std::string name) {
  return std::make_unique<Node>(*this, std::move(name));
}

MemoryAgreement::FateOf MemoryAgreement::fates(std::uint64_t seed, std::uint32_t refused,
                                               std::uint32_t done_unanswered, std::uint32_t lost,
                                               std::uint32_t late) {
  return [random = Random(seed), refused, done_unanswered, lost, late](std::string_view, AgreementCall) mutable {
    std::uint64_t drawn = random.below(1'000);
    const std::pair<std::uint32_t, Fate> shares[] = {{refused, Fate::refused},
                                                     {done_unanswered, Fate::done_unanswered},
                                                     {lost, Fate::lost},
                                                     {late, Fate::late}};
    for (const auto& [share, fate] : shares) {
      if (drawn < share) return fate;
      drawn -= share;
    }
    return Fate::done;
  };
}

void MemoryAgreement::cut_off(std::string_view node, bool cut) {
  if (cut) cut_off_.emplace(node);
  else if (const auto at = cut_off_.find(node); at != cut_off_.end()) cut_off_.erase(at);
}

void MemoryAgreement::tick() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  std::vector<LeaseId> over;
  for (const auto& [id, lease] : leases_) {
    if (lease.until_ns <= now_ns) over.push_back(id);
  }
  for (const LeaseId id : over) do_end_lease(id);
}

void MemoryAgreement::renew_leases() {
  tick();
  for (auto& [id, lease] : leases_) lease.until_ns = clock_.monotonic_ns() + lease.ttl_s * ns_per_s;
}

void MemoryAgreement::land() {
  while (!late_.empty()) {
    const std::function<void()> work = std::move(late_.front());
    late_.pop_front();
    work();
  }
}

Error MemoryAgreement::nobody_answers(const std::string& node) const {
  return fail(AgreementError::unavailable, "nobody answers " + node).value();
}

// False when the node is cut off.
bool MemoryAgreement::begin_call(const std::string& node) {
  ++calls_;
  tick();
  if (!late_.empty() && random_.below(2) == 0) land();
  return !cut_off_.contains(node);
}

template <class T>
Result<T> MemoryAgreement::write(const std::string& node, AgreementCall call, std::function<Result<T>()> work) {
  if (!begin_call(node)) return fail(nobody_answers(node));
  const Fate fate = fate_ ? fate_(node, call) : Fate::done;
  switch (fate) {
    case Fate::done: return work();
    case Fate::refused: return fail(nobody_answers(node));
    case Fate::done_unanswered: work(); break;
    case Fate::lost: break;
    case Fate::late: late_.emplace_back([work = std::move(work)] { work(); }); break;
  }
  return fail(AgreementError::unknown, "the answer to " + node + " did not come");
}

Result<void> MemoryAgreement::before_read(const std::string& node, AgreementCall call) {
  if (!begin_call(node)) return fail(nobody_answers(node));
  if (fate_ && fate_(node, call) != Fate::done) return fail(nobody_answers(node));
  return {};
}

void MemoryAgreement::view_changed() {
  ++revision_;
  for (auto& [name, watcher] : watchers_) watcher.view_due = true;
}

void MemoryAgreement::log_grew(ShardId shard) {
  ++revision_;
  for (auto& [name, watcher] : watchers_) watcher.logs_due.insert(shard);
}

void MemoryAgreement::deliver_hints() {
  // What is called may call again: what is due by then waits for the next time.
  std::vector<std::function<void()>> calls;
  for (auto& [name, watcher] : watchers_) {
    const bool view_due = std::exchange(watcher.view_due, false);
    const std::set<ShardId> logs_due = std::exchange(watcher.logs_due, {});
    if (cut_off_.contains(name)) continue;
    if (view_due && watcher.view_changed) calls.push_back(watcher.view_changed);
    for (const ShardId shard : logs_due) {
      if (watcher.log_grew) calls.emplace_back([grew = watcher.log_grew, shard] { grew(shard); });
    }
  }
  for (const std::function<void()>& call : calls) call();
}

void MemoryAgreement::drop_hints() {
  for (auto& [name, watcher] : watchers_) {
    watcher.view_due = false;
    watcher.logs_due.clear();
  }
}

Result<LeaseId> MemoryAgreement::do_start_lease(std::uint32_t ttl_s, const Presence& presence) {
  const LeaseId id = ++last_lease_;
  leases_[id] = {ttl_s, clock_.monotonic_ns() + ttl_s * ns_per_s, presence.node};
  nodes_[presence.node] = {presence, id};
  view_changed();
  return id;
}

Result<void> MemoryAgreement::do_update(LeaseId lease, const Presence& presence) {
  const auto at = nodes_.find(presence.node);
  if (!leases_.contains(lease) || at == nodes_.end() || at->second.lease != lease) return lease_lost(lease);
  at->second.presence = presence;
  view_changed();
  return {};
}

Result<void> MemoryAgreement::do_keep_alive(LeaseId lease) {
  const auto at = leases_.find(lease);
  if (at == leases_.end()) return lease_lost(lease);
  at->second.until_ns = clock_.monotonic_ns() + at->second.ttl_s * ns_per_s;
  return {};
}

void MemoryAgreement::do_end_lease(LeaseId lease) {
  const auto at = leases_.find(lease);
  if (at == leases_.end()) return;
  const auto node = nodes_.find(at->second.node);
  if (node != nodes_.end() && node->second.lease == lease) nodes_.erase(node);
  std::erase_if(owner_leases_, [this, lease](const auto& owned) {
    if (owned.second != lease) return false;
    owners_.erase(owned.first);
    return true;
  });
  leases_.erase(at);
  view_changed();
}

Result<std::uint64_t> MemoryAgreement::do_claim(ShardId shard, LeaseId lease, const Presence& me) {
  const auto node = nodes_.find(me.node);
  if (!leases_.contains(lease) || node == nodes_.end() || node->second.lease != lease) return lease_lost(lease);
  if (const auto owner = owners_.find(shard); owner != owners_.end()) {
    if (owner_leases_.at(shard) == lease) return owner->second.epoch;  // of a claim whose answer was lost
    return fail(AgreementError::taken, name_of_shard(shard) + " belongs to " + owner->second.node);
  }
  view_changed();
  owners_[shard] = {shard, me.node, me.incarnation, revision_};
  owner_leases_[shard] = lease;
  return revision_;
}

Result<void> MemoryAgreement::do_release(ShardId shard, std::uint64_t epoch) {
  const auto owner = owners_.find(shard);
  if (owner == owners_.end() || owner->second.epoch != epoch) return {};
  owners_.erase(owner);
  owner_leases_.erase(shard);
  view_changed();
  return {};
}

Result<void> MemoryAgreement::do_append(ShardId shard, const SharedBatch& batch) {
  const auto owner = owners_.find(shard);
  if (owner == owners_.end() || owner->second.epoch != batch.epoch)
    return fail(AgreementError::fenced, name_of_shard(shard) + " has another owner, or none");
  SharedState& log = logs_[shard];
  if (log.next_index != batch.first_index) {
    return fail(AgreementError::conflict, name_of_shard(shard) + " ends at " + std::to_string(log.next_index) +
                                              " and not at " + std::to_string(batch.first_index));
  }
  log.batches.push_back(batch);
  log.next_index = batch.next_index;
  log_grew(shard);
  return {};
}

SharedTail MemoryAgreement::do_tail(ShardId shard) {
  const SharedState& log = logs_[shard];
  return {log.batches.empty() ? log.next_index : log.batches.front().first_index, log.next_index};
}

Result<std::optional<SharedBatch>> MemoryAgreement::do_read(ShardId shard, std::uint64_t from) {
  const SharedTail tail = do_tail(shard);
  if (from < tail.first_index) {
    return fail(AgreementError::trimmed, name_of_shard(shard) + " begins at " + std::to_string(tail.first_index) +
                                             "; entry " + std::to_string(from) + " is gone");
  }
  if (from > tail.next_index) {
    return fail(AgreementError::corrupt, name_of_shard(shard) + " ends at " + std::to_string(tail.next_index) +
                                             ", before entry " + std::to_string(from));
  }
  const std::deque<SharedBatch>& batches = logs_[shard].batches;
  const auto at = std::partition_point(batches.begin(), batches.end(), [from](const SharedBatch& batch) {
    return batch.next_index <= from;
  });
  return at == batches.end() ? std::optional<SharedBatch>() : *at;
}

void MemoryAgreement::do_trim(ShardId shard, std::uint64_t below) {
  std::deque<SharedBatch>& batches = logs_[shard].batches;
  while (!batches.empty() && batches.front().next_index <= below) batches.pop_front();
}

CoordinationView MemoryAgreement::do_view() const {
  CoordinationView view;
  for (const auto& [name, row] : nodes_) view.nodes.push_back(row.presence);
  for (const auto& [shard, owner] : owners_) view.owners.push_back(owner);
  view.revision = revision_;
  return view;
}

}  // namespace outlast::cluster
