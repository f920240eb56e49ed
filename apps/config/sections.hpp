// The parts of load_node_config(): each reads its tables into the configuration and reports what is
// wrong.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "apps/config/node_config.hpp"
#include "apps/config/toml_reader.hpp"

namespace outlast::apps {

// [[provider]], [[deployment]] and [[route]], with the names that they give each other. Where secrets
// are not read, only how they are named is checked: they may be on other machines.
void read_routing(TableReader& root, const std::string& folder, NodeConfig& config,
                  bool secrets = true);

// [cluster].
void read_cluster(TableReader& root, const std::string& folder, ClusterConfig& config);

// A node's and a cluster's: 1 to 64 of A-Z a-z 0-9 . _ -
inline constexpr std::size_t node_name_length_max = 64;
bool is_node_name(std::string_view name);

// [[rate_limit]]; after the deployments that they may name.
void read_rate_limits(TableReader& root, NodeConfig& config);

// `path` where it is absolute, else seen from `folder`.
std::string resolve_path(const std::string& folder, const std::string& path);

// A whole file, or what the system says is wrong ("No such file or directory").
Result<std::string> read_small_file(const std::string& path);

struct ListenAddress {
  std::string host;
  std::uint16_t port = 0;
  // Whether only this machine can reach it.
  [[nodiscard]] bool loopback() const;
};
// "127.0.0.1:8080", "localhost:0", "[::1]:8080".
std::optional<ListenAddress> parse_listen_address(std::string_view text);

// A contract, region, service tier or geo: what prices are told apart by.
void read_price_label(TableReader& reader, std::string_view key, std::string& into);

}  // namespace outlast::apps
