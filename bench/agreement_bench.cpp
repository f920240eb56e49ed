// What agreement by etcd costs: batches appended to shared logs, by the entries in a batch; each writer owns a shard
// and has one append in flight. Run by scripts/bench/agreement, which starts the members.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "cluster/etcd_coordination.hpp"
#include "core/json_writer.hpp"
#include "core/random.hpp"

namespace {

using namespace outlast;
using namespace outlast::cluster;
using Steady = std::chrono::steady_clock;

struct Options {
  EtcdOptions etcd;
  std::vector<int> pids;  // of members on this machine, for their time
  std::vector<std::size_t> batches{1, 16, 64, 256, 1'024};
  std::size_t entry_bytes = 200;
  std::size_t writers = 4;
  double seconds = 4;
  bool json = false;
};

double own_cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto s = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}

double members_cpu_s(const std::vector<int>& pids) {
  double total = 0;
  for (const int pid : pids) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const std::size_t behind_name = text.rfind(')');
    if (behind_name == std::string::npos) continue;
    std::istringstream fields(text.substr(behind_name + 1));
    std::string skipped;
    double user = 0;
    double system = 0;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    fields >> user >> system;
    total += (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  return total;
}

template <class T>
T require(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(*result);
}

// Entries are as compressible as the ledger's: half of each is the same everywhere.
std::string make_records(Random& random, std::size_t bytes) {
  std::string records(bytes, 'r');
  for (std::size_t i = 0; i < bytes; i += 2) records[i] = static_cast<char>(random.next());
  return records;
}

struct Measured {
  double entries_per_s = 0;
  double appends_per_s = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double own_cores = 0;
  double members_cores = 0;
};

// Appends until `until`; the time of each in ms.
void write(EtcdCoordination& node, ShardId shard, LeaseId lease, const Presence& me, const Options& options,
           std::size_t entries, Steady::time_point until, std::vector<double>& times_ms) {
  const std::uint64_t epoch = require(node.claim(shard, lease, me));
  const auto log = node.log(shard);
  std::uint64_t next_index = require(log->tail()).next_index;
  Random random(shard);
  const std::string records = make_records(random, std::min(entries * options.entry_bytes, shared_batch_bytes_max));
  while (Steady::now() < until) {
    const auto began = Steady::now();
    const Result<void> appended = log->append(epoch, next_index + entries, {next_index, records});
    if (!appended) require<SharedTail>(fail(appended.error()));
    next_index += entries;
    times_ms.push_back(std::chrono::duration<double, std::milli>(Steady::now() - began).count());
    if (times_ms.size() % 64 == 0) (void)log->trim(next_index - entries);
  }
}

Measured measure(EtcdCoordination& node, LeaseId lease, const Presence& me, const Options& options,
                 std::size_t entries) {
  std::vector<std::vector<double>> times_ms(options.writers);
  std::vector<std::thread> threads;
  const double own_before = own_cpu_s();
  const double members_before = members_cpu_s(options.pids);
  const auto began = Steady::now();
  const auto until =
      began + std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double>(options.seconds));
  for (std::size_t i = 0; i < options.writers; ++i) {
    threads.emplace_back([&node, lease, &me, &options, entries, until, i, &times_ms] {
      write(node, static_cast<ShardId>(i), lease, me, options, entries, until, times_ms[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double elapsed_s = std::chrono::duration<double>(Steady::now() - began).count();
  std::vector<double> all;
  for (const std::vector<double>& times : times_ms) all.insert(all.end(), times.begin(), times.end());
  std::sort(all.begin(), all.end());
  Measured measured;
  measured.appends_per_s = static_cast<double>(all.size()) / elapsed_s;
  measured.entries_per_s = measured.appends_per_s * static_cast<double>(entries);
  if (!all.empty()) {
    measured.p50_ms = all[all.size() / 2];
    measured.p99_ms = all[all.size() * 99 / 100];
  }
  measured.own_cores = (own_cpu_s() - own_before) / elapsed_s;
  measured.members_cores = (members_cpu_s(options.pids) - members_before) / elapsed_s;
  return measured;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures appends to shared logs in etcd.");
  app.add_option("--endpoints", options.etcd.endpoints, "etcd's endpoints")->required()->delimiter(',');
  app.add_option("--ca", options.etcd.ca_file, "the certificate authority, with https");
  app.add_option("--certificate", options.etcd.certificate_file, "the client's certificate");
  app.add_option("--key", options.etcd.key_file, "the certificate's key");
  app.add_option("--pids", options.pids, "of members on this machine, whose time is counted")->delimiter(',');
  app.add_option("--batches", options.batches, "entries in a batch")->delimiter(',');
  app.add_option("--entry-bytes", options.entry_bytes, "bytes of an entry");
  app.add_option("--writers", options.writers, "shards, each with one append in flight");
  app.add_option("--seconds", options.seconds, "for each size of batches");
  app.add_flag("--json", options.json, "one JSON object as the last line");
  CLI11_PARSE(app, argc, argv);

  options.etcd.call_timeout_ms = 10'000;
  const auto client = require(EtcdClient::start(options.etcd));
  EtcdCoordination node(*client, "bench");
  Presence me;
  me.node = "bench";
  me.incarnation.bytes[0] = 1;
  const LeaseId lease = require(node.start_lease(600, me));
  std::printf("%zu writers, entries of %zu B\n", options.writers, options.entry_bytes);
  std::printf("%10s %10s %12s %9s %9s %10s %12s\n", "batch", "appends/s", "entries/s", "p50 ms", "p99 ms", "own cores",
              "etcd's cores");
  std::string json;
  JsonWriter out(json);
  out.begin_array();
  for (const std::size_t entries : options.batches) {
    const Measured measured = measure(node, lease, me, options, entries);
    std::printf("%10zu %10.0f %12.0f %9.1f %9.1f %10.2f %12.2f\n", entries, measured.appends_per_s,
                measured.entries_per_s, measured.p50_ms, measured.p99_ms, measured.own_cores, measured.members_cores);
    std::fflush(stdout);
    out.begin_object().key("batch").number(static_cast<std::uint64_t>(entries));
    out.key("appends_per_s").real(measured.appends_per_s).key("entries_per_s").real(measured.entries_per_s);
    out.key("p50_ms").real(measured.p50_ms).key("p99_ms").real(measured.p99_ms);
    out.key("own_cores").real(measured.own_cores).key("members_cores").real(measured.members_cores).end_object();
    (void)node.compact();
  }
  out.end_array();
  if (options.json) std::printf("%s\n", json.c_str());
  (void)node.end_lease(lease);
  return 0;
}
