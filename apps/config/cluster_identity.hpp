// ClusterIdentity: which cluster a data folder belongs to, as which node: DATA/cluster.json, written by `outlast node
// init` and `outlast node join`, read by the daemon. A folder belongs to one cluster and one node for good.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/config/node_config.hpp"

namespace outlast::apps {

struct ClusterIdentity {
  enum class Step : std::uint8_t {
    founder = 0,  // enrols itself when the cluster has no node yet
    joining = 1,  // asked to be let in; nobody answered yet
    joined = 2
  };
  // A node that takes part, as of the join: whom to link to before the control log says more.
  struct Peer {
    std::string name;
    std::string public_key;
    std::string endpoint;
    bool operator==(const Peer&) const = default;
  };

  std::string cluster;
  std::string node;
  std::string public_key;  // of DATA/zmq.key, when it was written
  Step step = Step::founder;
  std::vector<Peer> peers;
  std::map<std::string, std::string> settings;  // as of the join: "shards"
  bool operator==(const ClusterIdentity&) const = default;
};
inline constexpr std::string_view identity_step_names[] = {"founder", "joining", "joined"};

std::string identity_file(const std::string& data);

// Nothing where the folder has none. ConfigError::unreadable or invalid, naming the file.
Result<std::optional<ClusterIdentity>> read_cluster_identity(const std::string& data);

// Durably and as a whole, mode 0600.
Result<void> write_cluster_identity(const std::string& data, const ClusterIdentity& identity);

// Whether the configuration still speaks of this identity. ConfigError::invalid says what differs and what to do.
Result<void> check_identity(const ClusterIdentity& identity, const NodeConfig& config, const std::string& public_key);

}  // namespace outlast::apps
