#include "http/sse.hpp"

#include <algorithm>
#include <cstring>

namespace outlast::http {
namespace {

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

// Where the first line end at or after `from` stands, or npos.
std::size_t find_line_end(std::string_view text, std::size_t from) {
  const auto feed = text.find('\n', from);
  const auto line = text.substr(from, feed == std::string_view::npos ? feed : feed - from);
  const auto carriage = line.find('\r');
  return carriage == std::string_view::npos ? feed : from + carriage;
}

}  // namespace

Result<void> SseReader::feed(std::string_view bytes) {
  if (position_ > 0) {
    buffer_.erase(0, position_);
    complete_ -= position_;
    line_ -= position_;
    scanned_ -= position_;
    position_ = 0;
  }
  if (skip_line_feed_ && !bytes.empty()) {
    if (bytes.front() == '\n') bytes.remove_prefix(1);
    skip_line_feed_ = false;
  }
  buffer_.append(bytes);
  if (first_) {
    const auto compared = std::min(buffer_.size(), byte_order_mark.size());
    const bool maybe_mark =
        std::string_view(buffer_).substr(0, compared) == byte_order_mark.substr(0, compared);
    if (maybe_mark && compared < byte_order_mark.size()) return {};
    if (maybe_mark) buffer_.erase(0, byte_order_mark.size());
    first_ = false;
  }
  scan();
  if (pending_bytes() > event_bytes_max_) {
    return fail(HttpError::body_too_large, "an event of the stream is larger than " +
                                               std::to_string(event_bytes_max_) + " bytes");
  }
  return {};
}

// Moves complete_ behind the last blank line, and turns carriage returns that end lines alone into
// line feeds, so that next() has to look for those only.
void SseReader::scan() {
  const std::string_view text = buffer_;
  while (scanned_ < text.size()) {
    const auto end = find_line_end(text, scanned_);
    if (end == std::string_view::npos) {
      scanned_ = text.size();
      return;
    }
    auto after = end + 1;
    if (text[end] == '\r') {
      skip_line_feed_ = after == text.size();
      if (!skip_line_feed_ && text[after] == '\n') {
        ++after;
      } else {
        buffer_[end] = '\n';
      }
    }
    if (end == line_) complete_ = after;
    line_ = after;
    scanned_ = after;
  }
}

// Several lines of data are joined in place: the joined text is never longer than the lines were.
void SseReader::take_line(std::size_t from, std::size_t to, SseEvent& event) {
  const std::string_view line(buffer_.data() + from, to - from);
  const auto colon = line.find(':');
  const auto name = line.substr(0, colon);
  auto value = line.substr(line.size());
  if (colon != std::string_view::npos) {
    value = line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
  }
  if (name == "event") {
    event.event = value;
  } else if (name == "data") {
    if (!has_data_) {
      event.data = value;
      has_data_ = true;
      return;
    }
    char* joined = buffer_.data() + (event.data.data() - buffer_.data());
    if (event.event.data() > joined) {
      // The name stands between two lines of data: it moves before them, or the joined text would
      // cover it.
      char* const name_begin = joined + (event.event.data() - joined);
      std::rotate(joined, name_begin, name_begin + event.event.size());
      event.event = std::string_view(joined, event.event.size());
      joined += event.event.size();
      event.data = std::string_view(joined, event.data.size());
    }
    joined[event.data.size()] = '\n';
    std::memmove(joined + event.data.size() + 1, value.data(), value.size());
    event.data = std::string_view(joined, event.data.size() + 1 + value.size());
  }
}

bool SseReader::next(SseEvent& event) {
  event = SseEvent{};
  has_data_ = false;
  while (position_ < complete_) {
    const auto from = position_;
    auto end = buffer_.find('\n', from);
    position_ = end + 1;
    if (end > from && buffer_[end - 1] == '\r') --end;
    if (end > from) {
      take_line(from, end, event);
    } else if (has_data_) {
      return true;
    } else {
      event = SseEvent{};
    }
  }
  return false;
}

std::size_t SseReader::pending_bytes() const { return buffer_.size() - complete_; }

}  // namespace outlast::http
