// RequestLabels: what a caller calls its request: tags to report and budget by, and the session it belongs to.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast {

inline constexpr std::size_t tags_max = 8;
inline constexpr std::size_t tag_bytes_max = 64;
inline constexpr std::size_t session_bytes_max = 128;

enum class LabelError : std::uint16_t { malformed = 1 };
template <>
inline constexpr std::string_view error_module<LabelError> = "labels";

struct RequestLabels {
  std::vector<std::string> tags;  // each once
  std::string session;            // empty for none
  bool operator==(const RequestLabels&) const = default;

  // `tags` is "a,b": printable ASCII, spaces around a name do not count. Both may be empty. The error says what is
  // wrong in words for the caller.
  [[nodiscard]] static Result<RequestLabels> parse(std::string_view tags, std::string_view session);
  // The same of labels that came as a list.
  [[nodiscard]] static Result<RequestLabels> check(const std::vector<std::string>& tags, std::string_view session);
};

}  // namespace outlast
