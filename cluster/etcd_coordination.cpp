#include "cluster/etcd_coordination.hpp"

#include <algorithm>
#include <utility>

#include "cluster/etcd_log.hpp"
#include "cluster/presence_json.hpp"
#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

Failure lease_lost(LeaseId lease) {
  return fail(AgreementError::lease_lost, "etcd has no lease " + std::to_string(lease) + " with this node's presence");
}

Failure not_what_was_asked() { return fail(AgreementError::corrupt, "etcd's answer is not what was asked for"); }

// A row on the lease, of a key that an owner or a node has.
const EtcdRow* only_row(const EtcdRangeAnswer& answer) { return answer.rows.empty() ? nullptr : &answer.rows.front(); }

}  // namespace

EtcdCoordination::EtcdCoordination(EtcdClient& client, std::string_view cluster)
    : client_(client), keys_(cluster), logs_(std::make_shared<WatchedLogs>()) {}

Result<LeaseId> EtcdCoordination::start_lease(std::uint32_t ttl_s, const Presence& presence) {
  check(ttl_s >= ttl_s_min && ttl_s <= ttl_s_max, "a lease's TTL is within its limits");
  // A lease whose grant or presence got lost ends by itself.
  const Result<std::uint64_t> lease = client_.grant_lease(ttl_s);
  if (!lease) return lease;
  Result<void> put = put_presence(*lease, presence, true);
  if (!put) return fail(std::move(put.error()));
  return *lease;
}

Result<void> EtcdCoordination::update(LeaseId lease, const Presence& presence) {
  return put_presence(lease, presence, false);
}

// The newest process of a node's name is the node; an older one finds its presence on another lease.
Result<void> EtcdCoordination::put_presence(LeaseId lease, const Presence& presence, bool first) {
  check(EtcdKeys::is_name(presence.node), "a node's name is made of letters, digits, '-', '_' and '.'", presence.node);
  const std::string key = keys_.node(presence.node);
  const std::string value = encode_presence(presence);
  EtcdTxn txn;
  if (!first) txn.compares = {{key, EtcdCompare::What::lease, lease, {}}};
  txn.success = {EtcdPut{key, value, lease}};
  const Result<EtcdTxnAnswer> answer = client_.txn(txn, EtcdEffect::idempotent);
  if (!answer) return fail(answer.error());
  if (!answer->succeeded) return lease_lost(lease);
  return {};
}

Result<void> EtcdCoordination::keep_alive(LeaseId lease) { return client_.keep_alive(lease); }

Result<void> EtcdCoordination::end_lease(LeaseId lease) { return client_.revoke_lease(lease); }

Result<std::uint64_t> EtcdCoordination::claim(ShardId shard, LeaseId lease, const Presence& me) {
  const std::string owner = keys_.owner(shard);
  const std::string node = keys_.node(me.node);
  const std::string value = encode_owner(me);
  EtcdTxn txn;
  txn.compares = {{owner, EtcdCompare::What::create_revision, 0, {}}, {node, EtcdCompare::What::lease, lease, {}}};
  txn.success = {EtcdPut{owner, value, lease}, EtcdRange{owner}};
  txn.failure = {EtcdRange{owner}, EtcdRange{node}};
  Result<EtcdTxnAnswer> answer = client_.txn(txn, EtcdEffect::once);
  if (answer) return settle_claim(*answer, lease, shard);
  if (!is(answer.error(), AgreementError::unknown)) return fail(std::move(answer.error()));
  Error unknown = std::move(answer.error());
  const Result<EtcdTxnAnswer> found = client_.read({EtcdRange{owner}, EtcdRange{node}});
  // Nobody's so far: the claim may still be on its way.
  if (!found || found->ranges.size() != 2 || found->ranges[0].rows.empty()) return fail(std::move(unknown));
  EtcdTxnAnswer as_refused = *found;
  as_refused.succeeded = false;
  return settle_claim(as_refused, lease, shard);
}

Result<std::uint64_t> EtcdCoordination::settle_claim(const EtcdTxnAnswer& answer, LeaseId lease, ShardId shard) {
  if (answer.ranges.size() != (answer.succeeded ? 1 : 2)) return not_what_was_asked();
  const EtcdRow* owner = only_row(answer.ranges[0]);
  // On this lease: of this claim, or of one before whose answer was lost.
  if (owner != nullptr && owner->lease == lease && owner->create_revision != 0) return owner->create_revision;
  if (answer.succeeded) return not_what_was_asked();
  const EtcdRow* node = only_row(answer.ranges[1]);
  if (node == nullptr || node->lease != lease) return lease_lost(lease);
  if (owner == nullptr) return fail(AgreementError::unavailable, "the claim was refused without a reason");
  Ownership ownership;
  const bool parsed = parse_owner(owner->value, ownership);
  return fail(AgreementError::taken, name_of_shard(shard) + " belongs to " + (parsed ? ownership.node : "someone"));
}

Result<void> EtcdCoordination::release(ShardId shard, std::uint64_t epoch) {
  const std::string owner = keys_.owner(shard);
  EtcdTxn txn;
  txn.compares = {{owner, EtcdCompare::What::create_revision, epoch, {}}};
  txn.success = {EtcdErase{owner, {}}};
  const Result<EtcdTxnAnswer> answer = client_.txn(txn, EtcdEffect::idempotent);
  if (!answer) return fail(answer.error());
  return {};
}

Result<CoordinationView> EtcdCoordination::view() {
  const std::string nodes = keys_.nodes();
  const std::string owners = keys_.owners();
  const Result<EtcdTxnAnswer> answer =
      client_.read({EtcdRange{nodes, prefix_end(nodes)}, EtcdRange{owners, prefix_end(owners)}});
  if (!answer) return fail(answer.error());
  if (answer->ranges.size() != 2) return not_what_was_asked();
  CoordinationView view;
  view.revision = answer->revision;
  // One row that cannot be read must not hide the others.
  for (const EtcdRow& row : answer->ranges[0].rows) {
    Presence presence;
    if (parse_presence(row.value, presence) && row.key == keys_.node(presence.node))
      view.nodes.push_back(std::move(presence));
    else log::warning("presence_not_understood", {{"key", row.key}});
  }
  for (const EtcdRow& row : answer->ranges[1].rows) {
    Ownership owner;
    // Somebody's, in any case.
    if (!parse_owner(row.value, owner)) owner = {};
    owner.epoch = row.create_revision;
    if (row.key.starts_with(owners) && parse_shard(std::string_view(row.key).substr(owners.size()), owner.shard))
      view.owners.push_back(std::move(owner));
    else log::warning("owner_not_understood", {{"key", row.key}});
  }
  std::sort(view.owners.begin(), view.owners.end(),
            [](const Ownership& a, const Ownership& b) { return a.shard < b.shard; });
  return view;
}

std::unique_ptr<SharedLog> EtcdCoordination::log(ShardId shard) {
  {
    const std::lock_guard lock(logs_->mutex);
    logs_->shards.insert(shard);
  }
  return std::make_unique<EtcdLog>(client_, keys_, shard);
}

void EtcdCoordination::watch(std::function<void()> view_changed, std::function<void(ShardId)> log_grew) {
  EtcdWatcher watcher;
  watcher.began = [logs = logs_, view_changed, log_grew] {
    std::set<ShardId> shards;
    {
      const std::lock_guard lock(logs->mutex);
      shards = logs->shards;
    }
    view_changed();
    for (const ShardId shard : shards) log_grew(shard);
  };
  watcher.changed = [tails = keys_.tails(), view_changed, log_grew](std::string_view key) {
    ShardId shard = 0;
    if (!key.starts_with(tails)) view_changed();
    else if (parse_shard(key.substr(tails.size()), shard)) log_grew(shard);
  };
  client_.watch(keys_.nodes(), prefix_end(keys_.tails()), std::move(watcher));
}

std::vector<AgreementMember> EtcdCoordination::members() {
  std::vector<AgreementMember> members;
  const std::vector<Result<EtcdStatus>> statuses = client_.statuses();
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    AgreementMember& member = members.emplace_back();
    member.endpoint = client_.endpoints()[i];
    if (!statuses[i]) {
      member.error = statuses[i].error().message;
      continue;
    }
    const EtcdStatus& status = *statuses[i];
    member.healthy = status.leader != 0 && status.alarms.empty();
    member.leader = status.leader != 0 && status.leader == status.member;
    member.version = status.version;
    member.database_bytes = status.database_bytes;
    if (status.leader == 0) member.error = "it knows no leader: most of the members cannot be reached from it";
    else member.error = status.alarms;
  }
  return members;
}

Result<void> EtcdCoordination::compact() {
  const Result<EtcdTxnAnswer> now = client_.read({EtcdRange{keys_.nodes()}});
  if (!now) return fail(now.error());
  return client_.compact(now->revision);
}

}  // namespace outlast::cluster
