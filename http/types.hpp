// What HTTP/1.1 has on both sides: header fields, errors and limits. Bytes and sockets, no meaning.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/check.hpp"
#include "core/result.hpp"

namespace outlast::http {

// Append-only.
enum class HttpError : std::uint16_t {
  malformed = 1,  // the peer broke the protocol, or used ambiguous framing
  head_too_large = 2,
  body_too_large = 3,
  timed_out = 4,       // waiting for the peer's bytes; the message says which wait
  closed = 5,          // the peer closed or reset before the message was complete
  connect_failed = 6,  // refused, unreachable, not resolved
  connect_timed_out = 7,
  tls_failed = 8,  // handshake or certificate verification
  cancelled = 9,   // by us
  listen_failed = 10,
  write_stalled = 11,   // the peer did not take our bytes in time
  overloaded = 12,      // more connections than the limit
  handler_failed = 13,  // a server's handler threw or gave no answer
};

struct HeaderField {
  std::string_view name;
  std::string_view value;
};

// A body to send: views that go out one after another, without being copied together first.
class BodyPieces {
 public:
  static constexpr std::size_t pieces_max = 8;

  BodyPieces() = default;
  // Text of one piece is a body.
  template <std::convertible_to<std::string_view> Text>
  BodyPieces(const Text& text) { add(text); }  // NOLINT(google-explicit-constructor)
  void add(std::string_view piece) {
    if (piece.empty()) return;
    check(count_ < pieces_max, "a body has at most pieces_max pieces");
    pieces_[count_++] = piece;
    size_ += piece.size();
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<const std::string_view> pieces() const { return {pieces_.data(), count_}; }

 private:
  std::array<std::string_view, pieces_max> pieces_;
  std::size_t count_ = 0;
  std::size_t size_ = 0;
};

// ASCII, as field names are.
bool equal_ignoring_case(std::string_view a, std::string_view b);

// Bytes that may be read past the end of a body view, so that simdjson needs no copy
// (simdjson::SIMDJSON_PADDING).
inline constexpr std::size_t body_padding_bytes = 64;

}  // namespace outlast::http

namespace outlast {
template <>
inline constexpr std::string_view error_module<http::HttpError> = "http";
}  // namespace outlast
