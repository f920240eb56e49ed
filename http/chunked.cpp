#include "http/chunked.hpp"

#include <algorithm>
#include <charconv>

namespace outlast::http {
namespace {

constexpr std::uint64_t chunk_size_max = std::uint64_t{1} << 56;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

}  // namespace

ChunkDecoder::State ChunkDecoder::after_size_digit(char c) {
  const int digit = hex_digit(c);
  if (digit < 0) return State::bad;
  size_ = size_ << 4 | static_cast<std::uint64_t>(digit);
  return size_ < chunk_size_max ? State::size : State::bad;
}

// The state after one byte of framing.
ChunkDecoder::State ChunkDecoder::after(char c) {
  switch (state_) {
    case State::size_first:
      size_ = 0;
      skipped_ = 0;
      return after_size_digit(c);
    case State::size:
      if (c == '\r') return State::size_lf;
      if (c == ';') return State::extension;
      return after_size_digit(c);
    case State::extension:
      if (c == '\r') return State::size_lf;
      return is_control(c) || ++skipped_ > chunk_extension_bytes_max ? State::bad
                                                                     : State::extension;
    case State::size_lf:
      if (c != '\n') return State::bad;
      skipped_ = 0;
      return size_ > 0 ? State::data : State::trailer_first;
    case State::data_cr: return c == '\r' ? State::data_lf : State::bad;
    case State::data_lf: return c == '\n' ? State::size_first : State::bad;
    case State::trailer_first:
      if (c == '\r') return State::end_lf;
      return c == ' ' || c == '\t' || is_control(c) ? State::bad : State::trailer;
    case State::trailer:
      if (c == '\r') return State::trailer_lf;
      return is_control(c) || ++skipped_ > trailer_bytes_max ? State::bad : State::trailer;
    case State::trailer_lf:
      return c == '\n' && ++skipped_ <= trailer_bytes_max ? State::trailer_first : State::bad;
    case State::end_lf: return c == '\n' ? State::end : State::bad;
    case State::data:
    case State::end:
    case State::bad: break;
  }
  return State::bad;
}

ChunkStatus ChunkDecoder::next(std::string_view& input, std::string_view& piece) {
  while (true) {
    if (state_ == State::end) return ChunkStatus::end;
    if (state_ == State::bad) return ChunkStatus::malformed;
    if (input.empty()) return ChunkStatus::need_more;
    if (state_ == State::data) {
      piece =
          input.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(size_, input.size())));
      input.remove_prefix(piece.size());
      size_ -= piece.size();
      if (size_ == 0) state_ = State::data_cr;
      return ChunkStatus::data;
    }
    state_ = after(input.front());
    input.remove_prefix(1);
  }
}

void append_chunk_size(std::string& out, std::size_t size) {
  char digits[2 * sizeof(size) + 2];
  char* end = std::to_chars(digits, digits + 2 * sizeof(size), size, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(digits, static_cast<std::size_t>(end - digits));
}

}  // namespace outlast::http
