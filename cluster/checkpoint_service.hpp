// CheckpointService: gives copies of this node's shards to peers, and takes those that this node needs, on a thread of its
// own, since both wait for files.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cluster/checkpoint_transfer.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/checkpoint_codec.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

struct CheckpointPorts {
  std::function<Result<void>(const std::string& node, FramePtr frame)> send;
  CheckpointGiver::MakeCopy make_copy;
};

// Any thread.
class CheckpointService {
 public:
  // `scratch`: a folder of its own on the file system of the shards' stores.
  CheckpointService(std::string scratch, CheckpointPorts ports, const Clock& clock);
  ~CheckpointService();
  CheckpointService(const CheckpointService&) = delete;
  CheckpointService& operator=(const CheckpointService&) = delete;

  // Takes a copy from the peer into `folder`. `done` is called on the service's thread, once: with the copy's next index,
  // or why there is none. One per shard at a time: the caller's to see to.
  void take(ShardId shard, std::string node, std::string folder, std::function<void(Result<std::uint64_t>)> done);
  // What the stream channel of a peer brought.
  void receive(std::string node, FramePtr frame);
  void peer_down(std::string node);

 private:
  struct Taking {
    std::string node;
    std::uint64_t transfer = 0;
    std::unique_ptr<CheckpointTaker> taker;
    std::function<void(Result<std::uint64_t>)> done;
  };
  // What may be lost is, where too much waits.
  void post(std::function<void()> task, bool may_be_lost = false);
  void run();
  void handle(const std::string& node, const FramePtr& frame);
  void send(const std::string& node, const checkpoint::Message& message);
  void end(Taking& taking, Result<std::uint64_t> result);
  void tick();

  const std::string scratch_;
  const CheckpointPorts ports_;
  const Clock& clock_;
  CheckpointGiver giver_;
  std::vector<Taking> takings_;
  std::uint64_t transfers_;

  std::mutex mutex_;  // of the two below
  std::condition_variable arrived_;
  std::vector<std::function<void()>> tasks_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace outlast::cluster
