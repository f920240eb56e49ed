// Holders and owners of a shard against each other by the hundred seeds: three gateway nodes, three nodes that may own the
// shard, and everything that can happen to them and between them.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>

#include "tests/cluster/shard_holder.hpp"
#include "tests/cluster/shard_verdict.hpp"
#include "tests/cluster/shard_world.hpp"

namespace outlast::cluster::simulation::shard_protocol_test {
namespace {

constexpr std::uint64_t seeds = 300;
constexpr int steps = 700;
constexpr int healing_steps = 20'000;

std::vector<Budget> budgets_of(PicoUsd amount) {
  const auto budget = [amount](const char* id, const char* scope, int share) {
    return Budget{id, "", *Scope::parse(scope), {amount.value / share}, BudgetPeriod::total, "UTC", false};
  };
  return {budget("bud_acme", "organisation:acme", 1), budget("bud_key", "key:key_ann", 1)};
}

class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed), ids_(clock_, seed), network_(random_, clock_), auditor_(clock_) {
    constexpr std::int64_t amounts[] = {60'000, 300'000, 5'000'000};
    budgets_ = budgets_of({amounts[random_.below(3)]});
    rough_ = random_.below(4);
    network_.drop_of = rough_ == 0 ? 1'000'000 : 10 + random_.below(40);
    network_.repeat_of = network_.drop_of;
    network_.delay_ms_max = 1 + random_.below(20);
    for (const char* name : {"o0", "o1", "o2"})
      owners_.push_back(std::make_unique<OwnerNode>(name, shared_, random_, clock_, ids_));
    for (const char* name : {"h0", "h1", "h2"}) {
      holders_.push_back(std::make_unique<HolderNode>(name, std::vector<std::string>{"bud_acme", "bud_key"}, random_,
                                                      clock_, ids_));
      holders_.back()->start();
    }
    elect();
  }

  // Empty when every rule held.
  std::string run() {
    for (int i = 0; i < steps && wrong_.empty(); ++i) {
      misfortune();
      step(true);
    }
    if (wrong_.empty()) heal();
    if (wrong_.empty()) check_all();
    return wrong_;
  }
  HolderCounts counts() const {
    HolderCounts sum;
    for (const auto& holder : holders_) {
      sum.served += holder->counts.served;
      sum.from_slices += holder->counts.from_slices;
      sum.exhausted += holder->counts.exhausted;
      sum.unavailable += holder->counts.unavailable;
      sum.spooled += holder->counts.spooled;
      sum.replayed += holder->counts.replayed;
    }
    return sum;
  }
  std::uint64_t waited = 0;

 private:
  std::vector<std::string> all_nodes() const {
    std::vector<std::string> names;
    for (const auto& node : owners_) names.push_back(node->name);
    for (const auto& node : holders_) names.push_back(node->name);
    return names;
  }
  OwnerNode* owner_named(const std::string& name) {
    for (const auto& node : owners_) {
      if (node->name == name) return node.get();
    }
    return nullptr;
  }
  HolderNode* holder_named(const std::string& name) {
    for (const auto& node : holders_) {
      if (node->name == name) return node.get();
    }
    return nullptr;
  }
  bool happens(std::uint64_t one_of) { return rough_ != 0 && random_.below(one_of) == 0; }

  // The shard changes hands. Whoever had it may not know.
  void elect() {
    std::vector<OwnerNode*> up;
    for (const auto& node : owners_) {
      if (node->up) up.push_back(node.get());
    }
    if (up.empty()) return;
    OwnerNode* const next = up[random_.below(up.size())];
    shared_.owner = next->name;
    ++shared_.epoch;
    next->lead(budgets_, rough_ == 0 ? 0 : 200);
  }

  void misfortune() {
    const std::vector<std::string> names = all_nodes();
    if (happens(250)) elect();
    if (happens(200)) {
      // Half as much, or twice.
      PicoUsd& amount = budgets_[random_.below(budgets_.size())].amount;
      amount.value = random_.below(2) == 0 ? amount.value / 2 : 2 * amount.value;
      set_budgets_ = true;
    }
    for (const auto& node : owners_) {
      if (node->up && happens(900)) {
        note_waited(*node);
        node->stop();
      } else if (!node->up && happens(40)) {
        node->restart();
      }
    }
    OwnerNode* const owner = owner_named(shared_.owner);
    if ((owner == nullptr || owner->owner == nullptr) && random_.below(30) == 0) elect();
    for (const auto& node : holders_) {
      if (node->up && happens(700)) node->crash(random_.below(4) == 0);
      else if (!node->up && random_.below(30) == 0) begin(*node);
    }
    if (happens(60)) network_.cut.emplace(names[random_.below(names.size())], names[random_.below(names.size())]);
    if (happens(60)) {
      const std::string& node = names[random_.below(names.size())];
      for (const std::string& other : names) {
        network_.cut.emplace(node, other);
        network_.cut.emplace(other, node);
      }
    }
    if (!network_.cut.empty() && random_.below(60) == 0) network_.cut.clear();
  }
  void begin(HolderNode& node) {
    network_.forget_from(node.name);
    node.start();
  }

  void step(bool may_begin) {
    clock_.advance_ms(1 + static_cast<std::int64_t>(random_.below(3)));
    for (const Network::Parcel& parcel : network_.arrived()) deliver(parcel);
    for (const auto& node : owners_) {
      if (node->up && node->owner == nullptr && random_.below(4) == 0) node->follow();
      if (node->owner == nullptr || !node->up) continue;
      const bool now = node->owner->is_urgent() || random_.below(3) == 0;
      if (!now || !node->owner->is_dirty()) continue;
      node->run([](ShardOwner& owner) { return owner.commit().has_value(); });
      send_of(*node);
    }
    if (OwnerNode* const owner = owner_named(shared_.owner); set_budgets_ && owner->owner != nullptr) {
      set_budgets_ = false;
      owner->run([this](ShardOwner& of_shard) { return of_shard.set_money(money_of(budgets_)).has_value(); });
    }
    auditor_.follow(shared_);
    for (const auto& node : holders_) {
      if (!node->up) continue;
      look_for_owner(*node);
      node->run_lanes(may_begin);
      node->run_shard(network_);
      if (!node->broken.empty()) wrong_ = node->name + ": " + node->broken;
    }
    if (!auditor_.broken.empty()) wrong_ = auditor_.broken;
  }
  void send_of(OwnerNode& node) {
    if (node.owner == nullptr) return;
    for (OwnerEffect& effect : node.owner->take_effects()) {
      if (auto* send = std::get_if<SendToNode>(&effect)) network_.send(node.name, send->node, send->message);
    }
  }
  void deliver(const Network::Parcel& parcel) {
    if (HolderNode* const holder = holder_named(parcel.to)) {
      if (holder->up) holder->receive(parcel.from, parcel.message);
      return;
    }
    OwnerNode& node = *owner_named(parcel.to);
    if (!node.up) return;
    if (node.owner != nullptr) {
      node.run([&parcel](ShardOwner& owner) { return owner.receive(parcel.from, parcel.message).has_value(); });
      return send_of(node);
    }
    if (const auto answer = not_owner(parcel.message, {}, 0)) network_.send(node.name, parcel.from, *answer);
  }
  // As a node learns it from etcd and from its links: some time later.
  void look_for_owner(HolderNode& node) {
    const bool reachable =
        !network_.cut.contains({node.name, shared_.owner}) && !network_.cut.contains({shared_.owner, node.name});
    const bool right = node.linked_to == shared_.owner && node.linked_epoch == shared_.epoch;
    if (!node.linked_to.empty() && (!reachable || !right) && random_.below(20) == 0) node.unlink();
    if (!right && reachable && random_.below(10) == 0) node.link(shared_.owner, shared_.epoch);
    if (right && happens(300)) node.link(shared_.owner, shared_.epoch);  // the link broke and is there again
  }

  void heal() {
    network_.rough = false;
    network_.cut.clear();
    rough_ = 0;
    for (const auto& node : owners_) {
      note_waited(*node);
      if (!node->up) node->restart();
    }
    for (const auto& node : holders_) {
      if (!node->up) begin(*node);
    }
    elect();
    for (int i = 0; i < healing_steps; ++i) {
      step(false);
      if (!wrong_.empty()) return;
      if (owner_named(shared_.owner)->owner == nullptr) elect();
      const bool idle = std::all_of(holders_.begin(), holders_.end(), [](const auto& node) { return node->is_idle(); });
      if (idle && !owner_named(shared_.owner)->owner->is_dirty()) return;
    }
    wrong_ = "it does not come to rest";
    for (const auto& node : holders_) wrong_ += "; " + node->state();
  }

  void check_all() {
    for (const auto& node : owners_) {
      note_waited(*node);
      // One that still takes itself for the owner is told otherwise by its next append.
      if (node->name != shared_.owner) node->restart();
      if (node->owner == nullptr) node->follow();
      if (node->writer().state_digest() != auditor_.writer().state_digest()) wrong_ = "replicas differ";
    }
    std::vector<const HolderNode*> holders;
    for (const auto& node : holders_) holders.push_back(node.get());
    if (std::string wrong = verdict_at_rest(auditor_, budgets_, holders); !wrong.empty()) wrong_ = std::move(wrong);
  }
  void note_waited(OwnerNode& node) {
    if (node.owner != nullptr) waited += node.owner->counters().waited;
  }

  ManualClock clock_;
  Random random_;
  UuidGenerator ids_;
  SharedShard shared_;
  Network network_;
  Auditor auditor_;
  std::vector<Budget> budgets_;
  std::vector<std::unique_ptr<OwnerNode>> owners_;
  std::vector<std::unique_ptr<HolderNode>> holders_;
  bool set_budgets_ = false;
  std::uint64_t rough_ = 1;
  std::string wrong_;
};

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

// OUTLAST_SEED=N runs one seed, OUTLAST_SEEDS=N so many.
TEST_CASE("no cap is exceeded and nothing durable is lost, whatever happens between holders and owners",
          "[cluster][simulation]") {
  const std::uint64_t from = number_from("OUTLAST_SEED", 1);
  const std::uint64_t count = number_from("OUTLAST_SEEDS", std::getenv("OUTLAST_SEED") == nullptr ? seeds : 1);
  HolderCounts sum;
  std::uint64_t waited = 0;
  for (std::uint64_t seed = from; seed < from + count; ++seed) {
    World world(seed);
    const std::string wrong = world.run();
    INFO("OUTLAST_SEED=" << seed << ": " << wrong);
    REQUIRE(wrong.empty());
    const HolderCounts counts = world.counts();
    sum.served += counts.served;
    sum.from_slices += counts.from_slices;
    sum.exhausted += counts.exhausted;
    sum.unavailable += counts.unavailable;
    sum.spooled += counts.spooled;
    sum.replayed += counts.replayed;
    waited += world.waited;
  }
  CAPTURE(sum.served, sum.from_slices, sum.exhausted, sum.unavailable, sum.spooled, sum.replayed, waited);
  if (count < seeds) return;
  // Every way was taken.
  CHECK(sum.served > count * 100);
  CHECK(sum.from_slices > count * 20);
  CHECK(sum.exhausted > count);
  CHECK(sum.unavailable > count);
  CHECK(sum.spooled > count);
  CHECK(sum.replayed > 50);
  CHECK(waited > count);
}

}  // namespace outlast::cluster::simulation::shard_protocol_test
