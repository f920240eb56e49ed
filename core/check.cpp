#include "core/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace outlast {

void check_failed(std::string_view what, std::string_view values, SourcePlace where) {
  std::fprintf(stderr, "outlast: check failed at %s:%d (%s): %.*s %.*s\n", where.file, where.line,
               where.function, static_cast<int>(what.size()), what.data(),
               static_cast<int>(values.size()), values.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace outlast
