#include "gateway/rate_scope.hpp"

#include <algorithm>

#include "core/scope.hpp"

namespace outlast::gateway {
namespace {

constexpr std::size_t value_bytes_max = 128;

}  // namespace

std::string RateScope::to_string() const { return std::string(name_of(kind)) + ":" + value; }

Result<RateScope> RateScope::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  const auto* const kind = std::find(std::begin(rate_scope_kind_names),
                                     std::end(rate_scope_kind_names), text.substr(0, colon));
  if (colon == std::string_view::npos || kind == std::end(rate_scope_kind_names)) {
    std::string known;
    for (const std::string_view name : rate_scope_kind_names)
      known.append(known.empty() ? "" : ", ").append(name);
    return fail(ScopeError::malformed,
                "'" + std::string(text.substr(0, 64)) + "' is nothing that a rate limit applies " +
                    "to: write KIND:VALUE, where KIND is one of " + known +
                    ", e.g. team:acme/search, or key:* for each key by itself");
  }
  RateScope scope{static_cast<RateScopeKind>(kind - std::begin(rate_scope_kind_names)),
                  std::string(text.substr(colon + 1))};
  if (scope.each()) return scope;
  if (scope.kind != RateScopeKind::deployment) {
    if (auto parsed = Scope::parse(text); !parsed) return fail(std::move(parsed.error()));
    return scope;
  }
  if (scope.value.empty() || scope.value.size() > value_bytes_max) {
    return fail(ScopeError::malformed,
                "'" + std::string(text.substr(0, 64)) +
                    "' names no deployment; write deployment:NAME or deployment:*");
  }
  return scope;
}

}  // namespace outlast::gateway
