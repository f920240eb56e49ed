// A child of a test that may be ended at any moment: this program anew with one hidden test case,
// since a mere fork has none of RocksDB's background threads.
#pragma once

#include <catch2/catch.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace outlast::storage {

// Starts the test case `name` with these variables; the caller waits for it.
inline pid_t start_child(const char* name,
                         const std::vector<std::pair<std::string, std::string>>& variables) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child != 0) return child;
  for (const auto& [key, value] : variables) ::setenv(key.c_str(), value.c_str(), 1);
  ::execl("/proc/self/exe", "test_storage", name, static_cast<char*>(nullptr));
  ::_exit(127);
}

inline int wait_for_child(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

inline int run_child(const char* name,
                     const std::vector<std::pair<std::string, std::string>>& variables) {
  return wait_for_child(start_child(name, variables));
}

}  // namespace outlast::storage
