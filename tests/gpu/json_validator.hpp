// Whether a JSON value obeys a schema, written from the specification and not from the grammar that is tested with it.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace outlast::gpu {

using Json = nlohmann::ordered_json;

inline std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

inline bool obeys(const Json& value, const Json& schema, const Json& root);

inline bool is_of_type(const Json& value, const std::string& type, const Json& schema, const Json& root) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") {
    return value.is_string() && characters(value) >= schema.value("minLength", 0U) && characters(value) <= schema.value("maxLength", 1U << 30);
  }
  if (type == "array") {
    return value.is_array() && value.size() >= schema.value("minItems", 0U) && value.size() <= schema.value("maxItems", 1U << 30) &&
           std::all_of(value.begin(), value.end(), [&](const Json& item) { return obeys(item, schema.at("items"), root); });
  }
  if (!value.is_object()) return false;
  for (const auto& [key, inner] : value.items()) {
    if (!schema.at("properties").contains(key) || !obeys(inner, schema.at("properties").at(key), root)) return false;
  }
  const Json required = schema.value("required", Json::array());
  return std::all_of(required.begin(), required.end(), [&value](const Json& key) { return value.contains(key.get<std::string>()); });
}

inline bool obeys(const Json& value, const Json& schema, const Json& root) {
  if (schema.contains("$ref")) return obeys(value, root.at(Json::json_pointer(schema.at("$ref").get<std::string>().substr(1))), root);
  if (schema.contains("anyOf")) {
    return std::any_of(schema.at("anyOf").begin(), schema.at("anyOf").end(), [&](const Json& one) { return obeys(value, one, root); });
  }
  if (schema.contains("const")) return value == schema.at("const");
  if (schema.contains("enum")) return std::find(schema.at("enum").begin(), schema.at("enum").end(), value) != schema.at("enum").end();
  const Json& type = schema.at("type");
  if (type.is_string()) return is_of_type(value, type, schema, root);
  return std::any_of(type.begin(), type.end(), [&](const Json& one) { return is_of_type(value, one, schema, root); });
}

inline std::vector<std::string> schemas_of_all_kinds() {
  return {
      R"({"type":"string","minLength":1,"maxLength":6})",
      R"({"type":["integer","string","null"]})",
      R"({"enum":["cat","cattle","rat",12,1,null,[1,{"a":"b"}]]})",
      R"({"type":"array","items":{"type":"number"},"minItems":1,"maxItems":4})",
      R"({"type":"object","properties":{"name":{"type":"string"},"nam":{"type":"boolean"},"size":{"type":"integer"},"tags":{"type":"array","items":{"enum":["a","ab","b"]},"maxItems":3}},"required":["size"]})",
      R"({"anyOf":[{"type":"object","properties":{"k":{"const":"x"},"v":{"type":"null"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"xy"},"w":{"type":"number"}},"required":["k","w"]},{"type":"boolean"}]})",
      R"({"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"leaf":{"type":"boolean"},"children":{"type":"array","items":{"$ref":"#/$defs/tree"},"maxItems":2}},"required":["leaf"]}}})",
      R"({"title":"é \" key","type":"object","properties":{"quote\"d":{"type":"string","maxLength":2},"日本":{"anyOf":[{"type":"null"},{"type":"string","minLength":2}]}},"required":["日本"],"additionalProperties":false})",
  };
}

}  // namespace outlast::gpu
