// What the state machine has, against the naive model of money.
#pragma once

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/money_model.hpp"

namespace outlast::storage {

inline void require_same_money(const MoneyStatus& money, const MoneyModel& model) {
  REQUIRE(money.budgets.size() == model.budgets.size());
  for (const BudgetStatus& status : money.budgets) {
    const MoneyModel::ModelBudget& one = model.budgets.at(status.budget.id);
    INFO(status.budget.id << " used " << status.used.to_string() << " expected "
                          << PicoUsd{one.used}.to_string() << (status.budget.soft ? " soft" : ""));
    REQUIRE((status.budget == one.budget));
    REQUIRE((status.used.value == one.used));
    REQUIRE((status.held.value == one.held));
    REQUIRE((status.sliced.value == one.sliced()));
    REQUIRE(status.away == one.away);
    REQUIRE((status.part().value == one.part()));
    REQUIRE(status.period_start_ms == one.period.start_ms);
    REQUIRE(status.period_end_ms == one.period.end_ms);
  }
  REQUIRE(money.commitments.size() == model.commitments.size());
  for (const CommitmentStatus& status : money.commitments) {
    INFO(status.commitment.id);
    const MoneyModel::ModelCommitment& one = model.commitments.at(status.commitment.id);
    REQUIRE((status.commitment == one.commitment));
    REQUIRE((status.used == one.used));
    REQUIRE((status.held == one.held));
    REQUIRE((status.amortised.value == one.amortised));
    REQUIRE((status.list_cost.value == one.list_cost));
    REQUIRE(status.ended == one.ended);
    REQUIRE(status.away == one.away);
    REQUIRE((status.part() - status.used - status.held == one.free()));
  }
}

inline void require_same_allotments(const Allotments& allotments,
                                    const MoneyModel::ModelAllotments& expected) {
  REQUIRE(allotments.size() == expected.size());
  for (const auto& [shard, one] : expected) {
    REQUIRE(allotments.contains(shard));
    REQUIRE((allotments.at(shard) == Allotment{one.granted, one.returned, one.opened}));
  }
}

// Slices are told apart by holders here, and holders that ended are known as such.
inline void require_same_money(const LedgerState& state, const MoneyModel& model) {
  require_same_money(money_of(state), model);
  for (const auto& [id, one] : model.budgets) {
    INFO(id);
    const BudgetAccount& account = *state.budgets().find(id);
    std::size_t holders = 0;
    for (const auto& [holder, slice] : one.slices) {
      const SliceAccount* const has = BudgetState::slice_of(account, holder);
      REQUIRE(has != nullptr);
      REQUIRE((has->left.value == slice.left));
      if (holder.is_nil()) continue;
      ++holders;
      REQUIRE((has->granted.value == slice.granted));
      REQUIRE((has->returned.value == slice.returned));
    }
    REQUIRE(account.slices.size() == holders);
    require_same_allotments(account.allotments, one.allotments);
  }
  for (const auto& [id, one] : model.commitments) {
    INFO(id);
    require_same_allotments(state.commitments().find(id)->allotments, one.allotments);
  }
  const std::set<Incarnation> expected = model.holders();
  REQUIRE(state.holders() == std::vector<Incarnation>(expected.begin(), expected.end()));
  for (const Incarnation& holder : model.ended) REQUIRE(state.has_ended(holder));
}

// An operation of an entry's body as the model takes it.
inline Applied apply_to(MoneyModel& model, const proto::EntryBody& body, std::int64_t time_ms) {
  return std::visit(
      [&model, time_ms]<class Body>(const Body& operation) -> Applied {
        if constexpr (std::is_same_v<Body, proto::Settled>) {
          return model.apply(operation.settlement, time_ms);
        } else if constexpr (std::is_same_v<Body, proto::Voided>) {
          return model.apply(operation.reservation, time_ms);
        } else if constexpr (requires { model.apply(operation, time_ms); }) {
          return model.apply(operation, time_ms);
        } else {
          FAIL("the model does not know this kind");
          return {};
        }
      },
      body);
}

}  // namespace outlast::storage
