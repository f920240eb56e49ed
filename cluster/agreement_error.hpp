// What can go wrong where nodes agree on something.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.hpp"

namespace outlast::cluster {

// Append-only.
enum class AgreementError : std::uint16_t {
  unavailable = 1,  // did not happen: nobody answered, or refused for now
  unknown = 2,      // may have happened: read before trying again
  fenced = 3,       // another owner's epoch holds, or none
  conflict = 4,     // the log does not end where the batch begins
  trimmed = 5,      // entries from there are gone from the shared log; take a checkpoint from a peer
  corrupt = 6,
  taken = 7,        // the shard has an owner
  lease_lost = 8,
  refused = 9,      // credentials, or the peer's version
  too_large = 10,
};

}  // namespace outlast::cluster

namespace outlast {
template <>
inline constexpr std::string_view error_module<cluster::AgreementError> = "agreement";
}  // namespace outlast
