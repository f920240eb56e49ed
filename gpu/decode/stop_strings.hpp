// StopStrings: ends an answer before the first of some strings. What may become one of them is held back until it is known not to.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast::gpu {

inline constexpr std::size_t stop_strings_max = 16;
inline constexpr std::size_t stop_string_bytes_max = 256;

// Errors: invalid (an empty one, too many, too long).
Result<void> check_stop_strings(const std::vector<std::string>& strings);

// One answer's. One owner.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}
  // Appends to `out` what of the text so far can no longer be part of a stop string. True where one was found: what came before
  // it has been appended, and nothing follows.
  bool push(std::string_view text, std::string& out);
  // Appends what was held back.
  void finish(std::string& out);

 private:
  std::vector<std::string> strings_;
  std::string held_;
};

}  // namespace outlast::gpu
