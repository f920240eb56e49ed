#include "gateway/spend_breaker_engine.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/check.hpp"
#include "core/crypto.hpp"

namespace outlast::gateway {
namespace {

constexpr std::int64_t second_ms = 1'000;
constexpr std::size_t id_characters = 12;  // 60 bits
constexpr std::size_t session_bytes_max = 128;
// A breaker whose probes never told how they ended is tried again after so long at the least.
constexpr std::int64_t retry_ms_min = 1'000;

std::string hex_of(std::uint64_t hash) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

// "12.34 USD": to the cent above a dollar, else as exact as it is.
std::string usd(PicoUsd amount) {
  std::string text = amount.to_usd();
  if (amount.value >= 1'000'000'000'000) text.resize(text.find('.') + 3);
  return text + " USD";
}

std::string seconds(std::int64_t ms) { return std::to_string(ms / second_ms) + " s"; }

// Calls visit(value) for each value of the kind that the event is charged to.
template <class Visit>
void visit_values(ScopeKind kind, const SpendEvent& event, const Visit& visit) {
  const TenantPath& tenant = event.key->tenant;
  switch (kind) {
    case ScopeKind::organisation: return visit(tenant.organisation);
    case ScopeKind::team: return visit(tenant.organisation + "/" + tenant.team);
    case ScopeKind::user: return visit(tenant.to_string());
    case ScopeKind::key: return visit(event.key->id);
    case ScopeKind::tag:
      for (auto tag = event.tags.begin(); tag != event.tags.end(); ++tag) {
        if (std::find(event.tags.begin(), tag, *tag) == tag) visit(*tag);
      }
      return;
    case ScopeKind::model:
      if (!event.model.empty()) visit(event.model);
      return;
    case ScopeKind::provider:
      if (!event.provider.empty()) visit(event.provider);
      return;
  }
}

bool matches(const SpendScope& scope, const SpendEvent& event) {
  bool found = false;
  visit_values(scope.kind, event,
               [&scope, &found](const std::string& value) { found = found || scope.each() || value == scope.value; });
  return found;
}

// The limits' words; empty while a limit is not reached.
std::string reached(const SpendWindowLimit& limit, SlidingSum<PicoUsd>& sum, std::int64_t now_ms) {
  const PicoUsd spent = sum.sum(now_ms);
  if (spent < limit.amount) return {};
  return "it spent " + usd(spent) + " within " + std::to_string(limit.window_s) + " s; the limit is " + usd(limit.amount);
}

std::string reached(const SpendRateLimit& limit, const SpendRate& rate) {
  if (!rate.known() || rate.current() < limit.min_amount || rate.current() <= rate.median() * limit.factor) return {};
  return "it spent " + usd(rate.current()) + " within " + std::to_string(limit.sample_s) + " s, more than " +
         std::to_string(limit.factor) + " times its median of " + usd(rate.median());
}

std::string reached(const SpendSessionLimit& limit, const SpendSession& session) {
  if (limit.max_amount.value > 0 && session.amount() >= limit.max_amount) {
    return "it has cost " + usd(session.amount()) + " in " + seconds(session.duration_ms()) + "; the limit is " +
           usd(limit.max_amount);
  }
  if (limit.max_duration_s > 0 && session.duration_ms() >= limit.max_duration_s * second_ms) {
    return "it has lasted " + seconds(session.duration_ms()) + " and cost " + usd(session.amount()) +
           "; the limit is " + std::to_string(limit.max_duration_s) + " s";
  }
  return {};
}

std::string reached(const SpendRepeatLimit& limit, SlidingSum<std::uint64_t>& count, std::int64_t now_ms) {
  const std::uint64_t requests = count.sum(now_ms);
  if (requests < limit.count) return {};
  return "it was sent " + std::to_string(requests) + " times within " + std::to_string(limit.window_s) +
         " s; the limit is " + std::to_string(limit.count);
}

}  // namespace

std::string SpendSubject::to_string() const {
  std::string text = std::string(name_of(kind)) + ":" + value;
  if (!session.empty()) text.append(" ").append(session);
  return text;
}

std::string session_subject(std::string_view session_name) {
  return "session " + std::string(session_name.substr(0, session_bytes_max));
}
std::string conversation_subject(std::uint64_t hash) { return "conversation " + hex_of(hash); }
std::string request_subject(std::uint64_t hash) { return "request " + hex_of(hash); }

std::string spend_breaker_id(std::string_view rule, const SpendSubject& subject) {
  const Digest digest = Sha256().update(rule).update(std::string_view("\0", 1)).update(subject.to_string()).finish();
  return "brk_" + to_base32(digest).substr(0, id_characters);
}

SpendBreakerEngine::Rule* SpendBreakerEngine::find(std::string_view name) {
  for (const auto& rule : rules_) {
    if (rule->rule.name == name) return rule.get();
  }
  return nullptr;
}

void SpendBreakerEngine::set_rules(std::vector<SpendBreakerRule> rules) {
  check(rules.size() <= spend_rules_max, "whoever reads rules keeps their number below spend_rules_max");
  const std::size_t share = std::max<std::size_t>(1, limits_.tracked_max / std::max<std::size_t>(1, rules.size()));
  std::vector<std::unique_ptr<Rule>> next;
  for (SpendBreakerRule& rule : rules) {
    const auto old = std::find_if(rules_.begin(), rules_.end(),
                                  [&rule](const auto& known) { return known && known->rule == rule; });
    if (old != rules_.end()) {
      (*old)->tracked.limit(share);
      next.push_back(std::move(*old));
    } else {
      next.push_back(std::make_unique<Rule>(Rule{std::move(rule), RecentMap<Tracked>(share)}));
    }
  }
  rules_ = std::move(next);
  for (auto at = open_.begin(); at != open_.end();) {
    const Rule* rule = find(at->second.trip.rule);
    if (rule != nullptr) {
      OpenBreaker& breaker = at->second;  // from now on by the rule as it is now
      breaker.trip.action = rule->rule.action;
      breaker.requests_per_minute = rule->rule.requests_per_minute;
      breaker.half_open_requests = rule->rule.half_open_requests;
      if (breaker.state == SpendState::open) {
        breaker.half_opens_ms.reset();
        if (rule->rule.half_open_after_s > 0) {
          breaker.half_opens_ms = breaker.since_ms + rule->rule.half_open_after_s * second_ms;
        }
      }
      ++at;
    } else {
      changes_.push_back({SpendChangeKind::closed, std::move(at->second), "its rule was removed"});
      at = open_.erase(at);
    }
  }
  find_due();
}

void SpendBreakerEngine::restore(const BreakerTripped& trip, std::int64_t since_ms) {
  OpenBreaker breaker;
  breaker.trip = trip;
  const auto scope = Scope::parse(trip.scope);
  if (!scope) return;  // of a later version: it stays in the ledger, and nothing here can act on it
  breaker.subject = {scope->kind, scope->value, trip.session};
  breaker.since_ms = since_ms;
  if (const Rule* rule = find(trip.rule)) {
    breaker.requests_per_minute = rule->rule.requests_per_minute;
    breaker.half_open_requests = rule->rule.half_open_requests;
    if (rule->rule.half_open_after_s > 0) breaker.half_opens_ms = since_ms + rule->rule.half_open_after_s * second_ms;
  }
  due_ms_ = std::min(due_ms_, breaker.half_opens_ms.value_or(never_ms));
  open_[trip.id] = std::move(breaker);
}

template <class Visit>
void SpendBreakerEngine::visit_rules(const SpendEvent& event, const Visit& visit) {
  for (const auto& rule : rules_) {
    const SpendScope& scope = rule->rule.scope;
    if (std::holds_alternative<SpendSessionLimit>(rule->rule.limit)) {
      if ((event.session.empty() && event.conversation == 0) || !matches(scope, event)) continue;
      visit(*rule, SpendSubject{ScopeKind::key, event.key->id,
                                event.session.empty() ? conversation_subject(event.conversation)
                                                      : session_subject(event.session)});
    } else if (std::holds_alternative<SpendRepeatLimit>(rule->rule.limit)) {
      if (event.request == 0 || !event.ended || !matches(scope, event)) continue;
      visit(*rule, SpendSubject{ScopeKind::key, event.key->id, request_subject(event.request)});
    } else {
      visit_values(scope.kind, event, [&rule, &scope, &visit](const std::string& value) {
        if (scope.each() || value == scope.value) visit(*rule, SpendSubject{scope.kind, value, {}});
      });
    }
  }
}

void SpendBreakerEngine::recall(const SpendEvent& event) {
  now_ms_ = std::max(now_ms_, event.time_ms);
  visit_rules(event, [this, &event](Rule& rule, const SpendSubject& subject) {
    Tracked& tracked = track(rule, subject);
    count(rule.rule, *tracked.counter, event);
    if (!allowances_.empty()) allowed(tracked.id, event.cost);
  });
}

void SpendBreakerEngine::recall_reset(const std::string& id, PicoUsd allowance) {
  if (allowance.value > 0) {
    allowances_[id] = allowance;
    return;
  }
  for (const auto& rule : rules_) rule->tracked.erase_one([&id](const Tracked& tracked) { return tracked.id == id; });
}

void SpendBreakerEngine::record(const SpendEvent& event) {
  advance(event.time_ms);
  visit_rules(event, [this, &event](Rule& rule, const SpendSubject& subject) { judge(rule, subject, event); });
}

bool SpendBreakerEngine::allowed(const std::string& id, PicoUsd cost) {
  const auto found = allowances_.find(id);
  if (found == allowances_.end()) return false;
  found->second -= cost;
  if (found->second.value > 0) return true;
  allowances_.erase(found);
  return false;
}

SpendBreakerEngine::Tracked& SpendBreakerEngine::track(Rule& entry, const SpendSubject& subject) {
  const SpendBreakerRule& rule = entry.rule;
  return entry.tracked.touch(subject.to_string(), [&rule, &subject] {
    Tracked made{spend_breaker_id(rule.name, subject), nullptr};
    if (const auto* window = std::get_if<SpendWindowLimit>(&rule.limit)) {
      made.counter = std::make_unique<Counter>(SlidingSum<PicoUsd>(window->window_s * second_ms));
    } else if (const auto* rate = std::get_if<SpendRateLimit>(&rule.limit)) {
      made.counter = std::make_unique<Counter>(SpendRate(rate->sample_s * second_ms, rate->history));
    } else if (const auto* session = std::get_if<SpendSessionLimit>(&rule.limit)) {
      made.counter = std::make_unique<Counter>(SpendSession(session->idle_gap_s * second_ms));
    } else {
      const auto& repeats = std::get<SpendRepeatLimit>(rule.limit);
      made.counter = std::make_unique<Counter>(SlidingSum<std::uint64_t>(repeats.window_s * second_ms));
    }
    return made;
  });
}

std::string SpendBreakerEngine::count(const SpendBreakerRule& rule, Counter& counter, const SpendEvent& event) const {
  if (auto* window = std::get_if<SlidingSum<PicoUsd>>(&counter)) {
    window->add(now_ms_, event.cost);
    return reached(std::get<SpendWindowLimit>(rule.limit), *window, now_ms_);
  }
  if (auto* rate = std::get_if<SpendRate>(&counter)) {
    rate->add(now_ms_, event.cost);
    return reached(std::get<SpendRateLimit>(rule.limit), *rate);
  }
  if (auto* session = std::get_if<SpendSession>(&counter)) {
    session->add(event.started_ms, now_ms_, event.cost);
    return reached(std::get<SpendSessionLimit>(rule.limit), *session);
  }
  auto& requests = std::get<SlidingSum<std::uint64_t>>(counter);
  requests.add(now_ms_, 1);
  return reached(std::get<SpendRepeatLimit>(rule.limit), requests, now_ms_);
}

void SpendBreakerEngine::judge(Rule& entry, const SpendSubject& subject, const SpendEvent& event) {
  const SpendBreakerRule& rule = entry.rule;
  Tracked& tracked = track(entry, subject);
  std::string why = count(rule, *tracked.counter, event);
  if (!allowances_.empty() && allowed(tracked.id, event.cost)) return;
  const auto at = open_.find(tracked.id);
  if (at == open_.end()) {
    if (!why.empty()) trip(rule, subject, tracked.id, std::move(why));
    return;
  }
  // A request that began before says nothing of how things are now.
  const bool probe = at->second.state == SpendState::half_open && event.ended && event.started_ms >= at->second.since_ms;
  if (!probe) return;
  if (!why.empty()) {
    trip(rule, subject, tracked.id, std::move(why));
  } else {
    changes_.push_back({SpendChangeKind::closed, std::move(at->second), "half-open: the rule is satisfied again"});
    open_.erase(at);
  }
}

void SpendBreakerEngine::trip(const SpendBreakerRule& rule, const SpendSubject& subject, const std::string& id,
                              std::string why) {
  if (open_.size() >= limits_.open_max && !open_.contains(id)) {
    ++trips_dropped_;
    return;
  }
  OpenBreaker& breaker = open_[id];
  breaker.trip = {id, rule.name, std::string(name_of(subject.kind)) + ":" + subject.value, subject.session, rule.action,
                  std::move(why)};
  breaker.subject = subject;
  breaker.state = SpendState::open;
  breaker.requests_per_minute = rule.requests_per_minute;
  breaker.half_open_requests = rule.half_open_requests;
  breaker.since_ms = now_ms_;
  breaker.half_opens_ms.reset();
  if (rule.half_open_after_s > 0) breaker.half_opens_ms = now_ms_ + rule.half_open_after_s * second_ms;
  due_ms_ = std::min(due_ms_, breaker.half_opens_ms.value_or(never_ms));
  changes_.push_back({SpendChangeKind::tripped, breaker, {}});
}

void SpendBreakerEngine::advance(std::int64_t now_ms) {
  now_ms_ = std::max(now_ms_, now_ms);
  if (now_ms_ < due_ms_) return;
  for (auto& [id, breaker] : open_) {
    if (!breaker.half_opens_ms || *breaker.half_opens_ms > now_ms_) continue;
    const std::int64_t waited = std::max(retry_ms_min, *breaker.half_opens_ms - breaker.since_ms);
    breaker.state = SpendState::half_open;
    breaker.since_ms = now_ms_;
    breaker.half_opens_ms = now_ms_ + waited;  // unless a probe tells before
    changes_.push_back({SpendChangeKind::half_opened, breaker, {}});
  }
  find_due();
}

void SpendBreakerEngine::find_due() {
  due_ms_ = never_ms;
  for (const auto& [id, breaker] : open_) due_ms_ = std::min(due_ms_, breaker.half_opens_ms.value_or(never_ms));
}

bool SpendBreakerEngine::reset(const std::string& id, PicoUsd allowance) {
  const auto found = open_.find(id);
  if (found == open_.end()) return false;
  if (allowance.value > 0) {
    allowances_[id] = allowance;
  } else {
    allowances_.erase(id);
    if (Rule* rule = find(found->second.trip.rule)) rule->tracked.erase(found->second.subject.to_string());
  }
  open_.erase(found);
  return true;
}

std::vector<SpendChange> SpendBreakerEngine::take_changes() { return std::exchange(changes_, {}); }

std::optional<std::int64_t> SpendBreakerEngine::next_due_ms() const {
  return due_ms_ == never_ms ? std::nullopt : std::optional(due_ms_);
}

PicoUsd SpendBreakerEngine::allowance_of(const std::string& id) const {
  const auto found = allowances_.find(id);
  return found == allowances_.end() ? PicoUsd{} : found->second;
}

std::vector<SpendBreakerRule> SpendBreakerEngine::rules() const {
  std::vector<SpendBreakerRule> rules;
  for (const auto& rule : rules_) rules.push_back(rule->rule);
  return rules;
}

std::uint32_t SpendBreakerEngine::half_open_after_s(std::string_view rule) const {
  for (const auto& known : rules_) {
    if (known->rule.name == rule) return known->rule.half_open_after_s;
  }
  return 0;
}

std::size_t SpendBreakerEngine::tracked() const {
  std::size_t count = 0;
  for (const auto& rule : rules_) count += rule->tracked.size();
  return count;
}

}  // namespace outlast::gateway
