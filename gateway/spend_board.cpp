#include "gateway/spend_board.hpp"

#include <algorithm>

namespace outlast::gateway {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

std::string message_of(const OpenBreaker& breaker, std::string_view link) {
  std::string text = "the spend breaker '" + breaker.trip.rule + "' ";
  text += breaker.trip.action == SpendAction::throttle
              ? "lets " + std::to_string(breaker.requests_per_minute) + " requests a minute pass for "
              : std::string("holds ");
  text += breaker.subject.to_string() + ": " + breaker.trip.why;
  text += ". An administrator can close it: outlast breaker reset " + breaker.trip.id + " --reason '…'";
  if (!link.empty()) text.append(" (").append(link).append(")");
  return text;
}

}  // namespace

SpendGate::SpendGate(const OpenBreaker& breaker, std::string_view link)
    : id_(breaker.trip.id),
      link_(link),
      message_(message_of(breaker, link)),
      action_(breaker.trip.action),
      interval_ns_(60 * second_ns / std::max(1U, breaker.requests_per_minute)),
      half_open_requests_(static_cast<std::int32_t>(breaker.half_open_requests)) {}

bool SpendGate::take_probe() {
  std::int32_t left = probes_.load(std::memory_order_relaxed);
  while (left > 0) {
    if (probes_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) return true;
  }
  return false;
}

std::optional<SpendGate::Refused> SpendGate::enter(std::int64_t now_ns) {
  if (action_ == SpendAction::notify || take_probe()) return std::nullopt;
  if (action_ == SpendAction::hold) return Refused{};
  std::int64_t next = next_ns_.load(std::memory_order_relaxed);
  while (next <= now_ns) {
    if (next_ns_.compare_exchange_weak(next, now_ns + interval_ns_, std::memory_order_relaxed)) return std::nullopt;
  }
  return Refused{static_cast<std::uint32_t>((next - now_ns + second_ns - 1) / second_ns)};
}

void SpendGates::tripped(const OpenBreaker& breaker, const std::string& link) {
  gates_[breaker.trip.id] = {breaker.subject, std::make_shared<SpendGate>(breaker, link)};
}

void SpendGates::half_opened(const std::string& id) {
  if (const auto found = gates_.find(id); found != gates_.end()) found->second.second->half_open();
}

void SpendGates::publish(const std::vector<SpendBreakerRule>& rules) {
  auto snapshot = std::make_shared<SpendSnapshot>();
  snapshot->watching = !rules.empty();
  for (const SpendBreakerRule& rule : rules) {
    snapshot->conversations = snapshot->conversations || std::holds_alternative<SpendSessionLimit>(rule.limit);
    snapshot->requests = snapshot->requests || std::holds_alternative<SpendRepeatLimit>(rule.limit);
  }
  for (const auto& [id, entry] : gates_) {
    const auto& [subject, gate] = entry;
    if (gate->action() == SpendAction::notify) continue;  // nothing for lanes to do
    snapshot->purchases =
        snapshot->purchases || subject.kind == ScopeKind::model || subject.kind == ScopeKind::provider;
    if (subject.session.empty()) snapshot->scopes.add({subject.kind, subject.value}, gate);
    else snapshot->sessions[subject.to_string()].push_back(gate);
  }
  board_.publish(std::move(snapshot));
}

}  // namespace outlast::gateway
