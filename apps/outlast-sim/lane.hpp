// SimLane: one thread's connections of the simulator. Answers follow from request bodies alone, so
// what was made for a body is kept and serves the next equal one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlast-sim/chat_request.hpp"
#include "apps/outlast-sim/fault.hpp"
#include "apps/outlast-sim/performance.hpp"
#include "apps/outlast-sim/render.hpp"
#include "apps/outlast-sim/simulator.hpp"
#include "apps/outlast-sim/stats.hpp"
#include "http/server.hpp"

namespace outlast::sim {

namespace asio = boost::asio;

// What the lanes of one simulator share.
struct SimShared {
  SimOptions options;
  FaultBoard faults;
  SimStats stats;
  std::function<void(const std::vector<Fault>&)> on_faults_replaced;  // opens and closes listeners

  explicit SimShared(SimOptions given) : options(std::move(given)), faults(options.seed) {}
};

class SimLane {
 public:
  explicit SimLane(SimShared& shared);

  asio::io_context& context() { return context_; }
  // Before run(), or on the lane. Returns the bound port.
  Result<std::uint16_t> listen(const std::string& address);
  Result<std::uint16_t> listen_control(const std::string& address);
  // On the lane: closes the listening socket and every connection after its present answer.
  void stop_listening();
  // On the lane: closes everything and ends run().
  void stop();
  void run() { context_.run(); }

 private:
  struct Prepared;

  std::unique_ptr<http::Server> make_server();
  asio::awaitable<void> handle(http::Request& request, http::Response& response);
  asio::awaitable<void> chat(http::Request& request, http::Response& response);
  asio::awaitable<void> faulty(const Prepared& prepared, const Fault& fault,
                               http::Response& response);
  asio::awaitable<void> give(const Performance& performance, http::Response& response);
  asio::awaitable<void> send_error(const ApiError& error, std::uint64_t id,
                                   http::Response& response, const Fault* fault = nullptr);
  asio::awaitable<void> send_json(unsigned status, std::string_view body, http::Response& response);
  asio::awaitable<void> faults_endpoint(http::Request& request, http::Response& response);

  [[nodiscard]] SimStats::Connections connections() const;
  std::shared_ptr<const Prepared> prepare(std::string_view body);
  [[nodiscard]] Performance performance_of(const Prepared& prepared) const;
  [[nodiscard]] bool authorised(const http::Request& request) const;
  [[nodiscard]] std::string error_body(const ApiError& error, std::uint64_t id) const;

  SimShared& shared_;
  const std::string chat_path_;
  asio::io_context context_{1};
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<http::Server> control_;
  std::vector<std::unique_ptr<http::Server>> closing_;  // after stop_listening()
  std::unordered_map<std::string_view, std::shared_ptr<const Prepared>>
      prepared_;  // keys view their values
};

}  // namespace outlast::sim
