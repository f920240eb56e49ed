// JoinToken: what an administrator carries from a node of a cluster to a machine that is to become one: where to ask, by
// which key to know whom it asks, and a secret that lets one node in, once. The ledger keeps only the secret's hash.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/cluster_member.hpp"
#include "core/result.hpp"
#include "proto/join_codec.hpp"

namespace outlast::cluster {

inline constexpr std::string_view join_token_prefix = "outlast-join-1.";
inline constexpr std::size_t join_token_bytes_max = 2'048;

struct JoinToken {
  std::string cluster;
  std::string endpoint;    // of the join listener: "tcp://HOST:PORT"
  std::string public_key;  // the node's, CURVE, Z85
  std::string id;
  join::Secret secret{};   // never logged
  bool operator==(const JoinToken&) const = default;

  // One word, shown once.
  [[nodiscard]] std::string text() const;
  // JoinError::malformed_token, which says whether a part of it seems to be missing.
  static Result<JoinToken> parse(std::string_view text);
};

// With a new id and a new secret from the kernel.
[[nodiscard]] JoinToken make_join_token(std::string cluster, std::string endpoint, std::string public_key);

// What the ledger keeps of it.
[[nodiscard]] JoinTokenMade record_of(const JoinToken& token, std::int64_t expires_ms, std::string by);

// Takes the same time whatever differs.
[[nodiscard]] bool is_secret_of(const join::Secret& secret, const Digest& hash);

}  // namespace outlast::cluster
