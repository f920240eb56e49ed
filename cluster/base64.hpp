// Base64 (RFC 4648, with padding), at memory speed: values of etcd are up to a megabyte.
#pragma once

#include <string>
#include <string_view>

namespace outlast::cluster {

void append_base64(std::string& out, std::string_view bytes);
// Replaces `out`. False when `text` is not base64.
bool decode_base64(std::string_view text, std::string& out);

}  // namespace outlast::cluster
