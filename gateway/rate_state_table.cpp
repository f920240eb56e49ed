#include "gateway/rate_state_table.hpp"

#include <functional>
#include <limits>

namespace outlast::gateway {
namespace {

// A limit that the rule has not never stands in the way.
constexpr std::int64_t always_passed = std::numeric_limits<std::int64_t>::max();

std::int64_t position(const Gcra* gcra, std::int64_t now_ns) {
  return gcra != nullptr ? gcra->at(now_ns) : always_passed;
}

// Takes a state out of use if it has passed. Strictly: its new owner starts at now, so a taker that
// was paused since it saw the old value can never mistake a later one for it.
bool retire(Gcra::State& state, std::int64_t now) {
  std::int64_t seen = state.load(std::memory_order_acquire);
  return seen != Gcra::retired && seen < now &&
         state.compare_exchange_strong(seen, Gcra::retired, std::memory_order_acq_rel);
}

}  // namespace

std::uint64_t RateStateTable::owner_of(std::string_view name) {
  const std::uint64_t hash = std::hash<std::string_view>()(name);
  return hash == 0 ? 1 : hash;
}

RateStateTable::Slot* RateStateTable::find(std::uint64_t owner) const {
  for (std::size_t i = 0; i < reach; ++i) {
    Slot& slot = slots_[(owner + i) % slots];
    const std::uint64_t seen = slot.owner.load(std::memory_order_acquire);
    if (seen == owner) return &slot;
    if (seen == 0)
      return nullptr;  // a used slot is never unused again, so the owner is not behind this one
  }
  return nullptr;
}

RateStateTable::Slot* RateStateTable::find_or_make(std::uint64_t owner, const Gcra* requests,
                                                   const Gcra* tokens, std::int64_t now_ns) const {
  for (std::size_t i = 0; i < reach; ++i) {
    Slot& slot = slots_[(owner + i) % slots];
    std::uint64_t seen = slot.owner.load(std::memory_order_acquire);
    // Everybody who looks for this owner tries this unused slot first, so it gets no second one.
    if (seen == 0 && slot.owner.compare_exchange_strong(seen, owner, std::memory_order_acq_rel))
      return &slot;
    if (seen == owner) return &slot;
  }
  return replace_passed(owner, position(requests, now_ns), position(tokens, now_ns));
}

RateStateTable::Slot* RateStateTable::replace_passed(std::uint64_t owner, std::int64_t requests_now,
                                                     std::int64_t tokens_now) const {
  struct OneByOne {
    explicit OneByOne(std::atomic_flag& flag_to_hold) : flag(flag_to_hold) {
      while (flag.test_and_set(std::memory_order_acquire)) {
      }
    }
    ~OneByOne() { flag.clear(std::memory_order_release); }
    std::atomic_flag& flag;
  };
  const OneByOne one_by_one(replacing_);
  if (Slot* const made_meanwhile = find(owner)) return made_meanwhile;
  for (std::size_t i = 0; i < reach; ++i) {
    Slot& slot = slots_[(owner + i) % slots];
    const std::int64_t requests_before = slot.state.requests.load(std::memory_order_acquire);
    if (!retire(slot.state.requests, requests_now)) continue;
    if (!retire(slot.state.tokens, tokens_now)) {
      slot.state.requests.store(requests_before,
                                std::memory_order_release);  // nobody writes what is retired
      continue;
    }
    slot.owner.store(owner, std::memory_order_release);
    slot.state.requests.store(requests_now == always_passed ? 0 : requests_now,
                              std::memory_order_release);
    slot.state.tokens.store(tokens_now == always_passed ? 0 : tokens_now,
                            std::memory_order_release);
    return &slot;
  }
  return nullptr;
}

std::size_t RateStateTable::live(const Gcra* requests, const Gcra* tokens,
                                 std::int64_t now_ns) const {
  const std::int64_t requests_now = position(requests, now_ns);
  const std::int64_t tokens_now = position(tokens, now_ns);
  std::size_t count = 0;
  for (std::size_t i = 0; i < slots; ++i) {
    const RateState& state = slots_[i].state;
    if (state.requests.load(std::memory_order_relaxed) > requests_now ||
        state.tokens.load(std::memory_order_relaxed) > tokens_now) {
      ++count;
    }
  }
  return count;
}

}  // namespace outlast::gateway
