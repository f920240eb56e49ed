#include "cluster/cluster_ledger.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "cluster/shard_money.hpp"
#include "cluster/versions.hpp"
#include "storage/budget_state.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::cluster {
namespace {

using storage::LedgerError;
using Hosts = std::vector<std::shared_ptr<ShardHost>>;

// Snapshots of replicas, as usage_of() wants them.
struct Views {
  std::vector<std::unique_ptr<storage::LedgerView>> owned;
  std::vector<const storage::LedgerView*> views;
};

Result<Views> views_of(const Hosts& hosts) {
  Views views;
  for (const auto& host : hosts) {
    views.owned.push_back(host->whole_snapshot());
    if (views.owned.back() == nullptr) return fail(LedgerError::stopped, "the node is stopping");
    views.views.push_back(views.owned.back().get());
  }
  return views;
}

Result<storage::VerifyReport> verify_host(const ShardHost& host) {
  const auto view = host.whole_snapshot();
  if (view == nullptr) return fail(LedgerError::stopped, "the node is stopping");
  return storage::verify_ledger(*view);
}

// What one shard knows of a budget, added to what others do.
void add(BudgetStatus& sum, const BudgetStatus& part) {
  sum.used += part.used;
  sum.held += part.held;
  sum.sliced += part.sliced;
  if (part.away) return;
  sum.period_start_ms = part.period_start_ms;
  sum.period_end_ms = part.period_end_ms;
}

void add(CommitmentStatus& sum, const CommitmentStatus& part) {
  sum.used += part.used;
  sum.held += part.held;
  sum.amortised += part.amortised;
  sum.list_cost += part.list_cost;
}

}  // namespace

std::unique_ptr<storage::LedgerSubmitter> ClusterLedger::make_submitter(
    std::function<void(std::uint64_t)> on_durable,
    std::function<void(std::uint64_t, const storage::Refused&)> on_refused) {
  return dependencies_.holder.make_submitter(std::move(on_durable), std::move(on_refused));
}

// Answered when this node's replica of the control shard shows it. Where that cannot be found out now, it stands all the same.
void ClusterLedger::record(ShardId shard, proto::EntryBody body, std::function<void(Result<void>)> done) {
  const auto then = [this, shard, done = std::move(done)](Result<void> result) {
    const auto host = result ? host_of(shard) : nullptr;
    if (host) host->when_current([done](const Result<void>&) { done({}); });
    else done(std::move(result));
  };
  dependencies_.holder.submit(shard, std::move(body), then);
}

void ClusterLedger::add_key(VirtualKey key, std::function<void(Result<void>)> done) {
  record(control_shard, proto::KeyCreated{std::move(key)}, std::move(done));
}

void ClusterLedger::revoke_key(std::string key_id, std::function<void(Result<void>)> done) {
  record(control_shard, proto::KeyRevoked{std::move(key_id)}, std::move(done));
}

void ClusterLedger::record_prices(std::string version, std::string toml, std::function<void(Result<void>)> done) {
  record(control_shard, proto::PricesRecorded{std::move(version), std::move(toml)}, std::move(done));
}

std::vector<VirtualKey> ClusterLedger::keys() const { return dependencies_.control.get()->keys; }

// Entries that older nodes cannot read are not made while there may be any.
Result<void> ClusterLedger::check_crossing(const std::string& what) const {
  const auto view = dependencies_.control.get();
  const auto set = view->members.settings.find(std::string(log_format_setting));
  const auto pinned = parse_log_format(set == view->members.settings.end() ? std::string() : set->second);
  if (!pinned) return fail(pinned.error());
  if (*pinned >= log_format_allotments) return {};
  return fail(LedgerError::invalid, what + " concerns all shards of the cluster, and nodes of the version before do not know that; finish the "
                                           "upgrade of all nodes (`outlast cluster status` shows their versions) and try again");
}

void ClusterLedger::set_budget(Budget budget, std::string by, std::function<void(Result<void>)> done) {
  if (Result<void> good = storage::check_budget(budget); !good) return done(std::move(good));
  if (budget.scope.kind == ScopeKind::key) {
    const auto view = dependencies_.control.get();
    const bool known = std::any_of(view->keys.begin(), view->keys.end(), [&budget](const VirtualKey& key) { return key.id == budget.scope.value; });
    if (!known) return done(fail(LedgerError::unknown_key, "there is no key " + budget.scope.value));
  }
  if (dependencies_.shards > 1 && crosses_shards(budget.scope)) {
    if (Result<void> may = check_crossing("a budget of " + budget.scope.to_string()); !may) return done(std::move(may));
  }
  record(control_shard, proto::BudgetSet{std::move(budget), std::move(by)}, std::move(done));
}

void ClusterLedger::remove_budget(std::string id, std::string by, std::function<void(Result<void>)> done) {
  record(control_shard, proto::BudgetRemoved{std::move(id), std::move(by)}, std::move(done));
}

// Who exists, by the control shard; where they stand, by their shards.
std::vector<BudgetStatus> ClusterLedger::budgets() const {
  std::map<std::string, BudgetStatus> sums;
  for (const auto& host : dependencies_.hosts()) {
    if (host->options().shard == control_shard) continue;
    for (const BudgetStatus& status : host->money().budgets) add(sums[status.budget.id], status);
  }
  const auto view = dependencies_.control.get();
  std::vector<BudgetStatus> budgets;
  for (const Budget& budget : view->budgets) {
    const auto sum = sums.find(budget.id);
    budgets.push_back(sum == sums.end() ? BudgetStatus{} : sum->second);
    budgets.back().budget = budget;
  }
  return budgets;
}

std::shared_ptr<const BudgetBook> ClusterLedger::budget_book() const { return dependencies_.holder.budget_book(); }

void ClusterLedger::add_commitment(Commitment commitment, std::string by, std::function<void(Result<void>)> done) {
  if (Result<void> good = storage::check_commitment(commitment); !good) return done(std::move(good));
  if (Result<void> may = check_crossing("a commitment"); !may) return done(std::move(may));
  record(control_shard, proto::CommitmentAdded{std::move(commitment), std::move(by)}, std::move(done));
}

void ClusterLedger::end_commitment(std::string id, std::string by, std::function<void(Result<void>)> done) {
  const auto view = dependencies_.control.get();
  const bool known = std::any_of(view->commitments.begin(), view->commitments.end(), [&id](const auto& one) { return one.commitment.id == id; });
  // An old cluster of one shard has commitments that the control log does not know.
  const ShardId shard = known || dependencies_.shards > 1 ? control_shard : ShardId{0};
  record(shard, proto::CommitmentEnded{std::move(id), std::move(by)}, std::move(done));
}

// As the control shard has them; some of an old cluster of one shard are in that shard alone.
std::vector<CommitmentStatus> ClusterLedger::commitments() const {
  std::map<std::string, CommitmentStatus> sums;
  for (const auto& host : dependencies_.hosts()) {
    if (host->options().shard == control_shard) continue;
    for (const CommitmentStatus& status : host->money().commitments) {
      CommitmentStatus& sum = sums[status.commitment.id];
      add(sum, status);
      sum.commitment = status.commitment;
      sum.ended = status.ended;
    }
  }
  const auto view = dependencies_.control.get();
  for (const CommitmentDefinition& definition : view->commitments) {
    CommitmentStatus& sum = sums[definition.commitment.id];
    sum.commitment = definition.commitment;
    sum.ended = definition.ended;
  }
  std::vector<CommitmentStatus> commitments;
  for (auto& [id, sum] : sums) commitments.push_back(std::move(sum));
  return commitments;
}

void ClusterLedger::record_breaker(BreakerOperation operation, std::function<void(Result<void>)> done) {
  std::visit([this, &done]<class T>(T& concrete) { record(control_shard, std::move(concrete), std::move(done)); }, operation);
}

Result<BreakerRecords> ClusterLedger::breakers() const { return dependencies_.control.get()->breakers; }

void ClusterLedger::record_member(MemberOperation operation, std::function<void(Result<void>)> done) {
  std::visit([this, &done]<class T>(T& concrete) { record(control_shard, std::move(concrete), std::move(done)); }, operation);
}

Result<MemberRecords> ClusterLedger::members() const { return dependencies_.control.get()->members; }

std::shared_ptr<ShardHost> ClusterLedger::host_of(ShardId shard) const {
  for (auto& host : dependencies_.hosts()) {
    if (host->options().shard == shard) return host;
  }
  return nullptr;
}

Result<std::shared_ptr<ShardHost>> ClusterLedger::replica_of(ShardId shard) const {
  auto host = host_of(shard);
  if (host) return host;
  return fail(LedgerError::unavailable, "this node has no replica of shard " + label_of_shard(shard) +
                                            "; `outlast cluster status` shows the nodes that have one");
}

Result<Hosts> ClusterLedger::all_hosts() const {
  Hosts hosts = dependencies_.hosts();
  if (hosts.size() == std::size_t{dependencies_.shards} + 1) return hosts;
  return fail(LedgerError::unavailable,
              "this node has replicas of " + std::to_string(hosts.size()) + " of " +
                  std::to_string(dependencies_.shards + 1) + " shards; ask a node that has all (`outlast cluster status`)");
}

Result<storage::UsageReport> ClusterLedger::usage(const storage::UsageQuery& query) const {
  const auto hosts = all_hosts();
  if (!hosts) return fail(hosts.error());
  const auto views = views_of(*hosts);
  if (!views) return fail(views.error());
  return storage::usage_of(views->views, query);
}

Result<std::vector<storage::AccountBalance>> ClusterLedger::accounts() const {
  const auto hosts = all_hosts();
  if (!hosts) return fail(hosts.error());
  std::map<std::string, PicoUsd> sums;
  for (const auto& host : *hosts) {
    const auto view = host->whole_snapshot();
    if (view == nullptr) return fail(LedgerError::stopped, "the node is stopping");
    const auto accounts = storage::accounts_of(*view);
    if (!accounts) return fail(accounts.error());
    for (const storage::AccountBalance& account : *accounts) sums[account.name] += account.balance;
  }
  std::vector<storage::AccountBalance> accounts;
  for (const auto& [name, balance] : sums) accounts.push_back({name, balance});
  return accounts;
}

Result<void> ClusterLedger::read(std::uint64_t from,
                                 const std::function<bool(const storage::StoredEntry&)>& visit) const {
  bool more = true;
  for (const auto& host : dependencies_.hosts()) {
    if (!more) break;
    const Result<void> read = storage::read_entries(*host->snapshot(), from, [&more, &visit](const storage::StoredEntry& entry) {
      return more = visit(entry);
    });
    if (!read) return read;
  }
  return {};
}

Result<void> ClusterLedger::read_recent(std::uint64_t entries,
                                        const std::function<void(const storage::StoredEntry&)>& visit) const {
  for (const auto& host : dependencies_.hosts()) {
    const std::uint64_t next = host->status().applied;
    const Result<void> read = storage::read_entries(*host->snapshot(), next - std::min(next, entries),
                                                    [&visit](const storage::StoredEntry& entry) {
                                                      visit(entry);
                                                      return true;
                                                    });
    if (!read) return read;
  }
  return {};
}

Result<void> ClusterLedger::read_shard(ShardId shard, std::uint64_t from,
                                       const std::function<bool(const storage::StoredEntry&)>& visit) const {
  const auto host = replica_of(shard);
  if (!host) return fail(host.error());
  return storage::read_entries(*(*host)->snapshot(), from, visit);
}

Result<storage::VerifyReport> ClusterLedger::verify_shard(ShardId shard) const {
  const auto host = replica_of(shard);
  if (!host) return fail(host.error());
  return verify_host(**host);
}

Result<storage::BackupReport> ClusterLedger::backup_shard(ShardId shard, const std::string& folder,
                                                          std::uint32_t keep) const {
  const auto host = replica_of(shard);
  if (!host) return fail(host.error());
  return (*host)->backup(folder, keep);
}

Result<storage::VerifyReport> ClusterLedger::verify() const {
  storage::VerifyReport whole;
  whole.ok = true;
  for (const auto& host : dependencies_.hosts()) {
    auto report = verify_host(*host);
    if (!report) return report;
    if (!report->ok) {
      report->problem = "shard " + label_of_shard(host->options().shard) + ": " + report->problem;
      return report;
    }
    whole.entries += report->entries;
    whole.head_hash = report->head_hash;
    whole.open_reservations += report->open_reservations;
    whole.charged += report->charged;
    whole.overrun += report->overrun;
    whole.payable += report->payable;
    whole.amortised += report->amortised;
    whole.savings += report->savings;
  }
  return whole;
}

Result<std::vector<std::unique_ptr<storage::LedgerView>>> ClusterLedger::views() const {
  const auto hosts = all_hosts();
  if (!hosts) return fail(hosts.error());
  auto views = views_of(*hosts);
  if (!views) return fail(std::move(views.error()));
  return std::move(views->owned);
}

storage::LedgerStore::Status ClusterLedger::status() const {
  Status status;
  for (const auto& host : dependencies_.hosts()) {
    const HostStatus one = host->status();
    status.entries += one.applied;
    status.open_reservations += one.open_reservations;
    status.batches += one.batches;
    status.commit_us_last = std::max(status.commit_us_last, one.commit_us_last);
  }
  status.queued_operations = dependencies_.holder.queued();
  status.disk_full = dependencies_.disk.full();
  status.free_bytes = dependencies_.disk.free_bytes();
  return status;
}

}  // namespace outlast::cluster
