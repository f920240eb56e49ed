#include "tests/cluster/etcd_fixture.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "core/check.hpp"

namespace outlast::cluster::test {
namespace {

constexpr const char* etcd_program = "/usr/bin/etcd";

void run(const std::string& command) {
  check(std::system((command + " >/dev/null 2>&1").c_str()) == 0, "a command of the test works", command);
}

// Free now, each time another: below those that the kernel gives to outgoing connections, which would take it before its
// listener does, or while that is down; from a place of this process's own, so that other runs take others.
std::uint16_t free_port() {
  constexpr unsigned first_port = 12'000;
  constexpr unsigned ports = 20'000;
  static unsigned next = static_cast<unsigned>(::getpid()) * 97;
  for (unsigned tries = 0; tries < ports; ++tries) {
    const auto port = static_cast<std::uint16_t>(first_port + next++ % ports);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    const bool is_free = ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    ::close(descriptor);
    if (is_free) return port;
  }
  check(false, "a free port is found");
  return 0;
}

std::string url(bool tls, std::uint16_t port) {
  return (tls ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port);
}

}  // namespace

bool wait_until(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + etcd_patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

TestFolder::TestFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "outlast-etcd-XXXXXX").string();
  check(::mkdtemp(pattern.data()) != nullptr, "a temporary folder is made");
  path_ = pattern;
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

EtcdAuthority::EtcdAuthority() {
  run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=test authority'"
      " -keyout " + file("ca.key") + " -out " + file("ca.pem"));
  issue("server", "serverAuth,clientAuth");
  issue("client", "clientAuth");
}

void EtcdAuthority::issue(const std::string& name, const std::string& uses) {
  std::ofstream(file(name + ".ext")) << "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=" << uses << "\n";
  run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=" + name + "' -keyout " +
      file(name + ".key") + " -out " + file(name + ".csr"));
  run("openssl x509 -req -days 2 -CAcreateserial -in " + file(name + ".csr") + " -CA " + file("ca.pem") + " -CAkey " +
      file("ca.key") + " -extfile " + file(name + ".ext") + " -out " + file(name + ".pem"));
}

bool EtcdMembers::installed() {
  if (::access(etcd_program, X_OK) == 0) return true;
  std::cerr << "skipped: " << etcd_program << " is missing; scripts/setup installs it\n";
  return false;
}

EtcdMembers::EtcdMembers(std::size_t count, const EtcdAuthority* authority) : authority_(authority), members_(count) {
  for (Member& member : members_) {
    member.client_port = free_port();
    member.peer_port = free_port();
    endpoints_.push_back(url(authority != nullptr, member.client_port));
  }
  for (std::size_t i = 0; i < count; ++i) start(i);
  wait_for_health();
}

EtcdMembers::~EtcdMembers() {
  for (std::size_t i = 0; i < members_.size(); ++i) kill(i);
}

void EtcdMembers::start(std::size_t index) {
  Member& member = members_[index];
  check(member.pid == 0, "a member is started once");
  const std::string name = "m" + std::to_string(index);
  const std::string client_url = endpoints_[index];
  const std::string peer_url = url(false, member.peer_port);
  std::string cluster;
  for (std::size_t i = 0; i < members_.size(); ++i)
    cluster += (i == 0 ? "m" : ",m") + std::to_string(i) + "=" + url(false, members_[i].peer_port);
  std::vector<std::string> arguments{
      etcd_program, "--name", name, "--data-dir", folder_.path() / name, "--listen-client-urls", client_url,
      "--advertise-client-urls", client_url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
      "--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"};
  if (authority_ != nullptr) {
    for (const std::string& argument :
         {std::string("--client-cert-auth"), std::string("--trusted-ca-file"), authority_->file("ca.pem"),
          std::string("--cert-file"), authority_->file("server.pem"), std::string("--key-file"),
          authority_->file("server.key")}) {
      arguments.push_back(argument);
    }
  }
  std::vector<char*> raw;
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  const std::string log = folder_.path() / (name + ".log");
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  check(pid >= 0, "a member is started");
  if (pid == 0) {
    // Nothing of it stays behind when the test is killed.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(etcd_program, raw.data());
    ::_exit(127);
  }
  member.pid = pid;
}

void EtcdMembers::kill(std::size_t index) {
  pid_t& pid = members_[index].pid;
  if (pid == 0) return;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  pid = 0;
}

void EtcdMembers::pause(std::size_t index) { ::kill(members_[index].pid, SIGSTOP); }
void EtcdMembers::resume(std::size_t index) { ::kill(members_[index].pid, SIGCONT); }

EtcdOptions EtcdMembers::options() const {
  EtcdOptions options;
  options.endpoints = endpoints_;
  options.call_timeout_ms = 10'000;
  if (authority_ != nullptr) {
    options.ca_file = authority_->file("ca.pem");
    options.certificate_file = authority_->file("client.pem");
    options.key_file = authority_->file("client.key");
  }
  return options;
}

void EtcdMembers::wait_for_health() {
  auto client = EtcdClient::start(options());
  check(client.has_value(), "the client of the fixture starts", client ? "" : client.error().message);
  std::string why;
  const bool healthy = wait_until([&client, &why] {
    for (const Result<EtcdStatus>& status : (*client)->statuses()) {
      why = status ? "" : status.error().message;
      if (!status || status->leader == 0) return false;
    }
    return (*client)->read({EtcdRange{"health"}}).has_value();
  });
  check(healthy, "etcd becomes healthy", why);
}

std::size_t EtcdMembers::leader() {
  auto client = EtcdClient::start(options());
  check(client.has_value(), "the client of the fixture starts");
  std::size_t found = 0;
  const bool leads = wait_until([&client, &found] {
    const std::vector<Result<EtcdStatus>> statuses = (*client)->statuses();
    for (found = 0; found < statuses.size(); ++found) {
      if (statuses[found] && statuses[found]->leader == statuses[found]->member) return true;
    }
    return false;
  });
  check(leads, "etcd has a leader");
  return found;
}

double EtcdMembers::cpu_s() const {
  double total = 0;
  for (const Member& member : members_) {
    std::ifstream file("/proc/" + std::to_string(member.pid) + "/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const std::size_t behind_name = text.rfind(')');
    if (behind_name == std::string::npos) continue;
    std::istringstream fields(text.substr(behind_name + 1));
    std::string skipped;
    double user = 0;
    double system = 0;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    fields >> user >> system;
    total += (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  return total;
}

}  // namespace outlast::cluster::test
