#include "storage/spend_plan.hpp"

#include <functional>

namespace outlast::storage {

std::shared_ptr<const std::vector<Purchase>> SpendPlanner::shared(
    const std::vector<Purchase>& candidates) {
  std::size_t hash = 0;
  const std::hash<std::string> hasher;
  for (const Purchase& candidate : candidates) {
    hash = (hash ^ hasher(candidate.provider)) * 0x9e3779b97f4a7c15ULL;
    hash = (hash ^ hasher(candidate.model)) * 0x9e3779b97f4a7c15ULL;
  }
  if (lists_.size() >= lists_max) lists_.clear();
  auto& list = lists_[hash];
  if (list == nullptr || *list != candidates)
    list = std::make_shared<const std::vector<Purchase>>(candidates);
  return list;
}

void SpendPlanner::fill(SpendPlan& plan, const Reservation& reservation) {
  plan.budgets_version = budgets_.version();
  plan.commitments_version = commitments_.version();
  plan.budgets.clear();
  budgets_.match({reservation.tenant, reservation.key_id, plan.tags, *plan.candidates},
                 plan.budgets);
  plan.commitments.clear();
  if (plan.candidates->empty()) return;
  const Purchase& first = plan.candidates->front();
  commitments_.match(first.provider, first.model, plan.commitments);
}

const SpendPlan& SpendPlanner::plan(PayerPlans& payer, const Reservation& reservation) {
  const std::vector<std::string>& tags =
      budgets_.has_tag_budgets() ? reservation.tags : no_tags_;
  for (const auto& plan : payer.plans) {
    if (*plan->candidates != reservation.candidates || plan->tags != tags) continue;
    if (plan->budgets_version != budgets_.version() ||
        plan->commitments_version != commitments_.version()) {
      fill(*plan, reservation);
    }
    return *plan;
  }
  if (payer.plans.size() < PayerPlans::plans_max) {
    payer.next = payer.plans.size();
    payer.plans.push_back(std::make_unique<SpendPlan>());
  }
  SpendPlan& plan = *payer.plans[payer.next];
  payer.next = (payer.next + 1) % PayerPlans::plans_max;
  plan.candidates = shared(reservation.candidates);
  plan.tags = tags;
  fill(plan, reservation);
  return plan;
}

}  // namespace outlast::storage
