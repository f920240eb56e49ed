#include "cluster/client_session.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/durations.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using link::ErrorKind;

ChatFailure failure_of(link::RequestError error) {
  return {error.kind, std::move(error.message), error.retryable, error.retry_after_ms};
}

// A node that says this may be wrong for a request that another node takes.
bool worth_another_node(const link::RequestError& error) {
  return error.kind == ErrorKind::overloaded || error.kind == ErrorKind::unauthenticated ||
         (error.kind == ErrorKind::internal && error.retryable);
}

}  // namespace

ClientSession::ClientSession(SessionOptions options, const Clock& clock, std::uint64_t seed)
    : options_(std::move(options)),
      clock_(clock),
      random_(seed),
      nodes_(options_.endpoints, options_.learned_max, seed) {
  check(!options_.endpoints.empty(), "a client has an endpoint");
  for (const Endpoint& endpoint : options_.endpoints) {
    links_.try_emplace(next_link_++, endpoint, true, options_.times);
  }
}

// ---- requests

void ClientSession::submit(std::uint64_t id, chat::Request chat, std::uint32_t timeout_ms) {
  check(!requests_.contains(id), "a request's id is used once");
  if (shut_down_ || requests_.size() >= options_.in_flight_max) {
    effects_.emplace_back(Ended{
        id, shut_down_ ? ChatFailure{ErrorKind::cancelled, "the client has stopped", false, 0}
                       : ChatFailure{ErrorKind::overloaded,
                                     "the client has " + std::to_string(options_.in_flight_max) +
                                         " requests in flight, as many as it may",
                                     true, 0}});
    return;
  }
  const std::uint32_t limit_ms = timeout_ms == 0 ? options_.request_ms_max : std::min(timeout_ms, options_.request_ms_max);
  auto owned = std::make_unique<Request>();
  Request& request = *owned;
  request.id = id;
  request.chat = std::move(chat);
  request.queued_ns = clock_.monotonic_ns();
  request.deadline_ns = request.queued_ns + ns_of(limit_ms);
  requests_.emplace(id, std::move(owned));
  queued_.insert(id);
  arm(request);
  dispatch(request);
  fail_hopeless();
}

void ClientSession::consumed(std::uint64_t id, link::Credit cost) {
  const auto found = requests_.find(id);
  if (found == requests_.end() || !found->second->endpoint) return;
  Request& request = *found->second;
  request.consumed.chunks += cost.chunks;
  request.consumed.bytes += cost.bytes;
  if (request.finished || (request.consumed.chunks * 2 < options_.window.chunks &&
                           request.consumed.bytes * 2 < options_.window.bytes)) {
    return;
  }
  request.chunks_open += request.consumed.chunks;
  request.bytes_open += request.consumed.bytes;
  send(*request.endpoint, link::Grant{request.wire_id, std::exchange(request.consumed, {})});
}

void ClientSession::cancel(std::uint64_t id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  Request& request = *found->second;
  if (request.endpoint) send(*request.endpoint, link::Cancel{request.wire_id});
  end(request, ChatFailure{ErrorKind::cancelled, "the request was cancelled", false, 0});
}

void ClientSession::shut_down() {
  shut_down_ = true;
  std::vector<std::uint64_t> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const std::uint64_t id : ids) cancel(id);
  for (const auto& [endpoint, target] : links_) {
    if (target.link.connection() != 0) effects_.emplace_back(Disconnect{endpoint});
  }
}

std::optional<std::size_t> ClientSession::best_link(const Request& request) const {
  std::optional<std::size_t> best;
  const Target* best_target = nullptr;
  for (const auto& [endpoint, target] : links_) {
    if (!target.wanted || !target.link.takes_requests() || request.refused_by.contains(endpoint)) continue;
    const bool better = best_target == nullptr || (best_target->draining && !target.draining) ||
                        (best_target->draining == target.draining &&
                         target.link.requests.size() < best_target->link.requests.size());
    if (!better) continue;
    best = endpoint;
    best_target = &target;
  }
  return best;
}

void ClientSession::dispatch(Request& request) {
  const auto endpoint = best_link(request);
  if (!endpoint) return;
  const std::int64_t left_ms = (request.deadline_ns - clock_.monotonic_ns()) / 1'000'000;
  request.wire_id = ++last_wire_id_;
  auto frame = link::encode(link::Chat{request.wire_id, request.chat,
                                       static_cast<std::uint32_t>(std::max<std::int64_t>(left_ms, 1)), options_.window});
  if (!frame) {
    return end(request, ChatFailure{ErrorKind::invalid_request, "the request is too large: " + frame.error().message,
                                    false, 0});
  }
  queued_.erase(request.id);
  request.endpoint = *endpoint;
  ++request.attempts;
  request.chunks_open = options_.window.chunks;
  request.bytes_open = options_.window.bytes;
  links_.at(*endpoint).link.requests.insert(request.id);
  by_wire_id_.emplace(request.wire_id, &request);
  arm(request);
  effects_.emplace_back(SendFrame{*endpoint, std::move(*frame)});
}

void ClientSession::dispatch_queued() {
  const std::vector<std::uint64_t> ids(queued_.begin(), queued_.end());
  for (const std::uint64_t id : ids) {
    if (const auto found = requests_.find(id); found != requests_.end()) dispatch(*found->second);
  }
}

// Back to the queue with nothing of the attempt left; nobody has seen content of it.
void ClientSession::send_again(Request& request) {
  check(!request.has_content, "only a request without content is sent again");
  if (request.endpoint) links_.at(*request.endpoint).link.requests.erase(request.id);
  by_wire_id_.erase(request.wire_id);
  request.endpoint.reset();
  request.next_sequence = 0;
  request.held.clear();
  request.held_cost = {};
  request.consumed = {};
  request.finished = false;
  request.queued_ns = clock_.monotonic_ns();
  queued_.insert(request.id);
  arm(request);
  if (request.attempts >= options_.attempts_max) return end(request, unreachable(request));
  dispatch(request);
}

// A queued request that no endpoint will take, as far as all of them have said, fails now and not at its time-out.
void ClientSession::fail_hopeless() {
  const std::vector<std::uint64_t> ids(queued_.begin(), queued_.end());
  for (const std::uint64_t id : ids) {
    Request& request = *requests_.at(id);
    bool hope = false;
    std::optional<ChatFailure> why = request.last_failure;
    for (const auto& [endpoint, target] : links_) {
      if (!target.wanted) continue;
      if (target.link.rejection()) {
        why = target.link.rejection();
      } else if (!request.refused_by.contains(endpoint)) {
        hope = true;
      }
    }
    if (!hope && why) end(request, std::move(*why));
  }
}

void ClientSession::arm(Request& request) {
  timers_.erase({request.timer_ns, request.id});
  request.timer_ns = request.deadline_ns;
  if (!request.endpoint) {
    request.timer_ns = std::min(request.timer_ns, request.queued_ns + ns_of(options_.unreachable_ms_max));
  }
  timers_.emplace(request.timer_ns, request.id);
}

void ClientSession::end(Request& request, ChatOutcome outcome) {
  const std::uint64_t id = request.id;
  timers_.erase({request.timer_ns, id});
  queued_.erase(id);
  by_wire_id_.erase(request.wire_id);
  const auto endpoint = request.endpoint;
  if (endpoint) links_.at(*endpoint).link.requests.erase(id);
  requests_.erase(id);
  effects_.emplace_back(Ended{id, std::move(outcome)});
  if (endpoint) drop_if_drained(*endpoint);
}

void ClientSession::on_time(Request& request) {
  if (clock_.monotonic_ns() < request.deadline_ns) return end(request, unreachable(request));
  if (request.endpoint) send(*request.endpoint, link::Cancel{request.wire_id});
  std::string message = "the request's time-out has passed";
  if (!request.endpoint) message += " while it waited for a node: " + unreachable(request).message;
  end(request, ChatFailure{ErrorKind::deadline_exceeded, std::move(message), true, 0});
}

ChatFailure ClientSession::unreachable(const Request& request) const {
  if (request.last_failure) return *request.last_failure;
  std::string message = "no node takes the request";
  for (const auto& [endpoint, target] : links_) {
    const std::string& error = target.link.last_error();
    message += "; " + target.endpoint.address + ": " + (error.empty() ? "not connected yet" : error);
    if (message.size() > link::error_message_bytes_max) break;
  }
  return {ErrorKind::unreachable, std::move(message), true, 0};
}

// ---- messages

void ClientSession::received(std::size_t endpoint, std::uint64_t connection, Result<link::NodeMessage> message,
                             std::size_t frame_bytes) {
  const auto found = links_.find(endpoint);
  if (found == links_.end()) return;
  SessionLink& link = found->second.link;
  if (link.connection() != connection || connection == 0 || shut_down_) return;
  link.heard(clock_.monotonic_ns());
  if (message) return on_message(endpoint, std::move(*message), frame_bytes);
  if (is(message.error(), FrameError::unknown_kind)) return;
  lose(endpoint, "the node sent a frame that cannot be read: " + message.error().message);
}

void ClientSession::on_message(std::size_t endpoint, link::NodeMessage message, std::size_t frame_bytes) {
  SessionLink& link = links_.at(endpoint).link;
  if (auto* welcome = std::get_if<link::Welcome>(&message)) {
    if (link.state() != SessionLink::State::greeting) return;
    link.welcomed(std::move(welcome->node_name), clock_.monotonic_ns());
    list_changed_ = true;
    dispatch_queued();
  } else if (auto* events = std::get_if<link::Events>(&message)) {
    if (Request* request = find_wire(endpoint, events->request_id)) on_events(*request, std::move(*events), frame_bytes);
  } else if (auto* done = std::get_if<link::Done>(&message)) {
    if (Request* request = find_wire(endpoint, done->request_id)) on_done(*request, link, std::move(*done));
  } else if (auto* error = std::get_if<link::RequestError>(&message)) {
    if (error->request_id == 0) return on_link_error(endpoint, *error);
    if (Request* request = find_wire(endpoint, error->request_id)) on_error(*request, endpoint, std::move(*error));
  } else if (const auto* ping = std::get_if<link::Ping>(&message)) {
    send(endpoint, link::Pong{ping->number});
  } else if (std::holds_alternative<link::Goodbye>(message)) {
    link.draining();
    list_changed_ = true;
    drop_if_drained(endpoint);
  } else if (auto* nodes = std::get_if<link::Nodes>(&message)) {
    // Only after the welcome: until then nobody on that side has accepted this client.
    if (link.state() != SessionLink::State::ready) return;
    nodes_.told(endpoint, std::move(*nodes));
    list_changed_ = true;
  }
}

ClientSession::Request* ClientSession::find_wire(std::size_t endpoint, std::uint64_t wire_id) {
  const auto found = by_wire_id_.find(wire_id);
  return found != by_wire_id_.end() && found->second->endpoint == endpoint ? found->second : nullptr;
}

void ClientSession::on_events(Request& request, link::Events events, std::size_t frame_bytes) {
  if (events.sequence != request.next_sequence) return broke_protocol(request, "a frame of the answer is missing");
  if (request.finished) return broke_protocol(request, "the answer went on after its finish");
  const auto chunks = static_cast<std::uint32_t>(events.events.size()) + events.unknown;
  if (request.bytes_open <= 0 || request.chunks_open < chunks) {
    return broke_protocol(request, "the node sent more than the credit it had");
  }
  ++request.next_sequence;
  request.chunks_open -= chunks;
  request.bytes_open -= static_cast<std::int64_t>(frame_bytes);
  request.held_cost.chunks += chunks;
  request.held_cost.bytes += static_cast<std::uint32_t>(frame_bytes);
  for (chat::Event& event : events.events) {
    request.has_content = request.has_content || !std::holds_alternative<chat::Start>(event);
    request.finished = request.finished || std::holds_alternative<chat::Finish>(event);
    request.held.push_back(std::move(event));
  }
  // A Start alone is held back: until content follows, the request may still move to another node.
  if (!request.has_content) return;
  effects_.emplace_back(
      Deliver{request.id, std::exchange(request.held, {}), std::exchange(request.held_cost, {})});
}

void ClientSession::on_done(Request& request, const SessionLink& link, link::Done done) {
  if (!request.finished) return broke_protocol(request, "the answer ended without a finish");
  end(request, ChatEnd{std::move(done.deployment), done.attempts, done.ledger_id, link.node()});
}

void ClientSession::on_error(Request& request, std::size_t endpoint, link::RequestError error) {
  if (error.kind == ErrorKind::draining) links_.at(endpoint).link.draining();
  const bool moves = !request.has_content && (error.kind == ErrorKind::draining || worth_another_node(error));
  if (!moves) return end(request, failure_of(std::move(error)));
  if (error.kind != ErrorKind::draining) {
    request.refused_by.insert(endpoint);
    request.last_failure = failure_of(std::move(error));
  }
  send_again(request);
  drop_if_drained(endpoint);
  fail_hopeless();
}

void ClientSession::on_link_error(std::size_t endpoint, const link::RequestError& error) {
  const bool rejects = error.kind == ErrorKind::unauthenticated || error.kind == ErrorKind::unsupported_version;
  lose(endpoint, "the node refused the link: " + error.message,
       rejects ? std::optional(failure_of(error)) : std::nullopt, error.retry_after_ms);
}

void ClientSession::broke_protocol(Request& request, std::string message) {
  send(*request.endpoint, link::Cancel{request.wire_id});
  end(request, ChatFailure{ErrorKind::protocol, std::move(message), false, 0});
}

}  // namespace outlast::cluster
