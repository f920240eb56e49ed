// RateScope: what a rate limit applies to: the tenant part of core/scope.hpp, a deployment, or each
// one of a kind.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gateway {

// In the order in which a request meets them.
enum class RateScopeKind : std::uint8_t {
  organisation = 0,
  team = 1,
  user = 2,
  key = 3,
  deployment = 4
};
inline constexpr std::string_view rate_scope_kind_names[] = {"organisation", "team", "user", "key",
                                                             "deployment"};
inline std::string_view name_of(RateScopeKind kind) {
  return rate_scope_kind_names[static_cast<std::size_t>(kind)];
}

struct RateScope {
  RateScopeKind kind = RateScopeKind::organisation;
  std::string value;  // "acme/search"; a key's id; a deployment's name; "*": each of the kind has
                      // the limit for itself

  bool operator==(const RateScope&) const = default;
  [[nodiscard]] bool each() const { return value == "*"; }
  // "team:acme/search", "key:*"
  [[nodiscard]] std::string to_string() const;
  // KIND:VALUE or KIND:*. Errors of core/scope.hpp (ScopeError), which say what would be right.
  [[nodiscard]] static Result<RateScope> parse(std::string_view text);
};

}  // namespace outlast::gateway
