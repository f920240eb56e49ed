// The seams of a lane: the ledger that it meters into, and the actors that it reports to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "core/budget.hpp"
#include "core/metering.hpp"
#include "core/result.hpp"
#include "gateway/breaker.hpp"

namespace outlast::gateway {

namespace asio = boost::asio;

// Why the ledger did not take a reservation or an extension, where the caller can be told what to do.
enum class RefusalKind : std::uint8_t {
  other = 0,
  budget_exhausted = 1,
  key_in_progress = 2,  // the Idempotency-Key's first request has not ended
  key_used = 3,         // … has ended
  key_mismatch = 4,     // … had other parameters
};
struct MeterRefusal {
  RefusalKind kind = RefusalKind::other;
  std::optional<BudgetShortfall> shortfall;  // of budget_exhausted
};

// One per lane, used on its thread. The ledger's errors pass through (module "ledger").
class Meter {
 public:
  virtual ~Meter() = default;
  // Queues; returns a ticket. `urgent`: somebody waits for it, or for what was queued before it.
  virtual Result<std::uint64_t> submit(MeteringOperation operation, bool urgent) = 0;
  // Completes when everything up to the ticket is on disk, which it hastens; an error when this operation was refused.
  virtual asio::awaitable<Result<void>> durable(std::uint64_t ticket) = 0;
  // Whether durable(ticket) would complete at once and well: saves a suspension on the way of a fast answer.
  [[nodiscard]] virtual bool is_durable(std::uint64_t ticket) const = 0;
  // What is behind the error of durable(ticket); to be asked before the next durable() completes.
  [[nodiscard]] virtual MeterRefusal refusal(std::uint64_t ticket) const = 0;
};

// What a lane saw, per deployment (by name: indexes change at a reload).
using OutcomeBatch = std::vector<std::pair<std::string, Outcome>>;

// Any thread; does not block.
class OutcomeSink {
 public:
  virtual ~OutcomeSink() = default;
  virtual void report(OutcomeBatch batch) = 0;
};

}  // namespace outlast::gateway
