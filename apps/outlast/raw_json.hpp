// RawJson: JSON whose numbers stay the text that they were written as, for amounts of money that no
// floating point may touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

struct RawJson {
  enum class Kind : std::uint8_t { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string text;  // of a number as written, or of a string
  std::vector<std::pair<std::string, RawJson>> members;  // of an object, in their order
  std::vector<RawJson> elements;                         // of an array

  [[nodiscard]] bool is(Kind other) const { return kind == other; }
  // Null where there is no such member.
  [[nodiscard]] const RawJson& operator[](std::string_view name) const;
};

inline constexpr std::size_t raw_json_depth_max = 32;

// Errors (CliError::failed) name the byte.
Result<RawJson> parse_raw_json(std::string_view text);

}  // namespace outlast::apps
