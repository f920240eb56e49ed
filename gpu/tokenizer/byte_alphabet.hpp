// How files of byte-level tokenizers write bytes: as 256 printable characters (GPT-2's alphabet). The 188 bytes that are
// printable in Latin-1 stand for themselves; the others, in order, are U+0100 and up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace outlast::gpu {

// The code point that stands for a byte.
std::uint32_t letter_of(std::uint8_t byte);

// Bytes in the alphabet's characters, as UTF-8.
std::string to_letters(std::string_view bytes);

// And back; no value where a character is not of the alphabet.
std::optional<std::string> from_letters(std::string_view letters);

}  // namespace outlast::gpu
