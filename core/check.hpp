// check(): a condition that only a bug can break. It aborts with file, line and values, in release builds too.
#pragma once

#include <string_view>

namespace outlast {

// Where a check stands. Not std::source_location, which clang 14 does not have with libstdc++.
struct SourcePlace {
  const char* file;
  int line;
  const char* function;
};

[[noreturn]] void check_failed(std::string_view what, std::string_view values, SourcePlace where);

inline void check(bool condition, std::string_view what, std::string_view values = {},
                  const char* file = __builtin_FILE(), int line = __builtin_LINE(),
                  const char* function = __builtin_FUNCTION()) {
  if (!condition) [[unlikely]] check_failed(what, values, {file, line, function});
}

}  // namespace outlast
