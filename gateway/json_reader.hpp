// Reading JSON: a document and cheap handles to its values. The one place, with chat_scan.cpp, that
// knows simdjson.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gateway {

enum class JsonType : std::uint8_t {
  absent = 0,
  null = 1,
  boolean = 2,
  number = 3,
  string = 4,
  array = 5,
  object = 6
};

class JsonCursor;

// A handle to a value, valid as long as its document holds the same text. `absent` answers every
// question with "no", so that a path of keys needs one check at its end.
class JsonValue {
 public:
  JsonValue() = default;
  [[nodiscard]] JsonType type() const;
  [[nodiscard]] bool is_object() const { return type() == JsonType::object; }
  [[nodiscard]] bool is_array() const { return type() == JsonType::array; }
  // Whether there is a value, and it is not null.
  [[nodiscard]] bool is_set() const { return type() > JsonType::null; }
  // Of an object; absent otherwise. The first of repeated keys.
  [[nodiscard]] JsonValue operator[](std::string_view key) const;
  // Unescaped.
  [[nodiscard]] std::optional<std::string_view> string() const;
  [[nodiscard]] std::string_view string_or(std::string_view other) const {
    return string().value_or(other);
  }
  // A whole number of at least zero.
  [[nodiscard]] std::optional<std::uint64_t> count() const;
  [[nodiscard]] std::optional<double> number() const;
  [[nodiscard]] std::optional<bool> boolean() const;
  // Elements of an array or members of an object; none for all else.
  [[nodiscard]] JsonCursor children() const;
  // The value as JSON text without white space.
  void append_json(std::string& out) const;
  [[nodiscard]] std::string to_json() const;

 private:
  friend class JsonDocument;
  friend class JsonCursor;
  alignas(std::uint64_t) std::array<std::byte, 16> element_{};
  bool present_ = false;
};

// for (auto child = value.children(); child.next();) … child.key() … child.value()
class JsonCursor {
 public:
  bool next();
  // Of a member of an object.
  [[nodiscard]] std::string_view key() const;
  [[nodiscard]] const JsonValue& value() const { return value_; }

 private:
  friend class JsonValue;
  alignas(std::uint64_t) std::array<std::byte, 16> position_{};
  alignas(std::uint64_t) std::array<std::byte, 16> end_{};
  JsonType of_ = JsonType::absent;
  bool started_ = false;
  JsonValue value_;
};

// Owns the text's parsed form and reuses its memory. One owner.
class JsonDocument {
 public:
  JsonDocument();
  ~JsonDocument();
  // Copies `text`. Refuses (DialectError::malformed_json, with the reason) what is not one whole
  // valid JSON value.
  Result<JsonValue> parse(std::string_view text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What is wrong with a text that the parser refused, with the byte's position where it is known.
std::string describe_malformed_json(int parser_error, std::string_view text);

}  // namespace outlast::gateway
