// What the readers of both dialects share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "apps/outlast-sim/chat_request.hpp"

namespace outlast::sim {

using Json = nlohmann::json;

tl::unexpected<ApiError> invalid(std::string message, std::string param = {},
                                 std::string code = {});

// The string under `key`; empty when it is absent or of another type.
std::string text_of(const Json& object, const char* key);
bool is_true(const Json& object, const char* key);
bool known_model(const std::vector<std::string>& models, const std::string& model);

// Reads model, stream and that there are messages; `hash_parts` names what the answer follows from.
tl::expected<Json, ApiError> read_common(std::string_view body, SimRequest& request,
                                         std::initializer_list<const char*> hash_parts);

// Lowers `bound` to the value of `key` (0: no bound yet). False where it is no positive whole
// number.
bool read_bound(const Json& root, const char* key, std::uint64_t& bound);

}  // namespace outlast::sim
