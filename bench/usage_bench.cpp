// What a usage report costs: fills a store with requests of many keys over a month, then times
// reports by every two dimensions. Run by scripts/bench/usage; --json prints one JSON object as the
// last line.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/json_writer.hpp"
#include "core/random.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"

namespace {

using namespace outlast;
using namespace outlast::storage;
using Steady = std::chrono::steady_clock;

struct Options {
  std::string folder;  // kept and used again; default: a temporary one
  std::uint64_t entries = 10'000'000;
  std::uint64_t keys = 1'000;
  std::uint64_t days = 30;
  int rounds = 5;
  bool json = false;
};

constexpr std::uint64_t batch_entries = 4'096;
constexpr int foldings_per_batch = 64;
constexpr std::int64_t start_ms = 1'793'491'200'000;  // 2026-11-01

double ms_since(Steady::time_point start) {
  return std::chrono::duration<double, std::milli>(Steady::now() - start).count();
}

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "outlast-usage-bench: %s\n", what.c_str());
  std::exit(1);
}

// Few keys send much, many send little.
class Traffic {
 public:
  Traffic(const Options& options, ManualClock& clock)
      : options_(options), clock_(clock), ids_(clock, 1), random_(1) {}

  Reservation reservation() {
    Reservation reservation;
    reservation.request_id = ids_.next();
    const double skew = random_.fraction();
    const auto user = static_cast<std::uint64_t>(static_cast<double>(options_.keys) * skew * skew);
    reservation.tenant = {"org-" + std::to_string(user % 3), "team-" + std::to_string(user % 40),
                          "user-" + std::to_string(user)};
    reservation.key_id = "key_" + std::to_string(user);
    route_ = random_.below(3);
    reservation.route = route_ == 0 ? "smart" : route_ == 1 ? "fast" : "cheap";
    reservation.amount = {25'000'000};
    reservation.price_known = true;
    return reservation;
  }
  Settlement settlement(const RequestId& id) {
    Settlement settlement;
    AttemptLine& line = settlement.attempt;
    const std::uint64_t deployment = route_ * 2 + (random_.below(5) == 0 ? 1 : 0);
    line.request_id = id;
    line.number = 1;
    line.deployment = "deployment-" + std::to_string(deployment);
    line.provider = "provider-" + std::to_string(deployment % 3);
    line.model = "model-" + std::to_string(deployment);
    line.status = random_.below(50) == 0 ? AttemptStatus::cut : AttemptStatus::ok;
    line.usage.input_uncached = 300 + random_.below(500);
    line.usage.output_text = random_.below(256);
    line.usage.source = UsageSource::reported;
    line.cost = {static_cast<__int128>(line.usage.output_text * 15'000)};
    line.price_known = true;
    line.price_version = "2026-01";
    line.first_event_ms = static_cast<std::uint32_t>(80 + random_.below(400));
    line.duration_ms = static_cast<std::uint32_t>(500 + random_.below(9'000));
    return settlement;
  }

 private:
  const Options& options_;
  ManualClock& clock_;
  UuidGenerator ids_;
  Random random_;
  std::uint64_t route_ = 0;
};

void fill(const Options& options) {
  ManualClock clock;
  clock.set_wall_ms(start_ms);
  auto log = RocksLog::open(options.folder);
  if (!log) die(log.error().message);
  auto writer = LedgerWriter::open(**log, clock, {}, "bench");
  if (!writer) die(writer.error().message);
  Traffic traffic(options, clock);
  const auto span_ms = static_cast<double>(options.days) * 86'400'000;
  while ((*writer)->next_index() < options.entries) {
    const double done =
        static_cast<double>((*writer)->next_index()) / static_cast<double>(options.entries);
    clock.set_wall_ms(start_ms + static_cast<std::int64_t>(done * span_ms));
    for (std::uint64_t i = 0; i < batch_entries / 2; ++i) {
      const Reservation reservation = traffic.reservation();
      if (!(*writer)->add(reservation)) die("reserve");
      if (!(*writer)->add(traffic.settlement(reservation.request_id))) die("settle");
    }
    if (const auto committed = (*writer)->commit(); !committed) die(committed.error().message);
    // A month of commits in a minute: as many foldings as there would have been time for.
    for (int i = 0; i < foldings_per_batch; ++i) {
      if (const auto folded = (*writer)->fold(); !folded) die(folded.error().message);
    }
  }
  if (const auto finished = (*writer)->finish(); !finished) die(finished.error().message);
}

// Waits until compaction has caught up, as it does by itself where a month takes a month.
void settle(const Options& options) {
  constexpr int looks = 6;  // without a change
  auto log = RocksLog::open(options.folder);
  if (!log) die(log.error().message);
  const auto files = [&options] {
    std::set<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(options.folder))
      names.insert(file.path().filename());
    return names;
  };
  auto before = files();
  for (int same = 0; same < looks;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    auto now = files();
    same = now == before ? same + 1 : 0;
    before = std::move(now);
  }
}

struct Timing {
  std::string name;
  double first_ms = 0;
  double median_ms = 0;
  double worst_ms = 0;
  std::size_t rows = 0;
};

Timing time_query(const LedgerReader& reader, const Options& options, std::string name,
                  const UsageQuery& query) {
  Timing timing{std::move(name)};
  std::vector<double> times;
  for (int round = 0; round < options.rounds; ++round) {
    const auto start = Steady::now();
    const auto report = reader.usage(query);
    times.push_back(ms_since(start));
    if (!report) die(report.error().message);
    timing.rows = report->rows.size();
  }
  timing.first_ms = times.front();
  std::sort(times.begin(), times.end());
  timing.median_ms = times[times.size() / 2];
  timing.worst_ms = times.back();
  return timing;
}

std::vector<Timing> time_queries(const LedgerReader& reader, const Options& options) {
  std::vector<Timing> timings;
  constexpr auto dimensions = static_cast<std::size_t>(UsageDimension::tag);
  for (std::size_t a = 0; a < dimensions; ++a) {
    for (std::size_t b = a + 1; b < dimensions; ++b) {
      UsageQuery query;
      query.by = {static_cast<UsageDimension>(a), static_cast<UsageDimension>(b)};
      timings.push_back(time_query(
          reader, options,
          std::string(usage_dimension_names[a]) + "," + std::string(usage_dimension_names[b]),
          query));
    }
  }
  UsageQuery query;
  query.by = {UsageDimension::team, UsageDimension::model_served};
  query.every = UsageEvery::day;
  timings.push_back(time_query(reader, options, "team,model_served every day", query));
  query.every.reset();
  query.since_ms = start_ms + 36 * 3'600'000;
  query.until_ms = start_ms + 20LL * 86'400'000 + 18 * 3'600'000;
  timings.push_back(time_query(reader, options, "team,model_served of 19 days and 6 hours", query));
  return timings;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (++i == argc) die(name + " takes a value");
      return argv[i];
    };
    if (name == "--json") options.json = true;
    else if (name == "--folder") options.folder = value();
    else if (name == "--entries") options.entries = std::stoull(value());
    else if (name == "--keys") options.keys = std::stoull(value());
    else if (name == "--days") options.days = std::stoull(value());
    else if (name == "--rounds") options.rounds = std::max(1, std::stoi(value()));
    else
      die("unknown option " + name +
          "; there are --folder DIR --entries N --keys N --days N --rounds N --json");
  }
  return options;
}

std::uint64_t bytes_of(const std::string& folder) {
  std::uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) bytes += file.file_size();
  return bytes;
}

double resident_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options = parse(argc, argv);
  const bool temporary = options.folder.empty();
  if (temporary) {
    std::string name = (std::filesystem::temp_directory_path() / "outlast-usage-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) die("no temporary folder");
    options.folder = name;
  }
  const bool filled = std::filesystem::exists(options.folder + "/CURRENT");
  auto start = Steady::now();
  if (!filled) {
    fill(options);
    settle(options);
  }
  const double fill_ms = ms_since(start);
  start = Steady::now();
  auto reader = LedgerReader::open(options.folder);
  if (!reader) die(reader.error().message);
  const double open_ms = ms_since(start);
  std::vector<Timing> timings = time_queries(**reader, options);
  double worst_ms = 0;
  double worst_median_ms = 0;
  for (const Timing& timing : timings) {
    std::printf("%-44s %8zu rows  first %7.1f ms  median %7.1f ms  worst %7.1f ms\n",
                timing.name.c_str(), timing.rows, timing.first_ms, timing.median_ms,
                timing.worst_ms);
    worst_ms = std::max(worst_ms, timing.worst_ms);
    worst_median_ms = std::max(worst_median_ms, timing.median_ms);
  }
  std::string line;
  JsonWriter json(line);
  json.begin_object().key("entries").number(options.entries).key("keys").number(options.keys);
  json.key("fill_ms").real(std::round(fill_ms)).key("open_ms").real(std::round(open_ms));
  json.key("bytes_per_entry");
  json.real(static_cast<double>(bytes_of(options.folder)) / static_cast<double>(options.entries));
  json.key("worst_median_ms").real(worst_median_ms).key("worst_ms").real(worst_ms);
  json.key("resident_mb_max").real(std::round(resident_mb())).end_object();
  std::printf("%s\n", line.c_str());
  reader->reset();
  if (temporary) std::filesystem::remove_all(options.folder);
  return 0;
}
