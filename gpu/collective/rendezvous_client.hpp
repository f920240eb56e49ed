// RendezvousClient: a rank's side of a RendezvousServer. A thread of its own tells it that the rank lives, also while the
// rank computes, and hears when another one is gone.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "gpu/collective/rendezvous.hpp"
#include "gpu/collective/rendezvous_message.hpp"
#include "gpu/collective/sockets.hpp"

namespace outlast::gpu {

// Any thread.
class RendezvousClient final : public Rendezvous {
 public:
  // `run`: as the server knows it. Errors: io.
  static Result<std::unique_ptr<RendezvousClient>> make(const std::string& address, std::uint16_t port, std::string run);
  ~RendezvousClient() override;

  Result<Generation> join(std::chrono::milliseconds patience) override;
  Result<void> put(std::uint64_t generation, const std::string& key, const std::string& value) override;
  Result<std::string> get(std::uint64_t generation, const std::string& key, std::chrono::milliseconds patience) override;
  Result<void> leave(std::uint64_t generation, std::chrono::milliseconds patience) override;
  void watch(std::uint64_t generation, std::function<void()> ended) override;
  void unwatch() override;

 private:
  RendezvousClient(Descriptor socket, Descriptor stop, std::string run);
  void serve();
  Result<void> read(RendezvousReader& reader);
  void hear(const RendezvousMessage& message);  // mutex_ is held
  void end_generation();                        // mutex_ is held
  Result<void> say(const RendezvousMessage& message);
  template <class Condition>
  Result<void> wait(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds patience, const char* what, const Condition& condition);
  [[nodiscard]] bool is_current(std::uint64_t generation) const { return generation == current_.number && !ended_; }

  const std::string run_;
  Descriptor socket_;
  Descriptor stop_;
  std::mutex sending_;
  std::mutex mutex_;  // for what follows
  std::condition_variable heard_;
  Generation current_;
  bool ended_ = false;      // current_ is over
  bool may_leave_ = false;
  std::map<std::string, std::string> values_;  // of the current generation
  std::optional<Error> broken_;                // nothing more will be heard
  std::uint64_t watched_ = 0;
  std::function<void()> watcher_;
  std::thread thread_;
};

}  // namespace outlast::gpu
