#include "actors/accountant_actor.hpp"

#include <catch2/catch.hpp>

#include <future>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/router_actor.hpp"
#include "tests/actors/actor_bench.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace accountant_actor_test {

using namespace outlast;
using namespace outlast::actors;
using storage::LedgerStore;

namespace {

struct SharingConfig : caf::actor_system_config {
  SharingConfig() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{2});
  }
};

std::unique_ptr<LedgerStore> open_ledger(const std::string& path, const Clock& clock) {
  storage::LedgerOptions options;
  options.path = path;
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  auto ledger = LedgerStore::open(options, clock);
  REQUIRE(ledger);
  return std::move(*ledger);
}

// A router and a detached accountant on a real ledger, as in a node.
struct Bench {
  Bench() {
    router = system.spawn(router_actor, RouterDependencies{board, clock, hasher, gateway::BreakerPolicy{}});
    accountant = system.spawn<caf::detached>(accountant_actor, AccountantDependencies{*ledger, clock, hasher, router});
    REQUIRE(ask<Done>(router, ApplyConfig{testing::config_of({"a"})}).has_value());
  }
  ~Bench() {
    end(accountant);
    end(router);
  }

  template <class Reply, class Handle, class Message>
  Reply ask(const Handle& handle, Message message) {
    caf::scoped_actor self(system);
    std::optional<Reply> answer;
    std::string error = "no answer";
    self->request(handle, request_timeout, std::move(message))
        .receive([&answer](const Reply& reply) { answer = reply; },
                 [this, &error](const caf::error& failed) { error = system.render(failed); });
    INFO(error);
    REQUIRE(answer.has_value());
    return *answer;
  }
  // Kills and waits for the end.
  template <class Handle>
  void end(const Handle& handle) {
    caf::scoped_actor self(system);
    caf::anon_send_exit(handle, caf::exit_reason::kill);
    self->wait_for(handle);
  }
  CreatedKey create(const std::string& name = "laptop") {
    const auto reply = ask<CreatedKeyReply>(accountant, CreateKey{{"acme", "search", "ann"}, name});
    REQUIRE(reply.has_value());
    return *reply;
  }
  [[nodiscard]] std::shared_ptr<const VirtualKey> published(const std::string& text) const {
    return board.get()->keys->find(text);
  }

  SystemClock clock;
  storage::TemporaryFolder folder;
  std::shared_ptr<const HmacSha256> hasher = testing::test_hasher();
  gateway::SnapshotBoard board;
  std::unique_ptr<LedgerStore> ledger = open_ledger(folder.path(), clock);
  SharingConfig config;
  caf::actor_system system{config};
  Router router;
  Accountant accountant;
};

}  // namespace

TEST_CASE("a new key opens the gateway when the reply arrives, and only its hash is stored", "[actors]") {
  Bench bench;
  const CreatedKey created = bench.create();
  CHECK(looks_like_virtual_key(created.text));
  CHECK(created.key.tenant.to_string() == "acme/search/ann");
  CHECK(created.key.name == "laptop");
  CHECK(created.key.created_ms > 0);
  const auto found = bench.published(created.text);
  REQUIRE(found != nullptr);
  CHECK(*found == created.key);
  const auto listed = bench.ask<KeyList>(bench.accountant, keys_atom::value);
  REQUIRE(listed.size() == 1);
  CHECK(listed[0] == created.key);
  CHECK(listed[0].hash == bench.hasher->of(created.text));
}

TEST_CASE("keys differ, and all of them are published", "[actors]") {
  Bench bench;
  const CreatedKey one = bench.create("one");
  const CreatedKey other = bench.create("other");
  CHECK(one.text != other.text);
  CHECK(one.key.id != other.key.id);
  CHECK(bench.published(one.text)->name == "one");
  CHECK(bench.published(other.text)->name == "other");
}

TEST_CASE("a revoked key is refused when the reply arrives", "[actors]") {
  Bench bench;
  const CreatedKey kept = bench.create("kept");
  const CreatedKey revoked = bench.create("revoked");
  REQUIRE(bench.ask<Done>(bench.accountant, RevokeKey{revoked.key.id}).has_value());
  CHECK(bench.published(revoked.text) == nullptr);
  CHECK(bench.published(kept.text) != nullptr);
  const auto listed = bench.ask<KeyList>(bench.accountant, keys_atom::value);
  CHECK(listed.size() == 2);
}

TEST_CASE("revoking an unknown key is an error and publishes nothing", "[actors]") {
  Bench bench;
  const CreatedKey kept = bench.create();
  const auto version = bench.board.version();
  const auto reply = bench.ask<Done>(bench.accountant, RevokeKey{"key_nobody"});
  REQUIRE_FALSE(reply.has_value());
  CHECK(is(reply.error(), storage::LedgerError::unknown_key));
  CHECK(bench.board.version() == version);
  CHECK(bench.published(kept.text) != nullptr);
}

TEST_CASE("an accountant that starts gives its router the keys of the ledger", "[actors]") {
  Bench bench;
  const CreatedKey created = bench.create();
  bench.end(bench.accountant);
  bench.end(bench.router);
  bench.board.publish(nullptr);
  bench.router = bench.system.spawn(
      router_actor, RouterDependencies{bench.board, bench.clock, bench.hasher, gateway::BreakerPolicy{}});
  bench.accountant = bench.system.spawn<caf::detached>(
      accountant_actor, AccountantDependencies{*bench.ledger, bench.clock, bench.hasher, bench.router});
  REQUIRE(bench.ask<Done>(bench.router, ApplyConfig{testing::config_of({"a"})}).has_value());
  bench.ask<KeyList>(bench.accountant, keys_atom::value);  // it has started
  bench.ask<DeploymentList>(bench.router, status_atom::value);  // the router has read what it sent
  REQUIRE(bench.board.get() != nullptr);
  CHECK(bench.published(created.text) != nullptr);
}

TEST_CASE("a key is durable when the reply arrives", "[actors]") {
  std::optional<CreatedKey> created;
  storage::TemporaryFolder copy;
  SystemClock clock;
  {
    Bench bench;
    created = bench.create();
    // What a crash at this moment would leave: the files as they are, with the store still open.
    std::filesystem::copy(bench.folder.path(), copy.path(), std::filesystem::copy_options::recursive);
  }
  const auto ledger = open_ledger(copy.path(), clock);
  REQUIRE(ledger->keys().size() == 1);
  CHECK(ledger->keys()[0] == created->key);
}

TEST_CASE("a key that the router did not publish is an error that says so", "[actors]") {
  Bench bench;
  bench.end(bench.router);
  const auto reply = bench.ask<CreatedKeyReply>(bench.accountant, CreateKey{{"acme", "search", "ann"}, "laptop"});
  REQUIRE_FALSE(reply.has_value());
  CHECK(is(reply.error(), ActorError::unavailable));
  CHECK_THAT(reply.error().message, Catch::Contains("stored"));
  CHECK(bench.ledger->keys().size() == 1);
}

TEST_CASE("a price book is recorded once for each version", "[actors]") {
  Bench bench;
  const auto entries = bench.ledger->status().entries;
  for (int i = 0; i < 3; ++i) REQUIRE(bench.ask<Done>(bench.accountant, RecordPrices{"v1", "a = 1"}).has_value());
  CHECK(bench.ledger->status().entries == entries + 1);
  REQUIRE(bench.ask<Done>(bench.accountant, RecordPrices{"v2", "a = 2"}).has_value());
  CHECK(bench.ledger->status().entries == entries + 2);
}

TEST_CASE("reports and verification answer beside the accountant's own work", "[actors]") {
  Bench bench;
  bench.create();
  const auto verified = bench.ask<VerifyReply>(bench.accountant, verify_atom::value);
  REQUIRE(verified.has_value());
  CHECK(verified->entries == bench.ledger->status().entries);
  const auto usage = bench.ask<UsageReply>(bench.accountant, storage::UsageQuery{});
  REQUIRE(usage.has_value());
  CHECK(usage->rows.empty());
}

TEST_CASE("a budget limits lanes when the reply arrives, and no more when its removal is answered", "[actors]") {
  Bench bench;
  const Budget budget{.name = "search", .scope = *Scope::parse("team:acme/search"), .amount = {1'000'000}};
  const auto id = bench.ask<IdReply>(bench.accountant, SetBudget{budget, "ann"});
  REQUIRE(id);
  CHECK(id->starts_with("bud_"));
  const auto published = [&bench] {
    std::vector<Budget> budgets;
    bench.board.get()->budgets->by_scope.visit_all([&](const BudgetBook::Entry& entry) { budgets.push_back(entry.budget); });
    return budgets;
  };
  REQUIRE(published().size() == 1);
  CHECK(published()[0].id == *id);

  Budget larger = budget;
  larger.amount = {2'000'000};
  CHECK(*bench.ask<IdReply>(bench.accountant, SetBudget{larger, "ann"}) == *id);
  REQUIRE(published().size() == 1);
  CHECK(published()[0].amount == larger.amount);
  const auto listed = bench.ask<BudgetList>(bench.accountant, budgets_atom::value);
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].left() == larger.amount);

  CHECK(bench.ask<Done>(bench.accountant, RemoveBudget{*id, "ann"}));
  CHECK(published().empty());
  const auto again = bench.ask<Done>(bench.accountant, RemoveBudget{*id, "ann"});
  REQUIRE_FALSE(again);
  CHECK(is(again.error(), storage::LedgerError::unknown_budget));
}

TEST_CASE("a commitment is told to the gauges of the deployments that draw from it", "[actors]") {
  Bench bench;
  bench.create();  // by then there is a snapshot
  const auto snapshot = bench.board.get();
  const gateway::Deployment& deployment = snapshot->routing->deployments().at(0);
  const std::int64_t now_ms = bench.clock.wall_ms();
  const Commitment commitment{.provider = deployment.provider,
                              .unit = CommitmentUnit::tokens,
                              .units = 1'000'000,
                              .price = {1'000'000},
                              .from_ms = now_ms - 1'000'000,
                              .until_ms = now_ms + 1'000'000};
  CHECK_FALSE(snapshot->gauges.at(0)->burning());
  const auto id = bench.ask<IdReply>(bench.accountant, AddCommitment{commitment, "ann"});
  REQUIRE(id);
  bench.ask<DeploymentList>(bench.router, status_atom::value);  // after what the accountant has sent
  CHECK(snapshot->gauges.at(0)->burning());
  REQUIRE(bench.ask<CommitmentList>(bench.accountant, bulk_atom::value).size() == 1);
  CHECK(bench.ask<Done>(bench.accountant, EndCommitment{*id, "ann"}));
  bench.ask<DeploymentList>(bench.router, status_atom::value);
  CHECK_FALSE(snapshot->gauges.at(0)->burning());
}

}  // namespace accountant_actor_test
