// RemoteActors: actors of other nodes behind the typed interfaces of local ones. A proxy encodes each request in its
// sender's thread and gives it to the links; the answer goes from the network thread straight to the sender. No mailbox
// stands between, so the bound on requests in flight holds before anything is queued.
//
//   auto node = remote.proxy<ClusterNode>("n2", "node");
//   self->request(*node, request_timeout, status_atom::value).then(…);
//
// Failures of the way (node gone, overloaded, no answer by the deadline, no such actor) are a caf::error that
// error_of() explains; what the actor itself answers, a Result's error too, arrives as from a local actor.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/fwd.hpp>

#include "actors/interfaces.hpp"
#include "actors/peer_port.hpp"
#include "actors/remote_codec.hpp"
#include "core/clock.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::actors {

struct RemoteLimits {
  std::size_t asks_per_node_max = 4'096;    // of this node to another, without an answer yet; more are `overloaded`
  std::size_t serves_per_node_max = 4'096;  // of another node to this one
  std::size_t proxies_per_node_max = 1'024;
  std::size_t served_actors_max = 1'024;
  std::chrono::milliseconds serve_time_max{3'600'000};  // whatever deadline an ask names
};

struct RemoteCounters {
  std::uint64_t asks_in_flight = 0;    // now, to other nodes
  std::uint64_t serves_in_flight = 0;  // now, for other nodes
  std::uint64_t asks = 0;
  std::uint64_t serves = 0;
  std::uint64_t overloaded = 0;    // refused by a bound or a full queue, in either direction
  std::uint64_t timed_out = 0;     // in either direction
  std::uint64_t late_answers = 0;  // nobody waited for them any more; they are dropped
  std::uint64_t malformed = 0;     // asks and answers that do not decode
};

// Any thread. To be destroyed before `system`.
class RemoteActors {
 public:
  // All three outlive it.
  RemoteActors(caf::actor_system& system, PeerPort& port, const Clock& clock, RemoteLimits limits = {});
  // Ends every proxy: what is in flight fails.
  ~RemoteActors();
  RemoteActors(const RemoteActors&) = delete;
  RemoteActors& operator=(const RemoteActors&) = delete;

  // What the links tell, in their order.
  void on_up(const cluster::Peer& peer);
  // Requests in flight fail now, and every proxy to the node ends (caf::exit_reason::remote_link_unreachable).
  void on_down(const cluster::Peer& peer, const std::string& why);
  // Of the kinds Ask, Answer, Failed, Cancel and Down; others are ignored.
  void on_message(const cluster::Peer& peer, ask::Message message);
  // Deadlines and answers that found the queue full. Call each 50 ms or so.
  void tick();

  // Other nodes reach the actor by `name` from now on, instead of one that had it before. Nothing else is reachable. The
  // actor's end ends their proxies. Errors: ActorError (overloaded).
  template <class Interface>
  Result<void> serve(const std::string& name, const Interface& actor) {
    return serve(name, caf::actor_cast<caf::strong_actor_ptr>(actor), interface_codec<Interface>());
  }
  // Ends the proxies of other nodes too. `only`: if the name is still this actor's.
  void stop_serving(const std::string& name, const caf::strong_actor_ptr& only = {});

  // The actor `name` of a node that is up; whether it serves one shows at the first request. The same proxy for the same
  // name while somebody holds it. `deadline`: for an answer, whatever time-out the requester has set itself.
  // Errors: ActorError (unavailable: the node is not up; refused: the name is in use with another interface; overloaded).
  template <class Interface>
  Result<Interface> proxy(const std::string& node, const std::string& name,
                          std::chrono::milliseconds deadline = request_timeout) {
    auto found = proxy(node, name, interface_codec<Interface>(), deadline);
    if (!found) return fail(std::move(found.error()));
    return caf::actor_cast<Interface>(*found);
  }

  [[nodiscard]] RemoteCounters counters() const;

 private:
  class Core;
  class Proxy;
  class Answerer;

  Result<void> serve(const std::string& name, caf::strong_actor_ptr actor, InterfaceCodec codec);
  Result<caf::strong_actor_ptr> proxy(const std::string& node, const std::string& name, InterfaceCodec codec,
                                      std::chrono::milliseconds deadline);

  const std::shared_ptr<Core> core_;  // shared with proxies and with actors that answer
};

}  // namespace outlast::actors
