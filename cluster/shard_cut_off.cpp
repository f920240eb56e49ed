// The part of ShardStream for when no owner is reached: what goes to the spool, and what is refused.
#include <algorithm>
#include <utility>

#include "cluster/durations.hpp"
#include "cluster/shard_stream.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using storage::LedgerError;

}  // namespace

// Since when the operations that wait count as those of a node that is cut off.
std::int64_t ShardStream::cut_off_ns() const {
  const bool owned = !node_.empty() && paused_until_ns_ == 0;
  return heard_ns_ + ns_of(owned ? options_.spool_after_ms : options_.unowned_spool_after_ms);
}

bool ShardStream::is_cut_off() const {
  if (pending_.empty()) return node_.empty() || paused_until_ns_ != 0;
  return clock_.monotonic_ns() >= cut_off_ns();
}

void ShardStream::spool() {
  if (!options_.has_spool || writing_ || spool_full_ || !is_cut_off()) return;
  WriteSpool write;
  std::size_t bytes = 0;
  for (next_to_spool_ = std::max(next_to_spool_, front_); next_to_spool_ < next_sequence(); ++next_to_spool_) {
    Pending& pending = *find(next_to_spool_);
    const auto* const entry = std::get_if<shard::EntryOperation>(&pending.operation);
    if (!pending.spoolable || pending.told || entry == nullptr) continue;
    if (bytes > 0 && bytes + entry->frame.size() > spool_write_bytes_max) break;
    if (spool_bytes_ + entry->frame.size() > options_.spool_bytes_max) {
      spool_full_ = true;
      break;
    }
    bytes += entry->frame.size();
    spool_bytes_ += entry->frame.size();
    pending.in_spool = InSpool::writing;
    if (write.records.empty()) writing_from_ = next_to_spool_;
    write.records.push_back({next_to_spool_, entry->frame});
  }
  if (write.records.empty()) return;
  writing_ = true;
  effects_.emplace_back(std::move(write));
}

void ShardStream::spooled() {
  check(writing_, "a write to the spool ends once");
  writing_ = false;
  for (std::uint64_t sequence = std::max(front_, writing_from_); sequence < next_to_spool_; ++sequence) {
    Pending& pending = *find(sequence);
    if (pending.in_spool != InSpool::writing) continue;
    pending.in_spool = InSpool::yes;
    if (!pending.settled) ++in_spool_;
    tell_durable(sequence);
  }
  drop_settled();
  truncate_if_empty();
}

void ShardStream::spool_full() {
  check(writing_, "a write to the spool ends once");
  writing_ = false;
  spool_full_ = true;
  for (std::uint64_t sequence = next_to_spool_; sequence-- > std::max(front_, writing_from_);) {
    Pending& pending = *find(sequence);
    if (pending.in_spool != InSpool::writing) continue;
    pending.in_spool = InSpool::no;
    next_to_spool_ = sequence;
  }
  drop_settled();
}

void ShardStream::truncate_if_empty() {
  if (writing_ || in_spool_ > 0 || (spool_bytes_ == 0 && !spool_full_)) return;
  spool_bytes_ = 0;
  if (std::exchange(spool_full_, false)) next_to_spool_ = front_;
  effects_.emplace_back(TruncateSpool{});
}

void ShardStream::refuse_overdue() {
  const std::int64_t due_ns = clock_.monotonic_ns() - ns_of(options_.refuse_after_ms);
  while (!refusable_.empty()) {
    const std::uint64_t sequence = refusable_.front();
    Pending* const pending = find(sequence);
    if (pending != nullptr && !pending->told) {
      if (pending->pushed_ns > due_ns || pending->in_spool == InSpool::writing) return;
      pending->told = true;
      const bool may_stand = pending->sent && pending->kind == Kind::begins;
      const RequestId request = pending->request;
      // The owner may have it, or get it still: then it stands, and the void that follows ends it.
      pending->operation = shard::SkippedOperation{};
      bytes_ -= std::exchange(pending->bytes, 0);
      effects_.emplace_back(OperationRefused{
          sequence, LedgerError::unavailable,
          "the ledger's shard " + name_of_shard(options_.shard) + " cannot be reached; try again", std::nullopt,
          false});
      if (may_stand) {
        Pending end;
        end.kind = Kind::own;
        end.spoolable = options_.has_spool;
        end.request = request;
        std::string frame;
        const VoidReservation operation{request, "the ledger could not be reached in time"};
        encoder_.append(frame, proto::EntryHeader{0, 0, 0}, operation, PicoUsd{});
        end.operation = shard::EntryOperation{std::move(frame)};
        enqueue(std::move(end));
      }
    }
    refusable_.pop_front();
  }
}

}  // namespace outlast::cluster
