// The client actor: a service's way to its models. It keeps encrypted links to the nodes that it was configured with and
// to those that they tell it of, balances requests over them, fails over while nothing of an answer was seen, and answers
// everything exactly once.
//
//   auto client = outlast::client::spawn(system, options);
//   self->request(*client, caf::infinite, outlast::client::ask("smart", "Why is the sky blue?")).receive(…);
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caf/fwd.hpp>

#include "actors/client_interface.hpp"
#include "cluster/chat_transport.hpp"
#include "cluster/endpoint.hpp"
#include "cluster/link_error.hpp"
#include "core/result.hpp"

namespace outlast::client {

using cluster::Endpoint;

struct ClientOptions {
  std::vector<Endpoint> endpoints;  // 1–16: where it starts; it learns of the cluster's other nodes
  std::string virtual_key;          // as `outlast key create` prints it; a secret
  std::string name = "client";      // for the node's logs
  std::chrono::milliseconds request_timeout{600'000};   // of a request that names none, and the longest one
  std::chrono::milliseconds unreachable_timeout{5'000};  // a request that no node takes for so long fails
  std::chrono::milliseconds sink_timeout{30'000};       // for a sink to take a batch
  std::size_t in_flight_max = 256;  // more are refused (ErrorKind::overloaded); a node takes 256 from one client
};

// The client ends when nobody holds it and nothing runs, or by caf::anon_send_exit; it then answers what still runs with
// ErrorKind::cancelled. `system` should have scheduler.policy "sharing": with CAF's default an answer waits for whatever
// its sender's worker does next. Errors: cluster::LinkError, for options that cannot work.
[[nodiscard]] Result<Client> spawn(caf::actor_system& system, ClientOptions options);

// The same over another transport, for tests.
using MakeTransport = std::function<Result<std::unique_ptr<cluster::ChatTransport>>(cluster::ChatReceiver)>;
[[nodiscard]] Result<Client> spawn_over(caf::actor_system& system, const ClientOptions& options,
                                        const MakeTransport& make_transport);

}  // namespace outlast::client
