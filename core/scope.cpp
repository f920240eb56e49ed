#include "core/scope.hpp"

#include <algorithm>

#include "core/tenant.hpp"

namespace outlast {
namespace {

constexpr std::size_t value_bytes_max = 128;

Failure malformed(std::string_view text, std::string_view why) {
  return fail(ScopeError::malformed, "'" + std::string(text.substr(0, 64)) + "' is no scope: " + std::string(why));
}

// How many parts of a tenant path the kind names; 0 for kinds that name none.
std::size_t tenant_parts(ScopeKind kind) {
  switch (kind) {
    case ScopeKind::organisation: return 1;
    case ScopeKind::team: return 2;
    case ScopeKind::user: return 3;
    default: return 0;
  }
}

}  // namespace

std::string Scope::to_string() const { return std::string(name_of(kind)) + ":" + value; }

Result<Scope> Scope::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  const auto* const kind = std::find(std::begin(scope_kind_names), std::end(scope_kind_names), text.substr(0, colon));
  if (colon == std::string_view::npos || kind == std::end(scope_kind_names)) {
    std::string known;
    for (const std::string_view name : scope_kind_names) known.append(known.empty() ? "" : ", ").append(name);
    return malformed(text, "write KIND:VALUE, where KIND is one of " + known + ", e.g. team:acme/search");
  }
  Scope scope{static_cast<ScopeKind>(kind - std::begin(scope_kind_names)), std::string(text.substr(colon + 1))};
  if (scope.value.empty()) return malformed(text, "nothing follows the colon");
  if (scope.value.size() > value_bytes_max) return malformed(text, "its value is longer than 128 bytes");
  if (std::any_of(scope.value.begin(), scope.value.end(),
                  [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; })) {
    return malformed(text, "its value holds a control character");
  }
  const std::size_t parts = tenant_parts(scope.kind);
  if (parts == 0) return scope;
  constexpr std::string_view rest[] = {"/x/x", "/x", ""};
  if (!TenantPath::parse(scope.value + std::string(rest[parts - 1]))) {
    constexpr std::string_view shapes[] = {"ORGANISATION", "ORGANISATION/TEAM", "ORGANISATION/TEAM/USER"};
    return malformed(text, "write " + std::string(name_of(scope.kind)) + ":" + std::string(shapes[parts - 1]) +
                               ", of letters, digits, '.', '_' and '-'");
  }
  return scope;
}

}  // namespace outlast
