// FakeNode: a ClientListener whose calls a test takes one by one, or that answers by itself. It can be stopped and
// started again on the same port with the same keys.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "cluster/client_listener.hpp"
#include "cluster/curve.hpp"
#include "core/check.hpp"
#include "core/clock.hpp"

namespace outlast::test {

inline constexpr std::chrono::seconds patience{20};  // of every wait in these tests
inline const std::string good_key = "ol_the-key-of-the-tests";

class FakeNode {
 public:
  using Answer = std::function<void(std::shared_ptr<cluster::ChatCall>)>;

  explicit FakeNode(cluster::ListenerLimits limits = {}, Answer answer = {}, std::string name = "fake")
      : limits_(limits), answer_(std::move(answer)), name_(std::move(name)), keys_(cluster::make_curve_keys()) {
    start();
  }

  void start() {
    cluster::ListenerOptions options;
    options.listen = endpoint_.empty() ? "tcp://127.0.0.1:0" : endpoint_;
    options.secret_key = keys_.secret_key;
    options.node_name = name_;
    options.limits = limits_;
    // The port of a listener that was just stopped can stay taken for a moment.
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (true) {
      auto started = cluster::ClientListener::start(
          options, clock_,
          [this](std::string_view text) -> std::shared_ptr<const VirtualKey> {
            const std::lock_guard lock(mutex_);
            if (text != good_key || revoked_) return nullptr;
            auto key = std::make_shared<VirtualKey>();
            key->id = "key_test";
            return key;
          },
          [this](std::shared_ptr<cluster::ChatCall> call) { take(std::move(call)); });
      if (started) {
        listener_ = std::move(*started);
        break;
      }
      check(std::chrono::steady_clock::now() < give_up, "the fake node can listen", started.error().message);
    }
    endpoint_ = listener_->endpoint();
  }
  void stop() { listener_.reset(); }
  void revoke_key() {
    const std::lock_guard lock(mutex_);
    revoked_ = true;
  }

  // The next call that came in; null after `wait`.
  std::shared_ptr<cluster::ChatCall> next_call(std::chrono::milliseconds wait = patience) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, wait, [this] { return !calls_.empty(); })) return nullptr;
    auto call = std::move(calls_.front());
    calls_.pop_front();
    return call;
  }

  cluster::ClientListener& listener() { return *listener_; }
  const std::string& endpoint() const { return endpoint_; }
  const cluster::CurveKeys& keys() const { return keys_; }
  // As other nodes tell of it.
  link::NodeEntry entry(bool draining = false) const { return {name_, endpoint_, keys_.public_key, draining}; }

 private:
  void take(std::shared_ptr<cluster::ChatCall> call) {
    if (answer_) return answer_(std::move(call));
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    arrived_.notify_all();
  }

  const cluster::ListenerLimits limits_;
  const Answer answer_;
  const std::string name_;
  const cluster::CurveKeys keys_;
  SystemClock clock_;
  std::string endpoint_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::shared_ptr<cluster::ChatCall>> calls_;
  bool revoked_ = false;
  std::unique_ptr<cluster::ClientListener> listener_;
};

// Set once by one thread, awaited by another.
template <class T>
class Slot {
 public:
  void set(T value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    changed_.notify_all();
  }
  std::optional<T> wait(std::chrono::milliseconds wait = patience) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return value_.has_value(); });
    return value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

// True when `condition` holds before the patience is over; asks again each millisecond.
template <class Condition>
bool eventually(Condition condition) {
  std::mutex mutex;
  std::condition_variable never;
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::unique_lock lock(mutex);
    never.wait_for(lock, std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace outlast::test
