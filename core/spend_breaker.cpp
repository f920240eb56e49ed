#include "core/spend_breaker.hpp"

#include <algorithm>

namespace outlast {

std::string SpendScope::to_string() const {
  return std::string(name_of(kind)) + ":" + (each() ? "*" : value);
}

Result<SpendScope> SpendScope::parse(std::string_view text) {
  if (text.ends_with(":*")) {
    const std::string_view name = text.substr(0, text.size() - 2);
    const auto* const kind = std::find(std::begin(scope_kind_names), std::end(scope_kind_names), name);
    if (kind != std::end(scope_kind_names)) {
      return SpendScope{static_cast<ScopeKind>(kind - std::begin(scope_kind_names)), {}};
    }
  }
  auto scope = Scope::parse(text);
  if (!scope) {
    Error error = std::move(scope.error());
    error.message += "; KIND:* is each of a kind";
    return fail(std::move(error));
  }
  return SpendScope{scope->kind, std::move(scope->value)};
}

}  // namespace outlast
