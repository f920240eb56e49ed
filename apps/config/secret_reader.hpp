// Secrets of the configuration: they stand in the environment or in a file of their own, never in the TOML file.
#pragma once

#include <string>
#include <string_view>

#include "apps/config/toml_reader.hpp"

namespace outlast::apps {

struct SecretWords {
  std::string_view what;  // "key"
  std::string_view whose; // "the provider's key"
  bool read = true;       // false: only how it is named is checked
};

// `KEY = { env = "NAME" }` or `{ file = "PATH" }`, the file seen from `folder`. Empty when the key is absent or wrong;
// what is wrong is reported without showing the secret.
std::string read_secret(TableReader& table, std::string_view key, const std::string& folder,
                        const SecretWords& words);

}  // namespace outlast::apps
