// RemoteActors, asking: proxies, requests in flight, and what comes back.
#include <algorithm>
#include <utility>

#include <caf/make_actor.hpp>
#include <caf/sec.hpp>

#include "actors/remote_core.hpp"

namespace outlast::actors {
namespace {

// A full queue is told from a node that is not there; the rest is the same to a requester.
Error error_of_send(const std::string& node, const Error& error) {
  const auto code = is(error, cluster::LinkError::overloaded) ? ActorError::overloaded : ActorError::unavailable;
  return fail(code, "node " + node + " takes no request: " + error.message).value();
}

std::uint32_t ms_of(std::chrono::milliseconds time) {
  constexpr std::int64_t day_ms = 86'400'000;
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time.count(), 1, day_ms));
}

}  // namespace

Result<caf::strong_actor_ptr> RemoteActors::Core::proxy(const std::string& node, const std::string& name,
                                                        InterfaceCodec codec, std::chrono::milliseconds deadline) {
  if (name.empty() || name.size() > ask::name_bytes_max) return fail(ActorError::refused, "that is no name of an actor");
  caf::strong_actor_ptr found;  // let go after the lock
  const std::lock_guard lock(mutex_);
  const auto peer = peers_.find(node);
  if (peer == peers_.end()) return fail(ActorError::unavailable, "node " + node + " is not connected");
  auto& proxies = peer->second.proxies;
  if (const auto known = proxies.find(name); known != proxies.end()) {
    found = caf::actor_cast<caf::strong_actor_ptr>(known->second);
    const auto* proxy = found ? static_cast<Proxy*>(caf::actor_cast<caf::abstract_actor*>(found)) : nullptr;
    if (proxy != nullptr && !proxy->ended()) {
      if (proxy->codec.data() == codec.data()) return found;
      return fail(ActorError::refused, "the actor " + name + " of node " + node + " is in use with another interface");
    }
    proxies.erase(known);
  }
  if (proxies.size() >= limits_.proxies_per_node_max) {
    std::erase_if(proxies, [](const auto& item) { return item.second->strong_refs == 0; });
    if (proxies.size() >= limits_.proxies_per_node_max) {
      return fail(ActorError::overloaded, "as many actors of node " + node + " are in use as may be");
    }
  }
  caf::actor_config config;
  auto made = caf::make_actor<Proxy, caf::strong_actor_ptr>(system_->next_actor_id(), system_->node(), system_, config,
                                                            shared_from_this(), node, peer->second.incarnation, name,
                                                            codec, deadline);
  proxies.emplace(name, caf::actor_cast<caf::weak_actor_ptr>(made));
  return made;
}

void RemoteActors::Core::ask(Proxy& proxy, const caf::type_erased_tuple& content, Asker asker) {
  const auto method = std::find_if(proxy.codec.begin(), proxy.codec.end(),
                                   [&content](const MethodCodec& row) { return row.takes(content); });
  if (method == proxy.codec.end()) return asker.deliver(caf::make_message(caf::error(caf::sec::unexpected_message)));
  const std::uint64_t id = ++last_ask_;
  auto frame = method->encode_input(content);
  if (frame) frame = ask::encode(ask::Ask{id, proxy.actor, method->number, ms_of(proxy.deadline), std::move(*frame)});
  if (!frame) return asker.deliver(frame.error());

  Pending pending{std::move(asker), &*method, 0, caf::strong_actor_ptr(proxy.ctrl())};
  pending.deadline_ns = clock_.monotonic_ns() + std::chrono::nanoseconds(proxy.deadline).count();
  Pending refused;
  Result<void> sent;
  {
    const std::lock_guard lock(mutex_);
    sent = submit(proxy, id, std::move(pending), *frame, refused);
  }
  if (!sent) refused.asker.deliver(sent.error());
}

Result<void> RemoteActors::Core::submit(Proxy& proxy, std::uint64_t id, Pending pending, const FramePtr& frame,
                                        Pending& refused) {
  PeerState* peer = find_peer(proxy.node, proxy.incarnation);
  if (peer == nullptr || proxy.ended()) {
    refused = std::move(pending);
    return fail(ActorError::unavailable, "the actor " + proxy.actor + " of node " + proxy.node + " is gone");
  }
  if (peer->asks.size() >= limits_.asks_per_node_max) {
    ++counters_.overloaded;
    refused = std::move(pending);
    return fail(ActorError::overloaded, "node " + proxy.node + " has as many requests of this one as it may");
  }
  // In the table first: the answer may come before send() returns.
  const auto placed = peer->asks.emplace(id, std::move(pending)).first;
  if (auto sent = port_.send(proxy.node, cluster::Channel::control, frame); !sent) {
    ++counters_.overloaded;
    refused = std::move(placed->second);
    peer->asks.erase(placed);
    return fail(error_of_send(proxy.node, sent.error()));
  }
  ++counters_.asks;
  return {};
}

RemoteActors::Core::Pending RemoteActors::Core::take_pending(const cluster::Peer& peer, std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  Pending pending;
  PeerState* state = find_peer(peer.node, peer.incarnation);
  const auto found = state != nullptr ? state->asks.find(id) : decltype(state->asks)::iterator();
  if (state == nullptr || found == state->asks.end()) {
    ++counters_.late_answers;
    return pending;
  }
  pending = std::move(found->second);
  state->asks.erase(found);
  return pending;
}

void RemoteActors::Core::on_answer(const cluster::Peer& peer, ask::Answer answer) {
  Pending pending = take_pending(peer, answer.id);
  if (pending.method == nullptr) return;
  auto decoded = pending.method->decode_output(answer.body);
  if (decoded) return pending.asker.deliver(std::move(*decoded));
  {
    const std::lock_guard lock(mutex_);
    ++counters_.malformed;
  }
  pending.asker.deliver(decoded.error());
}

void RemoteActors::Core::on_failed(const cluster::Peer& peer, ask::Failed failed) {
  Pending pending = take_pending(peer, failed.id);
  if (pending.method == nullptr) return;
  if (failed.from_actor) return pending.asker.deliver(pending.method->failed_output(std::move(failed.error)));
  pending.asker.deliver(failed.error);
}

void RemoteActors::Core::on_actor_down(const cluster::Peer& peer, const ask::Down& down) {
  Aftermath after;
  const std::lock_guard lock(mutex_);
  PeerState* state = find_peer(peer.node, peer.incarnation);
  if (state == nullptr) return;
  const auto found = state->proxies.find(down.actor);
  if (found == state->proxies.end()) return;
  auto proxy = caf::actor_cast<caf::strong_actor_ptr>(found->second);
  state->proxies.erase(found);
  if (!proxy) return;
  const Error error =
      fail(ActorError::unavailable, "the actor " + down.actor + " of node " + peer.node + " is gone: " + down.why).value();
  for (auto i = state->asks.begin(); i != state->asks.end();) {
    if (i->second.proxy != proxy) {
      ++i;
      continue;
    }
    after.failed.emplace_back(std::move(i->second.asker), error);
    after.let_go.push_back(std::move(i->second.proxy));
    i = state->asks.erase(i);
  }
  after.ended.emplace_back(std::move(proxy), caf_error_of(error));
}

void RemoteActors::Core::expire(const std::string& node, PeerState& peer, std::int64_t now_ns, Aftermath& after) {
  for (auto i = peer.asks.begin(); i != peer.asks.end();) {
    if (now_ns < i->second.deadline_ns) {
      ++i;
      continue;
    }
    ++counters_.timed_out;
    // Only a courtesy: the other side has the deadline too.
    if (auto frame = ask::encode(ask::Cancel{i->first})) (void)port_.send(node, cluster::Channel::control, *frame);
    after.failed.emplace_back(std::move(i->second.asker),
                              fail(ActorError::timed_out, "node " + node + " did not answer in time").value());
    after.let_go.push_back(std::move(i->second.proxy));
    i = peer.asks.erase(i);
  }
}

}  // namespace outlast::actors
