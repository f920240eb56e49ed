#include "bench/cluster_ledger_node.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "bench/ledger_samples.hpp"
#include "cluster/cluster_node.hpp"
#include "cluster/etcd_client.hpp"
#include "cluster/etcd_coordination.hpp"
#include "core/log.hpp"

namespace outlast::bench {
namespace {

using cluster::ClusterNode;
using Steady = std::chrono::steady_clock;

constexpr std::uint32_t ttl_s = 10;
constexpr std::int64_t token_ms = 600'000;
constexpr std::size_t organisations = 32;  // of all nodes
constexpr auto look = std::chrono::milliseconds(20);
constexpr PicoUsd budget_amount{static_cast<__int128>(1'000'000'000'000) * 1'000'000};  // a million dollars

std::string name_of_node(std::size_t number) { return "n" + std::to_string(number); }
std::string organisation(std::size_t number) { return "org" + std::to_string(number); }

template <class T>
T take(Result<T> result) {
  require(result);
  return std::move(*result);
}

// What ClusterNode calls etcd by.
struct Clients {
  explicit Clients(const std::vector<std::string>& endpoints) {
    cluster::EtcdOptions options;
    options.endpoints = endpoints;
    options.call_timeout_ms = ttl_s * 1'000 / 6;
    for (auto* client : {&leases, &calls, &watch}) *client = take(cluster::EtcdClient::start(options));
  }
  cluster::Agreement agreement() {
    cluster::Agreement made;
    made.leases = std::make_unique<cluster::EtcdCoordination>(*leases, "bench");
    made.calls = std::make_unique<cluster::EtcdCoordination>(*calls, "bench");
    made.watch = std::make_unique<cluster::EtcdCoordination>(*watch, "bench");
    made.end_watch = [this] { watch.reset(); };
    logs = std::make_unique<cluster::EtcdCoordination>(*calls, "bench");
    made.log = [this](cluster::ShardId shard) { return logs->log(shard); };
    return made;
  }
  std::unique_ptr<cluster::EtcdClient> leases;
  std::unique_ptr<cluster::EtcdClient> calls;
  std::unique_ptr<cluster::EtcdClient> watch;
  std::unique_ptr<cluster::EtcdCoordination> logs;
};

// One lane's requests, each a reservation and then its settlement, as many under way as are asked for.
class Load {
 public:
  struct Result {
    std::uint64_t operations = 0;
    std::uint64_t refused = 0;
    std::uint64_t from_slices = 0;  // reservations that no owner was asked for
    std::vector<double> times_us;
  };

  Load(ClusterNode& node, const Clock& clock, std::size_t number)
      : node_(node), ids_(clock, number + 1), random_(number + 1) {
    submitter_ = node.ledger().make_submitter(
        [this](std::uint64_t ticket) {
          const std::lock_guard lock(mutex_);
          durable_.push_back(ticket);
          arrived_.notify_one();
        },
        [this](std::uint64_t, const storage::Refused& refused) {
          const std::lock_guard lock(mutex_);
          if (++result_.refused == 1) std::fprintf(stderr, "refused: %s\n", refused.error.message.c_str());
        });
  }

  Result run(std::size_t in_flight, double seconds) {
    result_ = {};
    const auto until =
        Steady::now() + std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double>(seconds));
    for (std::size_t i = 0; i < in_flight; ++i) begin();
    std::vector<std::uint64_t> durable;
    for (std::size_t under_way = in_flight; under_way > 0;) {
      {
        std::unique_lock lock(mutex_);
        arrived_.wait(lock, [this] { return !durable_.empty(); });
        durable.swap(durable_);
      }
      const auto now = Steady::now();
      for (const std::uint64_t ticket : durable) {
        auto& open = open_[storage::ticket_group(ticket)];
        for (; !open.empty() && open.front().ticket <= ticket; open.pop_front()) {
          ++result_.operations;
          result_.times_us.push_back(std::chrono::duration<double, std::micro>(now - open.front().since).count());
          if (!open.front().ends) end(open.front());
          else if (now < until) begin();
          else --under_way;
        }
      }
      durable.clear();
    }
    return std::move(result_);
  }

 private:
  struct Open {
    std::uint64_t ticket = 0;
    Steady::time_point since;
    RequestId id;
    std::shared_ptr<BudgetSlice> slice;  // that the reservation was taken from
    PicoUsd amount;
    bool ends = false;
  };

  void submit(MeteringOperation operation, bool urgent, Open open) {
    open.since = Steady::now();
    open.ticket = take(submitter_->submit(std::move(operation), urgent));
    open_[storage::ticket_group(open.ticket)].push_back(std::move(open));
  }
  // As gateway/admission.hpp: from the slices of the budgets on the path, or by the owner's word.
  void begin() {
    Reservation reservation = reservation_of(ids_.next(), random_);
    reservation.tenant.organisation = organisation(random_.below(organisations));
    Open open;
    open.id = reservation.request_id;
    open.amount = reservation.amount;
    const auto book = node_.ledger().budget_book();
    const SpendPath path{reservation.tenant, reservation.key_id, reservation.tags, reservation.candidates};
    book->by_scope.visit(path, [&open](const BudgetBook::Entry& entry) { open.slice = entry.slice; });
    reservation.from_slices = open.slice != nullptr && open.slice->take(reservation.amount);
    if (!reservation.from_slices) open.slice = nullptr;
    else ++result_.from_slices;
    const bool urgent = !reservation.from_slices;
    submit(std::move(reservation), urgent, std::move(open));
  }
  void end(const Open& begun) {
    Settlement settlement = settlement_of(begun.id, random_);
    const PicoUsd rest = begun.amount - settlement.attempt.cost;
    Open open;
    open.id = begun.id;
    open.ends = true;
    submit(std::move(settlement), false, std::move(open));
    if (begun.slice != nullptr && rest.value > 0) begun.slice->give(rest);
  }

  ClusterNode& node_;
  UuidGenerator ids_;
  Random random_;
  std::map<std::uint64_t, std::deque<Open>> open_;
  Result result_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::uint64_t> durable_;
  std::unique_ptr<storage::LedgerSubmitter> submitter_;
};

template <class Record>
void await(const Record& record) {
  std::promise<Result<void>> promise;
  record([&promise](Result<void> done) { promise.set_value(std::move(done)); });
  require(promise.get_future().get());
}

void found(ClusterNode& node, const LedgerNodeOptions& options, const Clock& clock) {
  for (std::size_t i = 1; i < options.endpoints.size(); ++i) {
    const JoinTokenMade token{"tok_" + name_of_node(i), {}, clock.wall_ms() + token_ms, "bench"};
    await([&](auto done) { node.ledger().record_member(token, std::move(done)); });
    NodeEnrolled other;
    other.name = name_of_node(i);
    other.public_key = options.public_keys[i];
    other.endpoint = options.endpoints[i];
    other.roles = {"gateway", "ledger"};
    other.token = token.id;
    other.by = "bench";
    await([&](auto done) { node.ledger().record_member(other, std::move(done)); });
  }
  for (std::size_t i = 0; i < organisations; ++i) {
    Budget budget;
    budget.id = "bud_" + organisation(i);
    budget.scope = {ScopeKind::organisation, organisation(i)};
    budget.amount = budget_amount;
    await([&](auto done) { node.ledger().set_budget(budget, "bench", std::move(done)); });
  }
}

// All shards have owners that this node is linked to, replicas here, and budgets.
bool is_ready(const ClusterNode& node, const LedgerNodeOptions& options) {
  const cluster::ClusterNodeStatus status = node.status();
  std::size_t owned = 0;
  for (const auto& shard : status.shards) owned += shard.owner ? 1 : 0;
  return owned == options.shards + 1U && status.hosts.size() == owned && status.peers.size() + 1 == options.endpoints.size() &&
         status.holder.shards_cut_off == 0;
}

void tell_status(const ClusterNode& node) {
  for (const cluster::HostStatus& host : node.status().hosts) {
    if (host.shard != cluster::control_shard) std::cout << host.shard << ' ' << host.applied << ' ';
  }
  std::cout << std::endl;
}

void tell_commits(const ClusterNode& node) {
  cluster::CommitTimes all;
  for (const cluster::HostStatus& host : node.status().hosts) {
    for (std::size_t i = 0; i < all.counts.size(); ++i) all.counts[i] += host.commits.counts[i];
    all.sum_us += host.commits.sum_us;
  }
  std::cout << all.sum_us;
  for (const std::uint64_t count : all.counts) std::cout << ' ' << count;
  std::cout << std::endl;
}

void tell_load(Load::Result result) {
  std::cout << result.operations << ' ' << result.refused << ' ' << result.from_slices;
  std::sort(result.times_us.begin(), result.times_us.end());
  for (std::size_t i = 0; i < quantiles; ++i) std::cout << ' ' << result.times_us[result.times_us.size() * i / quantiles];
  std::cout << std::endl;
}

}  // namespace

int run_ledger_node(LedgerNodeOptions options) {
  log::configure(log::Format::text, log::Level::info);
  std::cin >> options.secret_key;
  for (std::size_t i = 0; i < options.endpoints.size(); ++i) std::cin >> options.public_keys.emplace_back();
  std::cin.ignore();  // the line's end
  const SystemClock clock;
  Clients clients(options.etcd);
  cluster::ClusterNodeOptions made;
  made.cluster = "bench";
  made.node = name_of_node(options.number);
  made.data = options.folder;
  made.roles = {"gateway", "ledger"};
  made.listen = options.endpoints[options.number];
  made.keys = {options.public_keys[options.number], options.secret_key};
  made.founder = options.number == 0;
  made.shards = options.shards;
  made.lease_ttl_s = ttl_s;
  made.software = "bench";
  made.disk_free_bytes_min = 0;
  const auto node = take(ClusterNode::start(std::move(made), clients.agreement(), clock));
  if (options.number == 0) found(*node, options, clock);
  std::cout << "started" << std::endl;
  Load load(*node, clock, options.number);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word == "ready") {
      while (!is_ready(*node, options)) std::this_thread::sleep_for(look);
      std::cout << word << std::endl;
    } else if (word == "load") {
      double seconds = 0;
      words >> seconds;
      tell_load(load.run(options.in_flight, seconds));
    } else if (word == "status") {
      tell_status(*node);
    } else if (word == "commits") {
      tell_commits(*node);
    } else if (word == "cpu") {
      std::cout << cpu_s() << std::endl;
    }
  }
  std::_Exit(0);  // the parent takes everything away
}

}  // namespace outlast::bench
