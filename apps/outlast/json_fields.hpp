// Reading the node's JSON without trusting it: an absent or odd member gives a default, never an
// exception.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/result.hpp"

namespace outlast::apps {

using Json = nlohmann::ordered_json;  // members stay in the node's order

// An object, or an error that says who sent something else.
Result<Json> parse_object(std::string_view text, const std::string& what);

// Null where `object` has no such member.
const Json& member_of(const Json& object, const std::string& name);
std::string text_of(const Json& object, const std::string& name);
std::uint64_t count_of(const Json& object, const std::string& name);
// A milliseconds field as UTC; empty for null.
std::string time_of(const Json& object, const std::string& name);
// A scalar as people read it: a string without its quotes.
std::string plain_text(const Json& value);

}  // namespace outlast::apps
