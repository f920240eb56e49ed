// The client actor as a service sees it: what it may be sent and what comes back. It lives in the service's own CAF
// system and is made by client_actor.hpp's spawn().
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/error.hpp>
#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

#include "cluster/chat_outcome.hpp"
#include "core/chat.hpp"

namespace outlast::client {

using cluster::ChatEnd;
using cluster::ChatFailure;
using cluster::ChatOutcome;
using link::ErrorKind;

struct ChatRequest {
  chat::Request chat;            // its `stream` is set by the kind of request
  std::uint32_t timeout_ms = 0;  // 0: the client's request_timeout
};

struct ChatResponse {
  chat::Response answer;
  ChatEnd end;  // who served it, and its id in the ledger
};

// The next events of a stream, in order.
struct StreamBatch {
  std::uint64_t stream = 0;
  std::vector<chat::Event> events;
};

// The last message of a stream: exactly one, also when it failed. What came before it stays valid.
struct StreamEnd {
  std::uint64_t stream = 0;
  ChatOutcome outcome;
};

// What a service gives the client to receive streams. One may serve many.
using Sink = caf::typed_actor<
    // A request: the next batch comes when this one is answered, so a slow sink slows its provider down and nothing
    // heaps up. A sink that does not answer for sink_timeout ends its stream (ErrorKind::slow_consumer).
    caf::reacts_to<StreamBatch>,
    caf::reacts_to<StreamEnd>>;

struct StreamRequest {
  ChatRequest request;
  Sink sink;
};

struct StreamStarted {
  std::uint64_t stream = 0;
};

struct CancelStream {
  std::uint64_t stream = 0;
};

using Client = caf::typed_actor<
    // Answered exactly once: with the whole answer or with an error that failure_of() explains.
    caf::replies_to<ChatRequest>::with<ChatResponse>,
    // Answered at once; the sink then gets batches and one end. An error (overloaded) means that it gets neither.
    caf::replies_to<StreamRequest>::with<StreamStarted>,
    // The stream ends with ErrorKind::cancelled, unless it has ended.
    caf::reacts_to<CancelStream>>;

// What an error of a Client means, whoever made it: the client, a node or CAF itself (a dead client, a time-out).
[[nodiscard]] ChatFailure failure_of(const caf::error& error);

// One user message for a route or a model.
[[nodiscard]] inline ChatRequest ask(std::string model, std::string text) {
  ChatRequest request;
  request.chat.model = std::move(model);
  request.chat.messages.push_back({chat::Role::user, {chat::Text{std::move(text)}}});
  return request;
}

}  // namespace outlast::client

// These never leave the process: what crosses it is a Cap'n Proto frame.
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::ChatRequest)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::ChatResponse)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::StreamBatch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::StreamEnd)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::StreamRequest)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::StreamStarted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::CancelStream)
