// What a cluster of many nodes costs: the real elections of all nodes run in one thread under virtual time, over a
// coordination that answers after 2 ms. Counts messages, calls, links and memory; figures of time are the cluster's, not
// this machine's. docs/scale.md has the table.
//   outlast-cluster-scale-bench [NODES SHARDS]…    default: 10 16  100 128  1000 1024
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/scale_cluster.hpp"
#include "core/crypto.hpp"
#include "core/random.hpp"
#include "core/virtual_key.hpp"

namespace {

using namespace outlast;
using namespace outlast::bench;

std::size_t heap_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// What a gateway holds of a million keys.
void measure_keys(std::size_t count) {
  const std::size_t before = heap_bytes();
  Random random(1);
  const std::string secret(32, 's');
  KeyTable table(std::make_shared<const HmacSha256>(std::as_bytes(std::span(secret.data(), secret.size()))));
  for (std::size_t i = 0; i < count; ++i) {
    VirtualKey key;
    key.id = make_virtual_key_id();
    key.tenant = {"organisation-" + std::to_string(i / 1'000), "team-" + std::to_string(i / 50 % 20),
                  "user-" + std::to_string(i)};
    key.name = "service " + std::to_string(i);
    for (std::uint8_t& byte : key.hash) byte = static_cast<std::uint8_t>(random.below(256));
    table.add(std::make_shared<const VirtualKey>(std::move(key)));
  }
  std::printf("\n%zu keys in a node's table: %.0f MiB, %.0f bytes each\n", table.size(),
              static_cast<double>(heap_bytes() - before) / (1 << 20),
              static_cast<double>(heap_bytes() - before) / static_cast<double>(count));
}

void measure(std::size_t nodes, ShardId shards) {
  const std::size_t before = heap_bytes();
  Cluster cluster(nodes, shards);
  cluster.run_ms(2'500);
  const std::int64_t start_ms = 2'500 + cluster.settle_ms();
  const Counts start = cluster.take_counts();
  const double memory = static_cast<double>(heap_bytes() - before) / static_cast<double>(nodes);
  cluster.run_ms(60'000);  // followers that are needed no more are gone
  cluster.take_counts();
  cluster.run_ms(60'000);
  const Counts steady = cluster.take_counts();
  const auto [fewest, most] = cluster.shards_led();
  const std::size_t view_bytes = cluster.view_bytes();
  const double n = static_cast<double>(nodes);

  std::printf("\n%zu nodes, %u shards, 3 replicas, TTL 10 s\n", nodes, static_cast<unsigned>(shards));
  std::printf("  start of all within 2 s: settled after %.1f s; %.0f claims, %.0f handovers, %.0f views of %.0f KiB\n",
              static_cast<double>(start_ms) / 1'000, start.claims, start.tells, start.views,
              static_cast<double>(view_bytes) / 1'024);
  std::printf("  shards led by a node: %d to %d\n", fewest, most);
  std::printf("  etcd, in quiet: %.1f keepalives/s (n * 3 / TTL = %.1f), %.2f KiB/s; %.1f views/s, %.1f KiB/s\n",
              steady.keepalives / 60, n * 3 / 10, steady.keepalives / 60 * call_bytes / 1'024, steady.views / 60,
              steady.view_bytes / 60 / 1'024);
  std::printf("  between nodes, in quiet: %.0f reports/s of %.1f shards, %.0f a second per node\n", steady.reports / 60,
              steady.report_entries / std::max(steady.reports, 1.0), steady.reports / 60 / n);
  std::printf("  links per node: full mesh %.0f; to owners %.0f; pairs in a full mesh: %.0f\n", n - 1, cluster.owners(), n * (n - 1) / 2);
  std::printf("  memory of a node's election: %.0f KiB\n", memory / 1'024);

  cluster.kill(cluster.first_node());
  const std::int64_t failover_ms = cluster.settle_ms();
  const Counts failover = cluster.take_counts();
  std::printf("  one node dies: settled %.1f s later; %.0f claims, %.0f views, %.1f MiB of views\n",
              static_cast<double>(failover_ms) / 1'000, failover.claims, failover.views,
              failover.view_bytes / (1 << 20));
  cluster.join();
  const std::int64_t join_ms = cluster.settle_ms();
  const Counts join = cluster.take_counts();
  std::printf("  one node joins: settled after %.1f s; %.0f shards move, by %.0f handovers; %.0f new replicas\n",
              static_cast<double>(join_ms) / 1'000, join.claims, join.tells, join.follows);
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::pair<std::size_t, ShardId>> sizes;
  for (int i = 1; i + 1 < count; i += 2) {
    sizes.emplace_back(std::strtoul(arguments[i], nullptr, 10),
                       static_cast<ShardId>(std::strtoul(arguments[i + 1], nullptr, 10)));
  }
  if (sizes.empty()) sizes = {{10, 16}, {100, 128}, {1'000, 1'024}};
  for (const auto& [nodes, shards] : sizes) {
    if (nodes < 2 || shards < 1 || shards > shards_max) {
      std::fprintf(stderr, "at least 2 nodes, and 1 to %u shards\n", static_cast<unsigned>(shards_max));
      return 2;
    }
    measure(nodes, shards);
    std::fflush(stdout);
  }
  measure_keys(1'000'000);
}
