// What `outlast cluster demo` starts, as plain values: programs, folders, ports, command lines and files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

struct DemoPrograms {
  std::string etcd;
  std::string outlastd;
  std::string outlast;
  std::string simulator;
};

struct DemoMember {
  std::string name;
  std::uint16_t client_port = 0;
  std::uint16_t peer_port = 0;
  std::uint16_t metrics_port = 0;
};

struct DemoNode {
  std::string name;
  std::string folder;  // its configuration and its log
  std::uint16_t http_port = 0;
  std::uint16_t admin_port = 0;
  std::uint16_t client_port = 0;  // client actors
  std::uint16_t peer_port = 0;    // other nodes
  std::uint16_t join_port = 0;

  [[nodiscard]] std::string config() const { return folder + "/outlast.toml"; }
  [[nodiscard]] std::string data() const { return folder + "/data"; }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(http_port); }
  [[nodiscard]] std::string admin() const { return "http://127.0.0.1:" + std::to_string(admin_port); }
};

struct DemoPlan {
  std::string folder;
  std::vector<DemoMember> members;
  std::vector<DemoNode> nodes;

  [[nodiscard]] std::string certificates() const { return folder + "/certificates"; }
};

inline constexpr std::uint32_t demo_members = 3;
inline constexpr std::uint32_t demo_nodes_max = 9;
inline constexpr std::uint32_t demo_lease_ttl_s = 2;  // etcd's least: a failover is to be seen, not waited for

// etcd from PATH; ours from the folder of this program, else from PATH. Error: failed, which says what to install or build.
Result<DemoPrograms> find_demo_programs();

// With free ports on loopback. Another process may take one before it is used; then the start says so.
Result<DemoPlan> plan_demo(const std::string& folder, std::uint32_t nodes);

std::vector<std::string> etcd_command(const DemoPrograms& programs, const DemoPlan& plan, const DemoMember& member);

// The node's TOML, and the price book that it names.
std::string node_config_text(const DemoPlan& plan, const DemoNode& node, const std::string& provider_url);
std::string demo_prices_text();

}  // namespace outlast::apps
