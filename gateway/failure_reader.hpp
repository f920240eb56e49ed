// Errors that a provider reports inside an answer of status 200; read_failure (dialect.hpp) is for
// all other statuses.
#pragma once

#include <string_view>

#include "gateway/dialect.hpp"
#include "gateway/json_reader.hpp"

namespace outlast::gateway {

// `root` is the parsed `body`. The status is derived from the error's type or code.
UpstreamFailure read_stream_error(Dialect dialect, const JsonValue& root, std::string_view body);

}  // namespace outlast::gateway
