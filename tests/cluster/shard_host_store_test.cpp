#include "cluster/shard_host.hpp"

#include <catch2/catch.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "cluster/boot_clock.hpp"
#include "cluster/memory_agreement.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::cluster::shard_host_store_test {
namespace {

constexpr auto deadline = std::chrono::seconds(20);

// A replica over a shared log in memory, whose thread can be held up.
struct Bench {
  Bench() : agreement(clock, 1), node(agreement.node("n1")) {
    ShardHostPorts ports;
    ports.send = [this](const std::string&, const shard::Message&) { ++answers; };
    ports.progress = [this](const HostStatus& status) {
      if (status.dropped > 0 && !told.exchange(true)) dropped.set_value(status.dropped);
    };
    ShardHostOptions options;
    options.folder = folder.path() + "/ledger";
    options.node = "n1";
    auto opened = ShardHost::open(options, clock, boot_clock, node->log(0),
                                  std::make_shared<const std::atomic<std::int64_t>>(0), ports);
    REQUIRE(opened);
    host = std::move(*opened);
  }

  storage::TemporaryFolder folder;
  SystemClock clock;
  BootClock boot_clock;
  MemoryAgreement agreement;  // used on the host's thread only, once that runs
  std::unique_ptr<Coordination> node;
  std::atomic<int> answers{0};
  std::atomic<bool> told{false};
  std::promise<std::uint64_t> dropped;
  std::unique_ptr<ShardHost> host;
};

}  // namespace

TEST_CASE("a shard that is busy lets only so many bytes of messages wait", "[cluster][queue]") {
  Bench bench;
  std::promise<void> busy;
  std::promise<void> go_on;
  bench.host->when_current([&busy, waits = go_on.get_future().share()](const Result<void>&) {
    busy.set_value();
    waits.wait_for(deadline);
  });
  REQUIRE(busy.get_future().wait_for(deadline) == std::future_status::ready);
  const shard::Operations large{{}, 1, 1, 1, 0, false, {shard::EntryOperation{std::string(8U << 20, 'x')}}};
  for (int i = 0; i < 10; ++i) bench.host->receive("n2", {0, 1, large});
  go_on.set_value();
  auto dropped = bench.dropped.get_future();
  REQUIRE(dropped.wait_for(deadline) == std::future_status::ready);
  CHECK(dropped.get() == 3);
  CHECK(bench.answers == 7);  // that it is not the owner
}

}  // namespace outlast::cluster::shard_host_store_test
