#include "apps/outlast/json_fields.hpp"

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {

Result<Json> parse_object(std::string_view text, const std::string& what) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) {
    return fail(CliError::failed,
                what + " is not a JSON object; is this the address of an Outlast node?");
  }
  return json;
}

const Json& member_of(const Json& object, const std::string& name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string text_of(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::uint64_t count_of(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

std::string time_of(const Json& object, const std::string& name) {
  const Json& value = member_of(object, name);
  return value.is_number_integer() ? utc_time(value.get<std::int64_t>()) : std::string();
}

std::string plain_text(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace outlast::apps
