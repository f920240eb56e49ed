#include "gpu/tokenizer/unicode.hpp"

#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/check.hpp"

namespace outlast::gpu {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

std::uint8_t byte_at(std::string_view text, std::size_t at) { return static_cast<std::uint8_t>(text[at]); }

struct Character {
  std::size_t size = 0;    // of what was looked at: a character, or what is to be replaced as one
  bool complete = false;   // it is a character
  bool cut_off = false;    // the text ends within what could become one
};

// The character that begins at `at`, by the table of well-formed sequences (Unicode, table 3-7).
Character character_at(std::string_view text, std::size_t at) {
  const std::uint8_t first = byte_at(text, at);
  if (first < 0x80) return {1, true, false};
  if (first < 0xC2 || first > 0xF4) return {1, false, false};
  const std::size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i == text.size()) return {i, false, true};
    const std::uint8_t next = byte_at(text, at + i);
    if (next < low || next > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true, false};
}

std::size_t ascii_run(std::string_view text, std::size_t at) {
  const std::size_t begin = at;
  while (at < text.size() && byte_at(text, at) < 0x80) ++at;
  return at - begin;
}

}  // namespace

std::string_view valid_utf8(std::string_view text, std::string& copy) {
  bool copied = false;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t size = ascii_run(text, at);
    bool complete = true;
    if (size == 0) {
      const Character character = character_at(text, at);
      size = character.size;
      complete = character.complete;
    }
    if (!complete && !copied) {
      copied = true;
      copy.assign(text.substr(0, at));
    }
    if (copied) copy.append(complete ? text.substr(at, size) : replacement);
    at += size;
  }
  return copied ? std::string_view(copy) : text;
}

std::size_t unfinished_utf8(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::uint8_t byte = byte_at(text, text.size() - back);
    if (byte < 0x80) return 0;
    if (byte < 0xC0) continue;
    return character_at(text, text.size() - back).cut_off ? back : 0;
  }
  return 0;
}

std::string_view nfc(std::string_view text, std::string& copy) {
  // Below U+0300 nothing composes, and every character is its own form.
  bool simple = true;
  for (std::size_t at = 0; at < text.size() && simple; ++at) simple = byte_at(text, at) < 0xCC;
  if (simple) return text;
  utf8proc_uint8_t* made = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &made,
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  check(size >= 0, "valid UTF-8 has a normal form", size < 0 ? utf8proc_errmsg(size) : "");
  copy.assign(reinterpret_cast<const char*>(made), static_cast<std::size_t>(size));
  return copy;
}

}  // namespace outlast::gpu
