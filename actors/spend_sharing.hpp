// SpendSharing: tells the other nodes what this one's lanes saw being spent, and takes what they tell, so that the
// spend breakers of each node count the whole cluster. A node that is cut off counts what it sees. Also which
// deliveries have reached people.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/peer_port.hpp"
#include "actors/spend_messages.hpp"
#include "core/clock.hpp"
#include "gateway/spend_watch.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::actors {

// Any thread; does not block. Events are numbered over the life of this process, so that what comes twice counts once
// and what is lost is counted.
class SpendSharing {
 public:
  // A batch goes when it has so many events, or with the next tick.
  static constexpr std::size_t batch_events = 256;

  // Deliveries of another node.
  using OnTold = std::function<void(std::vector<std::string> deliveries)>;

  // All outlive it; `sink` and `on_told` take what other nodes tell.
  SpendSharing(PeerPort& port, const Clock& clock, gateway::SpendSink& sink, SpendCounters& counters, OnTold on_told)
      : port_(port), clock_(clock), sink_(sink), counters_(counters), on_told_(std::move(on_told)) {}
  SpendSharing(const SpendSharing&) = delete;
  SpendSharing& operator=(const SpendSharing&) = delete;

  void tell(const std::vector<gateway::SpendEvent>& events);
  // A delivery of this node has reached people. Said once: where it gets lost, people may be told again.
  void tell_delivered(const std::string& delivery);
  // Sends what waits. Call each 50 ms or so.
  void tick();

  // Nothing is said or heard any more, and what it was made with may go.
  void end();

  // What the links tell.
  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer);
  void on_spend(const cluster::Peer& peer, ask::SpendBatch batch);
  void on_told(ask::Told told) { on_told_(std::move(told.deliveries)); }

 private:
  struct Heard {
    Incarnation incarnation;
    std::uint64_t next = 0;  // number of the event that comes next
  };
  void send();

  PeerPort& port_;
  const Clock& clock_;
  gateway::SpendSink& sink_;
  SpendCounters& counters_;
  const OnTold on_told_;
  std::mutex mutex_;  // of what follows
  std::map<std::string, Incarnation> up_;
  std::map<std::string, Heard> heard_;  // by node, for as long as it is a member or this process lives
  std::vector<gateway::SpendEvent> waiting_;
  std::uint64_t told_ = 0;
  bool ended_ = false;
};

}  // namespace outlast::actors
