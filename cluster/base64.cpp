#include "cluster/base64.hpp"

#include <array>
#include <cstdint>
#include <cstring>

namespace outlast::cluster {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint32_t bad = 1U << 24;

// Two characters for every twelve bits.
constexpr auto pairs = [] {
  std::array<std::array<char, 2>, 4096> table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = {alphabet[i >> 6], alphabet[i & 63]};
  return table;
}();

constexpr auto values = [] {
  std::array<std::uint32_t, 256> table{};
  table.fill(bad);
  for (std::uint32_t i = 0; i < 64; ++i) table[static_cast<unsigned char>(alphabet[i])] = i;
  return table;
}();

std::uint32_t byte_at(const char* at) { return static_cast<unsigned char>(*at); }
std::uint32_t value_at(const char* at) { return values[static_cast<unsigned char>(*at)]; }

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
  const std::size_t begin = out.size();
  out.resize(begin + (bytes.size() + 2) / 3 * 4);
  char* to = out.data() + begin;
  const char* at = bytes.data();
  const char* const end = at + bytes.size() / 3 * 3;
  for (; at != end; at += 3, to += 4) {
    const std::uint32_t bits = byte_at(at) << 16 | byte_at(at + 1) << 8 | byte_at(at + 2);
    std::memcpy(to, pairs[bits >> 12].data(), 2);
    std::memcpy(to + 2, pairs[bits & 4095].data(), 2);
  }
  if (const std::size_t rest = bytes.size() % 3; rest != 0) {
    const std::uint32_t bits = byte_at(at) << 16 | (rest == 2 ? byte_at(at + 1) << 8 : 0);
    std::memcpy(to, pairs[bits >> 12].data(), 2);
    to[2] = rest == 2 ? alphabet[bits >> 6 & 63] : '=';
    to[3] = '=';
  }
}

bool decode_base64(std::string_view text, std::string& out) {
  out.clear();
  if (text.size() % 4 != 0) return false;
  if (text.empty()) return true;
  const std::size_t padding = text[text.size() - 1] != '=' ? 0 : text[text.size() - 2] != '=' ? 1 : 2;
  out.resize(text.size() / 4 * 3);
  char* to = out.data();
  const char* at = text.data();
  const char* const end = at + text.size() - (padding == 0 ? 0 : 4);
  std::uint32_t seen = 0;
  for (; at != end; at += 4, to += 3) {
    const std::uint32_t bits = value_at(at) << 18 | value_at(at + 1) << 12 | value_at(at + 2) << 6 | value_at(at + 3);
    seen |= value_at(at) | value_at(at + 1) | value_at(at + 2) | value_at(at + 3);
    to[0] = static_cast<char>(bits >> 16);
    to[1] = static_cast<char>(bits >> 8);
    to[2] = static_cast<char>(bits);
  }
  if (padding != 0) {
    const std::uint32_t third = padding == 1 ? value_at(at + 2) : 0;
    seen |= value_at(at) | value_at(at + 1) | third;
    const std::uint32_t bits = value_at(at) << 18 | value_at(at + 1) << 12 | third << 6;
    // What the padding cuts off is zero, so that every value has one text.
    if ((bits & (padding == 1 ? 0xffU : 0xffffU)) != 0) return false;
    to[0] = static_cast<char>(bits >> 16);
    if (padding == 1) to[1] = static_cast<char>(bits >> 8);
    out.resize(out.size() - padding);
  }
  return seen < bad;
}

}  // namespace outlast::cluster
