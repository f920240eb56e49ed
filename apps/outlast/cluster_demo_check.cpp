// What `outlast cluster demo --check` does: it proves on real processes that a node's death is nobody's.
#include <cstdio>

#include "apps/outlast/admin_json.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/cluster_demo.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/node_access.hpp"
#include "cluster/shard_id.hpp"

namespace outlast::apps {
namespace {

using Clock = std::chrono::steady_clock;

// An owner that was killed is replaced within twice the lease and an election (docs/cluster.md).
constexpr std::uint32_t failover_ms_max = 2 * demo_lease_ttl_s * 1'000 + 1'000;
constexpr std::uint32_t back_ms_max = 60'000;
constexpr std::uint32_t requests_after = 20;  // through each node that is left
constexpr int owner_ms_max = 20'000;
constexpr int ledger_ms_max = 20'000;
constexpr int look_again_ms = 100;

std::string in_seconds(Clock::duration time) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f s", std::chrono::duration<double>(time).count());
  return text;
}

}  // namespace

Result<void> Demo::check() {
  // Nodes that have just joined are still being given their shards, and one that is on its way has no owner.
  const auto deadline = Clock::now() + std::chrono::milliseconds(owner_ms_max);
  auto owner = owner_of_tenant();
  while (!owner && Clock::now() < deadline) {
    if (interrupts_.wait(look_again_ms)) return fail(CliError::failed, "interrupted");
    owner = owner_of_tenant();
  }
  if (!owner) return fail(owner.error());
  const DemoNode* victim = nullptr;
  for (const DemoNode& node : plan_.nodes) {
    if (node.name == *owner) victim = &node;
  }
  if (victim == nullptr) return fail(CliError::failed, "the owner of " + std::string(demo_tenant) + " is '" + *owner + "', which is no node");
  if (plan_.nodes.size() > 1) {
    if (auto went_on = kill_and_go_on(*victim); !went_on) return went_on;
  }
  for (const DemoNode& node : plan_.nodes) {
    if (auto same = compare_with_ledger(node); !same) return same;
  }
  say("every node's ledger has each of the " + std::to_string(answered_) + " answered requests, once");
  return {};
}

Result<void> Demo::kill_and_go_on(const DemoNode& victim) {
  child("node " + victim.name)->kill();
  const auto killed = Clock::now();
  say("kill -9 of " + victim.name + ", which owns the shard of " + std::string(demo_tenant));
  for (const DemoNode& node : plan_.nodes) {
    if (&node == &victim) continue;
    if (auto asked = ask(node, failover_ms_max); !asked) return asked;
    say(node.name + " answers, " + in_seconds(Clock::now() - killed) + " after the kill");
  }
  for (std::uint32_t i = 0; i < requests_after; ++i) {
    for (const DemoNode& node : plan_.nodes) {
      if (&node == &victim) continue;
      if (auto asked = ask(node, 0); !asked) return asked;
    }
  }
  say(std::to_string(requests_after) + " more requests through each of the others: none failed");
  if (auto started = start_node(victim); !started) return started;
  if (auto asked = ask(victim, back_ms_max); !asked) return asked;
  say(victim.name + " is back and answers");
  return {};
}

// Settlements may follow their answers by a commit, replicas their owner by another, and a node that has just come back
// opens its replicas one after another.
Result<void> Demo::compare_with_ledger(const DemoNode& node) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(ledger_ms_max);
  GlobalOptions global;
  global.data = node.data();
  std::string last;
  do {
    const auto usage = call_admin(global, "GET", "usage?by=organisation");
    const std::uint64_t settled = usage ? count_of(member_of(*usage, "total"), "requests") : 0;
    if (usage && settled == answered_) return {};
    last = usage ? "has " + std::to_string(settled) : "cannot be read: " + usage.error().message;
    if (interrupts_.wait(look_again_ms)) return fail(CliError::failed, "interrupted");
  } while (Clock::now() < deadline);
  return fail(CliError::failed,
              std::to_string(answered_) + " requests were answered, and " + node.name + "'s ledger " + last);
}

Result<std::string> Demo::owner_of_tenant() {
  GlobalOptions global;
  global.data = plan_.nodes.front().data();
  const auto status = call_admin(global, "GET", "cluster");
  if (!status) return fail(status.error());
  const Json& shards = member_of(*status, "shards");
  const auto all = static_cast<cluster::ShardId>(shards.size() - 1);  // one of them is the control shard
  if (shards.size() < 2) return fail(CliError::failed, "the cluster has no shards");
  const std::string mine = std::to_string(cluster::shard_of(demo_tenant.substr(0, demo_tenant.find('/')), all));
  for (const Json& shard : shards) {
    const std::string owner = text_of(shard, "owner");
    if (text_of(shard, "shard") == mine && !owner.empty()) return owner;
  }
  return fail(CliError::failed, "shard " + mine + ", of " + std::string(demo_tenant) + ", has no owner");
}

}  // namespace outlast::apps
