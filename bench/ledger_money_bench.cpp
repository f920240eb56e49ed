// What budgets and commitments cost the ledger's state machine, without a disk: entries per second
// of one core with none, and with a hard budget on every level of the path and a commitment; the
// rate of verify; and the memory of many keys that each have a budget. Prints a table; --json
// prints one JSON object as the last line.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "bench/ledger_samples.hpp"
#include "core/json_writer.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace {

using namespace outlast;
using namespace outlast::bench;
using namespace outlast::storage;

constexpr int requests = 300'000;
constexpr int batch_requests = 200;
constexpr int keys = 100'000;

double resident_mb() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  double resident = 0;
  file >> pages >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

Budget budget_on(const std::string& scope) {
  return {"bud_" + scope, "", *Scope::parse(scope), {static_cast<__int128>(1) << 80},
          BudgetPeriod::month, "Europe/Berlin", false};
}

void add_money(LedgerWriter& writer) {
  std::vector<std::string> scopes = {"organisation:acme", "team:acme/search",
                                     "model:claude-fable-5", "provider:alpha"};
  for (int i = 0; i < users; ++i) {
    scopes.push_back("user:acme/search/user-" + std::to_string(i));
    scopes.push_back("key:key_user-" + std::to_string(i));
  }
  for (const std::string& scope : scopes)
    require(writer.add(proto::BudgetSet{budget_on(scope), "bench", 0, 0}));
  const Commitment commitment{"com_1", "alpha", {}, CommitmentUnit::tokens,
                              static_cast<__int128>(1) << 50, {static_cast<__int128>(1) << 60},
                              0, std::int64_t{1} << 50, false};
  require(writer.add(proto::CommitmentAdded{commitment, "bench"}));
  require(writer.commit());
}

struct Rates {
  double entries_per_s = 0;
  double verified_per_s = 0;
};

Rates rates(bool money) {
  const SystemClock clock;
  MemoryLog log;
  UuidGenerator ids(clock, 1);
  Random random(1);
  Result<std::unique_ptr<LedgerWriter>> writer =
      LedgerWriter::open(log, clock, ids.next(), "bench");
  require(writer);
  if (money) add_money(**writer);
  std::vector<RequestId> open;
  const double start = cpu_s();
  for (int i = 0; i < requests; ++i) {
    open.push_back(ids.next());
    require((*writer)->add(reservation_of(open.back(), random)));
    if (open.size() < batch_requests) continue;
    for (const RequestId& id : open) require((*writer)->add(settlement_of(id, random)));
    open.clear();
    require((*writer)->commit());
  }
  Rates rates;
  rates.entries_per_s = 2 * requests / (cpu_s() - start);
  require((*writer)->finish());
  const double verify_start = cpu_s();
  const Result<VerifyReport> report = verify_ledger(log);
  require(report);
  if (!report->ok) {
    std::fprintf(stderr, "%s\n", report->problem.c_str());
    std::exit(1);
  }
  rates.verified_per_s = static_cast<double>(report->entries) / (cpu_s() - verify_start);
  return rates;
}

// Of the writer, its state, and the book that lanes read, while the next one is made.
double budgets_mb() {
  const SystemClock clock;
  MemoryLog log;
  UuidGenerator ids(clock, 1);
  Result<std::unique_ptr<LedgerWriter>> writer =
      LedgerWriter::open(log, clock, ids.next(), "bench");
  require(writer);
  const double before = resident_mb();
  for (int i = 0; i < keys; ++i) {
    const std::string key = "key_" + ids.next().to_string().substr(24);
    VirtualKey created{key, {"acme", "search", "user-" + std::to_string(i)}, "laptop", {}, 5, {}};
    require((*writer)->add(created));
    Budget budget = budget_on("key:" + key);
    budget.id = "bud_" + ids.next().to_string().substr(14);
    require((*writer)->add(proto::BudgetSet{budget, "bench", 0, 0}));
    if (i % 1'000 != 999) continue;
    require((*writer)->commit());
    log.batches().clear();  // only what the process holds counts
    log.rows(Table::meta).clear();
  }
  const auto book = (*writer)->make_budget_book();
  const auto next = (*writer)->make_budget_book();
  return resident_mb() - before;
}

}  // namespace

int main(int argc, char** argv) {
  const double memory_mb = budgets_mb();
  const Rates without = rates(false);
  const Rates with = rates(true);
  std::printf("%-34s %12s %12s\n", "", "entries/s", "verified/s");
  std::printf("%-34s %12.0f %12.0f\n", "no budgets", without.entries_per_s, without.verified_per_s);
  std::printf("%-34s %12.0f %12.0f\n", "six budgets and a commitment", with.entries_per_s,
              with.verified_per_s);
  std::printf("%d keys with a budget each: %.0f MB\n", keys, memory_mb);
  if (argc == 2 && std::strcmp(argv[1], "--json") == 0) {
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    json.key("entries_per_s").real(without.entries_per_s);
    json.key("entries_per_s_money").real(with.entries_per_s);
    json.key("verified_per_s").real(without.verified_per_s);
    json.key("verified_per_s_money").real(with.verified_per_s);
    json.key("budgets_mb").real(memory_mb);
    json.end_object();
    std::printf("%s\n", out.c_str());
  }
  return 0;
}
