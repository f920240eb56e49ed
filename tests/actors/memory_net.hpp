// Nodes of a test that reach each other's actors over links in memory, with faults, in one thread under virtual time.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <caf/event_based_actor.hpp>

#include "actors/control_channel.hpp"
#include "actors/remote_interfaces.hpp"
#include "core/check.hpp"
#include "core/random.hpp"
#include "tests/actors/actor_bench.hpp"

namespace outlast::actors::testing {

inline FramePtr frame_of(std::string_view text) {
  return Frame::copy_of(std::as_bytes(std::span(text.data(), text.size())));
}
inline std::string text_of(const FramePtr& frame) {
  return {reinterpret_cast<const char*>(frame->bytes().data()), frame->size()};
}

// What became of a request.
template <class Reply>
struct Asked {
  std::optional<Reply> answer;
  std::optional<Error> error;
  int times = 0;  // that it was answered
};

// A link carries every frame once and in order until it goes down, as PeerLinks promises.
class MemoryNet {
 public:
  class Node;
  struct Frames {
    std::deque<std::pair<std::int64_t, FramePtr>> frames;  // with the time of arrival
    std::size_t frames_max = 10'000;
    std::int64_t delay_ms = 0;
  };

  explicit MemoryNet(std::uint64_t seed = 1) : random(seed) {}

  Node& add(const std::string& name, RemoteLimits limits = {});
  void connect(Node& a, Node& b);
  void disconnect(Node& a, Node& b, const std::string& why = "by the test");
  // Runs actors and links until nothing moves at this moment.
  void pump();
  void advance_ms(std::int64_t ms);

  Result<void> send(const std::string& from, const std::string& to, FramePtr frame) {
    const auto link = links.find({from, to});
    if (link == links.end()) return fail(cluster::LinkError::not_connected, "no link");
    if (link->second.frames.size() >= link->second.frames_max) return fail(cluster::LinkError::overloaded, "full");
    std::int64_t at_ns = clock.monotonic_ns() + link->second.delay_ms * 1'000'000;
    if (delay_ms_max > 0) at_ns += static_cast<std::int64_t>(random.below(delay_ms_max + 1)) * 1'000'000;
    if (!link->second.frames.empty()) at_ns = std::max(at_ns, link->second.frames.back().first);
    link->second.frames.emplace_back(at_ns, std::move(frame));
    return {};
  }

  ManualClock clock;
  Random random;
  std::uint64_t delay_ms_max = 0;
  std::map<std::pair<std::string, std::string>, Frames> links;  // of nodes that are up to each other
  std::map<std::string, std::unique_ptr<Node>> nodes;
};

class MemoryNet::Node : public ActorBench {
 public:
  struct Port final : PeerPort {
    Port(MemoryNet& its_net, std::string its_name) : net(its_net), name(std::move(its_name)) {}
    Result<void> send(const std::string& node, cluster::Channel channel, FramePtr frame) override {
      check(channel == cluster::Channel::control, "actors use the control channel");
      return net.send(name, node, std::move(frame));
    }
    MemoryNet& net;
    const std::string name;
  };

  Node(MemoryNet& net, std::string its_name, RemoteLimits limits)
      : name(std::move(its_name)),
        port(net, name),
        remote(std::make_unique<RemoteActors>(system(), port, net.clock, limits)),
        workers(std::make_unique<WorkerRegistry>(name, *remote, port)),
        channel(*remote, *workers) {
    renew();
  }
  ~Node() {
    workers.reset();
    remote.reset();
    end();
  }
  void renew() { incarnation.bytes[15] = static_cast<std::uint8_t>(++starts_); }
  [[nodiscard]] cluster::Peer peer() const { return {name, incarnation, 1}; }

  // Sends a request from an actor of its own; see what became of it after pump().
  template <class Reply, class Handle, class Message>
  std::shared_ptr<Asked<Reply>> request(const Handle& handle, Message message) {
    auto asked = std::make_shared<Asked<Reply>>();
    system().spawn([handle, message, asked](caf::event_based_actor* self) {
      self->request(handle, caf::infinite, message)
          .then(
              [asked](const Reply& reply) {
                ++asked->times;
                asked->answer = reply;
              },
              [asked](const caf::error& error) {
                ++asked->times;
                asked->error = error_of(error);
              });
    });
    return asked;
  }

  const std::string name;
  Incarnation incarnation;
  Port port;
  std::unique_ptr<RemoteActors> remote;
  std::unique_ptr<WorkerRegistry> workers;
  ControlChannel channel;

 private:
  int starts_ = 0;
};

inline MemoryNet::Node& MemoryNet::add(const std::string& name, RemoteLimits limits) {
  return *nodes.emplace(name, std::make_unique<Node>(*this, name, limits)).first->second;
}

inline void MemoryNet::connect(Node& a, Node& b) {
  if (links.contains({a.name, b.name})) return;
  links[{a.name, b.name}];
  links[{b.name, a.name}];
  a.channel.on_up(b.peer());
  b.channel.on_up(a.peer());
}

inline void MemoryNet::disconnect(Node& a, Node& b, const std::string& why) {
  if (links.erase({a.name, b.name}) == 0) return;
  links.erase({b.name, a.name});
  a.channel.on_down(b.peer(), why);
  b.channel.on_down(a.peer(), why);
}

inline void MemoryNet::pump() {
  for (bool moved = true; moved;) {
    moved = false;
    for (const auto& [name, node] : nodes) node->run();
    for (auto& [ends, link] : links) {
      if (link.frames.empty() || link.frames.front().first > clock.monotonic_ns()) continue;
      const FramePtr frame = std::move(link.frames.front().second);
      link.frames.pop_front();
      check(nodes.at(ends.second)->channel.on_frame(nodes.at(ends.first)->peer(), frame).has_value(), "frames are sound");
      moved = true;
      break;  // handling it may have changed the links
    }
  }
}

inline void MemoryNet::advance_ms(std::int64_t ms) {
  clock.advance_ms(ms);
  for (const auto& [name, node] : nodes) node->channel.tick();
  pump();
}

}  // namespace outlast::actors::testing
