#include "core/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace outlast {

void check_failed(std::string_view what, std::string_view values, std::source_location where) {
  std::fprintf(stderr, "outlast: check failed at %s:%u (%s): %.*s %.*s\n", where.file_name(), where.line(),
               where.function_name(), static_cast<int>(what.size()), what.data(),
               static_cast<int>(values.size()), values.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace outlast
