// Server-sent events (WHATWG HTML, section 9.2), read incrementally. Pure: no sockets, no clocks.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "http/types.hpp"

namespace outlast::http {

struct SseEvent {
  std::string_view event;  // "" where no `event:` field was sent
  std::string_view data;   // several `data:` lines joined by '\n'
};

// Feed bytes as they arrive, then take events until there is none. Comment lines, CRLF, CR, LF, a BOM, fields in any
// order and events split anywhere are legal. An event larger than the limit is an error. One owner.
class SseReader {
 public:
  explicit SseReader(std::size_t event_bytes_max = 8 * 1024 * 1024) : event_bytes_max_(event_bytes_max) {}
  Result<void> feed(std::string_view bytes);
  // False when no whole event is there. Views are valid until the next feed().
  bool next(SseEvent& event);
  // Bytes of an unfinished event.
  [[nodiscard]] std::size_t pending_bytes() const;

 private:
  std::size_t event_bytes_max_;
  std::string buffer_;
  std::size_t position_ = 0;   // start of what next() has not yet consumed
  std::string joined_data_;    // of an event with several data lines
  bool first_ = true;
};

}  // namespace outlast::http
