#include "gpu/decode/byte_trie.hpp"

#include <algorithm>

namespace outlast::gpu {
namespace {

constexpr auto before = [](const std::pair<std::uint8_t, ByteTrie::Place>& edge, std::uint8_t byte) { return edge.first < byte; };

}  // namespace

void ByteTrie::add(std::string_view word) {
  Place place = root;
  for (const char letter : word) {
    const auto byte = static_cast<std::uint8_t>(letter);
    if (const auto known = next(place, byte)) {
      place = *known;
      continue;
    }
    const auto made = static_cast<Place>(nodes_.size());
    auto& edges = nodes_[place].next;
    edges.insert(std::lower_bound(edges.begin(), edges.end(), byte, before), {byte, made});
    nodes_.emplace_back();
    place = made;
  }
  nodes_[place].word = true;
}

std::optional<ByteTrie::Place> ByteTrie::next(Place place, std::uint8_t byte) const {
  const auto& edges = nodes_[place].next;
  const auto at = std::lower_bound(edges.begin(), edges.end(), byte, before);
  if (at == edges.end() || at->first != byte) return std::nullopt;
  return at->second;
}

}  // namespace outlast::gpu
