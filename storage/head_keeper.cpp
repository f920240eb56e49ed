#include "storage/head_keeper.hpp"

#include <chrono>

#include "core/log.hpp"

namespace outlast::storage {

HeadKeeper::HeadKeeper(HeadSigner signer, const Clock& clock, std::uint32_t interval_ms)
    : clock_(clock),
      interval_ms_(interval_ms),
      signer_(std::move(signer)),
      thread_([this] { run(); }) {}

HeadKeeper::~HeadKeeper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void HeadKeeper::publish(const CommittedHead& head) {
  const std::lock_guard lock(mutex_);
  head_ = head;
}

void HeadKeeper::run() {
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    last = stop_.wait_for(lock, std::chrono::milliseconds(interval_ms_),
                          [this] { return stopping_; });
    const CommittedHead head = head_;
    lock.unlock();
    sign(head);
    lock.lock();
  }
}

// A head that cannot be written stops nothing: the ledger itself is whole, and the next second
// tries a new file.
void HeadKeeper::sign(const CommittedHead& head) {
  if (head.next_index == 0) return;
  const std::uint64_t index = head.next_index - 1;
  if (signer_.last() && signer_.last()->index == index && signer_.last()->hash == head.hash) return;
  const Result<void> signed_now = signer_.append(index, head.hash, clock_.wall_ms());
  if (!signed_now && !failing_) {
    log::error("ledger_head_not_signed", {{"reason", signed_now.error().message},
                                          {"effect", "a cut tail may go unnoticed till then"}});
  }
  failing_ = !signed_now;
}

}  // namespace outlast::storage
