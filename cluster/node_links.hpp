// NodeLinks: a client's links to its nodes, those it was configured with and those it learns of: one network thread with
// a CURVE DEALER per node, driven by a ClientSession.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/chat_transport.hpp"
#include "cluster/endpoint.hpp"
#include "cluster/link_error.hpp"
#include "cluster/session_link.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

inline constexpr std::size_t endpoints_max = 16;  // configured ones

struct LinksOptions {
  std::vector<Endpoint> endpoints;
  std::string virtual_key;
  std::string client_name;
  std::size_t in_flight_max = 256;
  std::uint32_t unreachable_ms_max = 5'000;
  std::uint32_t request_ms_max = 600'000;
  LinkTimes times;
};

// Any thread.
class NodeLinks final : public ChatTransport {
 public:
  // Checks the options and starts the thread; the links come up later. Errors: LinkError.
  [[nodiscard]] static Result<std::unique_ptr<NodeLinks>> start(LinksOptions options, ChatReceiver receiver);
  // Ends every running request (ErrorKind::cancelled) and joins the thread. From within the receiver it may be
  // destroyed too; the thread then ends by itself, and nothing is received any more.
  ~NodeLinks() override;

  void submit(std::uint64_t request, chat::Request chat, std::uint32_t timeout_ms) override;
  void consumed(std::uint64_t request, link::Credit cost) override;
  void cancel(std::uint64_t request) override;

 private:
  class Network;
  explicit NodeLinks(std::shared_ptr<Network> network);
  const std::shared_ptr<Network> network_;  // shared with its thread
};

}  // namespace outlast::cluster
