// The chunked transfer coding (RFC 9112, section 7.1), read in place and strictly. Pure: no
// sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace outlast::http {

// Bytes of chunk extensions (of one chunk) and of trailer fields (of a body) that are skipped; more
// is refused.
inline constexpr std::size_t chunk_extension_bytes_max = 256;
inline constexpr std::size_t trailer_bytes_max = 8 * 1024;

enum class ChunkStatus { need_more, data, end, malformed };

// One owner. Copying it lets a caller look ahead.
class ChunkDecoder {
 public:
  // Takes bytes from the front of `input`. With `data`, `piece` is a view of decoded bytes in it,
  // never empty; call again for the rest. With `need_more`, `input` is used up. With `end`, `input`
  // holds what follows the body.
  ChunkStatus next(std::string_view& input, std::string_view& piece);
  [[nodiscard]] bool ended() const { return state_ == State::end; }

 private:
  enum class State : std::uint8_t {
    size_first,
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_first,
    trailer,
    trailer_lf,
    end_lf,
    end,
    bad
  };
  [[nodiscard]] State after(char c);
  [[nodiscard]] State after_size_digit(char c);

  std::uint64_t size_ = 0;     // what is left of the present chunk
  std::uint32_t skipped_ = 0;  // bytes of the present extension, or of the trailer
  State state_ = State::size_first;
};

// Appends "SIZE\r\n" in hexadecimal.
void append_chunk_size(std::string& out, std::size_t size);

}  // namespace outlast::http
