// RateLimiter: requests and tokens per minute of organisations, teams, users, keys and deployments.
// Every lane counts in the same arrival times (gcra.hpp), so a limit is exact on its node over all
// lanes.
//
// A request takes 1 from each request limit on its way, and its worst case from each token limit,
// all or nothing; at its end the token limits get back what was not used.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tenant.hpp"
#include "gateway/gcra.hpp"
#include "gateway/rate_scope.hpp"
#include "gateway/rate_state_table.hpp"

namespace outlast::gateway {

struct RateBound {
  std::uint64_t per_minute = 0;  // 0: none
  std::uint64_t burst = 0;       // at once; from 1 where per_minute is
  bool operator==(const RateBound&) const = default;
};

// As an administrator writes it.
struct RateLimitRule {
  RateScope scope;
  RateBound requests;
  RateBound tokens;
  bool operator==(const RateLimitRule&) const = default;
};

// One rule and what was taken from it. Immutable but for the states: any thread.
class RateLimit {
 public:
  explicit RateLimit(RateLimitRule rule);
  RateLimit(const RateLimit&) = delete;
  RateLimit& operator=(const RateLimit&) = delete;

  [[nodiscard]] const RateLimitRule& rule() const { return rule_; }
  [[nodiscard]] const Gcra* requests() const { return requests_ ? &*requests_ : nullptr; }
  [[nodiscard]] const Gcra* tokens() const { return tokens_ ? &*tokens_ : nullptr; }

 private:
  friend class RateLimiter;
  RateLimitRule rule_;
  std::optional<Gcra> requests_;
  std::optional<Gcra> tokens_;
  mutable RateState state_;                       // of a rule for one
  std::unique_ptr<const RateStateTable> states_;  // of a rule for each
};

// What one request has taken. Valid as long as its limiter; one owner.
class RateTicket {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0; }

 private:
  friend class RateLimiter;
  static constexpr std::size_t limits_max = 4;  // organisation, team, user, key; or a deployment
  struct Hold {
    const RateLimit* limit = nullptr;
    RateState* state = nullptr;
    const std::atomic<std::uint64_t>* owner_now =
        nullptr;  // of a rule for each: whom the state belongs to
    std::uint64_t owner = 0;
    std::uint64_t tokens = 0;
    std::int64_t requests_until = 0;
    std::int64_t tokens_until = 0;

    [[nodiscard]] bool valid() const {
      return owner_now == nullptr || owner_now->load(std::memory_order_acquire) == owner;
    }
  };
  std::array<Hold, limits_max> holds_;
  std::size_t count_ = 0;
  bool taken_ = false;
};

// Why a request may not go on now.
struct RateRefusal {
  RateScope scope;         // with the name in place of "*"
  bool of_tokens = false;  // else of requests
  RateBound bound;
  std::uint64_t remaining = 0;
  std::uint64_t requested = 0;
  std::int64_t wait_ns = 0;  // after this it fits, if nobody else takes any

  // "Rate limit reached for team:acme/search on tokens per minute (TPM): …", in OpenAI's words.
  [[nodiscard]] std::string message() const;
};

// What the tightest limit has left.
struct RateWindow {
  std::uint64_t limit = 0;  // the burst: so many are left when nothing was taken
  std::uint64_t remaining = 0;
  std::int64_t reset_ns = 0;  // until all is there again
};
struct RateStanding {
  std::optional<RateWindow> requests;
  std::optional<RateWindow> tokens;
};

struct RateLimitStatus {
  RateLimitRule rule;
  std::optional<RateWindow> requests;  // of a rule for one
  std::optional<RateWindow> tokens;
  std::optional<std::size_t> live;  // of a rule for each: how many have something taken
};

// Any thread.
class RateLimiter {
 public:
  // Null where there are no rules. A rule that `previous` (may be null) has too goes on with what
  // was taken from it. Scopes are distinct.
  static std::shared_ptr<const RateLimiter> make(const std::vector<RateLimitRule>& rules,
                                                 const RateLimiter* previous);

  // Takes from all limits of the key and its tenant, or from none and says which one makes it wait
  // longest. `key_id` and `tenant` outlive the ticket, which is empty before.
  std::optional<RateRefusal> admit(const TenantPath& tenant, std::string_view key_id,
                                   std::uint64_t tokens, std::int64_t now_ns,
                                   RateTicket& ticket) const;
  // The same for a deployment.
  std::optional<RateRefusal> admit_deployment(std::string_view name, std::uint64_t tokens,
                                              std::int64_t now_ns, RateTicket& ticket) const;
  // What admit_deployment() would say; takes nothing.
  [[nodiscard]] std::optional<RateRefusal> check_deployment(std::string_view name,
                                                            std::uint64_t tokens,
                                                            std::int64_t now_ns) const;

  // Ends a ticket: the token limits get back what was not used, or are charged what was used
  // beyond.
  void settle(RateTicket& ticket, std::uint64_t tokens_used, std::int64_t now_ns) const;
  // Ends a ticket as if it had never been.
  void cancel(RateTicket& ticket, std::int64_t now_ns) const;

  // Also of a ticket that was refused or has ended.
  [[nodiscard]] RateStanding standing(const RateTicket& ticket, std::int64_t now_ns) const;
  // In the order of the rules.
  [[nodiscard]] std::vector<RateLimitStatus> status(std::int64_t now_ns) const;

 private:
  using Hold = RateTicket::Hold;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>()(text);
    }
  };
  struct Kind {
    std::unordered_map<std::string, const RateLimit*, Hash, std::equal_to<>> named;
    const RateLimit* each = nullptr;
  };

  // What a request's limits are called, beside the ticket's holds.
  using Names = std::array<std::string_view, RateTicket::limits_max>;

  void add(RateScopeKind kind, std::string_view name, RateTicket& ticket, Names& names) const;
  static std::optional<RateRefusal> take_all(std::uint64_t tokens, std::int64_t now_ns,
                                             RateTicket& ticket, const Names& names);
  static std::optional<RateRefusal> longest_wait(const RateTicket& ticket, std::int64_t now_ns,
                                                 const Names& names);
  static bool locate(Hold& hold, std::int64_t now_ns);
  static bool take(Hold& hold, std::int64_t now_ns);
  static void give_back(Hold& hold, std::int64_t now_ns);

  std::vector<std::shared_ptr<const RateLimit>> limits_;
  std::array<Kind, std::size(rate_scope_kind_names)> kinds_;
};

}  // namespace outlast::gateway
