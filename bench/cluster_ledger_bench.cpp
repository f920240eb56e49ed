// What a replicated ledger costs without HTTP: three nodes and three members of etcd, all of them processes of this
// machine on loopback; each node's lane makes reservations, covered by slices of hard budgets, and their settlements, as
// a gateway does, as many under way as are asked for. An entry counts once it is durable and applied on all replicas.
// Times are from submission to durability, as a lane sees them. The peer in the same run: bare appends of batches like
// those to the same etcd, a writer for each shard.
//   outlast-cluster-ledger-bench [--seconds N] [--in-flight N] [--shards N] [--folder DIR] [--rounds N] [--json]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/child_processes.hpp"
#include "bench/cluster_ledger_node.hpp"
#include "bench/ledger_samples.hpp"
#include "cluster/commit_times.hpp"
#include "cluster/curve.hpp"
#include "cluster/etcd_coordination.hpp"
#include "core/json_writer.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace {

using namespace outlast;
using namespace outlast::bench;
using Steady = std::chrono::steady_clock;

constexpr std::size_t nodes = 3;
constexpr double warm_up_s = 2;
constexpr auto look = std::chrono::milliseconds(2);
constexpr auto etcd_patience = std::chrono::seconds(60);

double seconds_since(Steady::time_point start) { return std::chrono::duration<double>(Steady::now() - start).count(); }

std::vector<double> numbers_of(const std::string& line) {
  std::istringstream text(line);
  std::vector<double> numbers;
  for (double number = 0; text >> number;) numbers.push_back(number);
  return numbers;
}

struct Figures {
  double entries_per_s = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double batch_p99_ms = 0;  // at most: the bound of a bucket of the owners' histogram
  double batch_entries = 0;
  double refused = 0;
  double in_slice = 0;  // share of reservations that were covered by slices
  double nodes_us = 0;  // processor's time per entry, of all nodes
  double etcd_us = 0;   // likewise of all members
  double bare_entries_per_s = 0;
};

class Cluster {
 public:
  Cluster(const std::string& program, const std::string& folder, LedgerNodeOptions options) : etcd_(folder, nodes) {
    wait_for_etcd();
    for (const std::uint16_t port : free_ports(nodes)) endpoints_.push_back("tcp://127.0.0.1:" + std::to_string(port));
    std::vector<cluster::CurveKeys> keys;
    std::string public_keys;
    for (std::size_t i = 0; i < nodes; ++i) {
      keys.push_back(cluster::make_curve_keys());
      public_keys += " " + keys[i].public_key;
    }
    const auto joined = [](const std::vector<std::string>& parts) {
      std::string text;
      for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
      return text;
    };
    for (std::size_t i = 0; i < nodes; ++i) {
      const std::string place = folder + "/n" + std::to_string(i);
      nodes_.push_back(std::make_unique<ChildProcess>(
          std::vector<std::string>{program, "--node", std::to_string(i), "--folder", place, "--etcd", joined(etcd_.endpoints()),
                                   "--endpoints", joined(endpoints_), "--shards", std::to_string(options.shards), "--in-flight",
                                   std::to_string(options.in_flight)},
          place + ".log", true));
      nodes_.back()->say(keys[i].secret_key + public_keys);
      check(nodes_.back()->hear() == "started", "a node starts");
    }
    ask_all("ready");
  }

  std::vector<std::string> ask_all(const std::string& order) {
    for (const auto& node : nodes_) node->say(order);
    std::vector<std::string> answers;
    for (const auto& node : nodes_) answers.push_back(node->hear());
    return answers;
  }
  // Applied entries of each shard, by node.
  std::vector<std::map<int, double>> applied() {
    std::vector<std::map<int, double>> all;
    for (const std::string& answer : ask_all("status")) {
      const std::vector<double> numbers = numbers_of(answer);
      auto& one = all.emplace_back();
      for (std::size_t i = 0; i + 1 < numbers.size(); i += 2) one[static_cast<int>(numbers[i])] = numbers[i + 1];
    }
    return all;
  }
  // Of all shards, once all replicas are equal.
  double applied_everywhere() {
    while (true) {
      const auto all = applied();
      double sum = 0;
      for (const auto& [shard, entries] : all.front()) sum += entries;
      if (all[1] == all[0] && all[2] == all[0]) return sum;
      std::this_thread::sleep_for(look);
    }
  }
  // Batches and their histogram.
  std::vector<double> commits() {
    std::vector<double> sum;
    for (const std::string& answer : ask_all("commits")) {
      const std::vector<double> numbers = numbers_of(answer);
      sum.resize(numbers.size());
      for (std::size_t i = 0; i < numbers.size(); ++i) sum[i] += numbers[i];
    }
    return sum;
  }
  std::vector<double> cpu_s() {
    std::vector<double> each;
    for (const std::string& answer : ask_all("cpu")) each.push_back(numbers_of(answer).at(0));
    return each;
  }
  [[nodiscard]] const EtcdProcesses& etcd() const { return etcd_; }

 private:
  void wait_for_etcd() {
    cluster::EtcdOptions options;
    options.endpoints = etcd_.endpoints();
    const auto client = cluster::EtcdClient::start(options);
    require(client);
    const auto until = Steady::now() + etcd_patience;
    const auto healthy = [&client] {
      for (const auto& status : (*client)->statuses()) {
        if (!status || status->leader == 0) return false;
      }
      return (*client)->read({cluster::EtcdRange{"health"}}).has_value();
    };
    while (!healthy()) {
      check(Steady::now() < until, "etcd becomes healthy");
      std::this_thread::sleep_for(look * 50);
    }
  }

  EtcdProcesses etcd_;
  std::vector<std::string> endpoints_;
  std::vector<std::unique_ptr<ChildProcess>> nodes_;
};

double quantile_bound_ms(const std::vector<double>& counts, double share) {
  double total = 0;
  for (const double count : counts) total += count;
  double reached = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    reached += counts[i];
    if (reached < share * total) continue;
    return i < cluster::CommitTimes::bounds_us.size() ? static_cast<double>(cluster::CommitTimes::bounds_us[i]) / 1e3 : INFINITY;
  }
  return 0;
}

double sum_of(const std::vector<double>& numbers) {
  double sum = 0;
  for (const double number : numbers) sum += number;
  return sum;
}

Figures measure(Cluster& cluster, double seconds) {
  Figures figures;
  const double applied_before = cluster.applied_everywhere();
  const std::vector<double> commits_before = cluster.commits();
  const double cpu_before = sum_of(cluster.cpu_s());
  const double etcd_before = cluster.etcd().cpu_s();
  const auto start = Steady::now();
  std::vector<std::pair<double, double>> times;  // us, and how many operations it stands for
  double reservations = 0;
  double in_slice = 0;
  for (const std::string& answer : cluster.ask_all("load " + std::to_string(seconds))) {
    const std::vector<double> numbers = numbers_of(answer);
    figures.refused += numbers.at(1);
    reservations += numbers.at(0) / 2;
    in_slice += numbers.at(2);
    for (std::size_t i = 3; i < numbers.size(); ++i) times.emplace_back(numbers[i], numbers[0] / quantiles);
  }
  const double entries = cluster.applied_everywhere() - applied_before;
  figures.entries_per_s = entries / seconds_since(start);
  figures.nodes_us = (sum_of(cluster.cpu_s()) - cpu_before) * 1e6 / entries;
  figures.etcd_us = (cluster.etcd().cpu_s() - etcd_before) * 1e6 / entries;
  figures.in_slice = in_slice / reservations;
  std::sort(times.begin(), times.end());
  double reached = 0;
  for (const auto& [us, weight] : times) {
    reached += weight;
    if (reached <= reservations) figures.p50_ms = us / 1e3;
    if (reached <= 0.99 * 2 * reservations) figures.p99_ms = us / 1e3;
  }
  std::vector<double> counts = cluster.commits();
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] -= commits_before[i];
  counts.erase(counts.begin());
  figures.batch_entries = entries / sum_of(counts);
  figures.batch_p99_ms = quantile_bound_ms(counts, 0.99);
  return figures;
}

// Records of a batch of the ledger with about so many entries.
std::string records_of(std::size_t entries) {
  const SystemClock clock;
  storage::MemoryLog log;
  UuidGenerator ids(clock, 1);
  Random random(1);
  const auto writer = storage::LedgerWriter::open_replica(log, clock);
  require(writer);
  require((*writer)->lead(1, {ids.next(), "bench", "bench"}));
  for (std::size_t i = 0; i < std::max<std::size_t>(entries / 2, 1); ++i) {
    const RequestId id = ids.next();
    require((*writer)->add(reservation_of(id, random)));
    require((*writer)->add(settlement_of(id, random)));
  }
  require((*writer)->commit());
  return log.batches().rbegin()->second;
}

// Entries per second that etcd alone takes in batches of `entries`, by `writers` that have one append in flight each.
double bare_appends(const std::vector<std::string>& endpoints, std::size_t entries, std::size_t writers, double seconds) {
  cluster::EtcdOptions options;
  options.endpoints = endpoints;
  options.call_timeout_ms = 10'000;
  const auto client = cluster::EtcdClient::start(options);
  require(client);
  cluster::EtcdCoordination bare(**client, "bare");
  cluster::Presence me;
  me.node = "bare";
  me.incarnation.bytes[0] = 1;
  const auto lease = bare.start_lease(600, me);
  require(lease);
  const std::string records = records_of(entries);
  std::atomic<std::uint64_t> appended{0};
  std::vector<std::thread> threads;
  const auto start = Steady::now();
  for (std::size_t i = 0; i < writers; ++i) {
    threads.emplace_back([&, i] {
      const auto shard = static_cast<cluster::ShardId>(i);
      const auto epoch = bare.claim(shard, *lease, me);
      require(epoch);
      const auto log = bare.log(shard);
      const auto tail = log->tail();
      require(tail);
      for (std::uint64_t next = tail->next_index; seconds_since(start) < seconds; next += entries) {
        require(log->append(*epoch, next + entries, {next, records}));
        appended += entries;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double per_s = static_cast<double>(appended) / seconds_since(start);
  (void)bare.end_lease(*lease);
  return per_s;
}

void print(const Figures& figures) {
  std::printf("%8.0f entries/s on all replicas  p50 %5.1f ms  p99 %5.1f ms  (batch of %.0f, p99 <= %.0f ms)\n",
              figures.entries_per_s, figures.p50_ms, figures.p99_ms, figures.batch_entries, figures.batch_p99_ms);
  std::printf("         cpu per entry: nodes %.1f us, etcd %.1f us;  %.0f %% of reservations from slices;  %.0f refused\n",
              figures.nodes_us, figures.etcd_us, figures.in_slice * 100, figures.refused);
  std::printf("         bare appends of such batches: %.0f entries/s; ratio %.2f\n", figures.bare_entries_per_s,
              figures.entries_per_s / figures.bare_entries_per_s);
  std::fflush(stdout);
}

void print_json(const Figures& figures) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("entries_per_s").real(figures.entries_per_s).key("p50_ms").real(figures.p50_ms);
  json.key("p99_ms").real(figures.p99_ms).key("batch_entries").real(figures.batch_entries);
  json.key("nodes_us").real(figures.nodes_us).key("etcd_us").real(figures.etcd_us);
  json.key("refused").real(figures.refused).key("bare_entries_per_s").real(figures.bare_entries_per_s).end_object();
  std::printf("%s\n", out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  LedgerNodeOptions options;
  double seconds = 5;
  int rounds = 3;
  bool json = false;
  int node = -1;
  std::string folder = std::filesystem::temp_directory_path();
  CLI::App app("Measures a replicated ledger: three nodes, three members of etcd, on this machine.");
  app.add_option("--seconds", seconds, "of each round");
  app.add_option("--rounds", rounds, "of which the middle one counts");
  app.add_option("--in-flight", options.in_flight, "requests under way at each node");
  app.add_option("--shards", options.shards, "of the ledger");
  app.add_option("--folder", folder, "where everything is put and removed again: its disk is what is measured");
  app.add_flag("--json", json, "one JSON object as the last line");
  app.add_option("--node", node, "of this program's own")->group("");
  app.add_option("--etcd", options.etcd)->delimiter(',')->group("");
  app.add_option("--endpoints", options.endpoints)->delimiter(',')->group("");
  CLI11_PARSE(app, argc, argv);
  if (node >= 0) {
    options.number = static_cast<std::size_t>(node);
    options.folder = folder;
    return run_ledger_node(options);
  }
  ::signal(SIGPIPE, SIG_IGN);
  const BenchFolder place(folder);
  Cluster cluster(std::filesystem::read_symlink("/proc/self/exe"), place.path(), options);
  cluster.ask_all("load " + std::to_string(warm_up_s));
  std::vector<Figures> all;
  for (int i = 0; i < rounds; ++i) {
    Figures figures = measure(cluster, seconds);
    figures.bare_entries_per_s = bare_appends(cluster.etcd().endpoints(), static_cast<std::size_t>(figures.batch_entries),
                                              options.shards, seconds / 2);
    print(figures);
    all.push_back(figures);
  }
  std::sort(all.begin(), all.end(), [](const Figures& a, const Figures& b) { return a.entries_per_s < b.entries_per_s; });
  if (json && !all.empty()) print_json(all[all.size() / 2]);
  return 0;
}
