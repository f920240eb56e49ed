// Who changes something by hand, and why: members of a request's body that the ledger keeps.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace outlast::apps {

inline constexpr std::size_t who_bytes_max = 200;
inline constexpr std::size_t reason_bytes_max = 1'000;
inline constexpr std::string_view statement_advice =
    R"("by" and "reason" are texts of at most 200 and 1,000 bytes that say who does it and why)";

struct Statement {
  std::string by = "the holder of the admin token";
  std::string reason;
};

// Nothing when it is no object, or a member is of a wrong type or too long.
inline std::optional<Statement> read_statement(const nlohmann::json& object) {
  if (!object.is_object()) return std::nullopt;
  Statement statement;
  for (const auto& [key, into] : {std::pair{"by", &statement.by}, std::pair{"reason", &statement.reason}}) {
    if (!object.contains(key)) continue;
    if (!object[key].is_string()) return std::nullopt;
    *into = object[key].get<std::string>();
  }
  if (statement.by.empty() || statement.by.size() > who_bytes_max || statement.reason.size() > reason_bytes_max) {
    return std::nullopt;
  }
  return statement;
}

}  // namespace outlast::apps
