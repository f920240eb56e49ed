// ChatTransport: the seam between the client actor and what carries its chats: links to nodes, or a test's script.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/chat_outcome.hpp"
#include "core/chat.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

// Where answers go. Called on the transport's thread; must not block.
struct ChatReceiver {
  // The next events of a request; `cost` goes to consumed() when they have been taken.
  std::function<void(std::uint64_t request, std::vector<chat::Event> events, link::Credit cost)> on_events;
  // Exactly once for every request, after its last events.
  std::function<void(std::uint64_t request, ChatOutcome outcome)> on_end;
};

// Any thread.
class ChatTransport {
 public:
  virtual ~ChatTransport() = default;
  // `request` is the caller's id, used once. `timeout_ms` 0: the transport's longest.
  virtual void submit(std::uint64_t request, chat::Request chat, std::uint32_t timeout_ms) = 0;
  virtual void consumed(std::uint64_t request, link::Credit cost) = 0;
  virtual void cancel(std::uint64_t request) = 0;
};

}  // namespace outlast::cluster
