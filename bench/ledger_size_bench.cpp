// What a large ledger costs: opening it, verifying it, a report over it, and its bytes on disk. The
// entries are written below the committer, so that ten million take a minute. Run by
// scripts/bench/ledger; --json prints one JSON object as the last line.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/json_writer.hpp"
#include "core/random.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_store.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"

namespace {

using namespace outlast;
using namespace outlast::storage;
using Steady = std::chrono::steady_clock;

constexpr std::size_t entries_per_batch = 2'048;
constexpr std::int64_t span_ms = 30LL * 24 * hour_ms;  // that the entries are spread over

[[noreturn]] void die(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  std::exit(1);
}

template <class T>
T need(Result<T> result) {
  if (!result) die(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

template <class Work>
double seconds_of(const Work& work) {
  const auto start = Steady::now();
  work();
  return std::chrono::duration<double>(Steady::now() - start).count();
}

Reservation reservation_of(const RequestId& id, Random& random) {
  Reservation reservation;
  reservation.request_id = id;
  const std::string user = "user-" + std::to_string(random.below(50));
  reservation.tenant = {"acme", "search", user};
  reservation.key_id = "key_" + user;
  reservation.route = random.below(2) == 0 ? "smart" : "fast";
  reservation.amount = {25'000'000};
  reservation.price_known = true;
  reservation.input_tokens_max = 900;
  reservation.output_tokens_max = 256;
  return reservation;
}

Settlement settlement_of(const RequestId& id, Random& random) {
  Settlement settlement;
  AttemptLine& line = settlement.attempt;
  line.request_id = id;
  line.number = 1;
  const bool alpha = random.below(2) == 0;
  line.deployment = alpha ? "fable-alpha" : "gpt-beta";
  line.provider = alpha ? "alpha" : "beta";
  line.model = alpha ? "claude-fable-5" : "gpt-sim-6";
  line.http_status = 200;
  line.usage.input_uncached = 300 + random.below(500);
  line.usage.output_text = random.below(256);
  line.usage.source = UsageSource::reported;
  line.cost = {
      static_cast<__int128>(line.usage.input_uncached * 3'000 + line.usage.output_text * 15'000)};
  line.price_known = true;
  line.price_version = "2026-01";
  line.first_event_ms = static_cast<std::uint32_t>(80 + random.below(200));
  line.duration_ms = static_cast<std::uint32_t>(500 + random.below(2'000));
  return settlement;
}

void write(const std::string& folder, std::uint64_t entries, ManualClock& clock) {
  const auto log = need(RocksLog::open(folder));
  UuidGenerator ids(clock, 1);
  Random random(1);
  const auto writer = need(LedgerWriter::open(*log, clock, ids.next(), "bench"));
  const std::uint64_t batches = entries / entries_per_batch + 1;
  while (writer->next_index() < entries) {
    const RequestId id = ids.next();
    need(writer->add(reservation_of(id, random)));
    need(writer->add(settlement_of(id, random)));
    if (writer->pending_entries() < entries_per_batch) continue;
    need(writer->commit());
    clock.advance_ms(span_ms / static_cast<std::int64_t>(batches));
  }
  need(writer->finish());
  need(log->compact());
}

std::uintmax_t bytes_of(const std::string& folder) {
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (file.is_regular_file()) bytes += file.file_size();
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  std::string parent = std::filesystem::temp_directory_path();
  std::uint64_t entries = 1'000'000;
  bool json_wanted = false;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") json_wanted = true;
    else if (name == "--large") entries = 10'000'000;
    else if (name == "--folder" && i + 1 < argc) parent = argv[++i];
    else if (name == "--entries" && i + 1 < argc) entries = std::strtoull(argv[++i], nullptr, 10);
    else {
      std::fprintf(stderr, "usage: ledger_size_bench [--json] [--folder DIR] [--large] "
                           "[--entries N]\n");
      return 2;
    }
  }
  const std::string folder = parent + "/ledger-size-bench-" + std::to_string(::getpid());
  ManualClock clock;
  const double write_s = seconds_of([&] { write(folder, entries, clock); });
  const std::uintmax_t bytes = bytes_of(folder);

  LedgerOptions options;
  options.path = folder;
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  std::unique_ptr<LedgerStore> store;
  const double open_s =
      seconds_of([&] { store = need(LedgerStore::open(options, clock)); });
  UsageQuery query;
  query.by = {UsageDimension::user, UsageDimension::model_served};
  double report_s = 0;
  for (int round = 0; round < 3; ++round) report_s = seconds_of([&] { need(store->usage(query)); });
  VerifyReport report;
  const double verify_s = seconds_of([&] { report = need(store->verify()); });
  if (!report.ok) std::fprintf(stderr, "%s\n", report.problem.c_str());
  store.reset();
  std::filesystem::remove_all(folder);

  const double per_entry = static_cast<double>(bytes) / static_cast<double>(report.entries);
  const double verified_per_s = static_cast<double>(report.entries) / verify_s;
  std::printf("%llu entries written in %.1f s\n", static_cast<unsigned long long>(report.entries),
              write_s);
  std::printf("verify            %10.0f entries/s   goal 200000 or more\n", verified_per_s);
  std::printf("bytes on disk     %10.1f per entry   goal below 120\n", per_entry);
  std::printf("open              %10.3f s           goal below 2\n", open_s);
  std::printf("report, user x model %7.1f ms          goal below 200\n", report_s * 1e3);
  if (json_wanted) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("entries").number(report.entries);
    json.key("verify_entries_per_s").real(verified_per_s).key("bytes_per_entry").real(per_entry);
    json.key("open_ms").real(open_s * 1e3).key("report_ms").real(report_s * 1e3).end_object();
    std::printf("%s\n", out.c_str());
  }
  return report.ok ? 0 : 1;
}
