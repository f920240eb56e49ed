#include "cluster/call_state.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace outlast::cluster {
namespace {

// About what an event adds to a frame: its texts, and the words around them.
constexpr std::size_t event_overhead_bytes = 64;
// A frame is closed when it has this much, so that one call's burst does not hold up its link's other calls…
constexpr std::size_t batch_bytes_max = 1u << 20;
// …and a single event fits a frame together with what was in its batch before it.
constexpr std::size_t event_bytes_max = frame_bytes_max - 2 * batch_bytes_max;

std::size_t bytes_of(const chat::Event& event) {
  struct Size {
    std::size_t operator()(const chat::Start& start) const { return start.id.size() + start.model.size(); }
    std::size_t operator()(const chat::TextDelta& delta) const { return delta.text.size(); }
    std::size_t operator()(const chat::ReasoningDelta& delta) const { return delta.text.size(); }
    std::size_t operator()(const chat::ToolCallStart& start) const { return start.id.size() + start.name.size(); }
    std::size_t operator()(const chat::ToolCallDelta& delta) const { return delta.arguments.size(); }
    std::size_t operator()(const chat::Finish&) const { return 128; }
  };
  return event_overhead_bytes + std::visit(Size{}, event);
}

}  // namespace

CallState::CallState(std::shared_ptr<Outbox> outbox, std::string peer, std::uint64_t request_id, link::Credit credit)
    : outbox_(std::move(outbox)),
      peer_(std::move(peer)),
      request_id_(request_id),
      chunks_(std::min(credit.chunks, credit_max.chunks)),
      bytes_(std::min(credit.bytes, credit_max.bytes)) {}

SendState CallState::send(std::span<const chat::Event> events) {
  Callbacks released;  // outside the lock: they may own the lane's side of the call
  const std::lock_guard lock(mutex_);
  if (ended_ || done_) return SendState::ended;
  bool fits = true;
  for (const chat::Event& event : events) {
    const std::size_t event_bytes = bytes_of(event);
    fits = fits && event_bytes <= event_bytes_max;
    pending_bytes_ += event_bytes;
    pending_.push_back(event);
  }
  if (fits) flush_locked();
  if (!fits || pending_bytes_ > call_backlog_bytes_max) {
    end_locked(link::RequestError{request_id_, link::ErrorKind::slow_consumer,
                                  fits ? "the answer ran too far ahead of the client's credit"
                                       : "the answer has an event that is too large for a frame",
                                  false, 0});
    released = std::exchange(callbacks_, {});
    return SendState::ended;
  }
  if (ready_locked()) return SendState::ready;
  told_no_credit_ = true;
  return SendState::no_credit;
}

bool CallState::has_credit() const {
  const std::lock_guard lock(mutex_);
  return !ended_ && ready_locked();
}

void CallState::on_credit(std::function<void()> call) {
  const std::lock_guard lock(mutex_);
  if (!ended_ && !done_) callbacks_.on_credit = std::move(call);
}

void CallState::on_cancel(std::function<void(CancelReason)> call) {
  std::optional<CancelReason> already;
  {
    const std::lock_guard lock(mutex_);
    already = cancelled_;
    if (!ended_ && !done_) callbacks_.on_cancel = std::move(call);
  }
  if (already && call) call(*already);
}

void CallState::done(link::Done end) {
  Callbacks released;
  const std::lock_guard lock(mutex_);
  if (ended_ || done_) return;
  end.request_id = request_id_;
  done_ = std::move(end);
  flush_locked();
  released = std::exchange(callbacks_, {});
}

void CallState::fail(link::RequestError error) {
  Callbacks released;
  const std::lock_guard lock(mutex_);
  if (ended_ || done_) return;
  error.request_id = request_id_;
  end_locked(error);
  released = std::exchange(callbacks_, {});
}

void CallState::grant(link::Credit credit) {
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    chunks_ = std::min<std::int64_t>(chunks_ + credit.chunks, credit_max.chunks);
    bytes_ = std::min<std::int64_t>(bytes_ + credit.bytes, credit_max.bytes);
    ++grants_;
    flush_locked();
    if (!ended_ && told_no_credit_ && ready_locked()) {
      told_no_credit_ = false;
      call = callbacks_.on_credit;
    }
  }
  if (call) call();
}

void CallState::cancel(CancelReason reason, std::optional<link::RequestError> error) {
  Callbacks released;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    if (error) {
      error->request_id = request_id_;
      end_locked(*error);
    }
    ended_ = true;
    pending_.clear();
    pending_bytes_ = 0;
    cancelled_ = reason;
    released = std::exchange(callbacks_, {});
  }
  if (released.on_cancel) released.on_cancel(reason);
}

bool CallState::waits_for_credit() const {
  const std::lock_guard lock(mutex_);
  return !ended_ && (!pending_.empty() || told_no_credit_) && !has_credit_locked();
}

std::uint64_t CallState::grants() const {
  const std::lock_guard lock(mutex_);
  return grants_;
}

void CallState::flush_locked() {
  std::vector<chat::Event> batch;
  while (!pending_.empty() && has_credit_locked()) {
    batch.clear();
    std::size_t batch_bytes = 0;
    const auto count_max = std::min<std::size_t>(static_cast<std::size_t>(chunks_), link::events_max);
    const auto bytes_max = std::min<std::size_t>(static_cast<std::size_t>(bytes_), batch_bytes_max);
    while (!pending_.empty() && batch.size() < count_max && batch_bytes < bytes_max) {
      const std::size_t event_bytes = bytes_of(pending_.front());
      batch_bytes += event_bytes;
      pending_bytes_ -= event_bytes;
      batch.push_back(std::move(pending_.front()));
      pending_.pop_front();
    }
    auto frame = link::encode_events(request_id_, sequence_, batch);
    check(frame.has_value(), "a batch of bounded events fits a frame");
    ++sequence_;
    chunks_ -= static_cast<std::int64_t>(batch.size());
    bytes_ -= static_cast<std::int64_t>((*frame)->size());
    post_locked(std::move(*frame), false);
  }
  if (pending_.empty() && done_ && !ended_) end_locked(*done_);
}

void CallState::end_locked(const link::NodeMessage& end) {
  auto frame = link::encode(end);
  check(frame.has_value(), "an end is small enough for a frame");
  ended_ = true;
  pending_.clear();
  pending_bytes_ = 0;
  post_locked(std::move(*frame), true);
}

void CallState::post_locked(FramePtr frame, bool ends_call) {
  outbox_->push(Outgoing{peer_, request_id_, std::move(frame), ends_call});
}

}  // namespace outlast::cluster
