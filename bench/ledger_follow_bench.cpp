// How fast a replica takes over a ledger: entries per second that one thread follows, into memory and
// into a RocksDB with a sync for each batch. Prints a table.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bench/ledger_samples.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "storage/rocks_log.hpp"

namespace {

using namespace outlast;
using namespace outlast::bench;
using namespace outlast::storage;
using Steady = std::chrono::steady_clock;

constexpr int requests = 300'000;

using Batches = std::vector<std::pair<std::uint64_t, std::string>>;

// Batches of as many requests, as an owner would have shared them.
Batches batches_of(const Clock& clock, int batch_requests) {
  MemoryLog log;
  UuidGenerator ids(clock, 1);
  Random random(1);
  Result<std::unique_ptr<LedgerWriter>> writer = LedgerWriter::open_replica(log, clock);
  require(writer);
  require((*writer)->lead(1, {ids.next(), "bench", "bench"}));
  const Incarnation holder = ids.next();
  std::vector<RequestId> open;
  for (int i = 0; i < requests; ++i) {
    open.push_back(ids.next());
    Reservation reservation = reservation_of(open.back(), random);
    reservation.holder = holder;
    require((*writer)->add(reservation));
    if (static_cast<int>(open.size()) < batch_requests) continue;
    for (const RequestId& id : open) require((*writer)->add(settlement_of(id, random)));
    open.clear();
    require((*writer)->commit());
  }
  Batches batches;
  for (auto& [index, records] : log.batches()) batches.emplace_back(index, std::move(records));
  return batches;
}

struct Rate {
  double per_s = 0;
  double cpu_us = 0;  // per entry
};

Rate rate_of(Log& log, const Clock& clock, const Batches& batches) {
  Result<std::unique_ptr<LedgerWriter>> replica = LedgerWriter::open_replica(log, clock);
  require(replica);
  const double cpu = cpu_s();
  const auto start = Steady::now();
  for (const auto& [index, records] : batches) require((*replica)->follow(index, records));
  const std::chrono::duration<double> took = Steady::now() - start;
  const auto entries = static_cast<double>((*replica)->next_index());
  return {entries / took.count(), (cpu_s() - cpu) * 1e6 / entries};
}

}  // namespace

int main() {
  const SystemClock clock;
  std::printf("%-28s %14s %14s %14s\n", "entries in a batch", "memory/s", "durable/s", "cpu us/entry");
  for (const int batch_requests : {32, 128, 512}) {
    const Batches batches = batches_of(clock, batch_requests);
    MemoryLog memory;
    const Rate in_memory = rate_of(memory, clock, batches);
    std::string folder =
        (std::filesystem::temp_directory_path() / "outlast-follow-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) return 1;
    Rate durable;
    {
      const Result<std::unique_ptr<RocksLog>> log = RocksLog::open(folder);
      require(log);
      durable = rate_of(**log, clock, batches);
    }
    std::filesystem::remove_all(folder);
    std::printf("%-28d %14.0f %14.0f %14.2f\n", 2 * batch_requests, in_memory.per_s, durable.per_s,
                durable.cpu_us);
  }
  return 0;
}
