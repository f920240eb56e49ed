#include "http/deadlines.hpp"

#include <ctime>

#include "core/check.hpp"

namespace outlast::http {

std::int64_t coarse_now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

DeadlineOwner::~DeadlineOwner() {
  if (sweep_) sweep_->remove(*this);
}

void DeadlineOwner::set_deadline(std::uint32_t in_ms) {
  // The coarse clock may be one tick behind, and a deadline must not pass early.
  constexpr std::int64_t tick_ms_max = 10;
  sweep_->entries_[index_].at_ms = coarse_now_ms() + in_ms + tick_ms_max;
}

void DeadlineOwner::clear_deadline() { sweep_->entries_[index_].at_ms = DeadlineSweep::never; }

void DeadlineSweep::add(DeadlineOwner& owner) {
  check(owner.sweep_ == nullptr, "an owner of a deadline is registered once");
  owner.sweep_ = shared_from_this();
  owner.index_ = entries_.size();
  entries_.push_back({never, &owner});
  schedule();
}

void DeadlineSweep::remove(DeadlineOwner& owner) {
  const auto index = owner.index_;
  entries_[index] = entries_.back();
  entries_[index].owner->index_ = index;
  entries_.pop_back();
}

void DeadlineSweep::schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  timer_.expires_after(sweep_interval);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (!self || error) return;
    self->scheduled_ = false;
    self->sweep();
    if (!self->entries_.empty()) self->schedule();
  });
}

// Backwards, so that an entry taken out meanwhile is replaced by one that was visited already.
void DeadlineSweep::sweep() {
  const auto now = coarse_now_ms();
  for (std::size_t i = entries_.size(); i-- > 0;) {
    if (i >= entries_.size() || entries_[i].at_ms > now) continue;
    entries_[i].at_ms = never;
    entries_[i].owner->on_deadline();
  }
}

}  // namespace outlast::http
