// SpendPlan: which budgets a request is charged along, and which commitments its likeliest purchase
// draws from: found once for each payer and list of candidates, and again when budgets or
// commitments were added or removed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/metering.hpp"
#include "storage/budget_state.hpp"
#include "storage/commitment_state.hpp"

namespace outlast::storage {

struct SpendPlan {
  std::shared_ptr<const std::vector<Purchase>> candidates;
  std::vector<std::string> tags;  // none while no budget is on a tag
  std::uint64_t budgets_version = 0;
  std::uint64_t commitments_version = 0;
  std::vector<BudgetAccount*> budgets;
  std::vector<CommitmentAccount*> commitments;
};
// The latest plans of one payer.
struct PayerPlans {
  static constexpr std::size_t plans_max = 4;
  std::vector<std::unique_ptr<SpendPlan>> plans;
  std::size_t next = 0;  // to go
};

// One owner.
class SpendPlanner {
 public:
  SpendPlanner(const BudgetState& budgets, const CommitmentState& commitments)
      : budgets_(budgets), commitments_(commitments) {}
  // Valid until the next call.
  const SpendPlan& plan(PayerPlans& payer, const Reservation& reservation);

 private:
  static constexpr std::size_t lists_max = 1'024;
  std::shared_ptr<const std::vector<Purchase>> shared(const std::vector<Purchase>& candidates);
  void fill(SpendPlan& plan, const Reservation& reservation);

  const BudgetState& budgets_;
  const CommitmentState& commitments_;
  std::unordered_map<std::size_t, std::shared_ptr<const std::vector<Purchase>>> lists_;
  const std::vector<std::string> no_tags_;
};

}  // namespace outlast::storage
