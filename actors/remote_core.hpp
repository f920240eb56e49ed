// What stands behind RemoteActors: the tables of both directions, and the two actors that have no mailbox. Included by
// remote_*.cpp only.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <caf/actor_control_block.hpp>
#include <caf/actor_system.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/message_id.hpp>
#include <caf/monitorable_actor.hpp>

#include "actors/remote_actor.hpp"

namespace outlast::actors {

// Who waits for an answer. A message that was no request has nobody.
struct Asker {
  caf::strong_actor_ptr sender;
  caf::message_id id;
  caf::mailbox_element::forwarding_stack stages;

  // Not under a lock: it may run code of the receiver.
  void deliver(caf::message answer);
  void deliver(const Error& error) { deliver(caf::make_message(caf_error_of(error))); }
};

// Stands for an actor of another node. What it is sent goes to the links in the sender's thread.
class RemoteActors::Proxy final : public caf::monitorable_actor {
 public:
  Proxy(caf::actor_config& config, std::shared_ptr<Core> core, std::string node, Incarnation incarnation,
        std::string actor, InterfaceCodec codec, std::chrono::milliseconds deadline);
  using caf::monitorable_actor::enqueue;
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* host) override;
  void on_destroy() override;
  [[nodiscard]] const char* name() const override { return "outlast.remote"; }
  // Monitors and links fire. Not under a lock.
  void end(caf::error reason) { cleanup(std::move(reason), nullptr); }
  [[nodiscard]] bool ended() const { return ended_; }

  const std::string node;
  const Incarnation incarnation;
  const std::string actor;
  const InterfaceCodec codec;
  const std::chrono::milliseconds deadline;

 protected:
  void on_cleanup(const caf::error&) override { ended_ = true; }

 private:
  const std::shared_ptr<Core> core_;
  std::atomic<bool> ended_{false};
};

// Asks local actors in the name of other nodes. Their answers come in their own threads.
class RemoteActors::Answerer final : public caf::monitorable_actor {
 public:
  Answerer(caf::actor_config& config, std::shared_ptr<Core> core)
      : caf::monitorable_actor(config), core_(std::move(core)) {}
  using caf::monitorable_actor::enqueue;
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* host) override;

 private:
  const std::shared_ptr<Core> core_;
};

// Any thread. Actors are told, ended and let go outside of its lock, since that may run code that comes back here.
class RemoteActors::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(PeerPort& port, const Clock& clock, RemoteLimits limits) : port_(port), clock_(clock), limits_(limits) {}
  static void start(const std::shared_ptr<Core>& core, caf::actor_system& system);
  void close();

  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer, const std::string& why);
  void tick();
  [[nodiscard]] RemoteCounters counters() const;

  // Asking.
  Result<caf::strong_actor_ptr> proxy(const std::string& node, const std::string& name, InterfaceCodec codec,
                                      std::chrono::milliseconds deadline);
  void ask(Proxy& proxy, const caf::type_erased_tuple& content, Asker asker);
  void on_answer(const cluster::Peer& peer, ask::Answer answer);
  void on_failed(const cluster::Peer& peer, ask::Failed failed);
  void on_actor_down(const cluster::Peer& peer, const ask::Down& down);

  // Serving.
  Result<void> serve(const std::string& name, caf::strong_actor_ptr actor, InterfaceCodec codec);
  // `only`: if the name is still this actor's; null: whosever it is.
  void stop_serving(const std::string& name, const caf::actor_control_block* only, const std::string& why);
  void on_ask(const cluster::Peer& peer, ask::Ask ask);
  void on_cancel(const cluster::Peer& peer, std::uint64_t ask_id);
  void answered(std::uint64_t serve_id, const caf::type_erased_tuple& content);

 private:
  struct Pending {
    Asker asker;
    const MethodCodec* method = nullptr;
    std::int64_t deadline_ns = 0;
    caf::strong_actor_ptr proxy;
  };
  struct Serve {
    std::string node;
    std::uint64_t ask_id = 0;
    const MethodCodec* method = nullptr;
    std::int64_t deadline_ns = 0;
  };
  struct Served {
    caf::strong_actor_ptr actor;
    InterfaceCodec codec;
  };
  struct PeerState {
    Incarnation incarnation;
    std::unordered_map<std::uint64_t, Pending> asks;
    std::unordered_map<std::string, caf::weak_actor_ptr> proxies;  // by actor
    std::unordered_map<std::uint64_t, std::uint64_t> serves;       // ask's id: serve's id
    std::deque<FramePtr> unsent;  // answers and ends that found the queue full
  };
  // What is to be done after the lock is let go.
  struct Aftermath {
    std::vector<std::pair<Asker, Error>> failed;
    std::vector<std::pair<caf::strong_actor_ptr, caf::error>> ended;  // proxies
    std::vector<caf::strong_actor_ptr> let_go;
    ~Aftermath();
  };

  // All under mutex_.
  PeerState* find_peer(const std::string& node, const Incarnation& incarnation);
  void drop_peer(std::map<std::string, PeerState>::iterator peer, const std::string& why, Aftermath& after);
  Pending take_pending(const cluster::Peer& peer, std::uint64_t id);
  Result<void> submit(Proxy& proxy, std::uint64_t id, Pending pending, const FramePtr& frame, Pending& refused);
  [[nodiscard]] std::optional<ask::Failed> admit(PeerState& peer, const cluster::Peer& from, const ask::Ask& ask,
                                                 const MethodCodec* method, std::uint64_t serve_id);
  void send_surely(const std::string& node, PeerState& peer, FramePtr frame);
  void refuse(const std::string& node, const ask::Failed& failed);
  void expire(const std::string& node, PeerState& peer, std::int64_t now_ns, Aftermath& after);
  void expire_serves(std::int64_t now_ns);

  PeerPort& port_;
  const Clock& clock_;
  const RemoteLimits limits_;
  caf::actor_system* system_ = nullptr;
  std::atomic<std::uint64_t> last_ask_{0};
  std::atomic<std::uint64_t> last_serve_{0};

  mutable std::mutex mutex_;
  bool closed_ = false;
  caf::strong_actor_ptr answerer_;
  std::map<std::string, PeerState> peers_;  // that are up
  std::unordered_map<std::uint64_t, Serve> serves_;
  std::map<std::string, Served> served_;
  RemoteCounters counters_;
};

}  // namespace outlast::actors
