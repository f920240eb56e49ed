// Ed25519 signatures (RFC 8032) by OpenSSL's libcrypto, and their keys as PEM, so that `openssl
// pkeyutl` can check what a node signed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast {

// Append-only.
enum class SigningError : std::uint16_t { malformed = 1 };

using PublicKey = std::array<std::uint8_t, 32>;
using Signature = std::array<std::uint8_t, 64>;

// A private key. Immutable after construction: any thread.
class SigningKey {
 public:
  static SigningKey make();
  // A PKCS #8 private key. Error: malformed, also when it is of another kind.
  static Result<SigningKey> parse(std::string_view pem);
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) = delete;
  ~SigningKey();

  [[nodiscard]] std::string to_pem() const;  // secret
  [[nodiscard]] PublicKey public_key() const;
  [[nodiscard]] Signature sign(std::string_view message) const;

 private:
  struct Impl;
  explicit SigningKey(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

[[nodiscard]] bool verify_signature(const PublicKey& key, std::string_view message,
                                    const Signature& signature);

std::string to_pem(const PublicKey& key);
// Every public key in the text, in order. Error: malformed, also when there is none.
Result<std::vector<PublicKey>> parse_public_keys(std::string_view pem);

}  // namespace outlast

namespace outlast {
template <>
inline constexpr std::string_view error_module<SigningError> = "signing";
}  // namespace outlast
