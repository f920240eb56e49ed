// BreakerTable: the part of the ledger's state that spend breakers are: which are open, what their resets allowed, and
// the rules made by API. A row's value is the frame of the entry that it came from. Deterministic; no threads. One
// owner.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/spend_breaker.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

inline constexpr char breaker_prefix = 'x';
inline constexpr std::size_t open_breakers_max = 65'536;
inline constexpr std::size_t breaker_rules_max = 256;
inline constexpr std::size_t breaker_text_bytes_max = 1'024;
inline constexpr std::size_t breaker_definition_bytes_max = 16U << 10;

class BreakerTable {
 public:
  enum class Verdict : std::uint8_t { applied = 0, duplicate = 1, refused = 2 };  // those of Outcome
  struct Applied {
    Verdict verdict = Verdict::applied;
    LedgerError error{};  // when refused: invalid, overloaded, unknown_breaker
  };

  // A breaker that is open may trip again: with the latest reason.
  Applied apply(const proto::EntryHeader& header, const BreakerTripped& operation, TableChanges& changes);
  Applied apply(const proto::EntryHeader& header, const BreakerReset& operation, TableChanges& changes);
  Applied apply(const proto::EntryHeader& header, const BreakerRuleChange& operation, TableChanges& changes);

  // A stored row; false when it cannot be read.
  bool restore(std::string_view key, std::string_view value);
  [[nodiscard]] BreakerRecords records() const;

 private:
  template <class Body>
  void put(char kind, const std::string& name, const proto::EntryHeader& header, const Body& body, TableChanges& changes);

  BreakerRecords records_;                     // but for what is open
  std::map<std::string, BreakerRecord> open_;  // by id
  proto::LedgerEncoder encoder_;
  std::string frame_;  // scratch
};

}  // namespace outlast::storage
