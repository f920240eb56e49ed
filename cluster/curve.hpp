// CURVE keys: who a node is on its links. Keys are Z85 texts of 40 characters, as ZeroMQ takes them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "cluster/link_error.hpp"

namespace outlast::cluster {

inline constexpr std::size_t curve_key_text_size = 40;

struct CurveKeys {
  std::string public_key;
  std::string secret_key;  // never logged
};

[[nodiscard]] CurveKeys make_curve_keys();

// The public key that belongs to a secret one. LinkError::bad_key when the text is no key.
[[nodiscard]] Result<std::string> curve_public_key(std::string_view secret_key);

// 40 characters of Z85.
[[nodiscard]] bool is_curve_key(std::string_view text);

// The node's keys from the file `path` (by custom DATA/zmq.key), which is made with mode 0600 when it is absent. Beside
// it, PATH.pub holds the public key, for people to hand out. Refuses a file that others can read (LinkError::key_file).
[[nodiscard]] Result<CurveKeys> load_or_make_curve_keys(const std::filesystem::path& path);

}  // namespace outlast::cluster
