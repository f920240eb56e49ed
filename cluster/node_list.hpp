// NodeList: which nodes a client should keep links to: those that it was configured with (seeds), and those that its
// nodes told it of. Pure. A list is told over an authenticated link only (CURVE with the node's pinned key); of several,
// the one with the highest version is believed, so a node that lags undoes nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/endpoint.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

// Leaves `count_max` of them: always the one whose key is `keep`, and others by `seed`.
void choose_some(std::vector<link::NodeEntry>& nodes, std::size_t count_max, std::uint64_t seed,
                 const std::string& keep = {});

// One owner.
class NodeList {
 public:
  // Of a big cluster each client takes `nodes_max` nodes of its own choice, by `seed`; the choice changes as little as
  // the list does.
  NodeList(std::vector<Endpoint> seeds, std::size_t nodes_max, std::uint64_t seed)
      : seeds_(std::move(seeds)), nodes_max_(nodes_max), seed_(seed) {}

  // What the node of a link says. An empty list says nothing.
  void told(std::size_t link, link::Nodes nodes);
  // The link is lost: what its node said counts no more, unless nobody else has said anything.
  void forget(std::size_t link) { told_.erase(link); }

  // The newest list that a link stands behind; the last one believed, while there is no link.
  void settle();

  // The believed entry of a key; of `address` too, unless that is empty.
  [[nodiscard]] const link::NodeEntry* find(const std::string& public_key, const std::string& address = {}) const;
  // The nodes to have links to beside the seeds: those that take requests, in no particular order.
  [[nodiscard]] std::vector<Endpoint> chosen() const;

 private:
  const std::vector<Endpoint> seeds_;
  const std::size_t nodes_max_;
  const std::uint64_t seed_;
  std::map<std::size_t, link::Nodes> told_;
  link::Nodes believed_;
};

}  // namespace outlast::cluster
