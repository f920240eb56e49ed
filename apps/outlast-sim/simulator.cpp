#include "apps/outlast-sim/simulator.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "apps/outlast-sim/lane.hpp"

namespace outlast::sim {

class Simulator::Impl {
 public:
  explicit Impl(SimOptions options) : shared_(std::move(options)) {
    for (unsigned i = 0; i < shared_.options.lanes; ++i)
      lanes_.push_back(std::make_unique<SimLane>(shared_));
    reopen_timer_ = std::make_unique<asio::steady_timer>(lanes_.front()->context());
    shared_.faults.replace(shared_.options.faults);
    shared_.on_faults_replaced = [this](const std::vector<Fault>& faults) {
      asio::post(lanes_.front()->context(), [this, faults] { apply_refusal(faults); });
    };
  }

  Result<void> start() {
    const SimOptions& options = shared_.options;
    auto port = lanes_.front()->listen(options.listen);
    if (!port) return fail(port.error());
    address = with_port(options.listen, *port);
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      if (auto joined = lanes_[i]->listen(address); !joined) return fail(joined.error());
    }
    if (!options.control.empty()) {
      auto control_port = lanes_.front()->listen_control(options.control);
      if (!control_port) return fail(control_port.error());
      control_address = with_port(options.control, *control_port);
    }
    apply_refusal(options.faults);
    return {};
  }

  void run() {
    asio::signal_set signals(lanes_.front()->context(), SIGTERM, SIGINT);
    signals.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) stop();
    });
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      threads.emplace_back([lane = lanes_[i].get()] { lane->run(); });
    }
    lanes_.front()->run();
  }

  std::string address;
  std::string control_address;

 private:
  static std::string with_port(const std::string& address, std::uint16_t port) {
    return address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  }

  void stop() {
    for (const auto& lane : lanes_)
      asio::post(lane->context(), [lane = lane.get()] { lane->stop(); });
  }

  // On the first lane, or before run().
  void apply_refusal(const std::vector<Fault>& faults) {
    const auto refusal = std::find_if(faults.begin(), faults.end(), [](const Fault& fault) {
      return fault.kind == FaultKind::refuse;
    });
    if (refusal == faults.end()) {
      reopen();
      return;
    }
    if (!refusing_) {
      refusing_ = true;
      for (const auto& lane : lanes_)
        asio::post(lane->context(), [lane = lane.get()] { lane->stop_listening(); });
    }
    if (refusal->for_ms != 0) {
      reopen_timer_->expires_after(std::chrono::milliseconds(refusal->for_ms));
      reopen_timer_->async_wait([this](const boost::system::error_code& error) {
        if (!error) reopen();
      });
    }
  }

  void reopen() {
    if (!refusing_) return;
    refusing_ = false;
    reopen_timer_->cancel();
    for (const auto& lane : lanes_) {
      asio::post(lane->context(), [this, lane = lane.get()] { lane->listen(address); });
    }
  }

  SimShared shared_;
  std::vector<std::unique_ptr<SimLane>> lanes_;
  std::unique_ptr<asio::steady_timer> reopen_timer_;
  bool refusing_ = false;
};

Simulator::Simulator(SimOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Simulator::~Simulator() = default;

Result<void> Simulator::start() { return impl_->start(); }
const std::string& Simulator::address() const { return impl_->address; }
const std::string& Simulator::control_address() const { return impl_->control_address; }
void Simulator::run() { impl_->run(); }

}  // namespace outlast::sim
