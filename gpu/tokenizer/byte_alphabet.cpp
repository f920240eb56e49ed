#include "gpu/tokenizer/byte_alphabet.hpp"

#include <array>

namespace outlast::gpu {
namespace {

constexpr std::uint32_t first_stand_in = 0x100;
constexpr std::size_t letters_end = 0x144;  // 256 + 68 bytes that have stand-ins

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::uint32_t, 256> letters{};
  std::array<std::int16_t, letters_end> bytes{};

  constexpr Alphabet() {
    for (auto& byte : bytes) byte = -1;
    std::uint32_t next = first_stand_in;
    for (unsigned byte = 0; byte < 256; ++byte) {
      letters[byte] = stands_for_itself(byte) ? byte : next++;
      bytes[letters[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};

constexpr Alphabet alphabet;

}  // namespace

std::uint32_t letter_of(std::uint8_t byte) { return alphabet.letters[byte]; }

std::string to_letters(std::string_view bytes) {
  std::string letters;
  letters.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const std::uint32_t letter = letter_of(static_cast<std::uint8_t>(byte));
    if (letter < 0x80) {
      letters += static_cast<char>(letter);
    } else {
      letters += static_cast<char>(0xC0 | (letter >> 6));
      letters += static_cast<char>(0x80 | (letter & 0x3F));
    }
  }
  return letters;
}

std::optional<std::string> from_letters(std::string_view letters) {
  std::string bytes;
  bytes.reserve(letters.size());
  for (std::size_t at = 0; at < letters.size();) {
    const auto first = static_cast<std::uint8_t>(letters[at++]);
    std::uint32_t letter = first;
    if (first >= 0x80) {
      if ((first & 0xE0) != 0xC0 || at == letters.size()) return std::nullopt;
      letter = (first & 0x1FU) << 6 | (static_cast<std::uint8_t>(letters[at++]) & 0x3FU);
    }
    if (letter >= letters_end || alphabet.bytes[letter] < 0) return std::nullopt;
    bytes += static_cast<char>(alphabet.bytes[letter]);
  }
  return bytes;
}

}  // namespace outlast::gpu
