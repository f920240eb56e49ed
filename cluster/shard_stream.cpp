#include "cluster/shard_stream.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/durations.hpp"

namespace outlast::cluster {
namespace {

using storage::LedgerError;

constexpr std::uint32_t resend_doublings = 8;  // the wait grows to so many times its start
constexpr std::uint32_t rewind_ms_min = 20;    // hints of a gap come in swarms
constexpr int stream_bits = 16;  // connections in a millisecond of the clock that incarnations are made by
constexpr proto::EntryHeader no_header{0, 0, 0};

RequestId request_of(const MeteringOperation& operation) {
  return std::visit(
      []<class T>(const T& concrete) {
        if constexpr (std::is_same_v<T, Settlement>) return concrete.attempt.request_id;
        else return concrete.request_id;
      },
      operation);
}

std::string frame_of(proto::LedgerEncoder& encoder, const MeteringOperation& operation) {
  std::string frame;
  std::visit(
      [&encoder, &frame]<class T>(const T& concrete) {
        if constexpr (std::is_same_v<T, Settlement> || std::is_same_v<T, VoidReservation>) {
          encoder.append(frame, no_header, concrete, PicoUsd{});
        } else {
          encoder.append(frame, no_header, concrete);
        }
      },
      operation);
  return frame;
}

bool is_skipped(const shard::Operation& operation) { return std::holds_alternative<shard::SkippedOperation>(operation); }

}  // namespace

ShardStream::ShardStream(StreamOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {
  const Incarnation& speaker = options_.speaker.is_nil() ? options_.holder : options_.speaker;
  stream_ = static_cast<std::uint64_t>(speaker.unix_ms()) << stream_bits;
}

// ---- what is pushed

Result<std::uint64_t> ShardStream::push(const MeteringOperation& operation, bool urgent) {
  Pending pending;
  pending.request = request_of(operation);
  pending.operation = shard::EntryOperation{frame_of(encoder_, operation)};
  pending.spoolable = options_.has_spool;
  if (const auto* reservation = std::get_if<Reservation>(&operation)) {
    pending.kind = Kind::begins;
    pending.spoolable = pending.spoolable && reservation->from_slices && !reservation->idempotency;
  } else if (const auto* extension = std::get_if<ReservationExtension>(&operation)) {
    if (!extension->from_slices) pending.kind = Kind::asks;
    pending.spoolable = pending.spoolable && extension->from_slices;
  }
  return take_in(std::move(pending), urgent);
}

Result<std::uint64_t> ShardStream::push_control(const proto::EntryBody& body, bool urgent) {
  Pending pending;
  std::string frame;
  encoder_.append(frame, proto::LedgerEntry{no_header, body});
  pending.operation = shard::EntryOperation{std::move(frame)};
  pending.kind = Kind::asks;
  return take_in(std::move(pending), urgent);
}

std::uint64_t ShardStream::push(shard::SliceReturn back) {
  Pending pending;
  pending.kind = Kind::own;
  const bool urgent = back.recall != 0;
  pending.operation = std::move(back);
  const std::uint64_t sequence = enqueue(std::move(pending));
  urgent_ = urgent_ || urgent;
  return sequence;
}

void ShardStream::replay(std::vector<storage::SpoolRecord> records) {
  for (storage::SpoolRecord& record : records) {
    Pending pending;
    pending.operation = shard::EntryOperation{std::move(record.frame)};
    pending.told = true;
    enqueue(std::move(pending));
  }
  urgent_ = true;
}

Result<std::uint64_t> ShardStream::take_in(Pending pending, bool urgent) {
  // What ends a request finds room when new requests do not any more; there is only so much of it.
  const std::size_t share = pending.kind == Kind::begins || pending.kind == Kind::asks ? 1 : 2;
  if (pending_.size() >= share * options_.operations_max || bytes_ >= share * options_.bytes_max) {
    return fail(LedgerError::overloaded, "the shard has " + std::to_string(pending_.size()) +
                                             " operations waiting for its owner; try again later");
  }
  const bool refusable = pending.kind == Kind::begins || pending.kind == Kind::asks;
  const std::uint64_t sequence = enqueue(std::move(pending));
  if (refusable) refusable_.push_back(sequence);
  urgent_ = urgent_ || urgent;
  return sequence;
}

std::uint64_t ShardStream::enqueue(Pending pending) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (pending_.empty()) heard_ns_ = progress_ns_ = now_ns;
  if (oldest_unsent_ns_ == 0) oldest_unsent_ns_ = now_ns;
  pending.pushed_ns = now_ns;
  pending.bytes = shard::size_of(pending.operation);
  bytes_ += pending.bytes;
  pending_.push_back(std::move(pending));
  return next_sequence() - 1;
}

void ShardStream::hasten() { urgent_ = true; }

ShardStream::Pending* ShardStream::find(std::uint64_t sequence) {
  return sequence < front_ || sequence >= next_sequence() ? nullptr : &pending_[sequence - front_];
}

// ---- the way to the owner

void ShardStream::connected(std::string node, std::uint64_t epoch) {
  node_ = std::move(node);
  epoch_ = epoch;
  paused_until_ns_ = 0;
  begin_stream();
}

void ShardStream::disconnected() { node_.clear(); }

void ShardStream::begin_stream() {
  ++stream_;
  base_ = next_to_send_ = front_;
  acknowledged_ = front_ - 1;
  number_ = 0;
  waiting_.clear();
  resend_ms_ = options_.resend_ms;
  const std::int64_t now_ns = clock_.monotonic_ns();
  heard_ns_ = progress_ns_ = now_ns;
  oldest_unsent_ns_ = pending_.empty() ? 0 : now_ns;
  urgent_ = urgent_ || !pending_.empty();
}

std::int64_t ShardStream::send_due_ns() const {
  if (node_.empty() || paused_until_ns_ != 0 || next_to_send_ >= next_sequence() || oldest_unsent_ns_ == 0)
    return never_ns;
  if (next_to_send_ > acknowledged_ + window_operations) return never_ns;  // an acknowledgement lets more go
  const bool now = urgent_ || next_sequence() - next_to_send_ >= message_operations_max;
  return now ? oldest_unsent_ns_ : oldest_unsent_ns_ + ns_of(options_.lazy_ms);
}

std::int64_t ShardStream::resend_due_ns() const {
  const bool outstanding = !pending_.empty() && next_to_send_ > front_;
  if (node_.empty() || paused_until_ns_ != 0 || !outstanding) return never_ns;
  return progress_ns_ + ns_of(resend_ms_);
}

void ShardStream::send() {
  const std::uint64_t end = std::min(next_sequence(), acknowledged_ + 1 + window_operations);
  if (next_to_send_ <= acknowledged_ + 1) progress_ns_ = clock_.monotonic_ns();
  while (next_to_send_ < end) send_one(end);
  if (next_to_send_ == next_sequence()) {
    oldest_unsent_ns_ = 0;
    urgent_ = false;
  }
}

void ShardStream::send_one(std::uint64_t end) {
  shard::Operations message{options_.holder, stream_, base_, next_to_send_, number_, urgent_, {}};
  std::size_t bytes = 0;
  while (next_to_send_ < end && message.operations.size() < message_operations_max) {
    Pending& pending = *find(next_to_send_);
    // What is settled keeps its place, and no more.
    const shard::Operation& operation = pending.operation;
    const std::size_t size = shard::size_of(operation);
    if (!message.operations.empty() && bytes + size > message_bytes_max) break;
    bytes += size;
    message.operations.push_back(operation);
    pending.sent = true;
    ++next_to_send_;
  }
  effects_.emplace_back(SendToOwner{node_, shard::Message{options_.shard, epoch_, std::move(message)}});
}

void ShardStream::tick() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (paused_until_ns_ != 0 && now_ns >= paused_until_ns_) {
    paused_until_ns_ = 0;
    const std::int64_t heard_ns = heard_ns_;
    begin_stream();
    heard_ns_ = heard_ns;  // still cut off, until somebody acknowledges
  }
  if (now_ns >= resend_due_ns()) {
    next_to_send_ = std::max(front_, acknowledged_ + 1);
    // All that is left waits for its own acknowledgement, which may be lost: to repeat it asks for another one.
    if (next_to_send_ == next_sequence()) next_to_send_ = front_;
    progress_ns_ = oldest_unsent_ns_ = now_ns;
    urgent_ = true;
    resend_ms_ = std::min(2 * resend_ms_, resend_doublings * options_.resend_ms);
  }
  if (now_ns >= send_due_ns()) send();
  spool();
  refuse_overdue();
  if (now_ns >= send_due_ns()) send();  // voids of what was refused
}

std::int64_t ShardStream::next_wake_ns() const {
  std::int64_t next = std::min(send_due_ns(), resend_due_ns());
  const bool connected = !node_.empty();
  if (connected && paused_until_ns_ != 0) next = std::min(next, paused_until_ns_);
  if (options_.has_spool && !writing_ && !spool_full_ && next_to_spool_ < next_sequence()) {
    next = std::min(next, cut_off_ns());
  }
  if (!refusable_.empty() && refusable_.front() >= front_) {
    const Pending& oldest = pending_[refusable_.front() - front_];
    if (oldest.in_spool != InSpool::writing) next = std::min(next, oldest.pushed_ns + ns_of(options_.refuse_after_ms));
  }
  return next;
}

std::vector<StreamEffect> ShardStream::take_effects() { return std::exchange(effects_, {}); }

// ---- the owner's words

void ShardStream::receive(const std::string& node, const shard::Message& message) {
  if (message.shard != options_.shard || node != node_) return;
  if (const auto* acknowledgement = std::get_if<shard::Acknowledgement>(&message.body)) {
    if (acknowledgement->holder != options_.holder || acknowledgement->stream != stream_) return;
    if (message.epoch == epoch_ && paused_until_ns_ == 0) on(*acknowledgement);
  } else if (const auto* answer = std::get_if<shard::NotOwner>(&message.body)) {
    if (answer->holder == options_.holder && answer->stream == stream_) on(*answer, message.epoch);
  }
}

void ShardStream::on(const shard::Acknowledgement& acknowledgement) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  const bool newest = acknowledgement.number > number_;
  if (newest) {
    number_ = acknowledgement.number;
    heard_ns_ = now_ns;
  }
  for (const shard::Refusal& refusal : acknowledgement.refusals) refuse(refusal);
  const std::uint64_t up_to = std::min(acknowledgement.up_to, next_sequence() - 1);
  const std::set<std::uint64_t> waiting(acknowledgement.waiting.begin(), acknowledgement.waiting.end());
  // Those that waited when we last heard, and do not any more.
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const std::uint64_t sequence = *at;
    if (sequence > up_to || waiting.contains(sequence)) {
      ++at;
      continue;
    }
    at = waiting_.erase(at);
    tell_durable(sequence);
    settle(sequence);
  }
  if (up_to > acknowledged_) {
    for (std::uint64_t sequence = std::max(front_, acknowledged_ + 1); sequence <= up_to; ++sequence) {
      if (waiting.contains(sequence)) {
        waiting_.insert(sequence);
      } else {
        tell_durable(sequence);
        settle(sequence);
      }
    }
    acknowledged_ = up_to;
    next_to_send_ = std::max(next_to_send_, up_to + 1);
    progress_ns_ = now_ns;
    resend_ms_ = options_.resend_ms;
  }
  drop_settled();
  truncate_if_empty();
  const std::uint64_t missing = acknowledgement.resend_from;
  if (!newest || missing == 0 || missing >= next_to_send_ || now_ns - rewound_ns_ < ns_of(rewind_ms_min)) return;
  rewound_ns_ = now_ns;
  // The owner has forgotten this stream.
  if (missing < front_) return begin_stream();
  next_to_send_ = std::max(missing, acknowledged_ + 1);
  oldest_unsent_ns_ = now_ns;
  urgent_ = true;
}

void ShardStream::on(const shard::NotOwner& answer, std::uint64_t epoch) {
  if (answer.newest_stream >= stream_ && epoch == epoch_) {
    stream_ = answer.newest_stream;
    return begin_stream();
  }
  paused_until_ns_ = clock_.monotonic_ns() + ns_of(options_.retry_ms);
  if (!answer.owner_node.empty() && answer.owner_epoch > epoch_)
    effects_.emplace_back(OwnerHint{answer.owner_node, answer.owner_epoch});
}

void ShardStream::refuse(const shard::Refusal& refusal) {
  Pending* const pending = find(refusal.sequence);
  if (pending == nullptr || pending->settled) return;
  waiting_.erase(refusal.sequence);
  // Of a skipped one, or of a void of our own, nobody wants to know.
  const bool ours = is_skipped(pending->operation) || pending->kind == Kind::own;
  if (!ours) {
    effects_.emplace_back(OperationRefused{refusal.sequence, static_cast<LedgerError>(refusal.error), refusal.message,
                                           refusal.shortfall, pending->told});
  }
  pending->told = true;
  settle(refusal.sequence);
}

void ShardStream::tell_durable(std::uint64_t sequence) {
  Pending* const pending = find(sequence);
  if (pending == nullptr || pending->told) return;
  pending->told = true;
  if (pending->kind == Kind::own) return;
  if (!effects_.empty()) {
    auto* const last = std::get_if<OperationsDurable>(&effects_.back());
    if (last != nullptr && last->last + 1 == sequence) {
      last->last = sequence;
      return;
    }
  }
  effects_.emplace_back(OperationsDurable{sequence, sequence});
}

void ShardStream::settle(std::uint64_t sequence) {
  Pending* const pending = find(sequence);
  if (pending == nullptr || pending->settled) return;
  pending->settled = true;
  pending->operation = shard::SkippedOperation{};
  bytes_ -= std::exchange(pending->bytes, 0);
  if (pending->in_spool == InSpool::yes) --in_spool_;
}

void ShardStream::drop_settled() {
  while (!pending_.empty() && pending_.front().settled) {
    // One that is being written is counted when it is.
    if (pending_.front().in_spool == InSpool::writing) break;
    pending_.pop_front();
    ++front_;
  }
  while (!refusable_.empty() && refusable_.front() < front_) refusable_.pop_front();
  next_to_spool_ = std::max(next_to_spool_, front_);
  next_to_send_ = std::max(next_to_send_, front_);
  acknowledged_ = std::max(acknowledged_, front_ - 1);
}

}  // namespace outlast::cluster
