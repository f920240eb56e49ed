// Processes that a benchmark starts and that end with it: members of etcd, and copies of the benchmark itself.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace outlast::bench {

// Free now; they differ, since all are kept open until the last is chosen.
inline std::vector<std::uint16_t> free_ports(std::size_t count) {
  std::vector<std::uint16_t> ports;
  std::vector<int> sockets;
  while (ports.size() < count) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    check(::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
              ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) == 0,
          "a free port is found");
    sockets.push_back(descriptor);
    ports.push_back(ntohs(address.sin_port));
  }
  for (const int descriptor : sockets) ::close(descriptor);
  return ports;
}

// User and system time of a process so far.
inline double cpu_of_process_s(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t behind_name = text.rfind(')');
  if (behind_name == std::string::npos) return 0;
  std::istringstream fields(text.substr(behind_name + 1));
  std::string skipped;
  double user = 0;
  double system = 0;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// A process that is spoken to by lines, if `talks`; else what it says goes to `log`.
class ChildProcess {
 public:
  ChildProcess(std::vector<std::string> arguments, const std::string& log, bool talks) : log_(log) {
    int to[2] = {-1, -1};
    int from[2] = {-1, -1};
    check(::pipe2(to, O_CLOEXEC) == 0 && ::pipe2(from, O_CLOEXEC) == 0, "a pipe is made");
    std::vector<char*> raw;
    for (std::string& argument : arguments) raw.push_back(argument.data());
    raw.push_back(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    check(pid_ >= 0, "a process is started");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nothing of it stays behind
      if (::getppid() != parent) ::_exit(1);
      const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      ::dup2(to[0], 0);
      ::dup2(talks ? from[1] : file, 1);
      ::dup2(file, 2);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    to_ = ::fdopen(to[1], "w");
    from_ = ::fdopen(from[0], "r");
  }
  ~ChildProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    std::fclose(to_);
    std::fclose(from_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void say(const std::string& line) {
    std::fprintf(to_, "%s\n", line.c_str());
    std::fflush(to_);
  }
  // The next line; the benchmark ends when the process has ended.
  std::string hear() {
    std::string line;
    for (int c = std::fgetc(from_); c != '\n'; c = std::fgetc(from_)) {
      if (c == EOF) {
        std::fprintf(stderr, "bench: a process has ended; it said:\n%s", std::string(std::istreambuf_iterator<char>(std::ifstream(log_).rdbuf()), {}).c_str());
        std::exit(1);
      }
      line += static_cast<char>(c);
    }
    return line;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  const std::string log_;
  pid_t pid_ = 0;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

class EtcdProcesses {
 public:
  // Data and logs in `folder`.
  EtcdProcesses(const std::string& folder, std::size_t count) {
    const std::vector<std::uint16_t> ports = free_ports(2 * count);
    const auto url = [&ports](std::size_t i) { return "http://127.0.0.1:" + std::to_string(ports[i]); };
    std::string cluster;
    for (std::size_t i = 0; i < count; ++i) cluster += (i == 0 ? "m" : ",m") + std::to_string(i) + "=" + url(2 * i);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name = "m" + std::to_string(i);
      endpoints_.push_back(url(2 * i + 1));
      members_.push_back(std::make_unique<ChildProcess>(
          std::vector<std::string>{"/usr/bin/etcd", "--name", name, "--data-dir", folder + "/" + name, "--listen-peer-urls",
                                   url(2 * i), "--initial-advertise-peer-urls", url(2 * i), "--listen-client-urls",
                                   endpoints_[i], "--advertise-client-urls", endpoints_[i], "--initial-cluster", cluster,
                                   "--quota-backend-bytes", "8589934592", "--logger", "zap", "--log-level", "error"},
          folder + "/" + name + ".log", false));
    }
  }
  [[nodiscard]] const std::vector<std::string>& endpoints() const { return endpoints_; }
  [[nodiscard]] double cpu_s() const {
    double total = 0;
    for (const auto& member : members_) total += cpu_of_process_s(member->pid());
    return total;
  }

 private:
  std::vector<std::string> endpoints_;
  std::vector<std::unique_ptr<ChildProcess>> members_;
};

// A folder of the benchmark's own, gone with it.
class BenchFolder {
 public:
  explicit BenchFolder(const std::string& within) {
    std::string pattern = within + "/outlast-bench-XXXXXX";
    check(::mkdtemp(pattern.data()) != nullptr, "a temporary folder is made", pattern);
    path_ = pattern;
  }
  ~BenchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace outlast::bench
