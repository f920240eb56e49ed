// Server-sent events from anywhere: the same events however the bytes are split, and no line end
// inside of a name.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/sse.hpp"

namespace {

using namespace outlast::http;
using Events = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t event_bytes_max = 512;

void require(bool condition) {
  if (!condition) std::abort();
}

// Feeds pieces of `step` bytes. False when an event was over the limit.
bool read(std::string_view bytes, std::size_t step, std::size_t limit, Events& events) {
  SseReader reader(limit);
  while (!bytes.empty()) {
    const std::vector<char> piece(
        bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(std::min(step, bytes.size())));
    bytes.remove_prefix(piece.size());
    if (!reader.feed({piece.data(), piece.size()})) return false;
    std::vector<SseEvent> views;
    for (SseEvent event; reader.next(event);) views.push_back(event);
    for (const SseEvent& event : views) {
      require(event.event.find_first_of("\r\n") == std::string_view::npos);
      require(event.data.find('\r') == std::string_view::npos);
      events.emplace_back(event.event, event.data);
    }
    require(reader.pending_bytes() <= limit);
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Events whole;
  Events pieces;
  Events single;
  require(read(bytes, bytes.size() + 1, size, whole));
  require(read(bytes, 1 + data[0] % 64, size, pieces));
  require(read(bytes, 1, size, single));
  require(whole == pieces && whole == single);
  Events limited;
  (void)read(bytes, 1 + data[0] % 64, event_bytes_max, limited);
  return 0;
}
