// CallState: the part of a call that its lane (through ChatCall) and the network thread share: credit, what waits for
// it, and how the call ends. Sequence numbers and queue order agree because both happen under one lock.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "cluster/chat_call.hpp"
#include "cluster/wake_queue.hpp"
#include "proto/frame.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

// One frame on its way to a client.
struct Outgoing {
  std::string peer;  // the router's id for the link
  std::uint64_t request_id = 0;
  FramePtr frame;
  bool ends_call = false;
};
using Outbox = WakeQueue<Outgoing>;

// Credit that a client may heap up; more is cut.
inline constexpr link::Credit credit_max{1u << 16, 256u << 20};

// Any thread.
class CallState {
 public:
  CallState(std::shared_ptr<Outbox> outbox, std::string peer, std::uint64_t request_id, link::Credit credit);
  CallState(const CallState&) = delete;
  CallState& operator=(const CallState&) = delete;

  // For ChatCall.
  SendState send(std::span<const chat::Event> events);
  [[nodiscard]] bool has_credit() const;
  void on_credit(std::function<void()> call);
  void on_cancel(std::function<void(CancelReason)> call);
  void done(link::Done end);
  void fail(link::RequestError error);

  // For the network thread. Callbacks run in these, outside the lock.
  void grant(link::Credit credit);
  // Ends the call without a word to the client, or with `error` where the client should know.
  void cancel(CancelReason reason, std::optional<link::RequestError> error = std::nullopt);
  // True while events wait for credit and none came.
  [[nodiscard]] bool waits_for_credit() const;
  // Counts grants, so that the network thread can tell a slow client from a stuck one.
  [[nodiscard]] std::uint64_t grants() const;

 private:
  // Given up when the call ends, since they may own the ChatCall that owns this.
  struct Callbacks {
    std::function<void()> on_credit;
    std::function<void(CancelReason)> on_cancel;
  };
  [[nodiscard]] bool has_credit_locked() const { return chunks_ > 0 && bytes_ > 0; }
  [[nodiscard]] bool ready_locked() const { return pending_.empty() && has_credit_locked(); }
  void flush_locked();
  void end_locked(const link::NodeMessage& end);
  void post_locked(FramePtr frame, bool ends_call);

  const std::shared_ptr<Outbox> outbox_;
  const std::string peer_;
  const std::uint64_t request_id_;

  mutable std::mutex mutex_;
  std::int64_t chunks_;
  std::int64_t bytes_;  // below zero after a last frame that went over
  std::deque<chat::Event> pending_;
  std::size_t pending_bytes_ = 0;
  std::uint32_t sequence_ = 0;
  std::uint64_t grants_ = 0;
  std::optional<link::Done> done_;  // set by done(), sent when nothing is pending
  bool ended_ = false;              // the end frame is in the outbox, or nobody wants one
  bool told_no_credit_ = false;     // a send() returned no_credit: on_credit is due
  std::optional<CancelReason> cancelled_;
  Callbacks callbacks_;
};

}  // namespace outlast::cluster
