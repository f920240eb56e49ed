#include "gateway/rate_limit.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.hpp"
#include "gateway/rate_headers.hpp"

namespace outlast::gateway {
namespace {

// When every place for an owner is in use.
constexpr std::int64_t no_place_wait_ns = 1'000'000'000;
constexpr std::uint64_t one_request = 1;

std::optional<Gcra> gcra_of(const RateBound& bound) {
  if (bound.per_minute == 0) return std::nullopt;
  return Gcra(bound.per_minute, bound.burst);
}

// "acme/search/ann" without an allocation; its beginnings name the team and the organisation.
class PathText {
 public:
  explicit PathText(const TenantPath& tenant) {
    append(tenant.organisation);
    organisation_ = size_;
    append("/");
    append(tenant.team);
    team_ = size_;
    append("/");
    append(tenant.user);
  }
  [[nodiscard]] std::string_view organisation() const { return {text_.data(), organisation_}; }
  [[nodiscard]] std::string_view team() const { return {text_.data(), team_}; }
  [[nodiscard]] std::string_view user() const { return {text_.data(), size_}; }

 private:
  void append(std::string_view part) {
    check(part.size() <= text_.size() - size_, "a tenant path has three parts of at most 64 bytes");
    std::memcpy(text_.data() + size_, part.data(), part.size());
    size_ += part.size();
  }

  std::array<char, 3 * 64 + 2> text_;
  std::size_t size_ = 0;
  std::size_t organisation_ = 0;
  std::size_t team_ = 0;
};

struct Seen {
  std::int64_t requests = 0;
  std::int64_t tokens = 0;
};

// A state that was taken away had passed.
Seen look(const RateState& state) {
  const Seen seen{state.requests.load(std::memory_order_acquire),
                  state.tokens.load(std::memory_order_acquire)};
  return {std::max<std::int64_t>(seen.requests, 0), std::max<std::int64_t>(seen.tokens, 0)};
}

RateWindow window_of(const Gcra& gcra, std::int64_t state, std::int64_t now_ns) {
  return {gcra.burst(), gcra.remaining(state, now_ns), gcra.reset_ns(state, now_ns)};
}

// Of two limits the one that refuses first; of two that are equally near, the one that lasts
// longer.
void keep_tighter(std::optional<RateWindow>& kept, const RateWindow& other) {
  if (!kept || other.remaining < kept->remaining ||
      (other.remaining == kept->remaining && other.reset_ns > kept->reset_ns)) {
    kept = other;
  }
}

}  // namespace

RateLimit::RateLimit(RateLimitRule rule)
    : rule_(std::move(rule)), requests_(gcra_of(rule_.requests)), tokens_(gcra_of(rule_.tokens)) {
  if (rule_.scope.each()) states_ = std::make_unique<const RateStateTable>();
}

std::string RateRefusal::message() const {
  const std::string_view what = of_tokens ? "tokens per minute (TPM)" : "requests per minute (RPM)";
  std::string text = "Rate limit reached for " + scope.to_string() + " on " + std::string(what) +
                     ": Limit " + std::to_string(bound.per_minute);
  if (bound.burst != bound.per_minute) text += " (at once " + std::to_string(bound.burst) + ")";
  text += ", Used " + std::to_string(bound.burst - std::min(bound.burst, remaining)) +
          ", Requested " + std::to_string(requested) + ". Please try again in " +
          duration_text(wait_ns) + ".";
  return text;
}

std::shared_ptr<const RateLimiter> RateLimiter::make(const std::vector<RateLimitRule>& rules,
                                                     const RateLimiter* previous) {
  if (rules.empty()) return nullptr;
  std::unordered_map<std::string, std::shared_ptr<const RateLimit>> known;
  if (previous != nullptr) {
    for (const auto& limit : previous->limits_) known.emplace(limit->rule().scope.to_string(), limit);
  }
  auto limiter = std::make_shared<RateLimiter>();
  for (const RateLimitRule& rule : rules) {
    const auto found = known.find(rule.scope.to_string());
    auto limit = found != known.end() && found->second->rule() == rule
                     ? found->second
                     : std::make_shared<const RateLimit>(rule);
    Kind& kind = limiter->kinds_[static_cast<std::size_t>(rule.scope.kind)];
    if (rule.scope.each())
      kind.each = limit.get();
    else
      kind.named.emplace(rule.scope.value, limit.get());
    limiter->limits_.push_back(std::move(limit));
  }
  return limiter;
}

// A limit of its own stands in place of the one for each.
void RateLimiter::add(RateScopeKind kind, std::string_view name, RateTicket& ticket,
                      Names& names) const {
  const Kind& of_kind = kinds_[static_cast<std::size_t>(kind)];
  const RateLimit* limit = of_kind.each;
  if (!of_kind.named.empty()) {
    if (const auto found = of_kind.named.find(name); found != of_kind.named.end())
      limit = found->second;
  }
  if (limit == nullptr) return;
  names[ticket.count_] = name;
  Hold& hold = ticket.holds_[ticket.count_++];
  hold.limit = limit;
  if (limit->states_ == nullptr)
    hold.state = &limit->state_;
  else
    hold.owner = RateStateTable::owner_of(name);
}

std::optional<RateRefusal> RateLimiter::admit(const TenantPath& tenant, std::string_view key_id,
                                              std::uint64_t tokens, std::int64_t now_ns,
                                              RateTicket& ticket) const {
  const PathText path(tenant);
  Names names;
  add(RateScopeKind::organisation, path.organisation(), ticket, names);
  add(RateScopeKind::team, path.team(), ticket, names);
  add(RateScopeKind::user, path.user(), ticket, names);
  add(RateScopeKind::key, key_id, ticket, names);
  return take_all(tokens, now_ns, ticket, names);
}

std::optional<RateRefusal> RateLimiter::admit_deployment(std::string_view name,
                                                         std::uint64_t tokens, std::int64_t now_ns,
                                                         RateTicket& ticket) const {
  Names names;
  add(RateScopeKind::deployment, name, ticket, names);
  return take_all(tokens, now_ns, ticket, names);
}

std::optional<RateRefusal> RateLimiter::check_deployment(std::string_view name,
                                                         std::uint64_t tokens,
                                                         std::int64_t now_ns) const {
  const Kind& deployments = kinds_[static_cast<std::size_t>(RateScopeKind::deployment)];
  if (deployments.named.empty() && deployments.each == nullptr) return std::nullopt;
  Names names;
  RateTicket ticket;
  add(RateScopeKind::deployment, name, ticket, names);
  if (ticket.empty()) return std::nullopt;
  Hold& hold = ticket.holds_[0];
  if (hold.limit->tokens()) hold.tokens = hold.limit->tokens()->bounded(tokens);
  if (hold.state == nullptr) {
    RateStateTable::Slot* const slot = hold.limit->states_->find(hold.owner);
    if (slot == nullptr) return std::nullopt;
    hold.state = &slot->state;
  }
  return longest_wait(ticket, now_ns, names);
}

// Looks first, so that a refusal names the limit that lasts longest and takes nothing. Where
// somebody was quicker between the look and the take, what was taken goes back and it looks again.
std::optional<RateRefusal> RateLimiter::take_all(std::uint64_t tokens, std::int64_t now_ns,
                                                 RateTicket& ticket, const Names& names) {
  for (std::size_t i = 0; i < ticket.count_; ++i) {
    Hold& hold = ticket.holds_[i];
    if (hold.limit->tokens()) hold.tokens = hold.limit->tokens()->bounded(tokens);
  }
  while (!ticket.taken_ && ticket.count_ > 0) {
    for (std::size_t i = 0; i < ticket.count_; ++i) {
      if (locate(ticket.holds_[i], now_ns)) continue;
      const RateLimitRule& rule = ticket.holds_[i].limit->rule();
      ticket.count_ = i;  // the rest has no state to report of
      return RateRefusal{.scope = {rule.scope.kind, std::string(names[i])},
                         .bound = rule.requests,
                         .requested = one_request,
                         .wait_ns = no_place_wait_ns};
    }
    if (auto refusal = longest_wait(ticket, now_ns, names)) return refusal;
    std::size_t taken = 0;
    while (taken < ticket.count_ && take(ticket.holds_[taken], now_ns)) ++taken;
    ticket.taken_ = taken == ticket.count_;
    if (ticket.taken_) break;
    while (taken > 0) give_back(ticket.holds_[--taken], now_ns);
  }
  return std::nullopt;
}

std::optional<RateRefusal> RateLimiter::longest_wait(const RateTicket& ticket, std::int64_t now_ns,
                                                     const Names& names) {
  std::optional<RateRefusal> longest;
  const auto look_at = [&](const Gcra* gcra, const RateBound& bound, std::int64_t state,
                           std::uint64_t amount, bool of_tokens, std::size_t which) {
    if (gcra == nullptr || gcra->fits(state, amount, gcra->at(now_ns))) return;
    const std::int64_t wait_ns = gcra->wait_ns(state, amount, now_ns);
    if (longest && longest->wait_ns >= wait_ns) return;
    longest = RateRefusal{
        .scope = {ticket.holds_[which].limit->rule().scope.kind, std::string(names[which])},
        .of_tokens = of_tokens,
        .bound = bound,
        .remaining = gcra->remaining(state, now_ns),
        .requested = amount,
        .wait_ns = wait_ns};
  };
  for (std::size_t i = 0; i < ticket.count_; ++i) {
    const Hold& hold = ticket.holds_[i];
    const Seen seen = look(*hold.state);
    look_at(hold.limit->requests(), hold.limit->rule().requests, seen.requests, one_request, false,
            i);
    look_at(hold.limit->tokens(), hold.limit->rule().tokens, seen.tokens, hold.tokens, true, i);
  }
  return longest;
}

// Finds the state of a rule for each, or makes it; false when there is no place for it.
bool RateLimiter::locate(Hold& hold, std::int64_t now_ns) {
  if (hold.owner == 0) return true;
  RateStateTable::Slot* const slot = hold.limit->states_->find_or_make(
      hold.owner, hold.limit->requests(), hold.limit->tokens(), now_ns);
  if (slot == nullptr) return false;
  hold.state = &slot->state;
  hold.owner_now = &slot->owner;
  return true;
}

bool RateLimiter::take(Hold& hold, std::int64_t now_ns) {
  const auto valid = [&hold] { return hold.valid(); };
  const Gcra* const requests = hold.limit->requests();
  const Gcra* const tokens = hold.limit->tokens();
  if (requests != nullptr && requests->take(hold.state->requests, one_request, requests->at(now_ns),
                                            hold.requests_until, valid) != Gcra::Outcome::done) {
    return false;
  }
  if (tokens == nullptr || tokens->take(hold.state->tokens, hold.tokens, tokens->at(now_ns),
                                        hold.tokens_until, valid) == Gcra::Outcome::done) {
    return true;
  }
  if (requests != nullptr) {
    requests->settle(hold.state->requests, one_request, 0, hold.requests_until,
                     requests->at(now_ns), valid);
  }
  return false;
}

void RateLimiter::give_back(Hold& hold, std::int64_t now_ns) {
  const auto valid = [&hold] { return hold.valid(); };
  if (const Gcra* const requests = hold.limit->requests()) {
    requests->settle(hold.state->requests, one_request, 0, hold.requests_until,
                     requests->at(now_ns), valid);
  }
  if (const Gcra* const tokens = hold.limit->tokens()) {
    tokens->settle(hold.state->tokens, hold.tokens, 0, hold.tokens_until, tokens->at(now_ns),
                   valid);
  }
}

void RateLimiter::settle(RateTicket& ticket, std::uint64_t tokens_used, std::int64_t now_ns) const {
  if (!std::exchange(ticket.taken_, false)) return;
  for (std::size_t i = 0; i < ticket.count_; ++i) {
    Hold& hold = ticket.holds_[i];
    const Gcra* const tokens = hold.limit->tokens();
    if (tokens == nullptr) continue;
    tokens->settle(hold.state->tokens, hold.tokens, tokens_used, hold.tokens_until,
                   tokens->at(now_ns), [&hold] { return hold.valid(); });
  }
}

void RateLimiter::cancel(RateTicket& ticket, std::int64_t now_ns) const {
  if (!std::exchange(ticket.taken_, false)) return;
  for (std::size_t i = 0; i < ticket.count_; ++i) give_back(ticket.holds_[i], now_ns);
}

RateStanding RateLimiter::standing(const RateTicket& ticket, std::int64_t now_ns) const {
  RateStanding standing;
  for (std::size_t i = 0; i < ticket.count_; ++i) {
    const Hold& hold = ticket.holds_[i];
    const Seen seen = hold.valid() ? look(*hold.state) : Seen{};
    if (const Gcra* const requests = hold.limit->requests()) {
      keep_tighter(standing.requests, window_of(*requests, seen.requests, now_ns));
    }
    if (const Gcra* const tokens = hold.limit->tokens()) {
      keep_tighter(standing.tokens, window_of(*tokens, seen.tokens, now_ns));
    }
  }
  return standing;
}

std::vector<RateLimitStatus> RateLimiter::status(std::int64_t now_ns) const {
  std::vector<RateLimitStatus> all;
  for (const auto& limit : limits_) {
    RateLimitStatus& one = all.emplace_back(RateLimitStatus{.rule = limit->rule()});
    if (limit->states_ != nullptr) {
      one.live = limit->states_->live(limit->requests(), limit->tokens(), now_ns);
      continue;
    }
    const Seen seen = look(limit->state_);
    if (limit->requests() != nullptr)
      one.requests = window_of(*limit->requests(), seen.requests, now_ns);
    if (limit->tokens() != nullptr) one.tokens = window_of(*limit->tokens(), seen.tokens, now_ns);
  }
  return all;
}

}  // namespace outlast::gateway
