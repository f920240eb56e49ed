// SpendBoard: the open spend breakers as lanes see them. The actor that runs the engine publishes; a lane looks at
// admission: nothing while no breaker is open, else a hash probe per kind of subject.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/scope_index.hpp"
#include "core/spend_breaker.hpp"
#include "gateway/spend_breaker_engine.hpp"

namespace outlast::gateway {

// One open breaker. What people read is immutable; what lanes count is atomic. Any thread.
class SpendGate {
 public:
  // `link`: where a person reads about it; may be empty.
  SpendGate(const OpenBreaker& breaker, std::string_view link);
  SpendGate(const SpendGate&) = delete;
  SpendGate& operator=(const SpendGate&) = delete;

  // Whether one more request may pass; takes what lets it pass. Nothing: it may.
  struct Refused {
    std::uint32_t retry_after_s = 0;  // 0: waiting does not help
  };
  std::optional<Refused> enter(std::int64_t now_ns);
  // The next `half_open_requests` pass.
  void half_open() { probes_.store(half_open_requests_, std::memory_order_relaxed); }

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] const std::string& link() const { return link_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  [[nodiscard]] SpendAction action() const { return action_; }

 private:
  bool take_probe();

  const std::string id_;
  const std::string link_;
  const std::string message_;
  const SpendAction action_;
  const std::int64_t interval_ns_;  // of throttled requests
  const std::int32_t half_open_requests_;
  std::atomic<std::int32_t> probes_{0};
  std::atomic<std::int64_t> next_ns_{0};  // when the next throttled request may pass
};

// Immutable, but for what gates count.
struct SpendSnapshot {
  bool watching = false;       // there are rules: lanes report what is spent
  bool conversations = false;  // a rule needs the hash of how a conversation begins
  bool requests = false;       // a rule needs the hash of a whole request
  bool purchases = false;      // a breaker of a model or provider is open
  ScopeIndex<std::shared_ptr<SpendGate>> scopes;
  std::unordered_map<std::string, std::vector<std::shared_ptr<SpendGate>>> sessions;  // by SpendSubject::to_string()
};

// Any thread.
class SpendBoard {
 public:
  SpendBoard() : snapshot_(std::make_shared<const SpendSnapshot>()) {}
  void publish(std::shared_ptr<const SpendSnapshot> snapshot) {
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
    version_.fetch_add(1, std::memory_order_release);
  }
  [[nodiscard]] std::shared_ptr<const SpendSnapshot> get() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
  }
  [[nodiscard]] std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const SpendSnapshot> snapshot_;
  std::atomic<std::uint64_t> version_{1};
};

// Keeps the gates of open breakers and makes the snapshots. One owner, beside the engine.
class SpendGates {
 public:
  explicit SpendGates(SpendBoard& board) : board_(board) {}
  // By SpendChange: a tripped breaker gets a new gate, a half-open one lets its requests pass.
  void tripped(const OpenBreaker& breaker, const std::string& link);
  void half_opened(const std::string& id);
  void closed(const std::string& id) { gates_.erase(id); }
  // After any of these, or of the rules.
  void publish(const std::vector<SpendBreakerRule>& rules);

 private:
  SpendBoard& board_;
  std::map<std::string, std::pair<SpendSubject, std::shared_ptr<SpendGate>>> gates_;
};

}  // namespace outlast::gateway
