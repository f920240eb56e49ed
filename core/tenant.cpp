#include "core/tenant.hpp"

#include <array>

namespace outlast {
namespace {

constexpr std::size_t part_length_max = 64;

bool valid_part(std::string_view part) {
  if (part.empty() || part.size() > part_length_max) return false;
  for (const char c : part) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

}  // namespace

Result<TenantPath> TenantPath::parse(std::string_view text) {
  const auto refuse = [text] {
    return fail(TenantError::malformed, "'" + std::string(text.substr(0, 200)) +
                                            "' is not a tenant path; write ORG/TEAM/USER, each 1-64 of A-Z a-z 0-9 . _ -");
  };
  std::array<std::string_view, 3> parts;
  std::string_view rest = text;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto slash = rest.find('/');
    if ((slash == std::string_view::npos) != (i == 2)) return refuse();
    parts[i] = rest.substr(0, slash);
    if (!valid_part(parts[i])) return refuse();
    rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
  }
  return TenantPath{std::string(parts[0]), std::string(parts[1]), std::string(parts[2])};
}

}  // namespace outlast
