// EtcdWatch: one watch at etcd, which begins again by itself, from now and without a revision, so that compaction
// cannot end it for good. What may have been missed is said by `began`. Of an EtcdClient.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "cluster/etcd_client.hpp"
#include "cluster/etcd_http.hpp"

namespace outlast::cluster {

// Owned by the client's thread.
class EtcdWatch {
 public:
  static constexpr std::size_t line_bytes_max = 8U << 20;
  // A watch that says nothing for so long begins again: its member may be cut off, which TCP does not tell.
  static constexpr std::uint32_t quiet_ms = 30'000;
  static constexpr std::uint32_t pause_ms_min = 50;
  static constexpr std::uint32_t pause_ms_max = 2'000;

  EtcdWatch(boost::asio::io_context& io, EtcdHttp& http, std::string request, EtcdWatcher watcher,
            std::function<void()> ended);
  EtcdWatch(const EtcdWatch&) = delete;
  EtcdWatch& operator=(const EtcdWatch&) = delete;

  void start();
  // `ended` is called when it has stopped.
  void stop();
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  static boost::asio::awaitable<void> run(EtcdWatch* self);
  boost::asio::awaitable<void> watch_once(std::size_t endpoint);
  // False when the watch is over.
  bool take_lines();

  boost::asio::io_context& io_;
  EtcdHttp& http_;
  const std::string request_;
  const EtcdWatcher watcher_;
  const std::function<void()> ended_;
  boost::asio::steady_timer pause_;
  std::unique_ptr<http::Cancellation> cancellation_;
  std::string lines_;       // received and not yet understood
  bool began_ = false;      // in this round
  bool stopping_ = false;
  bool stopped_ = false;
};

}  // namespace outlast::cluster
