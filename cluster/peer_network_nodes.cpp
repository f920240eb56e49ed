// Which nodes PeerNetwork links to, and when their sockets and sessions begin and end.
#include "cluster/peer_network.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "cluster/curve.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr std::int64_t retry_address_ns = 10'000'000'000;

}  // namespace

bool PeerNetwork::acceptable(const PeerAddress& address) const {
  if (address.node.empty() || address.node == options_.node) return false;
  return is_curve_key(address.public_key) && address.public_key != public_key_;
}

void PeerNetwork::apply_peers(std::vector<PeerAddress> peers) {
  std::unordered_map<std::string, PeerAddress> wanted;
  std::unordered_set<std::string> keys;
  for (PeerAddress& address : peers) {
    if (!acceptable(address) || wanted.size() >= peers_max || wanted.contains(address.node) ||
        !keys.insert(address.public_key).second) {
      log::error("peer.not_linked", {{"node", address.node},
                                     {"reason", "its name or key is no good or another's, or there are too many nodes"}});
      continue;
    }
    std::string name = address.node;
    wanted.emplace(std::move(name), std::move(address));
  }
  for (auto i = nodes_.begin(); i != nodes_.end();) {
    PeerNode& node = *i->second;
    const auto same = wanted.find(i->first);
    if (same != wanted.end() && same->second == node.address) {
      ++i;
      continue;
    }
    close(node, same == wanted.end() ? "the node was removed from the cluster" : "the node's address or key changed");
    by_key_.erase(node.address.public_key);
    std::erase(flush_list_, &node);
    i = nodes_.erase(i);
  }
  for (auto& [name, address] : wanted) {
    if (nodes_.contains(name)) continue;
    auto node = std::make_unique<PeerNode>();
    node->address = std::move(address);
    for (std::size_t c = 0; c < channel_count; ++c) node->watches[c] = {node.get(), static_cast<Channel>(c)};
    by_key_.emplace(node->address.public_key, node.get());
    open(*nodes_.emplace(name, std::move(node)).first->second);
  }
}

bool PeerNetwork::connect(PeerNode& node) {
  node.sockets.reset();
  node.writable = {};
  node.unreachable_since_ns = 0;
  try {
    node.sockets = std::make_unique<PeerSockets>(context_, node.address, public_key_, options_.secret_key, poller_,
                                                 node.watches);
    return true;
  } catch (const zmq::error_t& error) {
    log::error("peer.not_linked",
               {{"node", node.address.node}, {"endpoint", node.address.endpoint}, {"reason", error.what()}});
    return false;
  }
}

void PeerNetwork::open(PeerNode& node) {
  if (!connect(node)) {
    node.closed_until_ns = now_ns_ + retry_address_ns;
    return;
  }
  PeerSessionOptions session;
  session.cluster = options_.cluster;
  session.node = options_.node;
  session.peer = node.address.node;
  session.incarnation = options_.incarnation;
  session.version_min = options_.version_min;
  session.version_max = options_.version_max;
  session.limits = options_.limits;
  node.session = std::make_unique<PeerSession>(std::move(session), numbers_, handlers_, counters_, now_ns_);
  node.held = {};
  flush_due(node);
}

void PeerNetwork::renew_if_unreachable(PeerNode& node) {
  const bool connected = std::ranges::find(node.writable, false) == node.writable.end();
  if (connected || node.session->is_up()) {
    node.unreachable_since_ns = 0;
    node.renew_after_ns = renew_after_ns_min;
  } else if (node.unreachable_since_ns == 0) {
    node.unreachable_since_ns = now_ns_;
  } else if (now_ns_ - node.unreachable_since_ns >= node.renew_after_ns) {
    node.renew_after_ns = std::min(2 * node.renew_after_ns, renew_after_ns_max);
    (void)connect(node);  // without sockets, the next time
  }
}

void PeerNetwork::close(PeerNode& node, const std::string& why) {
  if (!node.session) return;
  node.session->end(why);
  (void)flush_channel(node, Channel::control);
  node.session.reset();
  node.sockets.reset();
}

void PeerNetwork::cut_off(PeerNode& node, const std::string& why) {
  ++counters_.malformed;
  log::warning("peer.cut_off", {{"node", node.address.node}, {"reason", why}});
  close(node, "cut off: " + why);
  node.closed_until_ns = now_ns_ + std::int64_t{options_.limits.cut_off_ms} * 1'000'000;
}

}  // namespace outlast::cluster
