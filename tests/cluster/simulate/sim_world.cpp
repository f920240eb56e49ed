#include "tests/cluster/simulate/sim_world.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/check.hpp"
#include "tests/cluster/shard_verdict.hpp"

namespace outlast::cluster::simulation {
namespace {

constexpr std::int64_t faulty_ms = 12'000;
constexpr std::int64_t healing_ms_max = 60'000;
constexpr std::uint64_t digest_steps = 600;  // between two looks at whole states
enum Fault : int { crash, wipe, pause, cut_links, cut_one_way, cut_agreement, hang, shift, in_order, new_leader, fault_count };

ElectionOptions election_options(ShardId shards) {
  ElectionOptions options;
  options.shards = shards;
  options.ttl_s = 2;
  options.claim_stagger_ms = 200;
  options.uncaught_claim_ms = 1'000;
  options.distrust_ms = 1'000;
  options.distrust_ms_max = 4'000;
  options.hang_ms_max = 4'000;
  options.catch_up_ms_max = 4'000;
  options.step_down_ms_max = 1'500;
  options.failure_ms_max = 4'000;
  options.replace_after_ms = 6'000;
  options.abandoned_ms = 3'000;
  options.drop_after_ms = 3'000;
  return options;
}

}  // namespace

SimWorld::SimWorld(std::uint64_t seed, bool verbose)
    : random_(seed),
      requests_(clock_, random_.next()),
      network_(random_, clock_),
      agreement_(clock_, random_.next()),
      cluster_{clock_, random_, requests_, network_, agreement_, trace_, {}, {}, {}, {}, false} {
  trace_.verbose = verbose;
  const std::size_t count = 3 + random_.below(5);
  const auto shards = static_cast<ShardId>(2 + random_.below(4));
  cluster_.election = election_options(shards);
  make_money(shards);
  choose_faults();
  for (std::size_t i = 0; i < count; ++i) {
    cluster_.members.push_back({"n" + std::to_string(i), NodeState::active, {"ledger"}});
  }
  for (std::size_t i = 0; i < count; ++i) {
    nodes_.push_back(std::make_unique<SimNode>(cluster_.members[i].name, cluster_,
                                               static_cast<std::int64_t>(random_.below(1'000'000)) * 1'000'000));
    nodes_.back()->start();
  }
  trace_.note(std::to_string(count) + " nodes, " + std::to_string(shards) + " shards");
}

void SimWorld::make_money(ShardId shards) {
  constexpr std::int64_t amounts[] = {60'000, 300'000, 5'000'000};
  // Days end soon in some seeds.
  constexpr std::int64_t day_ms = 86'400'000;
  if (happens(2)) clock_.advance_ms(day_ms - clock_.wall_ms() % day_ms - 1'000 - static_cast<std::int64_t>(random_.below(10'000)));
  const auto crossing = [this, &amounts](const char* id, const std::string& scope, BudgetPeriod period) {
    const PicoUsd amount{static_cast<__int128>(amounts[random_.below(3)]) * 2};
    crossing_.push_back({id, "", *Scope::parse(scope), amount, period, "UTC", false});
  };
  crossing("bud_tag", "tag:shared", BudgetPeriod::total);
  crossing("bud_model", "model:fable", BudgetPeriod::total);
  crossing("bud_day", "tag:daily", BudgetPeriod::day);
  commitments_.push_back({"com_alpha", "alpha", {}, CommitmentUnit::money, 400'000, {300'000}, 0, 4'000'000'000'000, false});
  cluster_.money.resize(shards);
  for (ShardId shard = 0; shard < shards; ++shard) {
    const std::string number = std::to_string(shard);
    const PicoUsd amount{amounts[random_.below(3)]};
    const auto budget = [amount, &number](const char* kind, const std::string& scope) {
      return Budget{std::string("bud_") + kind + number, "", *Scope::parse(scope), amount, BudgetPeriod::total, "UTC", false};
    };
    ShardMoney& money = cluster_.money[shard];
    money.budgets = {{budget("org", "organisation:org" + number), false}, {budget("key", "key:key_" + number), false}};
    for (const Budget& one : crossing_) money.budgets.push_back({one, home_of_crossing(one.scope, shards) != shard});
    for (const Commitment& one : commitments_) money.commitments.push_back({one, home_of_commitment(one.id, shards) != shard, false});
    HolderSetup lanes;
    lanes.shard = shard;
    lanes.organisation = "org" + number;
    lanes.key = "key_" + number;
    lanes.resend_ms = 200;
    lanes.retry_ms = 40;
    lanes.spool_after_ms = 300;
    lanes.refuse_after_ms = 2'000;
    lanes.begins_of = 6 + random_.below(20);
    audits_[shard] = std::make_unique<Audit>(clock_);
    lanes.stands = [this, audit = audits_[shard].get()](const RequestId& id) {
      this->audit();
      return audit->auditor.requests.contains(id);
    };
    cluster_.lanes[shard] = std::move(lanes);
  }
  audits_[control_shard] = std::make_unique<Audit>(clock_);
}

// Each seed knows only some of the faults, so that some seeds have much of one kind.
void SimWorld::choose_faults() {
  for (int kind = 0; kind < fault_count; ++kind) {
    if (random_.below(2) == 0) faults_.insert(kind);
  }
  fault_of_ = random_.below(10) == 0 ? 0 : 20 + random_.below(150);
  step_ms_max_ = 4 + random_.below(20);
  network_.rough = random_.below(4) != 0;
  network_.drop_of = network_.repeat_of = 10 + random_.below(60);
  network_.delay_ms_max = 1 + random_.below(40);
  cluster_.slow_calls = random_.below(3) == 0;
  if (random_.below(3) != 0) {
    const auto share = [this] { return static_cast<std::uint32_t>(random_.below(25)); };
    agreement_.set_fate(MemoryAgreement::fates(random_.next(), share(), share(), share(), share()));
  }
}

void SimWorld::broke(const std::string& what) {
  if (broken_.empty()) broken_ = what;
}
SimNode& SimWorld::any() { return *nodes_[random_.below(nodes_.size())]; }
ShardId SimWorld::any_shard() {
  auto at = audits_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(random_.below(audits_.size())));
  return at->first;
}

// ---- what can happen

void SimWorld::cut(const std::string& a, const std::string& b, bool one_way) {
  network_.cut.emplace(a, b);
  if (!one_way) network_.cut.emplace(b, a);
}

void SimWorld::fault() {
  if (fault_of_ == 0) return;
  // What is broken comes back after a while.
  for (const auto& node : nodes_) {
    if (!node->is_up() && !node->is_leaving() && happens(150)) node->start();
    if (node->is_up() && node->is_paused() && happens(150)) node->pause(false);
  }
  if (!network_.cut.empty() && happens(200)) {
    trace_.note("all links are whole again");
    network_.cut.clear();
  }
  if (happens(200)) {
    for (const auto& node : nodes_) agreement_.cut_off(node->name, false);
  }
  if (!happens(fault_of_)) return;
  ++report_.faults;
  SimNode& node = any();
  const int kind = static_cast<int>(random_.below(fault_count));
  if (!faults_.contains(kind)) return;
  switch (kind) {
    case crash:
      if (node.is_up()) node.crash(false);
      break;
    case wipe:
      if (node.is_up() && happens(2)) node.crash(true);
      break;
    case pause:
      if (node.is_up()) node.pause(true);
      break;
    case cut_links:
    case cut_one_way: {
      const bool all = happens(2);
      const std::string other = any().name;
      trace_.note(node.name + (kind == cut_links ? " is cut from " : " cannot reach ") + (all ? "all" : other));
      for (const auto& peer : nodes_) {
        if (peer->name != node.name && (all || peer->name == other)) cut(node.name, peer->name, kind == cut_one_way);
      }
      break;
    }
    case cut_agreement:
      trace_.note(node.name + " is cut from the agreement");
      agreement_.cut_off(node.name, true);
      break;
    case hang:
      node.hang(any_shard(), happens(2));
      break;
    case shift: {
      const std::int64_t shift_ms = static_cast<std::int64_t>(random_.below(20'000)) - 10'000;
      trace_.note("the wall clock of " + node.name + " moves by " + std::to_string(shift_ms) + " ms");
      node.shift_wall_ms(shift_ms);
      break;
    }
    case in_order:
      if (node.is_up() && !node.is_leaving()) node.restart_in_order();
      break;
    default:
      agreement_.renew_leases();
      break;
  }
}

void SimWorld::heal() {
  trace_.note("everything is healed");
  network_.rough = false;
  network_.cut.clear();
  agreement_.set_fate({});
  agreement_.land();
  cluster_.slow_calls = false;
  for (const auto& node : nodes_) {
    agreement_.cut_off(node->name, false);
    if (!node->is_up() && !node->is_leaving()) node->start();
    node->pause(false);
    for (const auto& [shard, audit] : audits_) node->hang(shard, false);
  }
}

// Links are found down and up again some time later; a peer's new process is another link.
void SimWorld::see_links() {
  for (const auto& node : nodes_) {
    if (!node->is_up() || node->is_paused()) continue;
    for (const auto& peer : nodes_) {
      if (peer == node) continue;
      const bool whole = peer->is_up() && !network_.cut.contains({node->name, peer->name}) &&
                         !network_.cut.contains({peer->name, node->name});
      const auto link = node->links.find(peer->name);
      const bool linked = link != node->links.end();
      const bool same = linked && link->second == peer->incarnation();
      if (linked && (!whole || !same) && happens(20)) {
        node->links.erase(link);
        node->see_peer(peer->name, false);
      } else if (whole && !linked && happens(8)) {
        node->links[peer->name] = peer->incarnation();
        node->see_peer(peer->name, true);
      }
    }
  }
}

// ---- a step

void SimWorld::run_node(SimNode& node, bool may_begin) {
  owners_before_.clear();
  for (const auto& [shard, owner] : agreement_.owners()) owners_before_[shard] = owner.epoch;
  node.step(may_begin);
  if (!node.broken.empty()) broke(node.name + ": " + node.broken);
  audit();
}

void SimWorld::audit() {
  for (auto& [shard, audit] : audits_) {
    const auto& batches = agreement_.batches(shard);
    for (; audit->batches < batches.size(); ++audit->batches) {
      const SharedBatch& batch = batches[audit->batches];
      const auto owner = agreement_.owners().find(shard);
      const bool now = owner != agreement_.owners().end() && owner->second.epoch == batch.epoch;
      const auto before = owners_before_.find(shard);
      if (!now && (before == owners_before_.end() || before->second != batch.epoch))
        broke(name_of_shard(shard) + " took a batch of epoch " + std::to_string(batch.epoch) + ", which does not own it");
      if (batch.epoch < audit->epoch) broke(name_of_shard(shard) + " goes back to an earlier epoch");
      if (batch.first_index != audit->next_index) broke(name_of_shard(shard) + " has a gap");
      if (batch.epoch > audit->epoch) ++report_.owners;
      audit->epoch = batch.epoch;
      audit->next_index = batch.next_index;
      audit->auditor.follow(batch.first_index, batch.records);
      audit->hashes[batch.next_index] = audit->auditor.writer().head_hash();
      trace_.mix(batch.next_index);
      if (!audit->auditor.broken.empty()) broke(name_of_shard(shard) + ": " + audit->auditor.broken);
    }
  }
  audit_crossing();
}

// The parts of all shards are never more than the whole, and what they have used in one period neither.
void SimWorld::audit_crossing() {
  for (const Budget& budget : crossing_) {
    PicoUsd parts;
    auto& periods = used_in_[budget.id];
    for (const auto& [shard, audit] : audits_) {
      const storage::BudgetAccount* const account = audit->auditor.writer().state().budgets().find(budget.id);
      if (account == nullptr) continue;
      parts += account->status.part();
      periods[account->status.period_start_ms][shard] = account->status.used;
    }
    if (parts > budget.amount) broke("the parts of " + budget.id + " are more than the whole");
    for (const auto& [period, shards] : periods) {
      PicoUsd used;
      for (const auto& [shard, amount] : shards) used += amount;
      if (used > budget.amount) broke("the cap of " + budget.id + " is exceeded over all shards");
    }
  }
  for (const Commitment& commitment : commitments_) {
    __int128 parts = 0;
    __int128 used = 0;
    for (const auto& [shard, audit] : audits_) {
      const storage::CommitmentAccount* const account = audit->auditor.writer().state().commitments().find(commitment.id);
      if (account == nullptr) continue;
      parts += account->status.part();
      used += account->status.used;
    }
    if (parts > commitment.units || used > commitment.units) broke("more is drawn of " + commitment.id + " than was bought");
  }
}

// Nothing is on its way for ever.
std::string SimWorld::unrest_of_crossing() {
  const auto differ = [this](const std::string& id, bool commitment, __int128 whole) {
    __int128 parts = 0;
    for (const auto& [shard, audit] : audits_) {
      const auto account = find_account(audit->auditor.writer().state(), {id, commitment});
      if (!account) continue;
      __int128 allotted = 0;
      for (const auto& [other, allotment] : *account->allotments) allotted += allotment.out();
      parts += account->away ? allotted : whole - allotted;
    }
    return parts != whole;
  };
  for (const Budget& budget : crossing_) {
    if (differ(budget.id, false, budget.amount.value)) return "the parts of " + budget.id + " are not the whole";
  }
  for (const Commitment& commitment : commitments_) {
    if (differ(commitment.id, true, commitment.units)) return "the parts of " + commitment.id + " are not the whole";
  }
  return {};
}

// A replica never has what is not in the shared log.
void SimWorld::audit_replicas() {
  for (const auto& node : nodes_) {
    for (auto& [shard, host] : node->hosts()) {
      storage::LedgerWriter& writer = host->writer();
      if (writer.pending_entries() != 0 || writer.next_index() == 0) continue;
      const Audit& audit = *audits_.at(shard);
      const auto hash = audit.hashes.find(writer.next_index());
      if (hash == audit.hashes.end() || hash->second != writer.head_hash()) {
        broke(node->name + "'s replica of " + name_of_shard(shard) + " is not what was agreed on");
      }
    }
  }
}

void SimWorld::compare_digests() {
  for (const auto& node : nodes_) {
    for (auto& [shard, host] : node->hosts()) {
      storage::LedgerWriter& writer = host->writer();
      if (writer.pending_entries() != 0) continue;
      const Digest digest = writer.state_digest();
      const auto [known, added] = digests_.emplace(std::pair(shard, writer.next_index()), digest);
      if (!added && known->second != digest) broke("replicas of " + name_of_shard(shard) + " differ");
    }
  }
}

void SimWorld::step(bool may_begin) {
  clock_.advance_ms(1 + static_cast<std::int64_t>(random_.below(step_ms_max_)));
  trace_.at(trace_.step() + 1, clock_.wall_ms() - 1'750'000'000'000);
  owners_before_.clear();
  for (const auto& [shard, owner] : agreement_.owners()) owners_before_[shard] = owner.epoch;
  agreement_.tick();
  if (may_begin) fault();
  for (const auto& node : nodes_) node->serve_calls();
  if (may_begin && happens(10)) agreement_.drop_hints();
  else agreement_.deliver_hints();
  for (const Network::Parcel& parcel : network_.arrived()) {
    for (const auto& node : nodes_) {
      if (node->name == parcel.to) node->receive(parcel.from, parcel.message);
    }
  }
  see_links();
  audit();
  const std::size_t first = random_.below(nodes_.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i) run_node(*nodes_[(first + i) % nodes_.size()], may_begin);
  audit_replicas();
  if (trace_.step() % digest_steps == 0) compare_digests();
}

// ---- the end

std::string SimWorld::unrest() {
  for (const auto& node : nodes_) {
    if (node->is_at_rest()) continue;
    std::string why = node->name + " is not at rest";
    for (const auto& [shard, gateway] : node->gateways()) {
      if (node->is_up() && !gateway->is_idle()) why += "; " + name_of_shard(shard) + " " + gateway->state();
    }
    return why;
  }
  for (const auto& [shard, audit] : audits_) {
    std::size_t owners = 0;
    for (const auto& node : nodes_) {
      const auto host = node->hosts().find(shard);
      if (host == node->hosts().end()) continue;
      if (host->second->owns()) ++owners;
      if (host->second->writer().next_index() != audit->next_index) return node->name + " lags in " + name_of_shard(shard);
    }
    if (owners != 1) return name_of_shard(shard) + " has " + std::to_string(owners) + " owners";
  }
  return unrest_of_crossing();
}

void SimWorld::check_at_rest() {
  compare_digests();
  for (const auto& [shard, audit] : audits_) {
    const auto own = digests_.find({shard, audit->next_index});
    if (own == digests_.end() || own->second != audit->auditor.writer().state_digest()) {
      broke("replicas of " + name_of_shard(shard) + " are not what follows from its log");
    }
    if (shard == control_shard) continue;
    std::vector<const HolderNode*> holders;
    for (const auto& node : nodes_) holders.push_back(&node->gateway(shard));
    std::vector<Budget> budgets;
    for (const ShardBudget& one : cluster_.money[shard].budgets) budgets.push_back(one.budget);
    const std::string wrong = verdict_at_rest(audit->auditor, budgets, holders);
    if (!wrong.empty()) broke(name_of_shard(shard) + ": " + wrong);
  }
}

SimReport SimWorld::run() {
  const std::int64_t start_ms = clock_.wall_ms();
  while (broken_.empty() && clock_.wall_ms() < start_ms + faulty_ms) step(true);
  if (broken_.empty()) heal();
  const std::int64_t healed_ms = clock_.wall_ms();
  std::string unrest = "it did not begin to rest";
  while (broken_.empty() && !unrest.empty()) {
    step(false);
    if (trace_.step() % 16 != 0) continue;
    unrest = this->unrest();
    if (!unrest.empty() && clock_.wall_ms() > healed_ms + healing_ms_max) broke("it does not come to rest: " + unrest);
  }
  if (broken_.empty()) check_at_rest();
  for (const auto& [shard, audit] : audits_) {
    report_.entries += audit->next_index;
    for (const std::uint8_t byte : audit->auditor.writer().head_hash()) trace_.mix(byte);
  }
  for (const auto& node : nodes_) {
    for (const auto& [shard, gateway] : node->gateways()) {
      report_.counts.served += gateway->counts.served;
      report_.counts.from_slices += gateway->counts.from_slices;
      report_.counts.exhausted += gateway->counts.exhausted;
      report_.counts.unavailable += gateway->counts.unavailable;
      report_.counts.spooled += gateway->counts.spooled;
      report_.counts.replayed += gateway->counts.replayed;
    }
  }
  report_.broken = broken_;
  report_.step = trace_.step();
  report_.digest = trace_.digest();
  report_.last_events.assign(trace_.last().begin(), trace_.last().end());
  return report_;
}

}  // namespace outlast::cluster::simulation
