// TenantPath: organisation/team/user, the path that a request is charged along.
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast {

enum class TenantError : std::uint16_t { malformed = 1 };
template <>
inline constexpr std::string_view error_module<TenantError> = "tenant";

struct TenantPath {
  std::string organisation;
  std::string team;
  std::string user;

  bool operator==(const TenantPath&) const = default;
  [[nodiscard]] std::string to_string() const { return organisation + "/" + team + "/" + user; }
  // Exactly three parts of 1–64 characters from [A-Za-z0-9._-].
  [[nodiscard]] static Result<TenantPath> parse(std::string_view text);
};

}  // namespace outlast
