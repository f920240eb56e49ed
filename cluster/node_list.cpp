#include "cluster/node_list.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "cluster/curve.hpp"

namespace outlast::cluster {
namespace {

// FNV-1a, then a finaliser: keys that differ in one character must rank independently.
std::uint64_t rank_of(std::uint64_t seed, const std::string& key) {
  std::uint64_t hash = 0xcbf29ce484222325ULL ^ seed;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdULL;
  return hash ^ (hash >> 33);
}

}  // namespace

void choose_some(std::vector<link::NodeEntry>& nodes, std::size_t count_max, std::uint64_t seed,
                 const std::string& keep) {
  if (nodes.size() <= count_max) return;
  const auto rank = [seed, &keep](const link::NodeEntry& node) {
    return node.public_key == keep ? 0 : rank_of(seed, node.public_key);
  };
  std::sort(nodes.begin(), nodes.end(),
            [&rank](const link::NodeEntry& a, const link::NodeEntry& b) { return rank(a) < rank(b); });
  nodes.resize(count_max);
}

void NodeList::told(std::size_t link, link::Nodes nodes) {
  // What cannot be connected to is left out; the first of a key counts.
  std::set<std::string> keys;
  std::erase_if(nodes.nodes, [&keys](const link::NodeEntry& node) {
    return !node.address.starts_with("tcp://") || !is_curve_key(node.public_key) || !keys.insert(node.public_key).second;
  });
  if (!nodes.nodes.empty()) told_[link] = std::move(nodes);
}

void NodeList::settle() {
  const link::Nodes* newest = nullptr;
  for (const auto& [link, nodes] : told_) {
    if (newest == nullptr || nodes.version > newest->version) newest = &nodes;
  }
  if (newest != nullptr) believed_ = *newest;
}

const link::NodeEntry* NodeList::find(const std::string& public_key, const std::string& address) const {
  for (const link::NodeEntry& node : believed_.nodes) {
    if (node.public_key == public_key && (address.empty() || node.address == address)) return &node;
  }
  return nullptr;
}

std::vector<Endpoint> NodeList::chosen() const {
  std::vector<link::NodeEntry> nodes;
  for (const link::NodeEntry& node : believed_.nodes) {
    const bool is_seed = std::any_of(seeds_.begin(), seeds_.end(), [&node](const Endpoint& seed) {
      return seed.server_key == node.public_key && seed.address == node.address;
    });
    if (!node.draining && !is_seed) nodes.push_back(node);
  }
  choose_some(nodes, nodes_max_, seed_);
  std::vector<Endpoint> chosen;
  chosen.reserve(nodes.size());
  for (link::NodeEntry& node : nodes) chosen.push_back({std::move(node.address), std::move(node.public_key)});
  return chosen;
}

}  // namespace outlast::cluster
