// CuttingProxy: passes TCP connections on to a node, and cuts all of them or swallows what they carry when a test says so.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace outlast::test {

class CuttingProxy {
 public:
  explicit CuttingProxy(const std::string& target)
      : target_port_(static_cast<std::uint16_t>(std::stoi(target.substr(target.rfind(':') + 1)))),
        listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
        wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    check(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(listener_, 64) == 0 &&
              ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0,
          "the proxy can listen");
    endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~CuttingProxy() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake();
    thread_.join();
    ::close(listener_);
    ::close(wake_);
  }
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  // Cuts every connection there is, and swallows no more. Returns when it is done.
  void cut() {
    std::unique_lock lock(mutex_);
    cut_asked_ = true;
    wake();
    changed_.wait(lock, [this] { return !cut_asked_; });
  }
  [[nodiscard]] std::uint64_t cuts() {
    const std::lock_guard lock(mutex_);
    return cuts_;
  }
  // From now on what connections carry to the target disappears.
  void swallow() {
    const std::lock_guard lock(mutex_);
    swallowing_ = true;
    swallowed_bytes_ = 0;
  }
  bool wait_swallowed(std::uint64_t bytes) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [this, bytes] { return swallowed_bytes_ >= bytes; });
  }

 private:
  struct Way {  // one direction
    int from;
    int to;
    bool to_target;
    std::vector<char> pending;
  };
  struct Pair {
    std::array<Way, 2> ways;
    bool broken = false;
  };

  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  void wake() {
    const std::uint64_t one = 1;
    check(::write(wake_, &one, sizeof one) == sizeof one, "an eventfd can be written");
  }

  void run() {
    while (true) {
      std::vector<pollfd> fds{{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        for (const Way& way : pair.ways) {
          fds.push_back({way.from, static_cast<short>(way.pending.empty() ? POLLIN : 0), 0});
          fds.push_back({way.to, static_cast<short>(way.pending.empty() ? 0 : POLLOUT), 0});
        }
      }
      ::poll(fds.data(), fds.size(), -1);
      std::uint64_t count = 0;
      [[maybe_unused]] const auto read = ::read(wake_, &count, sizeof count);
      if (!obey()) return;
      accept();
      for (Pair& pair : pairs_) {
        for (Way& way : pair.ways) pair.broken = !move(way) || pair.broken;
      }
      drop([](const Pair& pair) { return pair.broken; });
    }
  }
  // False when the proxy ends.
  bool obey() {
    const std::lock_guard lock(mutex_);
    if (cut_asked_ || stopping_) {
      cuts_ += pairs_.size();
      drop([](const Pair&) { return true; });
      cut_asked_ = swallowing_ = false;
      changed_.notify_all();
    }
    return !stopping_;
  }
  template <class Which>
  void drop(Which which) {
    pairs_.remove_if([&which](const Pair& pair) {
      if (!which(pair)) return false;
      ::close(pair.ways[0].from);
      ::close(pair.ways[0].to);
      return true;
    });
  }
  void accept() {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    const int target = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(target_port_);
    if (::connect(target, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      ::close(client);
      ::close(target);
      return;
    }
    pairs_.push_back({{Way{client, target, true, {}}, Way{target, client, false, {}}}, false});
  }
  // False when the connection is over.
  bool move(Way& way) {
    if (way.pending.empty()) {
      way.pending.resize(64U << 10);
      const auto got = ::recv(way.from, way.pending.data(), way.pending.size(), MSG_DONTWAIT);
      way.pending.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
      if (got == 0) return false;
      if (got < 0) return errno == EAGAIN;
      if (way.to_target && swallow_now(static_cast<std::uint64_t>(got))) {
        way.pending.clear();
        return true;
      }
    }
    const auto sent = ::send(way.to, way.pending.data(), way.pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    way.pending.erase(way.pending.begin(), way.pending.begin() + sent);
    return true;
  }
  bool swallow_now(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (!swallowing_) return false;
    swallowed_bytes_ += bytes;
    changed_.notify_all();
    return true;
  }

  const std::uint16_t target_port_;
  const int listener_;
  const int wake_;
  std::string endpoint_;
  std::thread thread_;
  std::list<Pair> pairs_;  // the thread's

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool cut_asked_ = false;
  bool swallowing_ = false;
  std::uint64_t swallowed_bytes_ = 0;
  std::uint64_t cuts_ = 0;
};

}  // namespace outlast::test
