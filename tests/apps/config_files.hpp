// Configuration files for tests, and the errors that reading them gives.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "apps/config/node_config.hpp"

namespace outlast::tests {

// A folder of its own for one test, removed at the end.
class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "outlast_config_XXXXXX").string()) {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string write(const std::string& name, const std::string& content) const {
    const std::string file = path_ + "/" + name;
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline constexpr std::string_view node_lines =
    "[node]\nname = \"n1\"\ndata = \"var/n1\"\n";  // lines 1 to 3
inline constexpr std::string_view alpha_lines =
    "[[provider]]\nname = \"alpha\"\ndialect = \"openai\"\nbase_url = "
    "\"http://127.0.0.1:9001/v1\"\n";
inline constexpr std::string_view fable_lines =
    "[[deployment]]\nname = \"fable-alpha\"\nprovider = \"alpha\"\nmodel = \"claude-fable-5\"\n";

// The error messages for a file, with its folder taken away: "FILE:4: key …".
inline std::string errors_of(const std::string& toml) {
  const Folder folder;
  const auto config = apps::load_node_config(folder.write("node.toml", toml));
  if (config) return "no error";
  std::string message = config.error().message;
  const std::string file = folder.path() + "/node.toml";
  for (auto at = message.find(file); at != std::string::npos; at = message.find(file)) {
    message.replace(at, file.size(), "FILE");
  }
  for (auto at = message.find(folder.path()); at != std::string::npos;
       at = message.find(folder.path())) {
    message.replace(at, folder.path().size(), "FOLDER");
  }
  return message;
}

inline std::string errors_after_node(std::string_view lines) {
  return errors_of(std::string(node_lines) + std::string(lines));
}

}  // namespace outlast::tests
