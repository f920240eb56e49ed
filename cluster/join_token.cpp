#include "cluster/join_token.hpp"

#include <array>
#include <optional>
#include <span>

#include "cluster/curve.hpp"
#include "cluster/join_error.hpp"
#include "core/check.hpp"
#include "core/crypto.hpp"
#include "core/random.hpp"

namespace outlast::cluster {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::size_t id_bytes = 10;
constexpr std::size_t checksum_bytes = 4;
constexpr std::size_t field_bytes_max = 255;

// Base64 of RFC 4648, section 5, without padding: no character that a shell or a URL minds.
std::string to_base64url(std::string_view bytes) {
  std::string text;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (count += 8; count >= 6; count -= 6) text += alphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) text += alphabet[bits << (6 - count) & 63];
  return text;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const auto digit = alphabet.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  // What is left over would be zero.
  if (count >= 6 || (bits & ((1U << count) - 1)) != 0) return std::nullopt;
  return bytes;
}

void append_field(std::string& out, std::string_view field) {
  check(field.size() <= field_bytes_max, "a field of a join token is short");
  out += static_cast<char>(field.size());
  out += field;
}

std::string checksum_of(std::string_view bytes) {
  const std::uint32_t sum = crc32(bytes);
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(sum >> shift & 255);
  return text;
}

std::string_view bytes_of(const join::Secret& secret) {
  return {reinterpret_cast<const char*>(secret.data()), secret.size()};
}

bool take_field(std::string_view& from, std::string& into) {
  if (from.empty()) return false;
  const std::size_t size = static_cast<unsigned char>(from[0]);
  if (from.size() < 1 + size) return false;
  into = from.substr(1, size);
  from.remove_prefix(1 + size);
  return true;
}

Failure malformed(const char* what) { return fail(JoinError::malformed_token, std::string("this is no join token: ") + what); }

}  // namespace

std::string JoinToken::text() const {
  std::string bytes;
  append_field(bytes, cluster);
  append_field(bytes, endpoint);
  append_field(bytes, public_key);
  append_field(bytes, id);
  append_field(bytes, bytes_of(secret));
  bytes += checksum_of(bytes);
  return std::string(join_token_prefix) + to_base64url(bytes);
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  if (!text.starts_with(join_token_prefix) || text.size() > join_token_bytes_max) {
    return malformed("it begins with outlast-join-1. and is one word; 'outlast node token' makes one");
  }
  const auto whole = from_base64url(text.substr(join_token_prefix.size()));
  if (!whole || whole->size() < checksum_bytes) return malformed("a part of it is missing or mistyped; copy it whole");
  std::string_view rest(*whole);
  const std::string_view sum = rest.substr(rest.size() - checksum_bytes);
  rest.remove_suffix(checksum_bytes);
  if (sum != checksum_of(rest)) return malformed("a part of it is missing or mistyped; copy it whole");
  JoinToken token;
  std::string secret;
  const bool complete = take_field(rest, token.cluster) && take_field(rest, token.endpoint) &&
                        take_field(rest, token.public_key) && take_field(rest, token.id) && take_field(rest, secret);
  if (!complete || !rest.empty() || secret.size() != token.secret.size() || token.cluster.empty() || token.id.empty() ||
      !token.endpoint.starts_with("tcp://") || !is_curve_key(token.public_key)) {
    return malformed("it is of another version; make one with the cluster's own 'outlast node token'");
  }
  for (std::size_t i = 0; i < secret.size(); ++i) token.secret[i] = static_cast<std::uint8_t>(secret[i]);
  return token;
}

JoinToken make_join_token(std::string cluster, std::string endpoint, std::string public_key) {
  std::array<std::uint8_t, id_bytes> id{};
  secure_random(std::as_writable_bytes(std::span(id)));
  JoinToken token{std::move(cluster), std::move(endpoint), std::move(public_key), "jt_" + to_base32(id), {}};
  secure_random(std::as_writable_bytes(std::span(token.secret)));
  return token;
}

JoinTokenMade record_of(const JoinToken& token, std::int64_t expires_ms, std::string by) {
  return {token.id, sha256(bytes_of(token.secret)), expires_ms, std::move(by)};
}

bool is_secret_of(const join::Secret& secret, const Digest& hash) {
  const Digest own = sha256(bytes_of(secret));
  return constant_time_equal({reinterpret_cast<const char*>(own.data()), own.size()},
                             {reinterpret_cast<const char*>(hash.data()), hash.size()});
}

}  // namespace outlast::cluster
