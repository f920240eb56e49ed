// What a lane does for spend breakers: SpendLane gathers what requests spend and looks at the board; SpendWatch follows
// one request. On the lane.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.hpp"
#include "core/metering.hpp"
#include "gateway/lane_metrics.hpp"
#include "gateway/request_hash.hpp"
#include "gateway/snapshot.hpp"
#include "gateway/spend_board.hpp"

namespace outlast::gateway {

struct ExchangeRequest;
struct Refusal;

// Any thread; does not block.
class SpendSink {
 public:
  virtual ~SpendSink() = default;
  virtual void report(std::vector<SpendEvent> events) = 0;
};

// What lanes need of the node; outlives them.
struct SpendPort {
  const SpendBoard& board;
  SpendSink& sink;
  RequestHashKey key;
};

class SpendLane {
 public:
  // A lone event goes at once, so that a breaker trips soon; a rush goes in batches.
  static constexpr std::size_t batch_events = 256;
  static constexpr std::int64_t batch_ms = 10;

  explicit SpendLane(const SpendPort& port) : port_(port) {}
  SpendLane(const SpendLane&) = delete;
  SpendLane& operator=(const SpendLane&) = delete;

  [[nodiscard]] const std::shared_ptr<const SpendSnapshot>& board();
  [[nodiscard]] const RequestHashKey& key() const { return port_.key; }
  void report(SpendEvent event);
  // Sends what was gathered; the lane's sweep calls it.
  void flush();

 private:
  const SpendPort& port_;
  std::uint64_t version_ = 0;
  std::shared_ptr<const SpendSnapshot> board_;
  std::vector<SpendEvent> gathered_;
  std::int64_t flushed_ms_ = 0;
};

class SpendWatch {
 public:
  static constexpr std::int64_t progress_ns = 1'000'000'000;  // between two reports of a stream

  // `lane` null: there are no breakers. References outlive the watch.
  SpendWatch(SpendLane* lane, const ExchangeRequest& request, const Clock& clock, LaneMetrics& metrics);
  // The request has ended, whatever became of it.
  ~SpendWatch();
  SpendWatch(const SpendWatch&) = delete;
  SpendWatch& operator=(const SpendWatch&) = delete;

  // Whether an open breaker holds the request back: 402, or 429 while it throttles, in OpenAI's error shape.
  std::optional<Refusal> enter(const Snapshot& snapshot, const ResolvedRoute& route);
  // Whether a breaker keeps the request from that deployment's provider or model.
  [[nodiscard]] bool holds(std::uint32_t deployment) const;

  // What the ledger was told.
  void note(const MeteringOperation& operation);
  // Whether a stream is to be reported again.
  [[nodiscard]] bool due() const { return watching_ && clock_.monotonic_ns() >= next_progress_ns_; }
  // The attempt under way, as it stands.
  void progress(const AttemptLine& attempt);

 private:
  std::optional<Refusal> look(SpendGate& gate);
  std::optional<Refusal> enter_deployments(const Snapshot& snapshot, const ResolvedRoute& route);
  void report(const AttemptLine* attempt, PicoUsd cost, bool ended);

  SpendLane* lane_;
  const ExchangeRequest& request_;
  const Clock& clock_;
  LaneMetrics& metrics_;
  std::shared_ptr<const SpendSnapshot> board_;  // null: there are no rules
  bool watching_ = false;                       // what it spends is reported
  std::uint64_t conversation_ = 0;
  std::uint64_t request_hash_ = 0;
  std::int64_t started_ms_ = 0;
  std::int64_t next_progress_ns_ = 0;
  PicoUsd reported_;  // of the attempt under way
  std::vector<std::uint32_t> held_;  // deployments
};

}  // namespace outlast::gateway
