// Lane: one thread with one Asio loop that moves bytes: the HTTP front, upstream connections, and the exchanges of
// message calls. It holds no locks on the way of a request and asks no actor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "core/clock.hpp"
#include "core/result.hpp"
#include "gateway/exchange.hpp"
#include "gateway/lane_metrics.hpp"
#include "gateway/seams.hpp"
#include "gateway/snapshot.hpp"
#include "http/client.hpp"
#include "http/server.hpp"

namespace outlast::gateway {

struct LaneOptions {
  std::uint32_t index = 0;
  http::ServerLimits limits;
  const http::TlsServerFiles* tls = nullptr;  // outlives the lane
  http::ClientOptions client;
  AnswerCache* answers = nullptr;  // outlives the lane
  const SpendPort* spend = nullptr;  // null: no spend breakers; outlives the lane
};

using MakeMeter = std::function<std::unique_ptr<Meter>(asio::io_context&)>;

class Lane {
 public:
  Lane(LaneOptions options, const SnapshotBoard& board, const Clock& clock, const MakeMeter& make_meter, OutcomeSink& sink);
  ~Lane();  // stops
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Binds before the thread runs; returns the port. Once.
  Result<std::uint16_t> start(std::string_view address);

  // Any thread: runs a task as a coroutine on the lane.
  using Task = std::function<asio::awaitable<void>(LaneServices& services, SnapshotReader& snapshots)>;
  void run(Task task);

  // Any thread: no new connections or requests; those under way go on.
  void drain();
  // Any thread: whether /readyz asks for callers. Whoever comes all the same is served.
  void welcome(bool callers) { welcomes_.store(callers, std::memory_order_relaxed); }
  // Any thread; 0 once drained.
  [[nodiscard]] std::uint64_t requests_in_flight() const { return metrics_.requests_in_flight.value(); }
  [[nodiscard]] const LaneMetrics& metrics() const { return metrics_; }
  // Ends the loop and joins the thread; what is under way is dropped. Idempotent.
  void stop();

 private:
  class Impl;
  LaneMetrics metrics_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> welcomes_{true};
  std::unique_ptr<Impl> impl_;
  std::thread thread_;
};

}  // namespace outlast::gateway
