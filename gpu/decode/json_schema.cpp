#include "gpu/decode/json_schema.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <simdjson.h>

#include "core/json_writer.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;
using Kind = JsonNode::Kind;
using Node = Result<std::uint32_t>;

constexpr std::uint64_t count_max = 1U << 20;  // of characters or items
constexpr std::uint32_t never = 0;             // the node of no text

// They say what a value is for, and forbid none.
constexpr std::string_view annotations[] = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
                                            "$defs", "definitions"};

struct TypeKeywords {
  std::string_view type;
  std::vector<std::string_view> keywords;
};
const std::vector<TypeKeywords>& types() {
  static const std::vector<TypeKeywords> all{{"object", {"properties", "required", "additionalProperties"}},
                                             {"array", {"items", "minItems", "maxItems"}},
                                             {"string", {"minLength", "maxLength"}},
                                             {"integer", {}},
                                             {"number", {}},
                                             {"boolean", {}},
                                             {"null", {}}};
  return all;
}

bool is_of(const dom::element& value, std::string_view type) {
  switch (value.type()) {
    case dom::element_type::OBJECT: return type == "object";
    case dom::element_type::ARRAY: return type == "array";
    case dom::element_type::STRING: return type == "string";
    case dom::element_type::BOOL: return type == "boolean";
    case dom::element_type::NULL_VALUE: return type == "null";
    case dom::element_type::DOUBLE: return type == "number";
    default: return type == "number" || type == "integer";
  }
}

class Compiler {
 public:
  explicit Compiler(const dom::element& root) : root_(root), nodes_(1) {}

  Node build(const dom::element& schema, std::size_t references, std::size_t depth);
  std::vector<JsonNode>& nodes() { return nodes_; }

 private:
  static Failure wrong(std::string_view keyword, const std::string& why) { return fail(GpuError::invalid, "JSON schema: '" + std::string(keyword) + "' " + why); }
  static Failure unsupported(std::string_view keyword, const std::string& why) {
    return fail(GpuError::unsupported, "JSON schema: '" + std::string(keyword) + "' " + why);
  }
  static bool has(const dom::element& schema, std::string_view keyword) { return schema[keyword].error() == SUCCESS; }

  Node add(JsonNode node);
  Node add_words(const std::vector<std::string>& words);
  Node any_of(const std::vector<std::uint32_t>& choices);
  static Failure too_many(std::string_view keyword, const std::string& what, std::size_t most) {
    return fail(GpuError::too_large, "JSON schema: '" + std::string(keyword) + "' has more than " + std::to_string(most) + " " + what);
  }
  // Refuses every keyword but `known` and annotations.
  Result<void> only(const dom::element& schema, const std::vector<std::string_view>& known) const;
  Result<std::vector<std::string_view>> types_of(const dom::element& schema) const;
  Result<std::uint32_t> count(const dom::element& schema, std::string_view keyword, std::uint32_t otherwise) const;
  Node reference(const dom::element& schema, std::size_t references, std::size_t depth);
  Node choice(const dom::element& schema, std::size_t references, std::size_t depth);
  Node values(const dom::element& schema);
  Node of_type(const dom::element& schema, std::string_view type, std::size_t references, std::size_t depth);
  Node object(const dom::element& schema, std::size_t references, std::size_t depth);
  Node array(const dom::element& schema, std::size_t references, std::size_t depth);
  Result<std::set<std::string_view>> required_of(const dom::element& schema, const dom::object& properties) const;

  const dom::element root_;
  std::vector<JsonNode> nodes_;
  std::size_t word_bytes_ = 0;
  std::map<std::pair<std::string, std::size_t>, std::uint32_t> referenced_;  // by path and depth of reference
};

Node Compiler::add(JsonNode node) {
  if (nodes_.size() >= schema_nodes_max) return fail(GpuError::too_large, "JSON schema: it unfolds to more than " + std::to_string(schema_nodes_max) + " values");
  nodes_.push_back(std::move(node));
  return static_cast<std::uint32_t>(nodes_.size() - 1);
}

Node Compiler::add_words(const std::vector<std::string>& words) {
  JsonNode node;
  node.kind = Kind::words;
  for (const std::string& word : words) {
    word_bytes_ += word.size();
    if (word_bytes_ > schema_word_bytes_max) return too_many("enum", "bytes of values", schema_word_bytes_max);
    node.words.add(word);
  }
  return add(std::move(node));
}

Node Compiler::any_of(const std::vector<std::uint32_t>& choices) {
  JsonNode node;
  node.kind = Kind::any_of;
  std::set<std::uint32_t> all;  // each once, though references may lead to it by many ways
  for (const std::uint32_t one : choices) {
    const JsonNode& inner = nodes_[one];
    if (inner.kind == Kind::any_of) all.insert(inner.choices.begin(), inner.choices.end());
    else if (inner.kind != Kind::never) all.insert(one);
    if (all.size() > schema_choices_max) return too_many("anyOf", "choices", schema_choices_max);
  }
  node.choices.assign(all.begin(), all.end());
  if (node.choices.empty()) return never;
  if (node.choices.size() == 1) return node.choices.front();
  return add(std::move(node));
}

Result<void> Compiler::only(const dom::element& schema, const std::vector<std::string_view>& known) const {
  std::set<std::string_view> seen;
  for (const auto& [key, value] : dom::object(schema)) {
    if (!seen.insert(key).second) return wrong(key, "stands there twice");
    if (std::find(std::begin(annotations), std::end(annotations), key) != std::end(annotations)) continue;
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return unsupported(key, "is not supported here");
  }
  return {};
}

Node Compiler::build(const dom::element& schema, std::size_t references, std::size_t depth) {
  if (depth > schema_depth_max) return fail(GpuError::too_large, "JSON schema: values lie more than " + std::to_string(schema_depth_max) + " deep within values");
  if (!schema.is_object()) return fail(GpuError::unsupported, "JSON schema: a schema that is not an object says nothing of its values; give a 'type'");
  if (has(schema, "$ref")) return reference(schema, references, depth);
  if (has(schema, "anyOf")) return choice(schema, references, depth);
  if (has(schema, "enum") || has(schema, "const")) return values(schema);
  const auto of = types_of(schema);
  if (!of) return fail(of.error());
  std::vector<std::string_view> known{"type"};
  for (const TypeKeywords& type : types()) {
    if (std::find(of->begin(), of->end(), type.type) != of->end()) known.insert(known.end(), type.keywords.begin(), type.keywords.end());
  }
  if (Result<void> good = only(schema, known); !good) return fail(good.error());
  std::vector<std::uint32_t> choices;
  for (const std::string_view type : *of) {
    const Node node = of_type(schema, type, references, depth);
    if (!node) return node;
    choices.push_back(*node);
  }
  return any_of(choices);
}

Result<std::vector<std::string_view>> Compiler::types_of(const dom::element& schema) const {
  dom::element type;
  if (schema["type"].get(type) != SUCCESS) {
    // The keyword that is in the way tells more than that there is no type.
    if (Result<void> good = only(schema, {}); !good) return fail(good.error());
    return unsupported("type", "is missing: a value of any kind is not supported");
  }
  std::vector<std::string_view> found;
  const auto take = [&found](const dom::element& one) {
    std::string_view name;
    const auto is_it = [&name](const TypeKeywords& known) { return known.type == name; };
    if (one.get(name) != SUCCESS || std::none_of(types().begin(), types().end(), is_it)) return false;
    found.push_back(name);
    return true;
  };
  dom::array list;
  bool good = true;
  if (type.get(list) == SUCCESS) {
    for (const dom::element one : list) good = good && take(one);
  } else {
    good = take(type);
  }
  if (!good || found.empty()) return wrong("type", "is not one of object, array, string, integer, number, boolean and null, or a list of them");
  return found;
}

Result<std::uint32_t> Compiler::count(const dom::element& schema, std::string_view keyword, std::uint32_t otherwise) const {
  std::uint64_t number = 0;
  if (!has(schema, keyword)) return otherwise;
  if (schema[keyword].get(number) != SUCCESS || number > count_max) return wrong(keyword, "is not a whole number from 0 to " + std::to_string(count_max));
  return static_cast<std::uint32_t>(number);
}

Node Compiler::reference(const dom::element& schema, std::size_t references, std::size_t depth) {
  if (Result<void> good = only(schema, {"$ref"}); !good) return fail(good.error());
  std::string_view path;
  if (schema["$ref"].get(path) != SUCCESS) return wrong("$ref", "is not a text");
  dom::element target = root_;
  if (path != "#" && (!path.starts_with("#/") || root_.at_pointer(path.substr(1)).get(target) != SUCCESS))
    return unsupported("$ref", "is '" + std::string(path) + "', which is not within the schema");
  if (references == schema_references_max) return never;
  const auto key = std::make_pair(std::string(path), references);
  if (const auto known = referenced_.find(key); known != referenced_.end()) return known->second;
  const Node node = build(target, references + 1, depth + 1);
  if (node) referenced_.emplace(key, *node);
  return node;
}

Node Compiler::choice(const dom::element& schema, std::size_t references, std::size_t depth) {
  if (Result<void> good = only(schema, {"anyOf"}); !good) return fail(good.error());
  dom::array list;
  if (schema["anyOf"].get(list) != SUCCESS || list.size() == 0) return wrong("anyOf", "is not a list of schemas");
  std::vector<std::uint32_t> choices;
  for (const dom::element one : list) {
    const Node node = build(one, references, depth + 1);
    if (!node) return node;
    choices.push_back(*node);
  }
  return any_of(choices);
}

Node Compiler::values(const dom::element& schema) {
  if (has(schema, "enum") && has(schema, "const")) return unsupported("const", "beside 'enum' is not supported");
  if (Result<void> good = only(schema, {"enum", "const", "type"}); !good) return fail(good.error());
  std::optional<std::vector<std::string_view>> of;
  if (has(schema, "type")) {
    const auto types = types_of(schema);
    if (!types) return fail(types.error());
    of = *types;
  }
  std::vector<std::string> words;
  bool good = true;
  const auto take = [&](const dom::element& value) {
    const auto fits = [&value](std::string_view type) { return is_of(value, type); };
    good = good && (!of || std::any_of(of->begin(), of->end(), fits));
    words.push_back(simdjson::minify(value));
  };
  dom::array list;
  if (has(schema, "const")) {
    take(schema["const"].value());
  } else {
    if (schema["enum"].get(list) != SUCCESS || list.size() == 0) return wrong("enum", "is not a list of values");
    for (const dom::element value : list) take(value);
  }
  if (!good) return wrong("enum", "or 'const' has a value that is not of its 'type'");
  return add_words(words);
}

Node Compiler::of_type(const dom::element& schema, std::string_view type, std::size_t references, std::size_t depth) {
  if (type == "object") return object(schema, references, depth);
  if (type == "array") return array(schema, references, depth);
  if (type == "boolean") return add_words({"true", "false"});
  if (type == "null") return add_words({"null"});
  JsonNode node;
  node.kind = type == "string" ? Kind::string : Kind::number;
  node.whole = type == "integer";
  if (type == "string") {
    const auto least = count(schema, "minLength", 0);
    const auto most = count(schema, "maxLength", no_limit);
    if (!least) return least;
    if (!most) return most;
    if (*least > *most) return wrong("maxLength", "is below 'minLength'");
    node.least = *least;
    node.most = *most;
  }
  return add(std::move(node));
}

Result<std::set<std::string_view>> Compiler::required_of(const dom::element& schema, const dom::object& properties) const {
  std::set<std::string_view> names;
  if (!has(schema, "required")) return names;
  dom::array list;
  if (schema["required"].get(list) != SUCCESS) return wrong("required", "is not a list of names");
  if (list.size() > schema_properties_max) return too_many("required", "names", schema_properties_max);
  for (const dom::element one : list) {
    std::string_view name;
    if (one.get(name) != SUCCESS) return wrong("required", "is not a list of names");
    if (properties[name].error() != SUCCESS) return wrong("required", "names '" + std::string(name) + "', which is not among the properties");
    names.insert(name);
  }
  return names;
}

Node Compiler::object(const dom::element& schema, std::size_t references, std::size_t depth) {
  bool additional = false;
  if (has(schema, "additionalProperties") && (schema["additionalProperties"].get(additional) != SUCCESS || additional))
    return unsupported("additionalProperties", "is not false: only properties that have names are supported");
  if (!has(schema, "properties")) return unsupported("properties", "is missing: an object of any kind is not supported");
  dom::object properties;
  if (schema["properties"].get(properties) != SUCCESS) return wrong("properties", "is not an object");
  if (properties.size() > schema_properties_max) return too_many("properties", "of them", schema_properties_max);
  const auto required = required_of(schema, properties);
  if (!required) return fail(required.error());
  JsonNode node;
  node.kind = Kind::object;
  std::set<std::string_view> seen;
  bool possible = true;
  std::size_t optional = 0;  // one after the other
  for (const auto& [name, value] : properties) {
    if (!seen.insert(name).second) return wrong("properties", "has '" + std::string(name) + "' twice");
    const Node inner = build(value, references, depth + 1);
    if (!inner) return inner;
    JsonNode::Property property;
    property.key = "\"";
    append_json_escaped(property.key, name);
    property.key += "\":";
    property.value = *inner;
    property.required = required->contains(name);
    optional = property.required ? 0 : optional + 1;
    if (optional == schema_choices_max) return too_many("properties", "one after the other that are not required", schema_choices_max - 1);
    if (*inner != never) node.properties.push_back(std::move(property));
    else possible = possible && !property.required;
  }
  return possible ? add(std::move(node)) : Node(never);
}

Node Compiler::array(const dom::element& schema, std::size_t references, std::size_t depth) {
  const auto least = count(schema, "minItems", 0);
  const auto most = count(schema, "maxItems", no_limit);
  if (!least) return least;
  if (!most) return most;
  if (*least > *most) return wrong("maxItems", "is below 'minItems'");
  dom::element items;
  if (schema["items"].get(items) != SUCCESS) return unsupported("items", "is missing: items of any kind are not supported");
  const Node inner = build(items, references, depth + 1);
  if (!inner) return inner;
  if (*inner == never && *least > 0) return never;
  JsonNode node;
  node.kind = Kind::array;
  node.least = *least;
  node.most = *inner == never ? 0 : *most;
  node.items = *inner;
  return add(std::move(node));
}

}  // namespace

Result<std::shared_ptr<const JsonGrammar>> compile_json_schema(std::string_view schema, const JsonSchemaOptions& options) {
  if (schema.size() > schema_bytes_max) return fail(GpuError::too_large, "JSON schema: it has more than " + std::to_string(schema_bytes_max) + " bytes");
  dom::parser parser;
  dom::element root;
  const auto parsed = parser.parse(schema.data(), schema.size()).get(root);
  if (parsed != SUCCESS) return fail(GpuError::malformed, std::string("JSON schema: it is not JSON: ") + simdjson::error_message(parsed));
  Compiler compiler(root);
  const Node node = compiler.build(root, 0, 0);
  if (!node) return fail(node.error());
  if (*node == never) return fail(GpuError::invalid, "JSON schema: no text ends within " + std::to_string(schema_references_max) + " references one within the other");
  return std::make_shared<const JsonGrammar>(std::move(compiler.nodes()), *node, options.spaces_max);
}

}  // namespace outlast::gpu
