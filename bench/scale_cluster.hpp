// The cluster of outlast-cluster-scale-bench: real elections, a coordination that answers after 2 ms, virtual time, and counts.
#pragma once

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/coordinator.hpp"
#include "cluster/election.hpp"
#include "cluster/placement.hpp"
#include "core/json_writer.hpp"
#include "core/random.hpp"

namespace outlast::bench {

using namespace outlast::cluster;

inline constexpr std::int64_t ns_per_ms = 1'000'000;
inline constexpr std::int64_t call_ms = 2;
inline constexpr std::int64_t report_ms = 500;     // how often a node tells its progress
inline constexpr std::int64_t settle_ms_max = 300'000;

// ---- sizes of what goes over the wire

// A key or value in the JSON gateway is base64.
inline std::size_t base64(std::size_t bytes) { return (bytes + 2) / 3 * 4; }
// {"key":"","create_revision":"","mod_revision":"","version":"","value":"","lease":""}, with numbers of 8 to 19 digits.
inline constexpr std::size_t row_bytes = 140;
// Request line and headers of a call, and those of its answer with a revision and member ids.
inline constexpr std::size_t call_bytes = 420;

inline std::string text_of(const Presence& presence) {
  std::string text;
  JsonWriter json(text);
  json.begin_object();
  json.key("node").string(presence.node);
  json.key("incarnation").string(presence.incarnation.to_string());
  json.key("endpoint").string(presence.endpoint);
  json.key("client_endpoint").string(presence.client_endpoint);
  json.key("client_key").string(presence.client_key);
  json.key("roles").begin_array();
  for (const std::string& role : presence.roles) json.string(role);
  json.end_array();
  json.key("version_min").number(unsigned{presence.version_min});
  json.key("version_max").number(unsigned{presence.version_max});
  json.key("software").string(presence.software);
  json.end_object();
  return text;
}

inline std::string text_of(const Ownership& owner) {
  return R"({"node":")" + owner.node + R"(","incarnation":")" + owner.incarnation.to_string() + R"("})";
}

inline std::size_t bytes_of(const CoordinationView& view) {
  std::size_t bytes = call_bytes;
  for (const Presence& presence : view.nodes) {
    bytes += row_bytes + base64(std::string("/outlast/main/nodes/").size() + presence.node.size()) +
             base64(text_of(presence).size());
  }
  for (const Ownership& owner : view.owners) {
    bytes += row_bytes + base64(std::string("/outlast/main/owners/s000").size()) + base64(text_of(owner).size());
  }
  return bytes;
}

// ---- the cluster

struct Counts {
  double starts = 0, keepalives = 0, views = 0, view_bytes = 0, claims = 0, releases = 0, tells = 0;
  double reports = 0, report_entries = 0, follows = 0;
};

class Cluster final : public Clock {
 public:
  Cluster(std::size_t nodes, ShardId shards) : shards_(shards) {
    for (std::size_t i = 0; i < nodes; ++i) members_.push_back(member(i));
    for (std::size_t i = 0; i < nodes; ++i) {
      at(static_cast<std::int64_t>(random_.below(2'000)), [this, i] { start(members_[i].name); });
    }
  }
  [[nodiscard]] std::int64_t monotonic_ns() const override { return now_ms_ * ns_per_ms; }
  [[nodiscard]] std::int64_t wall_ms() const override { return now_ms_; }

  void run_ms(std::int64_t ms) {
    const std::int64_t end_ms = now_ms_ + ms;
    while (!events_.empty() && events_.begin()->first <= end_ms) {
      now_ms_ = events_.begin()->first;
      const auto event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      event();
    }
    now_ms_ = end_ms;
  }
  // Until every shard is led by its best placed node; how long that took, or -1.
  std::int64_t settle_ms() {
    const std::int64_t start_ms = now_ms_;
    std::vector<std::string> names;
    for (const auto& [name, node] : nodes_) names.push_back(name);
    std::map<ShardId, std::string> best;
    for (ShardId shard = 0; shard < shards_; ++shard) best[shard] = rank(shard, names).front();
    best[control_shard] = rank(control_shard, names).front();
    while (now_ms_ - start_ms < settle_ms_max) {
      const bool done = std::all_of(best.begin(), best.end(), [this](const auto& wanted) {
        const auto owner = owners_.find(wanted.first);
        return owner != owners_.end() && owner->second.first.node == wanted.second &&
               nodes_.at(wanted.second).election->leads(wanted.first);
      });
      if (done) return now_ms_ - start_ms;
      run_ms(100);
    }
    return -1;
  }
  void kill(const std::string& name) { nodes_.erase(name); }
  void join() {
    members_.push_back(member(members_.size()));
    for (auto& [name, node] : nodes_) node.election->set_members(members_);
    start(members_.back().name);
    run_ms(1);
  }
  Counts take_counts() { return std::exchange(counts_, {}); }
  [[nodiscard]] std::size_t view_bytes() { return bytes_of(view()); }
  [[nodiscard]] std::string first_node() const { return nodes_.begin()->first; }
  // With whom a gateway that serves all tenants has business.
  [[nodiscard]] double owners() const {
    std::set<std::string> owners;
    for (const auto& [shard, owner] : owners_) owners.insert(owner.first.node);
    return static_cast<double>(owners.size());
  }
  [[nodiscard]] std::pair<int, int> shards_led() const {
    std::map<std::string, int> led;
    for (const auto& [name, node] : nodes_) led[name] = 0;
    for (const auto& [shard, owner] : owners_) ++led[owner.first.node];
    const auto [fewest, most] = std::minmax_element(
        led.begin(), led.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    return {fewest->second, most->second};
  }

 private:
  struct Node {
    std::unique_ptr<Election> election;
    Presence presence;
    LeaseId lease = 0;
    std::int64_t lease_until_ms = 0;
    std::int64_t viewed_ms = -report_ms;
    bool view_due = false;
    std::set<ShardId> following;
  };

  static Member member(std::size_t number) {
    char name[32];
    std::snprintf(name, sizeof name, "gw-%04zu.eu-1", number);
    return {name, NodeState::active, {"gateway", "ledger"}};
  }
  void at(std::int64_t time_ms, std::function<void()> event) { events_.emplace(time_ms, std::move(event)); }
  // An answer or an input, if the node still runs.
  void later(const std::string& name, std::int64_t ms, std::function<void(Node&)> input) {
    at(now_ms_ + ms, [this, name, input = std::move(input)] {
      const auto node = nodes_.find(name);
      if (node == nodes_.end()) return;
      input(node->second);
      pump(node->second);
    });
  }

  void start(const std::string& name) {
    Node& node = nodes_[name];
    ElectionOptions options;
    options.node = name;
    options.shards = shards_;
    for (std::uint8_t& byte : options.incarnation.bytes) byte = static_cast<std::uint8_t>(random_.below(256));
    node.presence = {name,
                     options.incarnation,
                     "tcp://" + name + ".example.net:7400",
                     "tcp://" + name + ".example.net:7401",
                     std::string(40, 'k'),
                     {"gateway", "ledger"},
                     1,
                     1,
                     "outlastd 0.1.0"};
    node.election = std::make_unique<Election>(options, *this, random_.next());
    node.election->set_members(members_);
    pump(node);
    later(name, static_cast<std::int64_t>(random_.below(report_ms)), [this, name](Node&) { report(name); });
  }
  void report(const std::string& name) {
    Node& node = nodes_.at(name);
    for (const ShardId shard : node.following) node.election->own_progress(shard, 1, 1);
    // Every node is told all; only those with the shard, and whoever may own it, do anything with it.
    std::map<std::string, std::vector<ShardProgress>> messages;
    counts_.reports += static_cast<double>(nodes_.size() - 1);
    counts_.report_entries += static_cast<double>((nodes_.size() - 1) * node.election->progress_report().size());
    for (const ShardProgress& progress : node.election->progress_report()) {
      for (const std::string& peer : node.election->peers_of(progress.shard)) messages[peer].push_back(progress);
    }
    for (const auto& [peer, progresses] : messages) {
      const auto to = nodes_.find(peer);
      if (to == nodes_.end()) continue;
      for (const auto& progress : progresses) {
        to->second.election->peer_progress(name, node.presence.incarnation, progress);
      }
    }
    const std::int64_t quiet_ns = node.view_due ? view_gap_ns(nodes_.size()) : view_interval_ns(nodes_.size());
    if ((now_ms_ - node.viewed_ms) * ns_per_ms >= quiet_ns) look(node);
    later(name, report_ms, [this, name](Node&) { report(name); });
  }
  void pump(Node& node) {
    if (node.election->next_wake_ns() > monotonic_ns()) return;
    node.election->tick();
    for (const election::Effect& effect : node.election->take_effects()) {
      std::visit([this, &node](const auto& each) { perform(node, each); }, effect);
    }
    const std::int64_t wake_ms = node.election->next_wake_ns() / ns_per_ms + 1;
    // What is due within the next report waits for it no longer than that.
    const std::int64_t wait_ms = std::max<std::int64_t>(wake_ms - now_ms_, 1);
    if (wait_ms < report_ms) later(node.presence.node, wait_ms, [](Node&) {});
  }

  void look(Node& node) {
    node.view_due = false;
    node.viewed_ms = now_ms_;
    ++counts_.views;
    counts_.view_bytes += static_cast<double>(view_size());
    later(node.presence.node, call_ms, [view = shared_view_, sent_ns = monotonic_ns()](Node& woken) {
      woken.election->set_view(sent_ns, *view);
    });
  }
  CoordinationView view() {
    CoordinationView view;
    view.revision = revision_;
    for (const auto& [name, node] : nodes_) {
      if (node.lease != 0) view.nodes.push_back(node.presence);
    }
    for (const auto& [shard, owner] : owners_) view.owners.push_back(owner.first);
    return view;
  }
  std::size_t view_size() {
    if (!shared_view_ || shared_view_->revision != revision_) {
      shared_view_ = std::make_shared<const CoordinationView>(view());
      shared_size_ = bytes_of(*shared_view_);
    }
    return shared_size_;
  }
  void changed() {
    ++revision_;
    for (auto& [name, node] : nodes_) node.view_due = true;
  }
  void expire(LeaseId lease) {
    std::erase_if(owners_, [lease](const auto& owner) { return owner.second.second == lease; });
    changed();
  }

  void perform(Node& node, const election::StartLease& effect) {
    ++counts_.starts;
    node.lease = ++last_lease_;
    changed();
    later(node.presence.node, call_ms, [this, effect, sent_ns = monotonic_ns()](Node& woken) {
      woken.election->lease_started(effect.attempt, sent_ns, woken.lease);
      watch_lease(woken.presence.node, woken.lease);
    });
  }
  // A lease whose node is gone ends with its TTL.
  void watch_lease(const std::string& name, LeaseId lease) {
    at(now_ms_ + 1'000, [this, name, lease] {
      if (nodes_.contains(name)) return watch_lease(name, lease);
      at(now_ms_ + 9'000, [this, lease] { expire(lease); });
    });
  }
  void perform(Node& node, const election::KeepAlive& effect) {
    ++counts_.keepalives;
    later(node.presence.node, call_ms, [effect, sent_ns = monotonic_ns()](Node& woken) {
      woken.election->kept_alive(effect.lease, sent_ns, {});
    });
  }
  void perform(Node&, const election::EndLease&) {}
  void perform(Node&, const election::Announce&) {}
  void perform(Node& node, const election::LookAtView&) { node.view_due = true; }
  void perform(Node& node, const election::Claim& effect) {
    Result<std::uint64_t> epoch = fail(AgreementError::taken, "it has an owner");
    if (!owners_.contains(effect.shard)) {
      ++counts_.claims;
      changed();
      epoch = revision_;
      owners_[effect.shard] = {{effect.shard, node.presence.node, node.presence.incarnation, revision_}, effect.lease};
    }
    later(node.presence.node, call_ms,
          [effect, epoch](Node& woken) { woken.election->claimed(effect.shard, effect.lease, epoch); });
  }
  void perform(Node& node, const election::CatchUp& effect) {
    later(node.presence.node, call_ms, [effect](Node& woken) { woken.election->caught_up(effect.shard, effect.epoch); });
  }
  void perform(Node&, const election::Lead&) {}
  void perform(Node& node, const election::StepDown& effect) {
    later(node.presence.node, call_ms,
          [effect](Node& woken) { woken.election->stepped_down(effect.shard, effect.epoch); });
  }
  void perform(Node& node, const election::Release& effect) {
    ++counts_.releases;
    const auto owner = owners_.find(effect.shard);
    if (owner != owners_.end() && owner->second.first.epoch == effect.epoch) owners_.erase(owner);
    changed();
    later(node.presence.node, call_ms,
          [effect](Node& woken) { woken.election->released(effect.shard, effect.epoch, {}); });
  }
  void perform(Node&, const election::Tell& effect) {
    ++counts_.tells;
    later(effect.node, 1, [effect](Node& woken) { woken.election->told(effect.shard); });
  }
  void perform(Node& node, const election::Follow& effect) {
    ++counts_.follows;
    node.following.insert(effect.shard);
  }
  void perform(Node& node, const election::Drop& effect) { node.following.erase(effect.shard); }
  void perform(Node&, const election::Drained&) {}
  void perform(Node&, const election::Stopped&) {}

  const ShardId shards_;
  Random random_{1};
  std::int64_t now_ms_ = 1'000;
  std::multimap<std::int64_t, std::function<void()>> events_;
  std::vector<Member> members_;
  std::map<std::string, Node> nodes_;
  std::uint64_t revision_ = 1;
  LeaseId last_lease_ = 0;
  std::map<ShardId, std::pair<Ownership, LeaseId>> owners_;
  std::shared_ptr<const CoordinationView> shared_view_;
  std::size_t shared_size_ = 0;
  Counts counts_;
};

}  // namespace outlast::bench
