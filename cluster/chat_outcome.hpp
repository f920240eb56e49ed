// How a chat of a client ended: exactly one of these for every request.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "core/id.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

struct ChatEnd {
  std::string deployment;       // that served the answer
  std::uint32_t attempts = 0;   // upstream, by the node
  RequestId ledger_id;          // the request's id in the ledger
  std::string node;
  bool operator==(const ChatEnd&) const = default;
};

struct ChatFailure {
  link::ErrorKind kind = link::ErrorKind::internal;
  std::string message;
  bool retryable = false;
  std::uint32_t retry_after_ms = 0;  // 0: unknown
  bool operator==(const ChatFailure&) const = default;
};

using ChatOutcome = std::variant<ChatEnd, ChatFailure>;

}  // namespace outlast::cluster
