// HeadKeeper: signs the ledger's head each second in which it moved, and at a clean stop, on a
// thread of its own, so that no commit waits for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "core/clock.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::storage {

struct CommittedHead {
  std::uint64_t next_index = 0;  // entries that are durable
  Digest hash{};                 // of the last of them
};

// publish() on the committer; the rest on the owner's thread.
class HeadKeeper {
 public:
  HeadKeeper(HeadSigner signer, const Clock& clock, std::uint32_t interval_ms);
  // Signs what was published last.
  ~HeadKeeper();
  HeadKeeper(const HeadKeeper&) = delete;
  HeadKeeper& operator=(const HeadKeeper&) = delete;

  // The head is durable. Never waits for a signature.
  void publish(const CommittedHead& head);

 private:
  void run();
  void sign(const CommittedHead& head);

  const Clock& clock_;
  const std::uint32_t interval_ms_;
  HeadSigner signer_;  // the thread's
  bool failing_ = false;
  std::mutex mutex_;  // of the two below
  CommittedHead head_;
  bool stopping_ = false;
  std::condition_variable stop_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace outlast::storage
