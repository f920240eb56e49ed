#include "core/id.hpp"

#include <algorithm>

namespace outlast {

std::int64_t Uuid::unix_ms() const {
  std::int64_t ms = 0;
  for (std::size_t i = 0; i < 6; ++i) ms = ms << 8 | bytes[i];
  return ms;
}

Uuid::Text Uuid::text() const {
  static constexpr char digits[] = "0123456789abcdef";
  Text text;
  std::size_t at = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
    text[at++] = digits[bytes[i] >> 4];
    text[at++] = digits[bytes[i] & 15];
  }
  return text;
}

std::string Uuid::to_string() const {
  const Text characters = text();
  return {characters.data(), characters.size()};
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid id;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < 36; ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return std::nullopt;
      continue;
    }
    int value = 0;
    if (c >= '0' && c <= '9') value = c - '0';
    else if (c >= 'a' && c <= 'f') value = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F') value = c - 'A' + 10;
    else return std::nullopt;
    id.bytes[nibble / 2] = static_cast<std::uint8_t>(id.bytes[nibble / 2] << 4 | value);
    ++nibble;
  }
  return id;
}

Uuid UuidGenerator::next() {
  const std::int64_t now_ms = clock_.wall_ms();
  if (now_ms > last_ms_) {
    last_ms_ = now_ms;
    sequence_ = static_cast<std::uint16_t>(random_.below(0x400));  // room to count up within the millisecond
  } else if (++sequence_ > 0xfff) {
    ++last_ms_;  // borrow from the next millisecond rather than repeat or wait
    sequence_ = 0;
  }
  Uuid id;
  for (int i = 0; i < 6; ++i) id.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(last_ms_ >> (40 - 8 * i));
  id.bytes[6] = static_cast<std::uint8_t>(0x70 | sequence_ >> 8);
  id.bytes[7] = static_cast<std::uint8_t>(sequence_);
  std::uint64_t tail = random_.next();
  for (std::size_t i = 8; i < 16; ++i, tail >>= 8) id.bytes[i] = static_cast<std::uint8_t>(tail);
  id.bytes[8] = static_cast<std::uint8_t>(0x80 | (id.bytes[8] & 0x3f));
  return id;
}

}  // namespace outlast
