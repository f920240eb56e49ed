#include "gateway/spend_watch.hpp"

#include <algorithm>
#include <span>
#include <utility>
#include <variant>

#include "core/json_writer.hpp"
#include "gateway/exchange.hpp"

namespace outlast::gateway {
namespace {

std::string refusal_body(const SpendGate& gate, bool throttled) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("error").begin_object().key("message").string(gate.message());
  json.key("type").string(throttled ? "rate_limit_error" : "insufficient_quota").key("param").null();
  json.key("code").string(throttled ? "spend_breaker_throttled" : "spend_breaker_open");
  json.key("breaker").string(gate.id()).key("link").string(gate.link()).end_object().end_object();
  return body;
}

}  // namespace

const std::shared_ptr<const SpendSnapshot>& SpendLane::board() {
  if (const std::uint64_t version = port_.board.version(); version != version_) {
    board_ = port_.board.get();
    version_ = version;
  }
  return board_;
}

void SpendLane::report(SpendEvent event) {
  const std::int64_t time_ms = event.time_ms;
  gathered_.push_back(std::move(event));
  if (gathered_.size() < batch_events && time_ms - flushed_ms_ < batch_ms) return;
  flushed_ms_ = time_ms;
  flush();
}

void SpendLane::flush() {
  if (!gathered_.empty()) port_.sink.report(std::exchange(gathered_, {}));
}

SpendWatch::SpendWatch(SpendLane* lane, const ExchangeRequest& request, const Clock& clock, LaneMetrics& metrics)
    : lane_(lane), request_(request), clock_(clock), metrics_(metrics) {
  if (lane_ == nullptr || !lane_->board()->watching) return;
  board_ = lane_->board();
  if (board_->conversations && request_.labels.session.empty())
    conversation_ = conversation_hash(lane_->key(), request_.caller);
  if (board_->requests) request_hash_ = request_hash(lane_->key(), request_.caller);
}

SpendWatch::~SpendWatch() {
  if (watching_) report(nullptr, {}, true);
}

std::optional<Refusal> SpendWatch::look(SpendGate& gate) {
  const auto refused = gate.enter(clock_.monotonic_ns());
  if (!refused) return std::nullopt;
  const bool throttled = gate.action() == SpendAction::throttle;
  Refusal refusal{.status = throttled ? 429U : 402U, .body = refusal_body(gate, throttled), .message = gate.message()};
  if (refused->retry_after_s > 0) refusal.retry_after_s = refused->retry_after_s;
  return refusal;
}

// What may go elsewhere passes, and the plan leaves out what is held. Where all of it is held, the first one says why.
std::optional<Refusal> SpendWatch::enter_deployments(const Snapshot& snapshot, const ResolvedRoute& route) {
  if (!board_->purchases) return std::nullopt;
  std::optional<Refusal> first;
  const TenantPath nobody;
  for (const std::uint32_t index : route.deployments) {
    const Deployment& deployment = snapshot.routing->deployments()[index];
    const Purchase purchase{deployment.provider, deployment.model};
    std::optional<Refusal> refusal;
    board_->scopes.visit(SpendPath{nobody, {}, {}, std::span(&purchase, 1)}, [this, &refusal](const auto& gate) {
      if (!refusal) refusal = look(*gate);
    });
    if (!refusal) continue;
    held_.push_back(index);
    if (!first) first = std::move(refusal);
  }
  return held_.size() == route.deployments.size() ? std::move(first) : std::nullopt;
}

bool SpendWatch::holds(std::uint32_t deployment) const {
  return std::find(held_.begin(), held_.end(), deployment) != held_.end();
}

std::optional<Refusal> SpendWatch::enter(const Snapshot& snapshot, const ResolvedRoute& route) {
  if (!board_) return std::nullopt;
  std::optional<Refusal> refusal;
  const auto visit = [this, &refusal](const std::shared_ptr<SpendGate>& gate) {
    if (!refusal) refusal = look(*gate);
  };
  const VirtualKey& key = *request_.key;
  board_->scopes.visit(SpendPath{key.tenant, key.id, request_.labels.tags, {}}, visit);
  if (!board_->sessions.empty()) {
    const auto visit_session = [this, &key, &visit](std::string session) {
      const auto found = board_->sessions.find(SpendSubject{ScopeKind::key, key.id, std::move(session)}.to_string());
      if (found == board_->sessions.end()) return;
      for (const auto& gate : found->second) visit(gate);
    };
    if (!request_.labels.session.empty()) visit_session(session_subject(request_.labels.session));
    else if (conversation_ != 0) visit_session(conversation_subject(conversation_));
    if (request_hash_ != 0) visit_session(request_subject(request_hash_));
  }
  if (!refusal) refusal = enter_deployments(snapshot, route);
  if (refusal) {
    (refusal->status == 429 ? metrics_.spend_throttled : metrics_.spend_held).add();
    return refusal;
  }
  watching_ = true;
  started_ms_ = spend_time_ms(clock_);
  next_progress_ns_ = clock_.monotonic_ns() + progress_ns;
  return std::nullopt;
}

void SpendWatch::note(const MeteringOperation& operation) {
  if (!watching_) return;
  if (const auto* attempt = std::get_if<AttemptLine>(&operation)) {
    report(attempt, attempt->cost - reported_, false);
    reported_ = {};
  } else if (const auto* settlement = std::get_if<Settlement>(&operation)) {
    report(&settlement->attempt, settlement->attempt.cost - reported_, true);
  }
}

void SpendWatch::progress(const AttemptLine& attempt) {
  next_progress_ns_ = clock_.monotonic_ns() + progress_ns;
  report(&attempt, attempt.cost - reported_, false);
  reported_ = attempt.cost;
}

void SpendWatch::report(const AttemptLine* attempt, PicoUsd cost, bool ended) {
  SpendEvent event;
  event.key = request_.key;
  event.tags = request_.labels.tags;
  event.session = request_.labels.session;
  event.conversation = conversation_;
  event.request = request_hash_;
  if (attempt != nullptr) {
    event.provider = attempt->provider;
    event.model = attempt->model;
  }
  event.cost = cost;
  event.started_ms = started_ms_;
  event.time_ms = spend_time_ms(clock_);
  event.ended = ended;
  watching_ = !ended;
  lane_->report(std::move(event));
}

}  // namespace outlast::gateway
