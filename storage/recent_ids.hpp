// RecentIds: tells cheaply that a request id has never ended, so that new requests cost no look-up
// on disk.
//
// Ids grow with time. Two generations of fingerprints hold what ended last; what was forgotten lies
// at or below the floor. An id above the floor without a fingerprint is new for certain; for all
// others the caller looks it up. One owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/id.hpp"

namespace outlast::storage {

class RecentIds {
 public:
  static constexpr std::size_t generation_ids = 16'384;

  // `floor`: the largest id that has ended so far.
  explicit RecentIds(const RequestId& floor = {}) : floor_(floor), max_(floor) {}

  void add(const RequestId& id) {
    if (young_.ids == generation_ids) {
      if (old_.max > floor_) floor_ = old_.max;
      std::swap(young_, old_);
      young_.clear();
    }
    young_.add(id);
    if (id > max_) max_ = id;
  }
  [[nodiscard]] bool surely_new(const RequestId& id) const {
    return id > max_ || (id > floor_ && !young_.contains(id) && !old_.contains(id));
  }
  [[nodiscard]] const RequestId& max() const { return max_; }

 private:
  struct Generation {
    static constexpr std::size_t slots = 2 * generation_ids;
    std::vector<std::uint64_t> table;  // open addressing; 0 is empty
    std::size_t ids = 0;
    RequestId max;

    static std::uint64_t fingerprint(const RequestId& id) {
      const std::uint64_t mixed = std::hash<RequestId>()(id) * 0x9e3779b97f4a7c15ULL;
      return mixed == 0 ? 1 : mixed;
    }
    void add(const RequestId& id) {
      if (table.empty()) table.resize(slots);
      const std::uint64_t print = fingerprint(id);
      std::size_t at = print >> 40 & (slots - 1);
      while (table[at] != 0 && table[at] != print) at = (at + 1) & (slots - 1);
      table[at] = print;
      ++ids;
      if (id > max) max = id;
    }
    [[nodiscard]] bool contains(const RequestId& id) const {
      if (table.empty()) return false;
      const std::uint64_t print = fingerprint(id);
      for (std::size_t at = print >> 40 & (slots - 1); table[at] != 0;
           at = (at + 1) & (slots - 1)) {
        if (table[at] == print) return true;
      }
      return false;
    }
    void clear() {
      std::fill(table.begin(), table.end(), 0);
      ids = 0;
      max = {};
    }
  };

  Generation young_;
  Generation old_;
  RequestId floor_;
  RequestId max_;
};

}  // namespace outlast::storage
