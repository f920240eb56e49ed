#include "actors/accountant_actor.hpp"

#include <utility>

#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/durable_write.hpp"
#include "core/log.hpp"

namespace outlast::actors {
namespace {

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

}  // namespace

Accountant::behavior_type accountant_actor(Accountant::pointer self, AccountantDependencies dependencies) {
  // From here and from nowhere else, so that no older list of keys follows a newer one.
  caf::anon_send(dependencies.router, KeysChanged{dependencies.ledger.keys()});
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
