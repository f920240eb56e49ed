// GET /admin/v1/rate-limits as JSON.
#pragma once

#include <string>
#include <vector>

#include "gateway/rate_limit.hpp"

namespace outlast::apps {

// {"rate_limits": [{"scope", "requests": null or {"per_minute", "burst", "remaining", "reset_ms"},
// "tokens": the same, "live": null or a number}]}. Of a scope for each ("key:*") remaining and
// reset_ms are null, and `live` says how many have something taken.
std::string rate_limits_json(const std::vector<gateway::RateLimitStatus>& limits);

}  // namespace outlast::apps
