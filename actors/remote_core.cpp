#include "actors/remote_core.hpp"

#include <algorithm>
#include <utility>

#include <caf/make_actor.hpp>
#include <caf/sec.hpp>

namespace outlast::actors {
namespace {

constexpr caf::atom_value error_category = caf::atom("actors");
// Answers are bounded by admission; what is beyond is ends of actors, which requests then find out by themselves.
constexpr std::size_t unsent_factor_max = 2;

}  // namespace

caf::error caf_error_of(const Error& error) {
  // CAF takes an error of code 0 for none, so the code that counts is in the context.
  return {1, error_category, caf::make_message(std::string(error.module), error.code, error.message)};
}

Error error_of(const caf::error& error) {
  const caf::message& context = error.context();
  if (error && error.category() == error_category && context.match_elements<std::string, std::uint16_t, std::string>()) {
    return {ask::known_module(context.get_as<std::string>(0)), context.get_as<std::uint16_t>(1),
            context.get_as<std::string>(2)};
  }
  const auto code = error == caf::sec::request_timeout ? ActorError::timed_out : ActorError::unavailable;
  return {error_module<ActorError>, static_cast<std::uint16_t>(code), "the actor did not answer: " + caf::to_string(error)};
}

void Asker::deliver(caf::message answer) {
  if (!stages.empty()) {
    const auto next = std::move(stages.back());
    stages.pop_back();
    next->enqueue(caf::make_mailbox_element(std::move(sender), id, std::move(stages), std::move(answer)), nullptr);
  } else if (sender && id.is_request()) {
    sender->enqueue(nullptr, id.response_id(), std::move(answer), nullptr);
  }
}

// ---- the actors

RemoteActors::Proxy::Proxy(caf::actor_config& config, std::shared_ptr<Core> core, std::string its_node,
                           Incarnation its_incarnation, std::string its_actor, InterfaceCodec its_codec,
                           std::chrono::milliseconds its_deadline)
    : caf::monitorable_actor(config),
      node(std::move(its_node)),
      incarnation(its_incarnation),
      actor(std::move(its_actor)),
      codec(its_codec),
      deadline(its_deadline),
      core_(std::move(core)) {}

void RemoteActors::Proxy::enqueue(caf::mailbox_element_ptr what, caf::execution_unit* host) {
  if (handle_system_message(*what, host, false)) return;
  core_->ask(*this, what->content(), {what->sender, what->mid, std::move(what->stages)});
}

void RemoteActors::Proxy::on_destroy() {
  if (!ended_) cleanup(caf::exit_reason::unreachable, nullptr);
  caf::monitorable_actor::on_destroy();
}

void RemoteActors::Answerer::enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) {
  if (what->mid.is_response()) core_->answered(what->mid.request_id().integer_value(), what->content());
}

// ---- peers

void RemoteActors::Core::start(const std::shared_ptr<Core>& core, caf::actor_system& system) {
  core->system_ = &system;
  caf::actor_config config;
  core->answerer_ =
      caf::make_actor<Answerer, caf::strong_actor_ptr>(system.next_actor_id(), system.node(), &system, config, core);
}

RemoteActors::Core::Aftermath::~Aftermath() {
  // Ended before their requests fail, so that whoever hears of the failure finds the proxy gone.
  for (auto& [proxy, reason] : ended) {
    static_cast<Proxy*>(caf::actor_cast<caf::abstract_actor*>(proxy))->end(std::move(reason));
  }
  for (auto& [asker, error] : failed) asker.deliver(error);
}

void RemoteActors::Core::close() {
  Aftermath after;
  std::map<std::string, Served> served;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  while (!peers_.empty()) drop_peer(peers_.begin(), "this node stops", after);
  // The answerer and this hold each other.
  after.let_go.push_back(std::exchange(answerer_, nullptr));
  served.swap(served_);
  for (auto& [name, item] : served) after.let_go.push_back(std::move(item.actor));
}

RemoteActors::Core::PeerState* RemoteActors::Core::find_peer(const std::string& node, const Incarnation& incarnation) {
  const auto found = peers_.find(node);
  return found != peers_.end() && found->second.incarnation == incarnation ? &found->second : nullptr;
}

void RemoteActors::Core::on_up(const cluster::Peer& peer) {
  Aftermath after;
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  if (const auto found = peers_.find(peer.node); found != peers_.end()) drop_peer(found, "it has started anew", after);
  peers_[peer.node].incarnation = peer.incarnation;
}

void RemoteActors::Core::on_down(const cluster::Peer& peer, const std::string& why) {
  Aftermath after;
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(peer.node);
  if (found != peers_.end() && found->second.incarnation == peer.incarnation) drop_peer(found, why, after);
}

void RemoteActors::Core::drop_peer(std::map<std::string, PeerState>::iterator peer, const std::string& why,
                                   Aftermath& after) {
  PeerState& state = peer->second;
  const Error error = fail(ActorError::unavailable, "node " + peer->first + " is gone: " + why).value();
  for (auto& [name, weak] : state.proxies) {
    if (auto proxy = caf::actor_cast<caf::strong_actor_ptr>(weak)) {
      after.ended.emplace_back(std::move(proxy), caf::exit_reason::remote_link_unreachable);
    }
  }
  for (auto& [id, pending] : state.asks) {
    after.failed.emplace_back(std::move(pending.asker), error);
    after.let_go.push_back(std::move(pending.proxy));
  }
  for (const auto& [ask_id, serve_id] : state.serves) serves_.erase(serve_id);
  peers_.erase(peer);
}

// An answer or an end that finds the queue full waits for tick().
void RemoteActors::Core::send_surely(const std::string& node, PeerState& peer, FramePtr frame) {
  if (peer.unsent.empty() && port_.send(node, cluster::Channel::control, frame)) return;
  ++counters_.overloaded;
  if (peer.unsent.size() < unsent_factor_max * limits_.serves_per_node_max) peer.unsent.push_back(std::move(frame));
}

void RemoteActors::Core::tick() {
  Aftermath after;
  const std::int64_t now_ns = clock_.monotonic_ns();
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  expire_serves(now_ns);
  for (auto& [node, peer] : peers_) {
    while (!peer.unsent.empty() && port_.send(node, cluster::Channel::control, peer.unsent.front())) {
      peer.unsent.pop_front();
    }
    expire(node, peer, now_ns, after);
  }
}

RemoteCounters RemoteActors::Core::counters() const {
  const std::lock_guard lock(mutex_);
  RemoteCounters counters = counters_;
  for (const auto& [node, peer] : peers_) counters.asks_in_flight += peer.asks.size();
  counters.serves_in_flight = serves_.size();
  return counters;
}

}  // namespace outlast::actors
