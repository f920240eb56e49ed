// ClientSession: the protocol of a client with its nodes, without threads, sockets or a clock of its own. It keeps a link
// to every node that it was configured with or told of, sends each request over the ready link with the fewest, sends it
// again elsewhere when the link dies before the first content, and ends every request exactly once. Its owner performs
// the effects that it asks for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "cluster/chat_outcome.hpp"
#include "cluster/endpoint.hpp"
#include "cluster/link_error.hpp"
#include "cluster/node_list.hpp"
#include "cluster/session_link.hpp"
#include "core/chat.hpp"
#include "core/clock.hpp"
#include "core/random.hpp"
#include "proto/link_codec.hpp"

namespace outlast::cluster {

struct SessionOptions {
  std::vector<Endpoint> endpoints;         // seeds: kept whatever nodes tell; their links are numbered from 0
  std::size_t learned_max = 64;            // links to nodes that were learned of
  std::string virtual_key;
  std::string client_name;
  Incarnation incarnation;
  std::size_t in_flight_max = 256;         // as many as a node takes from one link
  std::uint32_t attempts_max = 8;          // links that one request is sent over, in all
  std::uint32_t unreachable_ms_max = 5'000;  // a request that no link takes for so long fails
  std::uint32_t request_ms_max = 600'000;  // where a request names no time-out, and the longest it may name
  link::Credit window = link::credit_window;
  LinkTimes times;
};

// What the owner is asked to do, in order.
struct Connect {
  std::size_t endpoint = 0;      // the link's number, never used for another
  std::uint64_t connection = 0;  // names this try; events of other tries are ignored
  Endpoint target;
};
struct Disconnect {
  std::size_t endpoint = 0;
};
struct SendFrame {
  std::size_t endpoint = 0;
  FramePtr frame;
};
// The next events of a request. When they are consumed, consumed() takes the cost and lets the node send more.
struct Deliver {
  std::uint64_t request = 0;
  std::vector<chat::Event> events;
  link::Credit cost;
};
struct Ended {
  std::uint64_t request = 0;
  ChatOutcome outcome;
};
using Effect = std::variant<Connect, Disconnect, SendFrame, Deliver, Ended>;

// One owner.
class ClientSession {
 public:
  ClientSession(SessionOptions options, const Clock& clock, std::uint64_t seed);

  // `request` is the owner's id, unused so far. Ends at once when too many are in flight or it cannot be encoded.
  // `timeout_ms` 0: request_ms_max.
  void submit(std::uint64_t request, chat::Request chat, std::uint32_t timeout_ms);
  void consumed(std::uint64_t request, link::Credit cost);
  // Ends the request (ErrorKind::cancelled), if it still runs.
  void cancel(std::uint64_t request);
  // Ends every request (ErrorKind::cancelled) and drops the links.
  void shut_down();

  // What happened to the try `connection` of a link.
  void connected(std::size_t endpoint, std::uint64_t connection);
  void disconnected(std::size_t endpoint, std::uint64_t connection, std::string reason);
  void received(std::size_t endpoint, std::uint64_t connection, Result<link::NodeMessage> message,
                std::size_t frame_bytes);

  // Does what is due. Call at next_wake_ns(), or earlier.
  void tick();
  [[nodiscard]] std::int64_t next_wake_ns() const;

  // What to do now, in order; empties the list.
  [[nodiscard]] std::vector<Effect> take_effects();
  [[nodiscard]] std::size_t in_flight() const { return requests_.size(); }
  [[nodiscard]] std::size_t link_count() const { return links_.size(); }

 private:
  // A link and what the list of nodes says of its node.
  struct Target {
    Target(Endpoint to, bool configured, const LinkTimes& times) : endpoint(std::move(to)), seed(configured), link(times) {}
    const Endpoint endpoint;
    const bool seed;
    bool wanted = true;     // else its node has left: nothing new is sent, and it ends when idle
    bool draining = false;  // as the list says: used only while there is no other
    SessionLink link;
  };
  struct Request {
    std::uint64_t id = 0;
    chat::Request chat;
    std::int64_t deadline_ns = 0;
    std::int64_t queued_ns = 0;
    std::int64_t timer_ns = 0;            // where it stands in timers_
    std::optional<std::size_t> endpoint;  // none: queued
    std::uint64_t wire_id = 0;            // of the current attempt: late frames of earlier ones find nothing
    std::uint32_t attempts = 0;
    std::uint32_t next_sequence = 0;
    bool has_content = false;
    bool finished = false;                // the Finish event came
    std::vector<chat::Event> held;        // a Start, until content follows it
    link::Credit held_cost;
    std::int64_t chunks_open = 0;         // granted and not yet received
    std::int64_t bytes_open = 0;
    link::Credit consumed;                // not yet granted again
    std::set<std::size_t> refused_by;
    std::optional<ChatFailure> last_failure;
  };

  void dispatch(Request& request);
  void dispatch_queued();
  [[nodiscard]] std::optional<std::size_t> best_link(const Request& request) const;
  void send_again(Request& request);
  void fail_hopeless();
  void arm(Request& request);
  void end(Request& request, ChatOutcome outcome);
  void on_time(Request& request);
  [[nodiscard]] ChatFailure unreachable(const Request& request) const;

  void on_events(Request& request, link::Events events, std::size_t frame_bytes);
  void on_done(Request& request, const SessionLink& link, link::Done done);
  void on_error(Request& request, std::size_t endpoint, link::RequestError error);
  void on_link_error(std::size_t endpoint, const link::RequestError& error);
  void on_message(std::size_t endpoint, link::NodeMessage message, std::size_t frame_bytes);
  void broke_protocol(Request& request, std::string message);
  void lose(std::size_t endpoint, std::string reason, std::optional<ChatFailure> rejection = std::nullopt,
            std::uint32_t wait_ms = 0);
  void drop_if_drained(std::size_t endpoint);
  void follow_list();
  void drop_idle(bool others_take_requests);
  [[nodiscard]] bool others_take_requests() const;
  [[nodiscard]] bool parked(const Target& target) const;
  [[nodiscard]] bool covered(const Endpoint& learned) const;
  void send(std::size_t endpoint, const link::ClientMessage& message);
  [[nodiscard]] Request* find_wire(std::size_t endpoint, std::uint64_t wire_id);

  const SessionOptions options_;
  const Clock& clock_;
  Random random_;
  NodeList nodes_;
  std::map<std::size_t, Target> links_;
  std::size_t next_link_ = 0;
  bool list_changed_ = false;  // or what follows from it: settled before effects are taken
  std::unordered_map<std::uint64_t, std::unique_ptr<Request>> requests_;
  std::unordered_map<std::uint64_t, Request*> by_wire_id_;
  std::set<std::uint64_t> queued_;                               // oldest id first
  std::set<std::pair<std::int64_t, std::uint64_t>> timers_;      // of requests
  std::vector<Effect> effects_;
  std::uint64_t last_wire_id_ = 0;
  std::uint64_t last_connection_ = 0;
  std::uint64_t last_ping_ = 0;
  bool shut_down_ = false;
};

}  // namespace outlast::cluster
