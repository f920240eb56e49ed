#include "cluster/slice_keeper.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/durations.hpp"

namespace outlast::cluster {
namespace {

constexpr PicoUsd everything{std::numeric_limits<std::int64_t>::max()};
constexpr std::uint32_t idle_looks = 8;  // at what is idle, in the time that makes it idle

}  // namespace

SliceKeeper::SliceKeeper(KeeperOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {
  idle_looked_ns_ = clock_.monotonic_ns();
}

std::shared_ptr<BudgetSlice> SliceKeeper::slice_of(const std::string& budget) { return held_[budget].slice; }

void SliceKeeper::forget(const std::string& budget) { held_.erase(budget); }

void SliceKeeper::connected(std::string node, std::uint64_t epoch) {
  node_ = std::move(node);
  epoch_ = epoch;
  for (auto& [budget, held] : held_) held.told_ns = 0;  // the new owner knows nothing of it
}

void SliceKeeper::disconnected() { node_.clear(); }

void SliceKeeper::receive(const std::string& node, const shard::Message& message) {
  // What an earlier owner has granted stands; but only the present one may recall, or nobody takes the answer.
  if (message.shard != options_.shard) return;
  if (const auto* grants = std::get_if<shard::Grants>(&message.body)) {
    if (grants->holder != options_.holder) return;
    for (const shard::Grant& grant : grants->grants) take_in(grant);
  } else if (const auto* recall = std::get_if<shard::Recall>(&message.body)) {
    if (recall->holder != options_.holder || node != node_ || message.epoch != epoch_) return;
    for (const shard::BudgetRecall& budget : recall->budgets) {
      take_in(budget.grant);
      const auto at = held_.find(budget.grant.budget);
      recalled_ = true;
      if (at == held_.end() || at->second.opened != budget.grant.opened) {
        // Nothing of it is here: said, so that nobody waits for it.
        if (answers_.size() < shard::budgets_max)
          answers_.push_back({budget.grant.budget, budget.grant.opened, {}, recall->number});
        continue;
      }
      at->second.recall = recall->number;
      at->second.keep = budget.keep;
    }
  }
}

void SliceKeeper::take_in(const shard::Grant& grant) {
  const auto at = held_.find(grant.budget);
  if (at == held_.end() || grant.opened < at->second.opened) return;
  Held& held = at->second;
  if (grant.opened > held.opened) {
    // The account behind what is left has ended, with the budget or while that was soft.
    held.slice->take_back(everything);
    held.opened = grant.opened;
    held.seen = held.returned = {};
  }
  const PicoUsd more = grant.total - held.seen;
  if (more.value <= 0 || more > everything) return;
  held.seen = grant.total;
  held.slice->grant(more);
  held.level = held.slice->left();
}

std::vector<shard::SliceReturn> SliceKeeper::take_returns() {
  std::vector<shard::SliceReturn> returns = std::exchange(answers_, {});
  const std::int64_t now_ns = clock_.monotonic_ns();
  const bool look = now_ns - idle_looked_ns_ >= ns_of(options_.idle_ms) / idle_looks;
  if (!recalled_ && !look) return returns;
  if (look) idle_looked_ns_ = now_ns;
  for (auto& [budget, held] : held_) {
    const bool idle = look && held.opened != 0 && held.left_idle_since(now_ns, ns_of(options_.idle_ms));
    if (held.recall == 0 && !idle) continue;
    const PicoUsd keep = held.recall == 0 ? PicoUsd{} : held.keep;
    const PicoUsd beyond = held.slice->left() - keep;
    const PicoUsd taken = beyond.value > 0 ? held.slice->take_back(beyond) : PicoUsd{};
    const std::uint64_t recall = std::exchange(held.recall, 0);
    if (taken.value == 0 && recall == 0) continue;
    held.returned += taken;
    held.level = held.slice->left();
    returns.push_back({budget, held.opened, held.returned, recall});
  }
  recalled_ = false;
  return returns;
}

bool SliceKeeper::Held::left_idle_since(std::int64_t now_ns, std::int64_t idle_ns) const {
  return slice->left().value > 0 && now_ns - wanted_ns >= idle_ns;
}

std::optional<shard::Message> SliceKeeper::take_demand() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (node_.empty() || now_ns - looked_ns_ < ns_of(options_.demand_ms)) return std::nullopt;
  looked_ns_ = now_ns;
  shard::Demand demand{options_.holder, {}};
  for (auto& [budget, held] : held_) {
    const PicoUsd wanted = held.slice->take_demand();
    if (wanted.value > 0) {
      held.wanted += wanted;
      held.wanted_ns = now_ns;
    }
    if (held.wanted.value <= 0 || demand.budgets.size() == shard::budgets_max) continue;
    const PicoUsd left = held.slice->left();
    const bool low = 2 * left.value <= held.level.value;
    const bool again = held.told_ns == 0 || now_ns - held.told_ns >= ns_of(options_.again_ms);
    // What is low was told a moment ago, and the answer is under way.
    const bool moment_ago = held.told_ns != 0 && now_ns - held.told_ns < 2 * ns_of(options_.demand_ms);
    if (!again && (!low || moment_ago)) continue;
    held.told_ns = now_ns;
    demand.budgets.push_back({budget, held.opened, held.seen, std::exchange(held.wanted, {}), left});
  }
  if (demand.budgets.empty()) return std::nullopt;
  return shard::Message{options_.shard, epoch_, std::move(demand)};
}

std::int64_t SliceKeeper::next_wake_ns() const {
  if (recalled_) return clock_.monotonic_ns();
  const std::int64_t idle_ns = idle_looked_ns_ + ns_of(options_.idle_ms) / idle_looks;
  return node_.empty() ? (held_.empty() ? never_ns : idle_ns)
                       : std::min(idle_ns, looked_ns_ + ns_of(options_.demand_ms));
}

PicoUsd SliceKeeper::left(const std::string& budget) const {
  const auto at = held_.find(budget);
  return at == held_.end() ? PicoUsd{} : at->second.slice->left();
}

PicoUsd SliceKeeper::seen(const std::string& budget) const {
  const auto at = held_.find(budget);
  return at == held_.end() ? PicoUsd{} : at->second.seen - at->second.returned;
}

}  // namespace outlast::cluster
