// check(): a condition that only a bug can break. It aborts with file, line and values, in release builds too.
#pragma once

#include <source_location>
#include <string_view>

namespace outlast {

[[noreturn]] void check_failed(std::string_view what, std::string_view values, std::source_location where);

inline void check(bool condition, std::string_view what, std::string_view values = {},
                  std::source_location where = std::source_location::current()) {
  if (!condition) [[unlikely]] check_failed(what, values, where);
}

}  // namespace outlast
