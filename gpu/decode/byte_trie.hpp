// ByteTrie: a few words as a tree of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace outlast::gpu {

// A value.
class ByteTrie {
 public:
  using Place = std::uint32_t;
  static constexpr Place root = 0;

  void add(std::string_view word);
  // Where a byte leads; no value where no word goes on with it.
  [[nodiscard]] std::optional<Place> next(Place place, std::uint8_t byte) const;
  [[nodiscard]] bool is_word(Place place) const { return nodes_[place].word; }
  // Whether a word goes on from here.
  [[nodiscard]] bool goes_on(Place place) const { return !nodes_[place].next.empty(); }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    std::vector<std::pair<std::uint8_t, Place>> next;  // by byte
    bool word = false;
  };
  std::vector<Node> nodes_{1};
};

}  // namespace outlast::gpu
