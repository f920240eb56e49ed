// [cluster]: what makes a node one of several.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace outlast::apps {

struct ClusterConfig {
  std::string name;  // empty: a node on its own
  std::vector<std::string> etcd;  // https://HOST:PORT of each member
  std::string etcd_ca;            // PEM files; resolved against the configuration file's folder
  std::string etcd_cert;
  std::string etcd_key;
  bool allow_plaintext_etcd = false;  // permits http:// to members that are not loopback
  std::string listen;      // tcp://HOST:PORT, for other nodes
  std::string advertise;   // how other nodes reach it; empty: listen
  std::string join_listen;  // tcp://HOST:PORT, for nodes that join; empty: none can join here
  std::uint32_t shards = 16;     // for the founder; then as the cluster was founded
  std::uint32_t replicas = 3;    // of each shard, its owner counted
  std::uint32_t lease_ttl_s = 10;
  std::uint64_t trim_keep = 65'536;  // entries of each shard's log that stay in etcd, for replicas that were away
};

// Where others reach a listener that is bound at `bound`, "tcp://HOST:PORT" with the port that was taken: there, or, where
// it is bound to every interface, at its port on the host of `advertise`.
std::string reachable_endpoint(const ClusterConfig& config, const std::string& bound);

}  // namespace outlast::apps
