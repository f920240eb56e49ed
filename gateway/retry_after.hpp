// Retry-After (RFC 9110, section 10.2.3) and its cousin in milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace outlast::gateway {

// Milliseconds from now; the header in milliseconds wins. Values beyond a day are cut to a day,
// dates in the past are 0; what is neither number nor date counts as absent.
std::optional<std::uint32_t> parse_retry_after(std::string_view retry_after,
                                               std::string_view retry_after_ms, std::int64_t now_s);

}  // namespace outlast::gateway
