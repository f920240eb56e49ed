// ClientListener: the node's side of the links that services open. One network thread owns the sockets; it decodes
// requests, authenticates each by its link's virtual key, and hands calls out. CURVE is always on; the client's own
// CURVE key may be any, since the virtual key says who it is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "cluster/chat_call.hpp"
#include "cluster/link_error.hpp"
#include "core/clock.hpp"
#include "core/id.hpp"
#include "core/result.hpp"
#include "core/virtual_key.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

struct ListenerLimits {
  std::size_t peers_max = 4096;
  std::size_t calls_per_peer_max = 256;
  std::size_t frame_bytes_max = outlast::frame_bytes_max;
  std::size_t peer_queue_bytes_max = 64u << 20;  // waiting for one peer's socket; more, and the peer is given up
  std::uint32_t deadline_ms_max = 600'000;
  std::uint32_t no_credit_ms_max = 30'000;
  std::uint32_t silence_ms_max = 15'000;         // a peer that says nothing for so long is gone
  std::uint32_t ping_ms = 1'000;                 // a silent peer is asked so often
};

struct ListenerOptions {
  std::string listen;      // "tcp://HOST:PORT"; port 0 takes a free one
  std::string secret_key;  // the node's, Z85
  std::string node_name;
  Incarnation incarnation;
  ListenerLimits limits;
};

struct ListenerCounters {
  std::uint64_t peers = 0;             // now
  std::uint64_t calls_in_flight = 0;   // now; a call counts until its end was given to the socket
  std::uint64_t calls = 0;             // since the start
  std::uint64_t refused = 0;           // hellos and chats that got an error at once
  std::uint64_t peers_lost = 0;        // gone without a word, or given up
};

// Any thread.
class ClientListener {
 public:
  // Called on the network thread: must not block. Null refuses.
  using Authenticate = std::function<std::shared_ptr<const VirtualKey>(std::string_view key_text)>;
  using OnCall = std::function<void(std::shared_ptr<ChatCall>)>;

  // Binds and starts the thread. `clock` must outlive the listener. Errors: LinkError.
  [[nodiscard]] static Result<std::unique_ptr<ClientListener>> start(ListenerOptions options, const Clock& clock,
                                                                     Authenticate authenticate, OnCall on_call);
  // Cancels what runs (CancelReason::shutdown) and joins the thread. ChatCalls may outlive the listener.
  ~ClientListener();
  ClientListener(const ClientListener&) = delete;
  ClientListener& operator=(const ClientListener&) = delete;

  // With the port that was taken: "tcp://127.0.0.1:40001".
  [[nodiscard]] const std::string& endpoint() const;
  // What clients need to know of the node.
  [[nodiscard]] const std::string& public_key() const;
  // Says goodbye to every peer and refuses new calls; running ones go on. Watch counters().calls_in_flight for the end.
  void drain();
  // Tells every client, now and later ones after their welcome, which nodes there are (this one too). Of more than
  // link::nodes_max each node tells others. Older clients ignore it. Errors: FrameError::too_large (a name, an address).
  Result<void> set_nodes(link::Nodes nodes);
  [[nodiscard]] ListenerCounters counters() const;

 private:
  class Network;
  explicit ClientListener(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace outlast::cluster
