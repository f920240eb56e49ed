// ShardStream: the holder's end of what a gateway process tells one ledger shard: an ordered stream of operations, without
// threads, sockets or a clock of its own. It keeps what the shard's owner has not acknowledged and sends it again, in
// order, to whoever owns the shard; ids make repetition harmless, since the ledger knows what it has.
//
// The rules:
// - Sequences count for the life of the process. Each connection to an owner is a new stream, of a higher number, which
//   begins with the first operation that is not settled; an owner hears only the newest stream of its epoch, so nothing
//   late from an earlier one can be applied after its outcome was told.
// - Acknowledgements hold for ever and come in any order; those of another stream or epoch are dropped. A reservation
//   that waits for other holders' slices is acknowledged later than those after it, by itself.
// - Cut off (no owner is reached for unowned_spool_after_ms while something waits for it, or none has acknowledged anything
//   for spool_after_ms), operations are written to a local
//   spool and count as durable once that is synced. Those are
//     (a) attempts, settlements, voids, and extensions with from_slices: they end or go on with what was admitted;
//     (b) reservations with from_slices and without an idempotency key. from_slices says that this process has taken the
//         worst case from its slice of every hard budget that it knows on the path; it is also set where it knows none,
//         and such a tenant is served too, since nothing that it could overspend was made known. What is granted is spent
//         at most once: the slice is not given to anybody else before the spool was replayed or presumed spent. (A budget
//         that was made meanwhile binds from when this node hears of it. The owner may then refuse what was served: such
//         a refusal is told with was_durable, for a log and an alarm.)
//   What needs the ledger's word (other reservations and extensions, idempotency keys, whatever is for the control log)
//   waits, and is refused `unavailable` after refuse_after_ms. A reservation that may have reached an owner is followed
//   by a void of its own, so that the ledger does not hold what nobody will settle. Also refused then: reservations of
//   (b) that found no room in the spool. Slice returns wait for ever: nobody waits for them, and a crash makes them void.
// - Afterwards everything goes to the owner as ever; when nothing in the spool is unacknowledged, it is truncated.
//
// One owner (a thread of the shard's). What lanes submit it takes in the order in which they did.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "cluster/shard_id.hpp"
#include "core/clock.hpp"
#include "core/metering.hpp"
#include "proto/ledger_codec.hpp"
#include "proto/shard_codec.hpp"
#include "storage/ledger_error.hpp"
#include "storage/spool.hpp"

namespace outlast::cluster {

struct StreamOptions {
  ShardId shard = 0;
  Incarnation holder;
  // The process that runs this, where it is not the holder itself (HolderHandover). Its time makes the numbers of streams,
  // so that those of a process are larger than those of the ones before it on the node, and none is used twice: what is
  // late for one of them means nothing to another.
  Incarnation speaker{};
  std::size_t operations_max = 65'536;  // not settled; twice that for what is not a beginning
  std::size_t bytes_max = 32U << 20;    // of their frames, likewise
  std::uint32_t lazy_ms = 5;            // how long an operation that nobody waits for may wait for company
  std::uint32_t resend_ms = 400;        // without an acknowledgement: everything again, then after twice that, and so on
  std::uint32_t retry_ms = 50;          // after somebody said that it is not the owner (yet)
  std::uint32_t spool_after_ms = 500;
  // Where nobody is known to own the shard. Longer than a handover takes: what is in the spool dies with this node's disk.
  std::uint32_t unowned_spool_after_ms = 200;
  std::uint32_t refuse_after_ms = 10'000;
  std::uint64_t spool_bytes_max = 1ULL << 30;  // of frames that are not acknowledged
  bool has_spool = true;                       // false: nothing is spooled, as for the control shard
};

// What the owner of this object is asked to do, in order.
struct SendToOwner {
  std::string node;
  shard::Message message;
};
// These operations, of which none was told before, are durable. In order, but for reservations that waited.
struct OperationsDurable {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};
struct OperationRefused {
  std::uint64_t sequence = 0;
  storage::LedgerError error{};
  std::string message;
  std::optional<BudgetShortfall> shortfall;  // of budget_exhausted
  bool was_durable = false;                  // it was in the spool and told so: an alarm, nobody waits for it
};
// Append to the spool and sync; then spooled(), or spool_full() on `overloaded`. After any other error the process must
// end: nothing may be acknowledged any more. One at a time.
struct WriteSpool {
  std::vector<storage::SpoolRecord> records;
};
struct TruncateSpool {};
// Somebody says that this node owns the shard in a later epoch.
struct OwnerHint {
  std::string node;
  std::uint64_t epoch = 0;
};
using StreamEffect =
    std::variant<SendToOwner, OperationsDurable, OperationRefused, WriteSpool, TruncateSpool, OwnerHint>;

class ShardStream {
 public:
  static constexpr std::size_t message_operations_max = 1'024;
  static constexpr std::size_t message_bytes_max = 256U << 10;
  static constexpr std::size_t window_operations = 16'384;  // sent beyond the last acknowledged one
  static constexpr std::size_t spool_write_bytes_max = 1U << 20;

  // `clock` outlives it.
  ShardStream(StreamOptions options, const Clock& clock);

  // Takes the operation in and gives its sequence, from 1 without gaps. `urgent`: somebody waits for it. A reservation
  // names this holder, or the owner refuses it. Errors:
  // overloaded (reservations and what is for the control log first, so that what ends a request still finds room).
  Result<std::uint64_t> push(const MeteringOperation& operation, bool urgent);
  // For the control shard; refused `unavailable` when it cannot be told in time.
  Result<std::uint64_t> push_control(const proto::EntryBody& body, bool urgent);
  // Always room: there are as many as budgets.
  std::uint64_t push(shard::SliceReturn back);
  // What an earlier process of the node had in its spool: durable, and told so already.
  void replay(std::vector<storage::SpoolRecord> records);
  // Somebody waits for what was pushed.
  void hasten();

  // The shard's owner is known and there is a link to its node: a new stream begins. Also after the link was lost and is
  // there again.
  void connected(std::string node, std::uint64_t epoch);
  void disconnected();
  void receive(const std::string& node, const shard::Message& message);

  // What the last WriteSpool asked for is on disk; or found no room.
  void spooled();
  void spool_full();

  // Does what is due. Call at next_wake_ns(), or earlier, and after what is pushed or received.
  void tick();
  [[nodiscard]] std::int64_t next_wake_ns() const;
  [[nodiscard]] std::vector<StreamEffect> take_effects();

  // Operations that are not settled.
  [[nodiscard]] std::size_t size() const { return pending_.size(); }
  [[nodiscard]] bool is_cut_off() const;
  [[nodiscard]] std::uint64_t stream() const { return stream_; }

 private:
  // What becomes of an operation that the owner does not acknowledge.
  enum class Kind : std::uint8_t { begins, asks, goes_on, own };
  enum class InSpool : std::uint8_t { no, writing, yes };
  struct Pending {
    shard::Operation operation;
    RequestId request;
    std::int64_t pushed_ns = 0;
    std::size_t bytes = 0;
    Kind kind = Kind::goes_on;
    bool spoolable = false;
    InSpool in_spool = InSpool::no;
    bool sent = false;     // in this stream or an earlier one
    bool told = false;     // its outcome, or that it is in the spool
    bool settled = false;  // between holder and ledger: the ledger's word came, or none is needed
  };

  Result<std::uint64_t> take_in(Pending pending, bool urgent);
  std::uint64_t enqueue(Pending pending);
  void begin_stream();
  void send();
  void send_one(std::uint64_t end);
  [[nodiscard]] std::int64_t send_due_ns() const;
  [[nodiscard]] std::int64_t resend_due_ns() const;
  [[nodiscard]] std::int64_t cut_off_ns() const;
  void on(const shard::Acknowledgement& acknowledgement);
  void on(const shard::NotOwner& answer, std::uint64_t epoch);
  void refuse(const shard::Refusal& refusal);
  void settle(std::uint64_t sequence);
  void tell_durable(std::uint64_t sequence);
  void drop_settled();
  void spool();
  void truncate_if_empty();
  void refuse_overdue();
  [[nodiscard]] Pending* find(std::uint64_t sequence);
  [[nodiscard]] std::uint64_t next_sequence() const { return front_ + pending_.size(); }

  const StreamOptions options_;
  const Clock& clock_;
  proto::LedgerEncoder encoder_;
  std::deque<Pending> pending_;
  std::uint64_t front_ = 1;  // sequence of pending_[0]
  std::size_t bytes_ = 0;
  std::deque<std::uint64_t> refusable_;  // those that have a deadline, oldest first

  std::string node_;  // empty: not connected
  std::uint64_t epoch_ = 0;
  std::uint64_t stream_ = 0;
  std::uint64_t base_ = 1;
  std::uint64_t next_to_send_ = 1;
  std::uint64_t acknowledged_ = 0;  // by this stream, apart from waiting_
  std::uint64_t number_ = 0;        // of the newest acknowledgement
  std::set<std::uint64_t> waiting_;
  std::int64_t paused_until_ns_ = 0;
  std::int64_t heard_ns_ = 0;    // the last acknowledgement, or when there began to be something to acknowledge
  std::int64_t progress_ns_ = 0;  // what is sent and not acknowledged is sent again a while after this
  std::int64_t rewound_ns_ = 0;
  std::uint32_t resend_ms_ = 0;
  std::int64_t oldest_unsent_ns_ = 0;  // 0: all is sent
  bool urgent_ = false;

  std::uint64_t next_to_spool_ = 1;
  bool writing_ = false;
  std::uint64_t writing_from_ = 1;  // the first that is being written
  bool spool_full_ = false;
  std::size_t in_spool_ = 0;         // operations in it that are not settled
  std::uint64_t spool_bytes_ = 0;    // written since it was truncated
  std::vector<StreamEffect> effects_;
};

}  // namespace outlast::cluster
