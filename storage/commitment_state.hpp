// CommitmentState: the part of the ledger's state machine that keeps what was bought in bulk, and
// decides how an attempt's cost is funded: from commitments in order of expiry, the rest on demand.
// Pure, and a function of the entries alone. One owner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/commitment.hpp"
#include "core/metering.hpp"
#include "core/result.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/allotment.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"
#include "storage/money_rows.hpp"

namespace outlast::storage {

inline constexpr std::size_t commitments_max = 10'000;
inline constexpr std::size_t commitment_models_max = 64;
inline constexpr std::size_t commitment_text_bytes_max = 128;

struct CommitmentAccount {
  CommitmentStatus status;
  bool dirty = false;  // its row is not what it is
  Allotments allotments;
  bool stale_allotments = false;  // their rows are not what they are

  [[nodiscard]] __int128 unheld() const { return status.part() - status.used - status.held; }
  // Whether what is not held may be drawn.
  [[nodiscard]] bool active(std::int64_t time_ms) const {
    const Commitment& commitment = status.commitment;
    return !status.ended && commitment.from_ms <= time_ms &&
           (time_ms < commitment.until_ms || commitment.rollover);
  }
};

// What one reservation holds of one commitment.
struct CommitmentHold {
  CommitmentAccount* commitment = nullptr;
  __int128 units = 0;
};

// Where one attempt's cost goes: what tenants are charged is what providers and commitments give.
struct FundingChain {
  PicoUsd cost;       // at list price: the tenant's debit
  PicoUsd on_demand;  // owed to the provider
  PicoUsd amortised;  // of what was paid for commitments
  PicoUsd savings;    // the rest: list price less what was paid; may be negative
  [[nodiscard]] bool balanced() const { return cost == on_demand + amortised + savings; }
};

class CommitmentState {
 public:
  using Matched = std::vector<CommitmentAccount*>;

  CommitmentState() = default;
  CommitmentState(const CommitmentState&) = delete;
  CommitmentState& operator=(const CommitmentState&) = delete;

  // Each applies an entry's body: no value, or why it may not stand. `duplicate` also when it would
  // change nothing, told apart by stands().
  std::optional<LedgerError> add(const proto::CommitmentAdded& body);
  std::optional<LedgerError> end(const proto::CommitmentEnded& body);
  std::optional<LedgerError> grant(const proto::AllotmentGranted& body, std::uint64_t index);
  std::optional<LedgerError> take_back(const proto::AllotmentReturned& body);
  [[nodiscard]] bool stands(const proto::CommitmentAdded& body) const;
  // The one that the last add() was refused for as overlapping.
  [[nodiscard]] const std::string& overlapped() const { return overlapped_; }

  // Those that cover the provider's model, in order of expiry; they change when version() does.
  void match(std::string_view provider, std::string_view model, Matched& found) const;
  [[nodiscard]] std::uint64_t version() const { return version_; }

  // Holds the worst case, as far as `matched` have it now, and remembers those that are active.
  void hold(std::vector<CommitmentHold>& holds, const Matched& matched, PicoUsd amount,
            __int128 tokens, std::int64_t time_ms);
  // More of the same.
  void hold_more(std::vector<CommitmentHold>& holds, PicoUsd amount, __int128 tokens,
                 std::int64_t time_ms);
  // Draws what an attempt used of `matched`, from what its reservation holds first.
  FundingChain draw(std::vector<CommitmentHold>& holds, const Matched& matched, PicoUsd cost,
                    __int128 tokens, std::int64_t time_ms);
  void release(std::vector<CommitmentHold>& holds);

  // Recovery: a row, of allotments after those of commitments, false where there is no such
  // commitment; and a hold that the commitment's row has counted already, null for unknown.
  void restore(CommitmentStatus status);
  bool restore(const AllotmentRow& row);
  [[nodiscard]] CommitmentAccount* find(std::string_view id) const;

  // Puts the rows that changed since the last call; and, for checks, all of them.
  void collect(TableChanges& changes);
  void copy_rows(TableChanges& changes) const;

  [[nodiscard]] std::size_t size() const { return commitments_.size(); }
  [[nodiscard]] const auto& all() const { return commitments_; }

 private:
  void touch(CommitmentAccount& account);
  void index(CommitmentAccount& account);
  void allotted(CommitmentAccount& account);
  void collect_allotments(CommitmentAccount& account, TableChanges& changes);

  std::map<std::string, std::unique_ptr<CommitmentAccount>, std::less<>> commitments_;
  std::map<std::string, Matched, std::less<>> by_provider_;  // in order of expiry
  std::vector<CommitmentAccount*> dirty_;
  std::uint64_t version_ = 1;
  std::string overlapped_;
  std::string row_;  // scratch
};

// What a person did wrong in a commitment, in words; also what add() would refuse as invalid.
Result<void> check_commitment(const Commitment& commitment);

}  // namespace outlast::storage
