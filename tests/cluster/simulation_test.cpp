// Some seeds of the whole cluster's simulation; scripts/simulate runs thousands.
#include <catch2/catch.hpp>

#include "tests/cluster/simulate/sim_world.hpp"

namespace simulation_test {

using outlast::cluster::simulation::SimReport;
using outlast::cluster::simulation::SimWorld;

TEST_CASE("Whatever happens to a cluster, its ledgers keep their promises and it comes to rest", "[cluster][simulation]") {
  constexpr std::uint64_t seeds = 60;
  std::uint64_t served = 0;
  std::uint64_t spooled = 0;
  std::uint64_t owners = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const SimReport report = SimWorld(seed).run();
    INFO("scripts/simulate --seeds 1 --from " << seed << ": " << report.broken);
    REQUIRE(report.broken.empty());
    served += report.counts.served;
    spooled += report.counts.spooled;
    owners += report.owners;
  }
  CHECK(served > seeds * 100);
  CHECK(spooled > seeds);
  CHECK(owners > seeds * 4);
}

TEST_CASE("A seed of the whole cluster replays identically", "[cluster][simulation]") {
  CHECK(SimWorld(3).run().digest == SimWorld(3).run().digest);
}

}  // namespace simulation_test
