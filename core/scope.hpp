// Scope: what a budget, a breaker or a rate limit applies to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast {

// Append-only.
enum class ScopeKind : std::uint8_t {
  organisation = 0,
  team = 1,
  user = 2,
  key = 3,
  tag = 4,
  model = 5,  // as the provider serves it
  provider = 6,
};
inline constexpr std::string_view scope_kind_names[] = {"organisation", "team",  "user",    "key",
                                                        "tag",          "model", "provider"};
inline std::string_view name_of(ScopeKind kind) {
  return scope_kind_names[static_cast<std::size_t>(kind)];
}

enum class ScopeError : std::uint16_t { malformed = 1 };
template <>
inline constexpr std::string_view error_module<ScopeError> = "scope";

struct Scope {
  ScopeKind kind = ScopeKind::organisation;
  // "acme"; "acme/search"; "acme/search/ann"; a key's id; a tag; a model; a provider.
  std::string value;

  bool operator==(const Scope&) const = default;
  // "team:acme/search"
  [[nodiscard]] std::string to_string() const;
  // KIND:VALUE. Refuses unknown kinds, a tenant path of the wrong depth, and values that are empty, longer than 128
  // bytes or hold control characters; the error says what would be right.
  [[nodiscard]] static Result<Scope> parse(std::string_view text);
};

}  // namespace outlast
