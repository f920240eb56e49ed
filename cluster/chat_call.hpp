// ChatCall: one chat of a client, as the lane that serves it sees it. The lane sends events while the client has room
// for them, and ends the call once, with done() or fail().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/chat.hpp"
#include "core/id.hpp"
#include "core/virtual_key.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

// What a call that sends too far ahead of its client may keep waiting; more ends it with ErrorKind::slow_consumer.
inline constexpr std::size_t call_backlog_bytes_max = frame_bytes_max;

enum class SendState : std::uint8_t {
  ready,      // go on
  no_credit,  // what was passed is kept; wait for on_credit() before passing more
  ended,      // cancelled or already ended: stop
};

enum class CancelReason : std::uint8_t {
  client_cancelled,
  link_lost,  // the client or its host is gone
  no_credit,  // the client took nothing for too long
  deadline,   // the client's own
  shutdown,   // the listener stops
};
[[nodiscard]] std::string_view name_of(CancelReason reason);

class CallState;

// Any thread. Destroyed without an end, it ends with ErrorKind::internal, so that no client waits for nothing.
class ChatCall {
 public:
  ChatCall(std::shared_ptr<CallState> state, chat::Request request, std::shared_ptr<const VirtualKey> key,
           std::string client_name, std::int64_t deadline_ns);
  ~ChatCall();
  ChatCall(const ChatCall&) = delete;
  ChatCall& operator=(const ChatCall&) = delete;

  [[nodiscard]] const chat::Request& request() const { return request_; }
  [[nodiscard]] const std::shared_ptr<const VirtualKey>& key() const { return key_; }
  [[nodiscard]] const std::string& client_name() const { return client_name_; }
  // By the clock given to the listener.
  [[nodiscard]] std::int64_t deadline_monotonic_ns() const { return deadline_ns_; }

  // Queues the events; they leave as the client's credit allows, in order.
  SendState send(std::span<const chat::Event> events);
  [[nodiscard]] bool has_credit() const;

  // `call` runs when credit comes back after SendState::no_credit. It runs on the network thread and must not block
  // (post to the lane). Set before the first send().
  void on_credit(std::function<void()> call);
  // `call` runs once when the call ends from outside, on the network thread, or at once in this thread when that has
  // already happened. After it, sends do nothing.
  void on_cancel(std::function<void(CancelReason)> call);

  // Ends the call after what was sent before. Only the first end counts. `ledger_id` is the request's in the ledger.
  void done(std::string deployment, std::uint32_t attempts, RequestId ledger_id);
  // Ends the call now; what was not sent yet is dropped. `retry_after_ms` 0: unknown.
  void fail(link::ErrorKind kind, std::string message, bool retryable = false, std::uint32_t retry_after_ms = 0);

 private:
  const std::shared_ptr<CallState> state_;
  const chat::Request request_;
  const std::shared_ptr<const VirtualKey> key_;
  const std::string client_name_;
  const std::int64_t deadline_ns_;
};

}  // namespace outlast::cluster
