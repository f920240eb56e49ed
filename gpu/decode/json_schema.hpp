// From a JSON schema to the texts that it allows. Supported: type (one or a list), properties, required, additionalProperties: false,
// items, minItems, maxItems, minLength, maxLength, enum, const, anyOf, and $ref into the schema's own $defs or definitions. A
// keyword that is not supported is refused by its name: an answer that only seems to obey would be worse than none.
//
// Objects have their properties in the order in which the schema names them, and no others. A schema that refers to itself is
// followed to a bounded depth; texts are those that end within it.
#pragma once

#include <memory>
#include <string_view>

#include "core/result.hpp"
#include "gpu/decode/json_grammar.hpp"

namespace outlast::gpu {

inline constexpr std::size_t schema_bytes_max = 256U << 10;
inline constexpr std::size_t schema_nodes_max = 65'536;        // with each value as often as references unfold to it
inline constexpr std::size_t schema_word_bytes_max = 1U << 20; // of all values of enum and const, likewise
inline constexpr std::size_t schema_properties_max = 1'024;    // of one object
inline constexpr std::size_t schema_choices_max = 64;          // of anyOf; and of properties one of which may come next
inline constexpr std::size_t schema_depth_max = 64;      // of values within values
inline constexpr std::size_t schema_references_max = 8;  // $ref followed one within the other

struct JsonSchemaOptions {
  // White space at one place between values: 1 lets `{"a": 1, "b": 2}` through; 0 is the shortest text; laid out over lines takes more.
  std::uint16_t spaces_max = 1;
};

// Errors: malformed (no JSON), unsupported (with the keyword), invalid (no text fits, or a keyword says what cannot be), too_large.
Result<std::shared_ptr<const JsonGrammar>> compile_json_schema(std::string_view schema, const JsonSchemaOptions& options = {});

}  // namespace outlast::gpu
