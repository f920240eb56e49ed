// LedgerStore: the durable ledger of one node: its log, its state machine and its committer thread,
// on RocksDB.
//
// Any thread may submit; one committer thread takes what has arrived, writes one batch with sync,
// then tells all. After any write or sync error the process logs it and exits (status 70): nothing
// is acknowledged after a doubt.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/budget.hpp"
#include "core/budget_book.hpp"
#include "core/clock.hpp"
#include "core/commitment.hpp"
#include "core/member_records.hpp"
#include "core/metering.hpp"
#include "core/result.hpp"
#include "core/spend_breaker.hpp"
#include "core/virtual_key.hpp"
#include "storage/accounts.hpp"
#include "storage/backup.hpp"
#include "storage/disk_guard.hpp"
#include "storage/entry.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"
#include "storage/signed_heads.hpp"
#include "storage/usage_report.hpp"

namespace rocksdb {
class Env;
}

namespace outlast::storage {

struct LedgerOptions {
  std::string path;  // a folder; made when absent
  std::uint64_t free_bytes_min =
      2ULL << 30;  // below it, or below free_fraction_min, reservations are refused
  double free_fraction_min = 0.05;
  std::uint64_t ballast_bytes = 0;  // a file to release when the disk is full; 0 for none
  std::size_t queue_operations_max = 262'144;
  std::uint32_t lazy_commit_ms =
      5;  // how long an operation that nobody waits for may wait for company
  std::string software = "outlast";              // the program and its version, for the log
  DiskSpaceFunction disk_space = disk_space_of;  // a seam for tests
  // Where signed heads and the other files beside the ledger lie; empty: no heads are signed.
  std::string data;
  std::string node = "node";  // its name, in signed heads
  std::uint32_t head_interval_ms = 1'000;
  // A person knows that entries from this one on are lost (check_last_head()).
  std::optional<std::uint64_t> accept_cut_at;
  std::uint32_t archive_after_days = 0;  // older entries move to segments; 0: never
  rocksdb::Env* env = nullptr;           // a seam for tests; outlives the store
};

// A ticket is an operation's place within its group. Groups become durable each by itself, so that a
// shard that waits for an owner makes no other wait. A node on its own has one group.
inline constexpr unsigned ticket_bits = 48;
inline constexpr std::uint64_t ticket_group(std::uint64_t ticket) { return ticket >> ticket_bits; }

// Why an operation was refused. Of budget_exhausted: the budget, and what the caller may be told.
struct Refused {
  Error error;
  std::optional<BudgetShortfall> shortfall;
};

// One submitter's place in the queue, so that a lane is woken once per durable batch. One per lane;
// `submit` and the ticket counters belong to that lane's thread.
class LedgerSubmitter {
 public:
  virtual ~LedgerSubmitter() = default;
  // Checks what can be checked now (duplicates, open reservation, disk, queue) later, in order, on
  // the committer; returns the ticket that `on_durable` will reach. Errors now: overloaded
  // (reservations first, so that what ends a request still finds room), disk_full (reservations
  // only), stopped. `urgent` operations start a commit at once (within 2 ms
  // when there is a rush); others ride with the next one, at the latest after lazy_commit_ms.
  // Destroying the submitter, never from its own callback, ends its callbacks; what was submitted
  // is committed all the same. It may outlive the store.
  virtual Result<std::uint64_t> submit(MeteringOperation operation, bool urgent) = 0;
  // Somebody waits now for what was submitted: as if its last operation had been urgent.
  virtual void hasten() = 0;
};

class LedgerStore {
 public:
  // Opens or creates, recovers, settles reservations of dead incarnations as estimated, starts the
  // committer.
  static Result<std::unique_ptr<LedgerStore>> open(const LedgerOptions& options,
                                                   const Clock& clock);
  virtual ~LedgerStore() = default;  // commits what was submitted, then stops

  // `on_durable(ticket)`: every operation of this submitter up to `ticket`, of its group, is durable
  // (or was refused by the state machine: `on_refused(ticket, refused)` came before). Both are called on the
  // committer thread and must not block.
  virtual std::unique_ptr<LedgerSubmitter> make_submitter(
      std::function<void(std::uint64_t ticket)> on_durable,
      std::function<void(std::uint64_t ticket, const Refused& refused)> on_refused) = 0;

  [[nodiscard]] virtual std::size_t ticket_groups() const { return 1; }

  // Durable when `done` is called (on the committer thread, or on the caller's for an operation that
  // is refused at once).
  virtual void add_key(VirtualKey key, std::function<void(Result<void>)> done) = 0;
  virtual void revoke_key(std::string key_id, std::function<void(Result<void>)> done) = 0;
  // Records the price book in use; a no-op when `toml` equals the latest of that version.
  virtual void record_prices(std::string version, std::string toml,
                             std::function<void(Result<void>)> done) = 0;
  [[nodiscard]] virtual std::vector<VirtualKey> keys() const = 0;

  // A new budget, or a change of the amount, name, softness, period or time zone of one that has
  // that id; its scope stays. What it has used in the period stays used. Errors: invalid (says what
  // would be right).
  virtual void set_budget(Budget budget, std::string by,
                          std::function<void(Result<void>)> done) = 0;
  // Error: unknown_budget.
  virtual void remove_budget(std::string id, std::string by,
                             std::function<void(Result<void>)> done) = 0;
  // By id, as of now; like accounts(), waits for the committer: never from a callback.
  [[nodiscard]] virtual std::vector<BudgetStatus> budgets() const = 0;
  // What lanes admit by; another one whenever a budget is set or removed. Slices stay the same
  // objects as long as their budget is hard.
  [[nodiscard]] virtual std::shared_ptr<const BudgetBook> budget_book() const = 0;
  // Errors: invalid, duplicate (the id), overlap (names the other one).
  virtual void add_commitment(Commitment commitment, std::string by,
                              std::function<void(Result<void>)> done) = 0;
  // Draws no more, except for what open reservations hold. Error: unknown_commitment.
  virtual void end_commitment(std::string id, std::string by,
                              std::function<void(Result<void>)> done) = 0;
  [[nodiscard]] virtual std::vector<CommitmentStatus> commitments() const = 0;

  // Errors: invalid, unknown_breaker (a reset of one that is not open, a rule that is not there).
  virtual void record_breaker(BreakerOperation operation,
                              std::function<void(Result<void>)> done) = 0;
  [[nodiscard]] virtual Result<BreakerRecords> breakers() const = 0;

  // A cluster's nodes, join tokens and settings. Errors: those of NodeTable.
  virtual void record_member(MemberOperation operation, std::function<void(Result<void>)> done) = 0;
  [[nodiscard]] virtual Result<MemberRecords> members() const = 0;

  // Readers, on the calling thread, over a snapshot; may take as long as the ledger is large. Never
  // from a callback: usage() and verify() wait for the committer to write out what it holds in
  // memory.
  virtual Result<UsageReport> usage(const UsageQuery& query) const = 0;
  // Every account of the double entry, by name (docs/ledger.md); their balances sum to zero.
  [[nodiscard]] virtual Result<std::vector<AccountBalance>> accounts() const = 0;
  // Calls `visit` for entries of index >= from in order, until it returns false.
  virtual Result<void> read(std::uint64_t from,
                            const std::function<bool(const StoredEntry&)>& visit) const = 0;
  // The last `entries`, or a little more, in the order of their ledger.
  virtual Result<void> read_recent(std::uint64_t entries,
                                   const std::function<void(const StoredEntry&)>& visit) const {
    const std::uint64_t next = status().entries;
    return read(next - std::min(next, entries), [&visit](const StoredEntry& entry) {
      visit(entry);
      return true;
    });
  }
  virtual Result<VerifyReport> verify() const = 0;
  // For readers of their own (storage/ledger_queries.hpp): this moment, without waiting for any. One ledger; in a cluster those of all
  // shards. Errors: unavailable, stopped.
  [[nodiscard]] virtual Result<std::vector<std::unique_ptr<LedgerView>>> views() const = 0;
  // What is on record of signed heads.
  virtual Result<SignedHeads> signed_heads() const { return SignedHeads{}; }
  // A backup of everything to `folder`, while the store runs (backup.hpp).
  virtual Result<BackupReport> backup(const std::string& folder, std::uint32_t keep) const {
    static_cast<void>(keep);
    return fail(LedgerError::invalid, "this ledger cannot be backed up to " + folder);
  }

  struct Status {
    std::uint64_t entries = 0;  // the next index
    std::uint64_t open_reservations = 0;
    std::uint64_t queued_operations = 0;
    std::uint64_t batches = 0;
    std::uint64_t free_bytes = 0;
    bool disk_full = false;
    std::uint64_t commit_us_last = 0;
    std::uint64_t in_doubt_settled = 0;  // at this start
  };
  [[nodiscard]] virtual Status status() const = 0;
};

}  // namespace outlast::storage
