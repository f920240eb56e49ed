#include "apps/config/secret_reader.hpp"

#include <algorithm>
#include <cstdlib>

#include "apps/config/sections.hpp"

namespace outlast::apps {
namespace {

// Says what is wrong with a credential without showing it; empty when nothing is.
std::string_view credential_fault(const std::string& secret) {
  if (secret.empty()) return "is empty";
  const bool clean =
      std::all_of(secret.begin(), secret.end(), [](char c) { return c > ' ' && c < 0x7f; });
  return clean ? std::string_view{} : "holds spaces, line breaks or characters that no key has";
}

std::string read_secret_file(TableReader& reader, const std::string& folder,
                             const std::string& path, const SecretWords& words) {
  const std::string file = resolve_path(folder, path);
  auto content = read_small_file(file);
  if (!content) {
    reader.error("file", "'" + file + "' cannot be read: " + content.error().message +
                             "; write the " + std::string(words.what) +
                             " into that file, readable by this user only");
    return {};
  }
  while (!content->empty() && (content->back() == '\n' || content->back() == '\r'))
    content->pop_back();
  if (const auto fault = credential_fault(*content); !fault.empty()) {
    reader.error("file", "'" + file + "' " + std::string(fault) + "; it is to hold the " +
                             std::string(words.what) + " on one line");
  }
  return std::move(*content);
}

std::string read_secret_variable(TableReader& reader, std::string_view key,
                                 const std::string& variable, const SecretWords& words) {
  const char* value = std::getenv(variable.c_str());
  if (value == nullptr) {
    reader.error("env", "the environment variable " + variable + " is not set; set it, or write " +
                            std::string(key) + R"( = { file = "PATH" })");
    return {};
  }
  std::string secret = value;
  if (const auto fault = credential_fault(secret); !fault.empty()) {
    reader.error("env", "the environment variable " + variable + " " + std::string(fault) +
                            "; set it to " + std::string(words.whose));
  }
  return secret;
}

}  // namespace

std::string read_secret(TableReader& table, std::string_view key, const std::string& folder,
                        const SecretWords& words) {
  const std::string advice = std::string(key) + R"( = { env = "NAME" } or { file = "PATH" })";
  const bool given = table.has(key);
  TableReader reader = table.table(key, advice);
  if (!given || !table.holds_table(key)) return {};
  std::string variable;
  std::string file;
  const bool has_env = reader.has("env");
  const bool has_file = reader.has("file");
  const bool env_read = reader.text("env", variable);
  const bool file_read = reader.text("file", file);
  reader.refuse_unknown_keys();
  if (has_env == has_file) {
    table.error(key, std::string(has_env ? "names both env and file" : "names neither env nor file") +
                         "; write " + advice);
    return {};
  }
  if (!words.read) {
    if (env_read ? variable.empty() : file_read && file.empty()) table.error(key, "names nothing; write " + advice);
    return {};
  }
  if (env_read) return read_secret_variable(reader, key, variable, words);
  if (file_read) return read_secret_file(reader, folder, file, words);
  return {};
}

}  // namespace outlast::apps
