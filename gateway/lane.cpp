#include "gateway/lane.hpp"

#include <pthread.h>

#include <chrono>
#include <exception>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "core/check.hpp"
#include "core/log.hpp"
#include "gateway/front.hpp"

namespace outlast::gateway {
namespace {

constexpr auto sweep_period = std::chrono::milliseconds(100);

// An exchange that throws is a bug or an exhausted machine; either way one request must not end the lane.
void report_exception(const std::exception_ptr& error) {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    log::error("lane_task_failed", {{"error", exception.what()}});
  }
}

// Pending coroutines refer to the lane's other members, and those to the context: so at the end the coroutines go
// first, then the members, then the context itself.
class LaneContext : public asio::io_context {
 public:
  LaneContext() : asio::io_context(1) {}
  void drop_pending() { shutdown(); }
};

}  // namespace

class Lane::Impl {
 public:
  Impl(LaneOptions options, const SnapshotBoard& board, const Clock& clock, const MakeMeter& make_meter,
       OutcomeSink& sink, LaneMetrics& metrics, std::function<bool()> ready)
      : work_(context_.get_executor()),
        random_(secure_seed()),
        ids_(clock, secure_seed()),
        outcomes_(sink),
        client_(context_, options.client),
        meter_(make_meter(context_)),
        snapshots_(board),
        metrics_(metrics),
        spend_(options.spend != nullptr ? std::make_unique<SpendLane>(*options.spend) : nullptr),
        services_{client_, *meter_, clock, ids_, random_, retries_, outcomes_, metrics,
                  options.answers, spend_.get()},
        front_(services_, snapshots_, std::move(ready)),
        server_(context_,
                http::ServerOptions{.limits = options.limits, .error_body = protocol_error_body, .tls = options.tls},
                [this](http::Request& request, http::Response& response) { return front_.handle(request, response); }),
        sweep_timer_(context_) {}

  ~Impl() { context_.drop_pending(); }

  asio::io_context& context() { return context_; }
  http::Server& server() { return server_; }

  void loop() {
    sweep();
    context_.run();
  }

  void spawn(Task task) {
    asio::co_spawn(context_, run_task(std::move(task)), report_exception);
  }

 private:
  asio::awaitable<void> run_task(Task task) { co_await task(services_, snapshots_); }

  void sweep() {
    outcomes_.flush();
    if (spend_) spend_->flush();
    const http::ServerCounters& counters = server_.counters();
    const auto mirror = [](Counter& to, std::uint64_t value) { to.add(value - to.value()); };
    mirror(metrics_.connections_open, counters.connections_open);
    mirror(metrics_.connections_accepted, counters.connections_accepted);
    mirror(metrics_.protocol_errors, counters.protocol_errors);
    sweep_timer_.expires_after(sweep_period);
    sweep_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) sweep();
    });
  }

  LaneContext context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  Random random_;
  UuidGenerator ids_;
  RetryBudget retries_;
  OutcomeRecorder outcomes_;
  http::Client client_;
  std::unique_ptr<Meter> meter_;
  SnapshotReader snapshots_;
  LaneMetrics& metrics_;
  std::unique_ptr<SpendLane> spend_;
  LaneServices services_;
  Front front_;
  http::Server server_;
  asio::steady_timer sweep_timer_;
};

Lane::Lane(LaneOptions options, const SnapshotBoard& board, const Clock& clock, const MakeMeter& make_meter,
           OutcomeSink& sink)
    : impl_(std::make_unique<Impl>(std::move(options), board, clock, make_meter, sink, metrics_, [this] {
        return !draining_.load(std::memory_order_relaxed) && welcomes_.load(std::memory_order_relaxed);
      })) {}

Lane::~Lane() { stop(); }

Result<std::uint16_t> Lane::start(std::string_view address) {
  check(!thread_.joinable(), "a lane starts once");
  auto port = impl_->server().listen(address);
  if (!port) return port;
  thread_ = std::thread([this] { impl_->loop(); });
  pthread_setname_np(thread_.native_handle(), "lane");
  return port;
}

void Lane::run(Task task) {
  asio::post(impl_->context(), [this, task = std::move(task)]() mutable { impl_->spawn(std::move(task)); });
}

void Lane::drain() {
  draining_.store(true);
  asio::post(impl_->context(), [this] { impl_->server().drain(); });
}

void Lane::stop() {
  if (!thread_.joinable()) return;
  impl_->context().stop();
  thread_.join();
}

}  // namespace outlast::gateway
