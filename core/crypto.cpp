// The SHA256_* calls are "deprecated" in OpenSSL 3 because they bypass providers; EVP costs about 1 µs of look-ups
// per digest, and a digest stands on the path of every request and every ledger entry.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "core/crypto.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <cstring>

namespace outlast {
namespace {

SHA256_CTX* context(std::byte* state) { return reinterpret_cast<SHA256_CTX*>(state); }

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? 0xedb88320U ^ (value >> 1) : value >> 1;
    table[i] = value;
  }
  return table;
}
constexpr auto crc_table = make_crc_table();

}  // namespace

Sha256::Sha256() {
  static_assert(sizeof(SHA256_CTX) <= sizeof(state_));
  SHA256_Init(context(state_.data()));
}

Sha256& Sha256::update(std::span<const std::byte> bytes) {
  SHA256_Update(context(state_.data()), bytes.data(), bytes.size());
  return *this;
}

Digest Sha256::finish() {
  Digest digest;
  SHA256_Final(digest.data(), context(state_.data()));
  return digest;
}

Digest sha256(std::string_view text) { return Sha256().update(text).finish(); }

HmacSha256::HmacSha256(std::span<const std::byte> key) {
  std::array<std::uint8_t, 64> block{};
  if (key.size() > block.size()) {
    const Digest shortened = Sha256().update(key).finish();
    std::memcpy(block.data(), shortened.data(), shortened.size());
  } else {
    std::memcpy(block.data(), key.data(), key.size());
  }
  for (auto& byte : block) byte ^= 0x36;
  inner_.update(std::as_bytes(std::span(block)));
  for (auto& byte : block) byte ^= 0x36 ^ 0x5c;
  outer_.update(std::as_bytes(std::span(block)));
  OPENSSL_cleanse(block.data(), block.size());
}

Digest HmacSha256::of(std::string_view message) const {
  Sha256 inner = inner_;
  const Digest first = inner.update(message).finish();
  Sha256 outer = outer_;
  return outer.update(std::as_bytes(std::span(first))).finish();
}

bool constant_time_equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t value = 0xffffffffU;
  for (const char c : bytes) value = crc_table[(value ^ static_cast<std::uint8_t>(c)) & 0xff] ^ (value >> 8);
  return value ^ 0xffffffffU;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const auto byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string to_base32(std::span<const std::uint8_t> bytes) {
  static constexpr char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
  std::string text;
  std::uint32_t buffer = 0;
  int bits = 0;
  for (const auto byte : bytes) {
    buffer = buffer << 8 | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[buffer >> bits & 31];
    }
  }
  if (bits > 0) text += alphabet[buffer << (5 - bits) & 31];
  return text;
}

}  // namespace outlast
