// HolderSession: the owner's end of one holder's stream: which operations are new, what became of them, and what to
// acknowledge. Pure; one per holder, owned by a ShardOwner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "proto/shard_codec.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::cluster {

class HolderSession {
 public:
  enum class Hears : std::uint8_t { yes, new_stream, stale };

  // A message came from the holder at `node`. stale: of a stream older than the newest, and nothing in it counts.
  Hears hear(const std::string& node, const shard::Operations& message);
  // Index of the first of the message's operations that is new; as many as it has when none is. A gap before them makes
  // all of them useless: then the next acknowledgement asks for what is missing.
  std::size_t first_new(const shard::Operations& message);

  // The next operation's outcome, in order; what is told neither is applied.
  [[nodiscard]] std::uint64_t next() const { return next_; }
  void took() { ++next_; }
  void refuse(std::uint64_t sequence, storage::LedgerError error, std::string message,
              std::optional<BudgetShortfall> shortfall);
  void wait(std::uint64_t sequence) { waiting_.insert(sequence); }
  void decided(std::uint64_t sequence) { waiting_.erase(sequence); due_ = true; }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

  // What was taken in so far is durable.
  void committed() { durable_ = next_ - 1; }
  // What to tell, if anything is new or was asked for; after committed().
  std::optional<shard::Acknowledgement> take_acknowledgement(const Incarnation& holder);
  [[nodiscard]] bool is_due() const { return due_; }

  [[nodiscard]] std::uint64_t stream() const { return stream_; }
  [[nodiscard]] const std::string& node() const { return node_; }

 private:
  struct Refused {
    shard::Refusal refusal;
    std::uint64_t number = 0;  // of the first acknowledgement that told it; 0: none yet
  };

  std::string node_;
  std::uint64_t stream_ = 0;
  std::uint64_t next_ = 1;
  std::uint64_t durable_ = 0;
  std::uint64_t number_ = 0;
  std::uint64_t missing_ = 0;  // tell that this one is missing; 0: none is
  bool due_ = false;
  std::set<std::uint64_t> waiting_;
  std::map<std::uint64_t, Refused> refused_;  // not confirmed by the holder
};

}  // namespace outlast::cluster
