#include "apps/outlastd/control.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/exit_status.hpp"
#include "apps/outlastd/secrets.hpp"
#include "core/json_writer.hpp"
#include "core/log.hpp"
#include "http/server.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
constexpr auto drain_look_period = std::chrono::milliseconds(10);
constexpr auto last_callers_max = std::chrono::milliseconds(600);  // those who had just connected
constexpr auto last_answers_max = std::chrono::seconds(1);  // of the admin interface
constexpr auto handover_max = std::chrono::seconds(3);  // then the lease's end says that the shards are free

std::string admin_protocol_error(unsigned, http::HttpError, std::string_view message) {
  return admin_error_body(message, "bad_request");
}

class Control {
 public:
  explicit Control(Daemon& daemon)
      : daemon_(daemon),
        loop_(1),
        api_(loop_, daemon),
        server_(loop_,
                http::ServerOptions{.limits = admin_limits(), .error_body = admin_protocol_error, .tls = daemon.tls(),
                                    .reuse_port = false},
                [this](http::Request& request, http::Response& response) { return answer(request, response); }),
        signals_(loop_, SIGTERM, SIGINT, SIGHUP) {}

  int run() {
    const auto port = server_.listen(daemon_.config().admin_listen);
    if (!port) {
      std::fprintf(stderr, "outlastd: http.admin_listen: %s\n", port.error().message.c_str());
      return exit_failed;
    }
    const std::string& listen = daemon_.config().admin_listen;
    const std::string admin = listen.substr(0, listen.rfind(':')) + ":" + std::to_string(*port);
    if (const auto written = write_node_file(admin); !written) {
      std::fprintf(stderr, "outlastd: %s\n", written.error().message.c_str());
      return exit_failed;
    }
    daemon_.announce_admin((daemon_.tls() != nullptr ? "https://" : "http://") + admin);
    asio::co_spawn(loop_, watch_signals(), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    std::string zmq = daemon_.listener() != nullptr ? daemon_.listener()->endpoint() : "off";
    if (zmq.starts_with("tcp://")) zmq.erase(0, 6);
    std::printf("outlastd ready http=%s admin=%s zmq=%s\n", daemon_.http_address().c_str(), admin.c_str(), zmq.c_str());
    std::fflush(stdout);
    log::info("ready", {{"node", daemon_.config().name}, {"http", daemon_.http_address()}, {"admin", admin}, {"zmq", zmq}});
    loop_.run();
    const ClusterPart* const cluster = daemon_.cluster();
    return cluster != nullptr && !cluster->takes_part() ? exit_not_enrolled : 0;
  }

 private:
  static http::ServerLimits admin_limits() {
    http::ServerLimits limits;
    limits.body_bytes_max = 4 * 1024 * 1024;  // an invoice to reconcile
    limits.connections_max = 64;
    return limits;
  }

  asio::awaitable<void> answer(http::Request& request, http::Response& response) {
    struct Answering {
      explicit Answering(std::size_t& count) : count_(count) { ++count_; }
      ~Answering() { --count_; }
      Answering(const Answering&) = delete;
      Answering& operator=(const Answering&) = delete;

     private:
      std::size_t& count_;
    };
    const Answering answering(answering_);
    co_await api_.handle(request, response);
  }

  // Where a tool on the same machine finds the node.
  Result<void> write_node_file(const std::string& admin) const {
    const std::string scheme = daemon_.tls() != nullptr ? "https://" : "http://";
    std::string text;
    JsonWriter json(text);
    json.begin_object().key("name").string(daemon_.config().name);
    json.key("http").string(scheme + daemon_.http_address()).key("admin").string(scheme + admin);
    if (daemon_.listener() != nullptr) {
      json.key("zmq").string(daemon_.listener()->endpoint()).key("zmq_public_key").string(daemon_.listener()->public_key());
    }
    json.key("pid").number(static_cast<std::int64_t>(getpid())).end_object();
    return write_file_atomically(std::filesystem::path(daemon_.config().data) / "node.json", text + "\n", 0644);
  }

  asio::awaitable<void> watch_signals() {
    while (true) {
      const int signal = co_await signals_.async_wait(asio::use_awaitable);
      if (signal == SIGHUP) {
        const auto reloaded = co_await daemon_.reload(loop_);
        if (!reloaded) log::error("reload_refused", {{"error", reloaded.error().message}});
        continue;
      }
      if (daemon_.draining()) {
        log::warning("stopped_without_drain", {{"requests", daemon_.requests_in_flight()}});
        finish();
        co_return;
      }
      log::info("draining", {{"requests", daemon_.requests_in_flight()}});
      daemon_.drain();
      asio::co_spawn(loop_, drain_to_end(), [](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
      });
    }
  }

  asio::awaitable<void> drain_to_end() {
    asio::steady_timer timer(loop_);
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(daemon_.config().limits.drain_timeout_ms);
    while (daemon_.requests_in_flight() > 0 && std::chrono::steady_clock::now() < until) {
      timer.expires_after(drain_look_period);
      co_await timer.async_wait(asio::use_awaitable);
    }
    const auto callers_by = std::min(std::chrono::steady_clock::now() + last_callers_max, until);
    while (daemon_.connections_open() > 0 && std::chrono::steady_clock::now() < callers_by) {
      timer.expires_after(drain_look_period);
      co_await timer.async_wait(asio::use_awaitable);
    }
    if (const auto left = daemon_.requests_in_flight(); left > 0) {
      log::warning("drain_timed_out", {{"requests", left}, {"hint", "raise limits.drain_timeout_ms"}});
    }
    const auto handed_by = std::min(std::chrono::steady_clock::now() + handover_max, until);
    while (!daemon_.shards_handed_over() && std::chrono::steady_clock::now() < handed_by) {
      timer.expires_after(drain_look_period);
      co_await timer.async_wait(asio::use_awaitable);
    }
    // Whoever had the node removed hears of it from the node itself, perhaps.
    const auto answered_by = std::min(std::chrono::steady_clock::now() + last_answers_max, until);
    while (answering_ > 0 && std::chrono::steady_clock::now() < answered_by) {
      timer.expires_after(drain_look_period);
      co_await timer.async_wait(asio::use_awaitable);
    }
    log::info("drained");
    finish();
  }

  void finish() {
    server_.close();
    loop_.stop();
  }

  Daemon& daemon_;
  std::size_t answering_ = 0;  // admin requests; outlives the loop, which ends those that are left
  asio::io_context loop_;
  AdminApi api_;
  http::Server server_;
  asio::signal_set signals_;
};

}  // namespace

int run_control(Daemon& daemon) { return Control(daemon).run(); }

}  // namespace outlast::apps
