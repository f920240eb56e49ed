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

// Feed bytes as they arrive, then take events until there is none. Comment lines, CRLF, CR, LF, a
// BOM, fields in any order and events split anywhere are legal. An event larger than the limit is
// an error. One owner.
class SseReader {
 public:
  explicit SseReader(std::size_t event_bytes_max = 8 * 1024 * 1024)
      : event_bytes_max_(event_bytes_max) {}
  Result<void> feed(std::string_view bytes);
  // False when no whole event is there. Views are valid until the next feed().
  bool next(SseEvent& event);
  // Bytes of an unfinished event.
  [[nodiscard]] std::size_t pending_bytes() const;

 private:
  void scan();
  void take_line(std::size_t from, std::size_t to, SseEvent& event);

  std::size_t event_bytes_max_;
  std::string buffer_;
  std::size_t position_ = 0;     // what next() has taken
  std::size_t complete_ = 0;     // end of the last whole event
  std::size_t line_ = 0;         // start of the line that is not yet whole
  std::size_t scanned_ = 0;      // no line end between line_ and here
  bool first_ = true;            // a byte order mark may come
  bool skip_line_feed_ = false;  // the bytes so far ended with a carriage return
  bool has_data_ = false;        // of the event that next() is reading
};

}  // namespace outlast::http
