// CertificateAuthority: a private authority for one installation, and the certificates that it signs: for servers that are
// also clients of each other (etcd members), and for clients (nodes). ECDSA on P-256, SHA-256.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast::http {

// Append-only.
enum class CertificateError : std::uint16_t {
  invalid = 1,  // a name that no certificate can hold, or text that is no certificate or key
  failed = 2,   // the library refused
};

// PEM texts.
struct CertificatePair {
  std::string certificate;
  std::string key;  // PKCS #8, not encrypted: its file's mode is what protects it
};

struct CertificateRequest {
  std::string common_name;
  std::vector<std::string> hosts;  // DNS names and IP addresses that a client may reach it by; none: only a client
  bool server = false;             // may answer as a server too, and not only ask as a client
  std::uint32_t days = 825;
};

// When the first of a PEM text's certificates ends, in ms since 1970. Errors: invalid.
Result<std::int64_t> certificates_end_ms(const std::string& pem);

inline constexpr std::uint32_t authority_days = 3'650;
inline constexpr std::size_t common_name_bytes_max = 64;  // X.520's upper bound

// Movable; one owner.
class CertificateAuthority {
 public:
  // A new one, which signs itself. Errors: invalid, failed.
  static Result<CertificateAuthority> make(const std::string& name);
  // One that was made before. Errors: invalid (also when key and certificate are not a pair, or it is no authority).
  static Result<CertificateAuthority> load(const CertificatePair& pem);

  CertificateAuthority(CertificateAuthority&&) noexcept;
  CertificateAuthority& operator=(CertificateAuthority&&) noexcept;
  ~CertificateAuthority();

  [[nodiscard]] Result<CertificatePair> pem() const;
  // A new key and a certificate for it, valid from an hour ago (clocks differ) and never longer than the authority's.
  [[nodiscard]] Result<CertificatePair> issue(const CertificateRequest& request) const;

 private:
  struct State;
  explicit CertificateAuthority(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace outlast::http

namespace outlast {
template <>
inline constexpr std::string_view error_module<http::CertificateError> = "certificates";
}  // namespace outlast
