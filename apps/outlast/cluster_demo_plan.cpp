#include "apps/outlast/cluster_demo_plan.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/cluster_certificates.hpp"
#include "apps/outlast/our_programs.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t ports_per_member = 3;
constexpr std::size_t ports_per_node = 5;
constexpr const char* etcd_quota_bytes = "8589934592";

Result<std::vector<std::uint16_t>> free_ports(std::size_t count) {
  // All are held until the last is found, so that no two are the same.
  std::vector<int> sockets;
  std::vector<std::uint16_t> ports;
  std::string problem;
  while (ports.size() < count && problem.empty()) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (socket < 0 || ::bind(socket, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      problem = std::strerror(errno);
    } else {
      ports.push_back(ntohs(address.sin_port));
    }
    if (socket >= 0) sockets.push_back(socket);
  }
  for (const int socket : sockets) ::close(socket);
  if (!problem.empty()) return fail(CliError::failed, "no free port on 127.0.0.1: " + problem);
  return ports;
}

std::string local(const char* scheme, std::uint16_t port) {
  return std::string(scheme) + "://127.0.0.1:" + std::to_string(port);
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

}  // namespace

Result<DemoPrograms> find_demo_programs() {
  DemoPrograms programs{find_in_path("etcd"), find_our_program("outlastd"), find_our_program("outlast"), find_our_program("outlast-sim")};
  if (programs.etcd.empty()) {
    return fail(CliError::failed, "etcd is not installed; run: apt-get install etcd-server (or scripts/setup --test)");
  }
  for (const auto& [name, file] : {std::pair{"outlastd", &programs.outlastd}, std::pair{"outlast", &programs.outlast},
                                   std::pair{"outlast-sim", &programs.simulator}}) {
    if (file->empty()) {
      return fail(CliError::failed, std::string(name) + " is neither beside this program nor in PATH; scripts/build builds it");
    }
  }
  return programs;
}

Result<DemoPlan> plan_demo(const std::string& folder, std::uint32_t nodes) {
  DemoPlan plan{folder, {}, {}};
  const auto ports = free_ports(demo_members * ports_per_member + nodes * ports_per_node);
  if (!ports) return fail(ports.error());
  auto next = ports->begin();
  for (std::uint32_t i = 1; i <= demo_members; ++i) {
    DemoMember member;
    member.name = "m" + std::to_string(i);
    for (auto* port : {&member.client_port, &member.peer_port, &member.metrics_port}) *port = *next++;
    plan.members.push_back(member);
  }
  for (std::uint32_t i = 1; i <= nodes; ++i) {
    DemoNode node;
    node.name = "n" + std::to_string(i);
    node.folder = folder + "/" + node.name;
    for (auto* port : {&node.http_port, &node.admin_port, &node.client_port, &node.peer_port, &node.join_port}) *port = *next++;
    plan.nodes.push_back(node);
  }
  return plan;
}

std::vector<std::string> etcd_command(const DemoPrograms& programs, const DemoPlan& plan, const DemoMember& member) {
  std::string initial;
  for (const DemoMember& one : plan.members) {
    initial += (initial.empty() ? "" : ",") + one.name + "=" + local("https", one.peer_port);
  }
  const std::string pem = plan.certificates();
  const std::string mine = pem + "/etcd-" + member.name;
  // The same choices as configs/systemd/etcd-outlast.yml.
  return {programs.etcd,
          "--name", member.name,
          "--data-dir", plan.folder + "/etcd-" + member.name,
          "--listen-client-urls", local("https", member.client_port),
          "--advertise-client-urls", local("https", member.client_port),
          "--listen-peer-urls", local("https", member.peer_port),
          "--initial-advertise-peer-urls", local("https", member.peer_port),
          "--listen-metrics-urls", local("http", member.metrics_port),
          "--initial-cluster", initial,
          "--initial-cluster-token", "outlast-demo",
          "--trusted-ca-file", pem + "/ca.crt", "--client-cert-auth",
          "--cert-file", mine + ".crt", "--key-file", mine + ".key",
          "--peer-trusted-ca-file", pem + "/ca.crt", "--peer-client-cert-auth",
          "--peer-cert-file", mine + ".crt", "--peer-key-file", mine + ".key",
          "--peer-cert-allowed-cn", std::string(etcd_common_name),
          "--quota-backend-bytes", etcd_quota_bytes,
          "--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000",
          "--logger", "zap", "--log-level", "warn"};
}

std::string node_config_text(const DemoPlan& plan, const DemoNode& node, const std::string& provider_url) {
  std::string endpoints;
  for (const DemoMember& member : plan.members) {
    endpoints += (endpoints.empty() ? "" : ", ") + quoted(local("https", member.client_port));
  }
  const std::string pem = plan.certificates();
  std::string text;
  const auto line = [&text](const std::string& one) { text += one + "\n"; };
  line("# Written by outlast cluster demo.");
  line("[node]\nname = " + quoted(node.name) + "\ndata = " + quoted(node.data()));
  line("roles = [\"gateway\", \"ledger\"]");
  line("\n[http]\nlisten = " + quoted("127.0.0.1:" + std::to_string(node.http_port)));
  line("admin_listen = " + quoted("127.0.0.1:" + std::to_string(node.admin_port)) + "\nlanes = 1");
  line("\n[zmq]\nlisten = " + quoted(local("tcp", node.client_port)));
  line("\n[cluster]\nname = \"demo\"\netcd = [" + endpoints + "]");
  line("etcd_ca = " + quoted(pem + "/ca.crt"));
  line("etcd_cert = " + quoted(pem + "/node-" + node.name + ".crt"));
  line("etcd_key = " + quoted(pem + "/node-" + node.name + ".key"));
  line("listen = " + quoted(local("tcp", node.peer_port)));
  line("join_listen = " + quoted(local("tcp", node.join_port)));
  line("lease_ttl_s = " + std::to_string(demo_lease_ttl_s));
  line("\n[limits]\ndisk_free_bytes_min = 16777216");
  line("\n[[provider]]\nname = \"sim\"\ndialect = \"openai\"\nbase_url = " + quoted(provider_url + "/v1"));
  line("\n[[deployment]]\nname = \"sim-gpt\"\nprovider = \"sim\"\nmodel = \"gpt-sim\"");
  line("\n[[route]]\nname = \"smart\"\ndeployments = [\"sim-gpt\"]");
  line("\n[prices]\nfile = \"prices.toml\"");
  return text;
}

std::string demo_prices_text() {
  return "version = \"demo\"\n\n[[price]]\nprovider = \"sim\"\nmodel = \"gpt-sim\"\ninput = \"3.00\"\noutput = \"15.00\"\n";
}

}  // namespace outlast::apps
