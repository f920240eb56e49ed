// Rendezvous: how ranks find each other, by messages to one place that knows them all; and how they hear that one is gone.
//
// A generation is a set of ranks that work together. It ends when one of them is lost or wants a new one; those that are left
// join again and are the next. Keys belong to a generation and go with it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "core/result.hpp"

namespace outlast::gpu {

struct Generation {
  std::uint64_t number = 0;  // from 1
  std::size_t rank = 0;      // in the order of the ranks of the generation before
  std::size_t ranks = 0;
};

// Any thread.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  Rendezvous() = default;
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  // Waits until the next generation is complete. A member that joins again ends the generation it is in. Errors: invalid (refused,
  // with the reason), peer_lost (not complete in time, or this rank was taken for lost), io.
  virtual Result<Generation> join(std::chrono::milliseconds patience) = 0;
  // Once for each key, and no more than a message holds (rendezvous_message.hpp). Errors: peer_lost (the generation has ended), io.
  virtual Result<void> put(std::uint64_t generation, const std::string& key, const std::string& value) = 0;
  // Waits until someone put it. Errors: peer_lost (the generation has ended, or time is up), io.
  virtual Result<std::string> get(std::uint64_t generation, const std::string& key, std::chrono::milliseconds patience) = 0;
  // Returns when every rank of the generation has come here: only then the first may go. Errors: peer_lost (the generation has
  // ended, and who is left needs this rank), io.
  virtual Result<void> leave(std::uint64_t generation, std::chrono::milliseconds patience) = 0;

  // `ended` is called once when the generation ends, or at once where it has; from another thread, and never after unwatch()
  // returned. It does not call back and does not block.
  virtual void watch(std::uint64_t generation, std::function<void()> ended) = 0;
  virtual void unwatch() = 0;
};

}  // namespace outlast::gpu
