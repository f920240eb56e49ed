#include "apps/outlast/our_programs.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace outlast::apps {

std::string find_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string rest = std::string(path == nullptr ? "" : path) + ":/usr/sbin:/sbin";
  while (!rest.empty()) {
    const std::string folder = rest.substr(0, rest.find(':'));
    rest.erase(0, folder.size() + 1);
    const std::string file = folder + "/" + program;
    if (!folder.empty() && ::access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

std::string find_our_program(const std::string& program) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = (self.parent_path() / program).string();
  if (!error && ::access(beside.c_str(), X_OK) == 0) return beside;
  return find_in_path(program);
}

}  // namespace outlast::apps
