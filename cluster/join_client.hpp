// join_cluster(): asks a node of a cluster to be let in, as the join token says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/curve.hpp"
#include "cluster/join_error.hpp"
#include "cluster/join_token.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/join_codec.hpp"

namespace outlast::cluster {

struct JoinCall {
  JoinToken token;
  CurveKeys keys;  // those that the node will have
  std::string name;
  std::string endpoint;
  std::vector<std::string> roles;
  std::string software;
  std::uint32_t timeout_ms = 30'000;
};

// Waits for the answer; tries again while the node is busy or silent, which is harmless: a node whose answer was lost is
// answered again. Only the node that made the token can answer, since the link goes by the token's key. Errors:
// JoinError (unreachable; refused; bad_answer).
[[nodiscard]] Result<join::Welcome> join_cluster(const JoinCall& call, const Clock& clock);

}  // namespace outlast::cluster
