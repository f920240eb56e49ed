// RateStateTable: the arrival times of one rule that each of a kind has for itself ("key:*"): made
// when first needed, bounded, and reused once they have passed, which is the same as never having
// been there.
//
// Open addressing over a fixed array. Owners are known by 64 bits of hash, so that a slot is three
// words whatever the names are. That two of 100,000 owners share a slot is as likely as one in four
// billion; they would share the limit.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "gateway/gcra.hpp"

namespace outlast::gateway {

// What one owner of a limit has taken.
struct RateState {
  Gcra::State requests{0};
  Gcra::State tokens{0};
};

// Any thread. Finding and making take no lock; only where all slots in reach are in use, those that
// look for one that has passed do so one after the other.
class RateStateTable {
 public:
  static constexpr std::size_t slots = 1 << 18;
  static constexpr std::size_t reach = 64;  // slots that an owner can have

  struct Slot {
    std::atomic<std::uint64_t> owner{0};  // 0: never used
    RateState state;
  };

  RateStateTable() : slots_(std::make_unique<Slot[]>(slots)) {}

  // Never 0.
  [[nodiscard]] static std::uint64_t owner_of(std::string_view name);

  // Null where the owner has no slot.
  [[nodiscard]] Slot* find(std::uint64_t owner) const;
  // `requests` and `tokens` are the rule's, null where it limits none: they say what has passed.
  // The owner's slot, made where there is none. Null when everything in reach is in use.
  [[nodiscard]] Slot* find_or_make(std::uint64_t owner, const Gcra* requests, const Gcra* tokens,
                                   std::int64_t now_ns) const;

  // Owners of whom something has not passed yet. Reads every slot.
  [[nodiscard]] std::size_t live(const Gcra* requests, const Gcra* tokens,
                                 std::int64_t now_ns) const;
  [[nodiscard]] static constexpr std::size_t bytes() { return slots * sizeof(Slot); }

 private:
  [[nodiscard]] Slot* replace_passed(std::uint64_t owner, std::int64_t requests_now,
                                     std::int64_t tokens_now) const;

  std::unique_ptr<Slot[]> slots_;
  mutable std::atomic_flag replacing_ = ATOMIC_FLAG_INIT;
};

}  // namespace outlast::gateway
