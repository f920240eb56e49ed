// Virtual keys: what a tenant's service sends instead of a provider's key. The text is shown once and never stored.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/crypto.hpp"
#include "core/tenant.hpp"

namespace outlast {

struct VirtualKey {
  std::string id;  // "key_…", public
  TenantPath tenant;
  std::string name;  // for people; may be empty
  Digest hash{};     // HMAC-SHA-256 of the text under the node's key secret
  std::int64_t created_ms = 0;
  std::optional<std::int64_t> revoked_ms;

  bool operator==(const VirtualKey&) const = default;
};

// "ol_" + 160 random bits in base32 + CRC-32 of them in base32: 42 characters.
std::string make_virtual_key_text();
// Right length, alphabet and checksum: says "mistyped" without a look-up. Not a proof of anything.
bool looks_like_virtual_key(std::string_view text);
// "key_" + 55 random bits in base32: 15 characters, which a string holds without an allocation, and every reservation
// carries one from a lane to the committer.
std::string make_virtual_key_id();

// The live keys by hash. Immutable once published: any thread. A look-up is one HMAC and one hash-map probe; the
// probe is by keyed hash, so its timing tells nothing of stored keys.
class KeyTable {
 public:
  explicit KeyTable(std::shared_ptr<const HmacSha256> hasher) : hasher_(std::move(hasher)) {}
  void add(std::shared_ptr<const VirtualKey> key);
  // Null for a mistyped, unknown or revoked key.
  [[nodiscard]] std::shared_ptr<const VirtualKey> find(std::string_view text) const;
  [[nodiscard]] std::size_t size() const { return keys_.size(); }

 private:
  struct DigestHash {
    std::size_t operator()(const Digest& digest) const noexcept;
  };
  std::shared_ptr<const HmacSha256> hasher_;
  std::unordered_map<Digest, std::shared_ptr<const VirtualKey>, DigestHash> keys_;
};

}  // namespace outlast
