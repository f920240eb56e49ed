// One call of the admin interface whose answer is a JSON object.
#pragma once

#include <string>

#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/node_access.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// Errors: those of AdminApi, and an answer that is no object.
Result<Json> call_admin(const GlobalOptions& global, const std::string& method, const std::string& path,
                        const std::string& body = {});

}  // namespace outlast::apps
