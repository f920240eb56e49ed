// Writes the heads of answers. Pure, but for the date.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/types.hpp"

namespace outlast::http {

enum class ResponseFraming { length, chunked, until_close, none };

struct ResponseHeadParts {
  unsigned status = 200;
  std::span<const HeaderField> headers;
  ResponseFraming framing = ResponseFraming::length;
  std::size_t content_length = 0;  // with ResponseFraming::length
  bool close = false;              // adds "Connection: close"
  bool keep_alive = false;         // adds "Connection: keep-alive", which HTTP/1.0 needs
  std::string_view date;           // as DateText gives it
};

// Appends status line, fields and the empty line. Line ends inside of a value become spaces, so
// that no value can add a field.
void append_response_head(std::string& out, const ResponseHeadParts& parts);

// Appends "NAME: VALUE\r\n" under the same rule.
void append_field(std::string& out, std::string_view name, std::string_view value);

// "Tue, 15 Nov 1994 08:12:31 GMT", written anew once a second. One owner.
class DateText {
 public:
  std::string_view now();

 private:
  std::int64_t second_ = -1;
  char text_[32] = {};
};

}  // namespace outlast::http
