#include "actors/accountant_actor.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/durable_write.hpp"
#include "core/crypto.hpp"
#include "core/log.hpp"
#include "core/random.hpp"

namespace outlast::actors {
namespace {

constexpr auto pace_interval = std::chrono::seconds(10);

using UsageReader = caf::typed_actor<caf::replies_to<storage::UsageQuery>::with<UsageReply>>;
using Verifier = caf::typed_actor<caf::replies_to<verify_atom>::with<VerifyReply>>;

UsageReader::behavior_type usage_reader(UsageReader::pointer self, const storage::LedgerStore* ledger) {
  return {[self, ledger](const storage::UsageQuery& query) -> UsageReply {
    self->quit();
    return ledger->usage(query);
  }};
}

Verifier::behavior_type verifier(Verifier::pointer self, const storage::LedgerStore* ledger) {
  return {[self, ledger](verify_atom) -> VerifyReply {
    self->quit();
    return ledger->verify();
  }};
}

CreatedKeyReply create_key(const AccountantDependencies& dependencies, const CreateKey& request) {
  CreatedKey created;
  created.text = make_virtual_key_text();
  created.key.id = make_virtual_key_id();
  created.key.tenant = request.tenant;
  created.key.name = request.name;
  created.key.hash = dependencies.key_hasher->of(created.text);
  created.key.created_ms = dependencies.clock.wall_ms();
  const auto written = write_durably([&](auto done) { dependencies.ledger.add_key(created.key, std::move(done)); });
  if (!written) return fail(written.error());
  log::info("key_created", {{"key_id", created.key.id}, {"tenant", created.key.tenant.to_string()}});
  return created;
}

// Tells the caller that what is stored already is also published, or that it is not yet.
template <class Reply, class Change>
void publish_then(Accountant::pointer self, const Router& router, Change change, Reply reply,
                  caf::typed_response_promise<Reply> promise) {
  self->request(router, request_timeout, std::move(change))
      .then([promise, reply](const Done&) mutable { promise.deliver(std::move(reply)); },
            [promise](const caf::error&) mutable {
              promise.deliver(Reply(fail(ActorError::unavailable,
                                         "the change is stored, but the router did not publish it yet")));
            });
}

std::string make_random_id(std::string_view prefix) {
  std::array<std::uint8_t, 8> random{};
  secure_random(std::as_writable_bytes(std::span(random)));
  return std::string(prefix) + to_base32(random).substr(0, 12);
}

// The id of the budget that is to be set again: of the same scope, period and name. Empty when there is none.
std::string same_budget(const storage::LedgerStore& ledger, const Budget& budget) {
  for (const BudgetStatus& status : ledger.budgets()) {
    const Budget& known = status.budget;
    if (known.scope == budget.scope && known.period == budget.period && known.name == budget.name) return known.id;
  }
  return {};
}

bool is_budget(const storage::LedgerStore& ledger, const std::string& id) {
  const auto budgets = ledger.budgets();
  return std::any_of(budgets.begin(), budgets.end(), [&id](const auto& status) { return status.budget.id == id; });
}

caf::typed_response_promise<IdReply> set_budget(Accountant::pointer self, const AccountantDependencies& dependencies,
                                                const SetBudget& request) {
  auto promise = self->make_response_promise<IdReply>();
  Budget budget = request.budget;
  if (!budget.id.empty() && !is_budget(dependencies.ledger, budget.id)) {
    promise.deliver(IdReply(fail(storage::LedgerError::unknown_budget, "there is no budget '" + budget.id + "'")));
    return promise;
  }
  if (budget.id.empty()) budget.id = same_budget(dependencies.ledger, budget);
  if (budget.id.empty()) budget.id = make_random_id("bud_");
  const auto written =
      write_durably([&](auto done) { dependencies.ledger.set_budget(budget, request.by, std::move(done)); });
  if (!written) {
    promise.deliver(IdReply(fail(written.error())));
    return promise;
  }
  log::info("budget_set", {{"budget", budget.id}, {"scope", budget.scope.to_string()}, {"by", request.by}});
  publish_then(self, dependencies.router, BudgetsChanged{dependencies.ledger.budget_book()}, IdReply(budget.id), promise);
  return promise;
}

caf::typed_response_promise<Done> remove_budget(Accountant::pointer self, const AccountantDependencies& dependencies,
                                                const RemoveBudget& request) {
  auto promise = self->make_response_promise<Done>();
  const auto written =
      write_durably([&](auto done) { dependencies.ledger.remove_budget(request.id, request.by, std::move(done)); });
  if (!written) {
    promise.deliver(Done(fail(written.error())));
    return promise;
  }
  log::info("budget_removed", {{"budget", request.id}, {"by", request.by}});
  publish_then(self, dependencies.router, BudgetsChanged{dependencies.ledger.budget_book()}, Done(true), promise);
  return promise;
}

void tell_pace(const AccountantDependencies& dependencies) {
  caf::anon_send(dependencies.router, CommitmentsChanged{dependencies.ledger.commitments()});
}

IdReply add_commitment(const AccountantDependencies& dependencies, const AddCommitment& request) {
  Commitment commitment = request.commitment;
  commitment.id = make_random_id("com_");
  const auto written =
      write_durably([&](auto done) { dependencies.ledger.add_commitment(commitment, request.by, std::move(done)); });
  if (!written) return fail(written.error());
  log::info("commitment_added", {{"commitment", commitment.id}, {"provider", commitment.provider}, {"by", request.by}});
  tell_pace(dependencies);
  return commitment.id;
}

Done end_commitment(const AccountantDependencies& dependencies, const EndCommitment& request) {
  const auto written =
      write_durably([&](auto done) { dependencies.ledger.end_commitment(request.id, request.by, std::move(done)); });
  if (!written) return fail(written.error());
  log::info("commitment_ended", {{"commitment", request.id}, {"by", request.by}});
  tell_pace(dependencies);
  return true;
}

}  // namespace

Accountant::behavior_type accountant_actor(Accountant::pointer self, AccountantDependencies dependencies) {
  // From here and from nowhere else, so that no older list follows a newer one. Budgets first: lanes serve once there
  // are keys.
  caf::anon_send(dependencies.router, BudgetsChanged{dependencies.ledger.budget_book()});
  caf::anon_send(dependencies.router, KeysChanged{dependencies.ledger.keys()});
  self->send(self, pace_atom::value);
  return {
      [self, dependencies](const CreateKey& request) {
        auto promise = self->make_response_promise<CreatedKeyReply>();
        auto created = create_key(dependencies, request);
        if (!created) {
          promise.deliver(std::move(created));
          return promise;
        }
        self->request(dependencies.router, request_timeout, KeysChanged{dependencies.ledger.keys()})
            .then([promise, created](const Done&) mutable { promise.deliver(std::move(created)); },
                  [promise](const caf::error&) mutable {
                    promise.deliver(CreatedKeyReply(fail(ActorError::unavailable,
                                                         "the key is stored, but the router did not publish it yet")));
                  });
        return promise;
      },
      [self, dependencies](const RevokeKey& request) {
        auto promise = self->make_response_promise<Done>();
        const auto written =
            write_durably([&](auto done) { dependencies.ledger.revoke_key(request.id, std::move(done)); });
        if (!written) {
          promise.deliver(Done(fail(written.error())));
          return promise;
        }
        log::info("key_revoked", {{"key_id", request.id}});
        self->request(dependencies.router, request_timeout, KeysChanged{dependencies.ledger.keys()})
            .then([promise](const Done& done) mutable { promise.deliver(done); },
                  [promise](const caf::error&) mutable {
                    promise.deliver(Done(fail(ActorError::unavailable,
                                              "the revocation is stored, but the router did not publish it yet")));
                  });
        return promise;
      },
      [dependencies](keys_atom) -> KeyList { return dependencies.ledger.keys(); },
      [self, dependencies](const SetBudget& request) { return set_budget(self, dependencies, request); },
      [self, dependencies](const RemoveBudget& request) { return remove_budget(self, dependencies, request); },
      [dependencies](budgets_atom) -> BudgetList { return dependencies.ledger.budgets(); },
      [dependencies](const AddCommitment& request) { return add_commitment(dependencies, request); },
      [dependencies](const EndCommitment& request) { return end_commitment(dependencies, request); },
      [dependencies](bulk_atom) -> CommitmentList { return dependencies.ledger.commitments(); },
      [dependencies](changed_atom) {
        caf::anon_send(dependencies.router, BudgetsChanged{dependencies.ledger.budget_book()});
        caf::anon_send(dependencies.router, KeysChanged{dependencies.ledger.keys()});
        tell_pace(dependencies);
      },
      [self, dependencies](pace_atom) {
        tell_pace(dependencies);
        self->delayed_send(self, pace_interval, pace_atom::value);
      },
      [dependencies](const RecordPrices& prices) -> Done {
        const auto written = write_durably([&](auto done) {
          dependencies.ledger.record_prices(prices.version, prices.toml, std::move(done));
        });
        if (!written) return fail(written.error());
        return true;
      },
      [self, dependencies](const storage::UsageQuery& query) {
        return self->delegate(self->spawn<caf::detached>(usage_reader, &dependencies.ledger), query);
      },
      [self, dependencies](verify_atom) {
        return self->delegate(self->spawn<caf::detached>(verifier, &dependencies.ledger), verify_atom::value);
      },
  };
}

}  // namespace outlast::actors
