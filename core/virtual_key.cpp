#include "core/virtual_key.hpp"

#include <cstring>

#include "core/random.hpp"

namespace outlast {
namespace {

constexpr std::string_view prefix = "ol_";
constexpr std::size_t random_bytes = 20;
constexpr std::size_t body_length = 32;      // 160 bits in base32
constexpr std::size_t checksum_length = 7;   // 32 bits in base32

std::string checksum_of(std::string_view body) {
  const std::uint32_t crc = crc32(body);
  const std::array<std::uint8_t, 4> bytes = {static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
                                             static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
  return to_base32(bytes);
}

}  // namespace

std::string make_virtual_key_text() {
  std::array<std::uint8_t, random_bytes> random{};
  secure_random(std::as_writable_bytes(std::span(random)));
  const std::string body = to_base32(random);
  return std::string(prefix) + body + checksum_of(body);
}

bool looks_like_virtual_key(std::string_view text) {
  if (text.size() != prefix.size() + body_length + checksum_length || !text.starts_with(prefix)) return false;
  const std::string_view body = text.substr(prefix.size(), body_length);
  return text.substr(prefix.size() + body_length) == checksum_of(body);
}

std::string make_virtual_key_id() {
  std::array<std::uint8_t, 8> random{};
  secure_random(std::as_writable_bytes(std::span(random)));
  return "key_" + to_base32(random).substr(0, 11);
}

void KeyTable::add(std::shared_ptr<const VirtualKey> key) {
  if (!key->revoked_ms) keys_.insert_or_assign(key->hash, std::move(key));
}

std::shared_ptr<const VirtualKey> KeyTable::find(std::string_view text) const {
  if (!looks_like_virtual_key(text)) return nullptr;
  const auto found = keys_.find(hasher_->of(text));
  return found == keys_.end() ? nullptr : found->second;
}

std::size_t KeyTable::DigestHash::operator()(const Digest& digest) const noexcept {
  std::size_t value = 0;
  std::memcpy(&value, digest.data(), sizeof(value));
  return value;
}

}  // namespace outlast
