// What the ledger costs: durable entries per second and the time from submit to durable with lanes
// that always have requests in flight, then the processor's time per request at a fixed rate on one
// core. Run by scripts/bench/ledger; --json prints one JSON object as the last line.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/json_writer.hpp"
#include "core/random.hpp"
#include "storage/ledger_store.hpp"

namespace {

using namespace outlast;
using namespace outlast::storage;
using Steady = std::chrono::steady_clock;

struct Options {
  std::string folder;  // of the store; default: a temporary one
  int seconds = 5;
  int lanes = 2;
  std::size_t in_flight = 256;  // operations per lane
  std::uint64_t requests_per_s = 40'000;
  int users = 50;
  bool json = false;
  bool paced = true;
  bool flood = true;
};

std::int64_t now_ns() { return Steady::now().time_since_epoch().count(); }

double cpu_us() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

// One lane: makes requests and remembers when each of its operations was submitted.
class Lane {
 public:
  Lane(LedgerStore& store, const Clock& clock, std::uint64_t seed, int users)
      : ids_(clock, seed),
        random_(seed),
        users_(users),
        submitter_(store.make_submitter([this](std::uint64_t ticket) { durable(ticket); },
                                        [](std::uint64_t, const Refused& refused) {
                                          std::fprintf(stderr, "refused: %s\n",
                                                       refused.error.message.c_str());
                                          std::exit(1);
                                        })) {}

  RequestId reserve(bool urgent) {
    Reservation reservation;
    reservation.request_id = ids_.next();
    const std::string user =
        "user-" + std::to_string(random_.below(static_cast<std::uint64_t>(users_)));
    reservation.tenant = {"acme", "search", user};
    reservation.key_id = "key_" + user;
    reservation.route = "smart";
    reservation.amount = {25'000'000};
    reservation.price_known = true;
    reservation.input_tokens_max = 900;
    reservation.output_tokens_max = 256;
    const RequestId id = reservation.request_id;
    submit(std::move(reservation), urgent);
    return id;
  }
  void settle(const RequestId& id, bool urgent) {
    Settlement settlement;
    AttemptLine& line = settlement.attempt;
    line.request_id = id;
    line.number = 1;
    line.deployment = "fable-alpha";
    line.provider = "alpha";
    line.model = "claude-fable-5";
    line.http_status = 200;
    line.usage.input_uncached = 300 + random_.below(500);
    line.usage.output_text = random_.below(256);
    line.usage.source = UsageSource::reported;
    line.cost = {
        static_cast<__int128>(line.usage.input_uncached * 3'000 + line.usage.output_text * 15'000)};
    line.price_known = true;
    line.price_version = "2026-01";
    line.first_event_ms = 120;
    line.duration_ms = 900;
    submit(std::move(settlement), urgent);
  }
  [[nodiscard]] std::size_t in_flight() {
    const std::lock_guard lock(mutex_);
    return submitted_.size();
  }
  void wait_below(std::size_t operations) {
    std::unique_lock lock(mutex_);
    told_.wait(lock, [this, operations] { return submitted_.size() < operations; });
  }
  std::vector<float> take_latencies() {
    const std::lock_guard lock(mutex_);
    return std::exchange(latencies_ms_, {});
  }

 private:
  void submit(MeteringOperation operation, bool urgent) {
    const std::int64_t at = now_ns();
    {
      const std::lock_guard lock(mutex_);
      submitted_.push_back(at);
    }
    for (;;) {
      const Result<std::uint64_t> ticket = submitter_->submit(std::move(operation), urgent);
      if (ticket) return;
      std::fprintf(stderr, "submit: %s\n", ticket.error().message.c_str());
      std::exit(1);
    }
  }
  void durable(std::uint64_t ticket) {
    const std::int64_t now = now_ns();
    const std::lock_guard lock(mutex_);
    for (; durable_ < ticket; ++durable_) {
      latencies_ms_.push_back(static_cast<float>(now - submitted_.front()) * 1e-6F);
      submitted_.pop_front();
    }
    told_.notify_one();
  }

  UuidGenerator ids_;
  Random random_;
  const int users_;
  std::mutex mutex_;
  std::condition_variable told_;
  std::deque<std::int64_t> submitted_;
  std::uint64_t durable_ = 0;
  std::vector<float> latencies_ms_;
  std::unique_ptr<LedgerSubmitter> submitter_;  // last: its callbacks use the above
};

struct Figures {
  double entries_per_s = 0;
  double commit_ms_p50 = 0;
  double commit_ms_p99 = 0;
  double commit_ms_max = 0;
  double entries_per_batch = 0;
  double cpu_us_per_request = 0;  // of the whole process, its load generator included
};

Figures figures_of(std::vector<float> latencies, double seconds, std::uint64_t batches,
                   double used_cpu_us) {
  Figures figures;
  if (latencies.empty()) return figures;
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&latencies](double fraction) {
    return static_cast<double>(
        latencies[static_cast<std::size_t>(fraction * static_cast<double>(latencies.size() - 1))]);
  };
  const auto entries = static_cast<double>(latencies.size());
  figures.entries_per_s = entries / seconds;
  figures.commit_ms_p50 = at(0.5);
  figures.commit_ms_p99 = at(0.99);
  figures.commit_ms_max = at(1);
  figures.entries_per_batch = batches > 0 ? entries / static_cast<double>(batches) : 0;
  figures.cpu_us_per_request = used_cpu_us / (entries / 2);
  return figures;
}

// Lanes that keep a fixed number of operations in flight.
Figures flood(LedgerStore& store, const Clock& clock, const Options& options) {
  std::vector<std::unique_ptr<Lane>> lanes;
  for (int i = 0; i < options.lanes; ++i) {
    lanes.push_back(
        std::make_unique<Lane>(store, clock, static_cast<std::uint64_t>(i) + 1, options.users));
  }
  const std::uint64_t batches = store.status().batches;
  const double cpu = cpu_us();
  const std::int64_t start = now_ns();
  const std::int64_t end = start + static_cast<std::int64_t>(options.seconds) * 1'000'000'000;
  std::vector<std::thread> threads;
  for (auto& lane : lanes) {
    threads.emplace_back([&lane = *lane, &options, end] {
      while (now_ns() < end) {
        lane.wait_below(options.in_flight);
        lane.settle(lane.reserve(true), false);
      }
      lane.wait_below(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  std::vector<float> latencies;
  for (auto& lane : lanes) {
    const std::vector<float> own = lane->take_latencies();
    latencies.insert(latencies.end(), own.begin(), own.end());
  }
  return figures_of(std::move(latencies), seconds, store.status().batches - batches,
                    cpu_us() - cpu);
}

void pin_to_one_core() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

// One lane at a fixed rate that shares its core with the committer, as in a gateway: reserve, and
// settle 2 ms later.
Figures paced(LedgerStore& store, const Clock& clock, const Options& options) {
  Lane lane(store, clock, 99, options.users);
  std::deque<std::pair<std::int64_t, RequestId>> running;
  const std::uint64_t batches = store.status().batches;
  const double cpu = cpu_us();
  const std::int64_t start = now_ns();
  const std::int64_t end = start + static_cast<std::int64_t>(options.seconds) * 1'000'000'000;
  std::uint64_t made = 0;
  for (std::int64_t now = start; now < end; now = now_ns()) {
    const auto due = static_cast<std::uint64_t>(static_cast<double>(now - start) * 1e-9 *
                                                static_cast<double>(options.requests_per_s));
    for (; made < due; ++made) running.emplace_back(now, lane.reserve(true));
    while (!running.empty() && now - running.front().first > 2'000'000) {
      lane.settle(running.front().second, false);
      running.pop_front();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  for (const auto& [at, id] : running) lane.settle(id, false);
  lane.wait_below(1);
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  return figures_of(lane.take_latencies(), seconds, store.status().batches - batches,
                    cpu_us() - cpu);
}

void print(const char* name, const Figures& figures) {
  std::printf("%-28s %11.0f %10.2f %10.2f %10.2f %12.1f %12.2f\n", name, figures.entries_per_s,
              figures.commit_ms_p50, figures.commit_ms_p99, figures.commit_ms_max,
              figures.entries_per_batch, figures.cpu_us_per_request);
}

int run(const Options& options) {
  const SystemClock clock;
  const std::string folder = options.folder + "/ledger-bench-" + std::to_string(::getpid());
  LedgerOptions ledger;
  ledger.path = folder;
  const std::int64_t open_start = now_ns();
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(ledger, clock);
  const double open_ms = static_cast<double>(now_ns() - open_start) * 1e-6;
  if (!store) {
    std::fprintf(stderr, "%s\n", store.error().message.c_str());
    return 1;
  }
  std::printf("%-28s %11s %10s %10s %10s %12s %12s\n", "", "entries/s", "p50 ms", "p99 ms",
              "max ms", "entries/batch", "CPU us/req");
  Figures full;
  if (options.flood) {
    full = flood(**store, clock, options);
    print((std::to_string(options.lanes) + " lanes x " + std::to_string(options.in_flight) +
           " in flight")
              .c_str(),
          full);
  }
  Figures at_rate;
  if (options.paced) {
    store->reset();
    pin_to_one_core();  // the committer's thread inherits it
    store = LedgerStore::open(ledger, clock);
    if (!store) return 1;
    at_rate = paced(**store, clock, options);
    print((std::to_string(options.requests_per_s) + " requests/s, one core").c_str(), at_rate);
  }
  const std::uint64_t entries = (*store)->status().entries;
  store->reset();
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.is_regular_file()) bytes += file.file_size();
  }
  const double bytes_per_entry =
      static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(entries, 1));
  std::printf("cold open %.1f ms; %llu entries, %.0f bytes each on disk\n", open_ms,
              static_cast<unsigned long long>(entries), bytes_per_entry);
  std::filesystem::remove_all(folder);
  if (options.json) {
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    json.key("entries_per_s").real(full.entries_per_s);
    json.key("commit_ms_p50").real(full.commit_ms_p50);
    json.key("commit_ms_p99").real(full.commit_ms_p99);
    json.key("commit_ms_max").real(full.commit_ms_max);
    json.key("entries_per_batch").real(full.entries_per_batch);
    json.key("flood_cpu_us_per_request").real(full.cpu_us_per_request);
    json.key("paced_requests_per_s").number(options.requests_per_s);
    json.key("paced_commit_ms_p99").real(at_rate.commit_ms_p99);
    json.key("paced_cpu_us_per_request").real(at_rate.cpu_us_per_request);
    json.key("cold_open_ms").real(open_ms);
    json.key("bytes_per_entry").real(bytes_per_entry);
    json.end_object();
    std::printf("%s\n", out.c_str());
  }
  return 0;
}

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: ledger_bench [--json] [--folder DIR] [--seconds N] [--lanes N] [--in-flight "
               "N] [--rate N]\n"
               "                    [--users N] [--only flood|paced]\n");
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.folder = std::filesystem::temp_directory_path();
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") {
      options.json = true;
      continue;
    }
    if (++i == argc) usage();
    const std::string value = argv[i];
    if (name == "--folder") options.folder = value;
    else if (name == "--seconds") options.seconds = std::atoi(value.c_str());
    else if (name == "--lanes") options.lanes = std::atoi(value.c_str());
    else if (name == "--in-flight") options.in_flight = std::strtoull(value.c_str(), nullptr, 10);
    else if (name == "--rate") options.requests_per_s = std::strtoull(value.c_str(), nullptr, 10);
    else if (name == "--users") options.users = std::atoi(value.c_str());
    else if (name == "--only") (value == "flood" ? options.paced : options.flood) = false;
    else usage();
  }
  return run(options);
}
