// SpendNotifier: tells people what spend breakers do, off the lanes: signed webhooks, retried, and local commands. One
// thread with one Asio loop.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/random.hpp"
#include "gateway/spend_config.hpp"

namespace outlast::actors {

// One thing that happened, and whom to tell.
struct SpendNotice {
  std::string id;    // of the delivery: the same in each retry, so that a receiver can know it again
  std::string body;  // JSON
  gateway::SpendNotify notify;
  std::function<void(const std::string& id)> delivered;  // may be empty; on the notifier's thread
};

// Any thread; does not block.
class SpendNoticeSink {
 public:
  virtual ~SpendNoticeSink() = default;
  virtual void notify(SpendNotice notice) = 0;
};

// "v1=" and the hexadecimal HMAC-SHA-256 of "TIMESTAMP.BODY" under the webhook's secret.
std::string spend_signature(std::string_view secret, std::string_view timestamp, std::string_view body);

// How long to wait after the nth failed attempt (from 1): 0.5 s doubled each time, at most 60 s, of which a random half
// is left out, so that many deliveries do not come again at once.
std::uint32_t spend_backoff_ms(std::uint32_t attempts, Random& random);

struct SpendNotifierCounters {
  std::atomic<std::uint64_t> webhooks_delivered{0};
  std::atomic<std::uint64_t> webhooks_failed{0};  // given up
  std::atomic<std::uint64_t> webhook_retries{0};
  std::atomic<std::uint64_t> commands_done{0};
  std::atomic<std::uint64_t> commands_failed{0};
  std::atomic<std::uint64_t> dropped{0};  // the queue was full
};

class SpendNotifier final : public SpendNoticeSink {
 public:
  static constexpr std::size_t waiting_max = 1'024;
  static constexpr std::size_t under_way_max = 32;

  explicit SpendNotifier(http::ClientOptions client = {});
  ~SpendNotifier() override;  // ends at once: what was not delivered stands in the ledger
  SpendNotifier(const SpendNotifier&) = delete;
  SpendNotifier& operator=(const SpendNotifier&) = delete;

  void notify(SpendNotice notice) override;
  [[nodiscard]] const SpendNotifierCounters& counters() const { return counters_; }

 private:
  class Impl;
  SpendNotifierCounters counters_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outlast::actors
