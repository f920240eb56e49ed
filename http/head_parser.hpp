// Heads of HTTP/1.1 messages: where one ends and what it says, as views into the bytes that
// arrived. Beast's parser reads the grammar; what it accepts but two readers could understand
// differently is refused here. Pure: no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "http/types.hpp"

namespace outlast::http {

// More fields than this are refused as a head that is too large.
inline constexpr std::size_t header_fields_max = 128;

// Why a message is not read on, and the status that a server answers with. The message is static.
struct Refusal {
  unsigned status = 400;
  HttpError code = HttpError::malformed;
  std::string_view message;
};

enum class ScanStatus { incomplete, complete, refused };

// Finds the end of a head without looking at a byte twice, and refuses line endings that are not
// CRLF and folded lines before a parser sees them. One owner.
class HeadScanner {
 public:
  // `bytes`: everything since the message's start; each call brings the bytes of the last one and
  // more.
  ScanStatus scan(std::string_view bytes);
  // After `complete`: where the start line begins (empty lines before it are skipped), and the end
  // of the head.
  [[nodiscard]] std::size_t start() const { return start_; }
  [[nodiscard]] std::size_t end() const { return scanned_; }
  // After `refused`.
  [[nodiscard]] const Refusal& refusal() const { return refusal_; }
  void reset() { *this = HeadScanner(); }

 private:
  ScanStatus refuse(std::string_view message);

  std::size_t start_ = 0;
  std::size_t line_start_ = 0;
  std::size_t scanned_ = 0;
  Refusal refusal_;
};

struct RequestHead {
  std::string_view method;
  std::string_view target;  // origin form; an absolute form is reduced to it
  bool http_1_1 = true;
  bool keep_alive = true;
  bool chunked = false;
  bool expects_continue = false;
  std::uint64_t content_length = 0;
};

struct ResponseHead {
  unsigned status = 0;
  bool keep_alive = true;
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
};

// `head`: from the scanner's start to its end. `fields` is overwritten; its views point into
// `head`.
[[nodiscard]] std::optional<Refusal> parse_request_head(std::string_view head, RequestHead& out,
                                                        std::vector<HeaderField>& fields);
[[nodiscard]] std::optional<Refusal> parse_response_head(std::string_view head, ResponseHead& out,
                                                         std::vector<HeaderField>& fields);

// The first field of that name, in any case; empty when absent.
[[nodiscard]] std::string_view find_field(const std::vector<HeaderField>& fields,
                                          std::string_view name);

}  // namespace outlast::http
