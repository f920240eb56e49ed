// RemoteActors, serving: which local actors others reach, what they are asked, and their answers.
#include <algorithm>
#include <optional>
#include <utility>

#include <caf/abstract_actor.hpp>
#include <caf/mailbox_element.hpp>

#include "actors/remote_core.hpp"
#include "core/check.hpp"

namespace outlast::actors {
namespace {

ask::Failed failure(std::uint64_t id, ActorError code, std::string message) {
  return {id, fail(code, std::move(message)).value(), false};
}

}  // namespace

Result<void> RemoteActors::Core::serve(const std::string& name, caf::strong_actor_ptr actor, InterfaceCodec codec) {
  if (!actor || name.empty() || name.size() > ask::name_bytes_max) {
    return fail(ActorError::refused, "an actor that others reach has a name of 1 to " +
                                         std::to_string(ask::name_bytes_max) + " bytes");
  }
  stop_serving(name, nullptr, "another has taken its place");
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(ActorError::unavailable, "this node stops");
    if (served_.size() >= limits_.served_actors_max) {
      return fail(ActorError::overloaded, "as many actors are served as may be");
    }
    served_[name] = {actor, codec};
  }
  // Called at once when it has ended already.
  caf::actor_cast<caf::abstract_actor*>(actor)->attach_functor(
      [weak = weak_from_this(), name, only = actor.get()](const caf::error&) {
        if (const auto core = weak.lock()) core->stop_serving(name, only, "it has ended");
      });
  return {};
}

void RemoteActors::Core::stop_serving(const std::string& name, const caf::actor_control_block* only,
                                      const std::string& why) {
  Aftermath after;
  const std::lock_guard lock(mutex_);
  const auto found = served_.find(name);
  if (found == served_.end() || (only != nullptr && found->second.actor.get() != only)) return;
  after.let_go.push_back(std::move(found->second.actor));
  served_.erase(found);
  const auto frame = ask::encode(ask::Down{name, why});
  check(frame.has_value(), "an end is small");
  for (auto& [node, peer] : peers_) send_surely(node, peer, *frame);
}

// Not kept when the queue is full, or a flood of bad asks would be: its sender has a deadline.
void RemoteActors::Core::refuse(const std::string& node, const ask::Failed& failed) {
  const auto frame = ask::encode(failed);
  check(frame.has_value(), "a refusal is small");
  if (!port_.send(node, cluster::Channel::control, *frame)) ++counters_.overloaded;
}

std::optional<ask::Failed> RemoteActors::Core::admit(PeerState& peer, const cluster::Peer& from, const ask::Ask& ask,
                                                     const MethodCodec* method, std::uint64_t serve_id) {
  if (peer.serves.size() + peer.unsent.size() >= limits_.serves_per_node_max) {
    ++counters_.overloaded;
    return failure(ask.id, ActorError::overloaded, "this node has as many requests of yours as it takes");
  }
  if (!peer.serves.emplace(ask.id, serve_id).second) {
    ++counters_.malformed;
    return failure(0, ActorError::refused, "an ask's id is used once");
  }
  const std::int64_t time_max_ms = limits_.serve_time_max.count();
  const std::int64_t time_ms = ask.deadline_ms == 0 ? time_max_ms : std::min<std::int64_t>(ask.deadline_ms, time_max_ms);
  serves_.emplace(serve_id, Serve{from.node, ask.id, method, clock_.monotonic_ns() + time_ms * 1'000'000});
  ++counters_.serves;
  return std::nullopt;
}

void RemoteActors::Core::on_ask(const cluster::Peer& peer, ask::Ask ask) {
  Served served;
  const MethodCodec* method = nullptr;
  {
    const std::lock_guard lock(mutex_);
    PeerState* state = find_peer(peer.node, peer.incarnation);
    if (state == nullptr) return;
    const auto found = served_.find(ask.actor);
    if (found == served_.end()) {
      return refuse(peer.node, failure(ask.id, ActorError::not_found, "no actor is served as \"" + ask.actor + "\""));
    }
    served = found->second;
    const auto row = std::find_if(served.codec.begin(), served.codec.end(),
                                  [&ask](const MethodCodec& candidate) { return candidate.number == ask.method; });
    if (row == served.codec.end()) {
      return refuse(peer.node, failure(ask.id, ActorError::refused,
                                               "the actor " + ask.actor + " has no method " + std::to_string(ask.method)));
    }
    method = &*row;
  }
  auto input = method->decode_input(ask.body);
  const std::uint64_t serve_id = ++last_serve_;
  caf::strong_actor_ptr answerer;
  {
    const std::lock_guard lock(mutex_);
    PeerState* state = find_peer(peer.node, peer.incarnation);
    if (state == nullptr) return;
    if (!input) {
      ++counters_.malformed;
      return refuse(peer.node, {ask.id, input.error(), false});
    }
    if (auto refusal = admit(*state, peer, ask, method, serve_id)) {
      // One with an id in use gets no answer: the asker would take it for that of the other.
      if (refusal->id != 0) refuse(peer.node, *refusal);
      return;
    }
    answerer = answerer_;
  }
  served.actor->enqueue(std::move(answerer), caf::make_message_id(serve_id), std::move(*input), nullptr);
}

void RemoteActors::Core::on_cancel(const cluster::Peer& peer, std::uint64_t ask_id) {
  const std::lock_guard lock(mutex_);
  PeerState* state = find_peer(peer.node, peer.incarnation);
  if (state == nullptr) return;
  const auto found = state->serves.find(ask_id);
  if (found == state->serves.end()) return;
  serves_.erase(found->second);
  state->serves.erase(found);
}

void RemoteActors::Core::answered(std::uint64_t serve_id, const caf::type_erased_tuple& content) {
  Serve serve;
  {
    const std::lock_guard lock(mutex_);
    const auto found = serves_.find(serve_id);
    if (found == serves_.end()) {  // cancelled, too late, or its node is gone
      ++counters_.late_answers;
      return;
    }
    serve = found->second;
  }
  const auto message = [&serve, &content]() -> ask::Message {
    if (serve.method->gives(content)) {
      auto body = serve.method->encode_output(content);
      if (body) return ask::Answer{serve.ask_id, std::move(*body)};
      return ask::Failed{serve.ask_id, std::move(body.error()), true};
    }
    if (content.match_elements<caf::error>()) {
      return ask::Failed{serve.ask_id, error_of(content.get_as<caf::error>(0)), false};
    }
    return failure(serve.ask_id, ActorError::refused, "the actor's answer is of another type than its interface says");
  };
  auto frame = ask::encode(message());
  if (!frame) frame = ask::encode(ask::Failed{serve.ask_id, frame.error(), true});
  check(frame.has_value(), "a refusal is small");

  const std::lock_guard lock(mutex_);
  if (serves_.erase(serve_id) == 0) return;
  PeerState& peer = peers_.at(serve.node);
  peer.serves.erase(serve.ask_id);
  send_surely(serve.node, peer, std::move(*frame));
}

void RemoteActors::Core::expire_serves(std::int64_t now_ns) {
  for (auto i = serves_.begin(); i != serves_.end();) {
    if (now_ns < i->second.deadline_ns) {
      ++i;
      continue;
    }
    const Serve serve = std::move(i->second);
    i = serves_.erase(i);
    ++counters_.timed_out;
    PeerState& peer = peers_.at(serve.node);
    peer.serves.erase(serve.ask_id);
    refuse(serve.node, failure(serve.ask_id, ActorError::timed_out, "the actor did not answer in time"));
  }
}

}  // namespace outlast::actors
