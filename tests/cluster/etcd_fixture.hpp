// EtcdMembers: real members of etcd on loopback, for as long as a test. They can be killed, paused and started again.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cluster/etcd_client.hpp"
#include "core/check.hpp"

namespace outlast::cluster::test {

inline constexpr std::chrono::seconds etcd_patience{60};  // of every wait for etcd

// Asks until it holds; false when that took too long.
bool wait_until(const std::function<bool()>& holds);

// The value of the first call that succeeds; aborts when that took too long.
template <class Call>
auto eventually(const Call& call) {
  auto result = call();
  check(wait_until([&call, &result] {
          if (!result) result = call();
          return result.has_value();
        }),
        "a call succeeds in the end");
  return *result;
}

// A folder of its own under the system's, gone with the test.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// An authority, and certificates of its making for a server and a client.
class EtcdAuthority {
 public:
  EtcdAuthority();
  [[nodiscard]] std::string file(const std::string& name) const { return folder_.path() / name; }
  // For NAME.pem and NAME.key; with `uses` as in extendedKeyUsage.
  void issue(const std::string& name, const std::string& uses);

 private:
  TestFolder folder_;
};

class EtcdMembers {
 public:
  // Says in the test's output that it is skipped when it is not.
  static bool installed();

  explicit EtcdMembers(std::size_t count = 1, const EtcdAuthority* authority = nullptr);
  ~EtcdMembers();
  EtcdMembers(const EtcdMembers&) = delete;
  EtcdMembers& operator=(const EtcdMembers&) = delete;

  void start(std::size_t member);
  void kill(std::size_t member);
  void pause(std::size_t member);
  void resume(std::size_t member);
  [[nodiscard]] const std::vector<std::string>& endpoints() const { return endpoints_; }
  // Which leads; asks until one does.
  std::size_t leader();
  // With time enough for a slow machine.
  [[nodiscard]] EtcdOptions options() const;
  // User and system time of all members so far.
  [[nodiscard]] double cpu_s() const;

 private:
  struct Member {
    pid_t pid = 0;
    std::uint16_t client_port = 0;
    std::uint16_t peer_port = 0;
  };
  void wait_for_health();

  TestFolder folder_;
  const EtcdAuthority* authority_;
  std::vector<Member> members_;
  std::vector<std::string> endpoints_;
};

}  // namespace outlast::cluster::test
