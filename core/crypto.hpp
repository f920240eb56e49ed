// The few cryptographic primitives that the platform needs, each by OpenSSL's libcrypto.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace outlast {

using Digest = std::array<std::uint8_t, 32>;

// SHA-256 over pieces, without an allocation. One owner.
class Sha256 {
 public:
  Sha256();
  Sha256& update(std::span<const std::byte> bytes);
  Sha256& update(std::string_view text) { return update(std::as_bytes(std::span(text.data(), text.size()))); }
  Digest finish();

 private:
  alignas(8) std::array<std::byte, 112> state_;  // a SHA256_CTX
};

Digest sha256(std::string_view text);

// HMAC-SHA-256 (RFC 2104) with the key's two blocks hashed once. Immutable after construction: any thread.
class HmacSha256 {
 public:
  explicit HmacSha256(std::span<const std::byte> key);
  [[nodiscard]] Digest of(std::string_view message) const;

 private:
  Sha256 inner_;
  Sha256 outer_;
};

// Takes the same time whatever differs; sizes are not secret.
bool constant_time_equal(std::string_view a, std::string_view b);

// Overwrites memory in a way that the compiler keeps.
void wipe(std::string& secret);

std::uint32_t crc32(std::string_view bytes);

std::string to_hex(std::span<const std::uint8_t> bytes);
// Lower-case base32 without padding, alphabet a–z 2–7.
std::string to_base32(std::span<const std::uint8_t> bytes);

}  // namespace outlast
