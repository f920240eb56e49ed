#include "gateway/json_reader.hpp"

#include <bit>
#include <type_traits>
#include <vector>

#include <simdjson.h>

#include "gateway/dialect.hpp"

namespace outlast::gateway {
namespace {

namespace dom = simdjson::dom;
using Bytes = std::array<std::byte, 16>;

// After a text larger than this the parser's buffers are given back.
constexpr std::size_t kept_bytes_max = 256 * 1024;
constexpr std::size_t kept_parsers_max = 4;
constexpr std::size_t position_search_bytes_max = 1024 * 1024;

template <class T>
T load(const Bytes& bytes) {
  static_assert(sizeof(T) == sizeof(Bytes) && std::is_trivially_copyable_v<T>);
  return std::bit_cast<T>(bytes);
}

template <class T>
Bytes store(const T& value) {
  static_assert(sizeof(T) == sizeof(Bytes) && std::is_trivially_copyable_v<T>);
  return std::bit_cast<Bytes>(value);
}

dom::element element_of(const Bytes& bytes) { return load<dom::element>(bytes); }

// Walks the whole text as simdjson's other front end does, which knows where it stands when it
// fails.
simdjson::error_code walk(simdjson::ondemand::value value, int depth) {
  simdjson::ondemand::json_type type;
  if (const auto error = value.type().get(type)) return error;
  if (depth > 128) return simdjson::DEPTH_ERROR;
  switch (type) {
    case simdjson::ondemand::json_type::object: {
      simdjson::ondemand::object object;
      if (const auto error = value.get_object().get(object)) return error;
      for (auto field : object) {
        std::string_view key;
        simdjson::ondemand::value child;
        if (const auto error = field.unescaped_key().get(key)) return error;
        if (const auto error = field.value().get(child)) return error;
        if (const auto error = walk(child, depth + 1)) return error;
      }
      return simdjson::SUCCESS;
    }
    case simdjson::ondemand::json_type::array: {
      simdjson::ondemand::array array;
      if (const auto error = value.get_array().get(array)) return error;
      for (auto item : array) {
        simdjson::ondemand::value child;
        if (const auto error = item.get(child)) return error;
        if (const auto error = walk(child, depth + 1)) return error;
      }
      return simdjson::SUCCESS;
    }
    case simdjson::ondemand::json_type::string: return value.get_string().error();
    case simdjson::ondemand::json_type::number: return value.get_number().error();
    case simdjson::ondemand::json_type::boolean: return value.get_bool().error();
    case simdjson::ondemand::json_type::null: {
      bool null = false;
      if (const auto error = value.is_null().get(null)) return error;
      return null ? simdjson::SUCCESS : simdjson::N_ATOM_ERROR;
    }
  }
  return simdjson::TAPE_ERROR;
}

std::optional<std::size_t> malformed_position(std::string_view text) {
  if (text.size() > position_search_bytes_max) return std::nullopt;
  const simdjson::padded_string padded(text);
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::value root;
  if (parser.iterate(padded).get(document) || document.get_value().get(root)) return std::nullopt;
  if (!walk(root, 0)) return std::nullopt;
  const char* location = nullptr;
  if (document.current_location().get(location)) return std::nullopt;
  if (location < padded.data() || location > padded.data() + padded.size()) return std::nullopt;
  return static_cast<std::size_t>(location - padded.data());
}

std::size_t invalid_utf8_position(std::string_view text) {
  std::size_t low =
      0;  // the longest valid prefix, by halving; a prefix that cuts a character counts as invalid
  std::size_t high = text.size();
  while (low + 4 < high) {
    std::size_t middle = low + (high - low) / 2;
    while (middle > low && (static_cast<unsigned char>(text[middle]) & 0xc0) == 0x80) --middle;
    if (middle == low) break;
    if (simdjson::validate_utf8(text.data() + low, middle - low)) low = middle;
    else high = middle;
  }
  return low;
}

}  // namespace

std::string describe_malformed_json(int parser_error, std::string_view text) {
  const auto error = static_cast<simdjson::error_code>(parser_error);
  const auto at = [](std::optional<std::size_t> position) {
    return position ? " at byte " + std::to_string(*position) : std::string();
  };
  switch (error) {
    case simdjson::EMPTY: return "the body is empty; a JSON object is expected";
    case simdjson::UTF8_ERROR:
      return "the body is not valid UTF-8 near byte " + std::to_string(invalid_utf8_position(text));
    case simdjson::DEPTH_ERROR: return "the JSON is nested deeper than 128 levels";
    case simdjson::UNCLOSED_STRING: return "the JSON ends inside a string";
    case simdjson::UNESCAPED_CHARS:
      return "a string of the JSON holds a control character that must be escaped";
    case simdjson::CAPACITY:
    case simdjson::MEMALLOC: return "the JSON is too large to be read";
    case simdjson::STRING_ERROR:
      return "the JSON has a string with an invalid escape" + at(malformed_position(text));
    case simdjson::NUMBER_ERROR:
      return "the JSON has a number that is malformed or out of range" +
             at(malformed_position(text));
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
      return "the JSON has a word other than true, false and null" + at(malformed_position(text));
    default: return "the JSON is malformed or incomplete" + at(malformed_position(text));
  }
}

JsonType JsonValue::type() const {
  if (!present_) return JsonType::absent;
  switch (element_of(element_).type()) {
    case dom::element_type::ARRAY: return JsonType::array;
    case dom::element_type::OBJECT: return JsonType::object;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE: return JsonType::number;
    case dom::element_type::STRING: return JsonType::string;
    case dom::element_type::BOOL: return JsonType::boolean;
    case dom::element_type::NULL_VALUE: return JsonType::null;
  }
  return JsonType::absent;
}

JsonValue JsonValue::operator[](std::string_view key) const {
  JsonValue found;
  dom::object object;
  dom::element element;
  if (!present_ || element_of(element_).get(object) || object.at_key(key).get(element))
    return found;
  found.element_ = store(element);
  found.present_ = true;
  return found;
}

std::optional<std::string_view> JsonValue::string() const {
  std::string_view text;
  if (!present_ || element_of(element_).get(text)) return std::nullopt;
  return text;
}

std::optional<std::uint64_t> JsonValue::count() const {
  std::uint64_t value = 0;
  if (!present_ || element_of(element_).get(value)) return std::nullopt;
  return value;
}

std::optional<double> JsonValue::number() const {
  double value = 0;
  if (!present_ || element_of(element_).get(value)) return std::nullopt;
  return value;
}

std::optional<bool> JsonValue::boolean() const {
  bool value = false;
  if (!present_ || element_of(element_).get(value)) return std::nullopt;
  return value;
}

JsonCursor JsonValue::children() const {
  JsonCursor cursor;
  dom::array array;
  dom::object object;
  if (!present_) return cursor;
  if (!element_of(element_).get(array)) {
    cursor.of_ = JsonType::array;
    cursor.position_ = store(array.begin());
    cursor.end_ = store(array.end());
  } else if (!element_of(element_).get(object)) {
    cursor.of_ = JsonType::object;
    cursor.position_ = store(object.begin());
    cursor.end_ = store(object.end());
  }
  return cursor;
}

void JsonValue::append_json(std::string& out) const {
  if (present_) out += simdjson::minify(element_of(element_));
}

std::string JsonValue::to_json() const {
  std::string text;
  append_json(text);
  return text;
}

bool JsonCursor::next() {
  const auto step = [this]<class Iterator>(Iterator position) {
    if (started_) ++position;
    started_ = true;
    position_ = store(position);
    if (!(position != load<Iterator>(end_))) return false;
    if constexpr (std::is_same_v<Iterator, dom::array::iterator>)
      value_.element_ = store(dom::element(*position));
    else value_.element_ = store(dom::element(position.value()));
    value_.present_ = true;
    return true;
  };
  if (of_ == JsonType::array) return step(load<dom::array::iterator>(position_));
  if (of_ == JsonType::object) return step(load<dom::object::iterator>(position_));
  return false;
}

std::string_view JsonCursor::key() const {
  return of_ == JsonType::object && started_ ? load<dom::object::iterator>(position_).key()
                                             : std::string_view();
}

struct JsonDocument::Impl {
  dom::parser parser;
  // A parser's buffers are ten allocations, and most documents live for one call: each thread keeps
  // a few parsers for the next ones.
  static std::vector<std::unique_ptr<Impl>>& kept() {
    static thread_local std::vector<std::unique_ptr<Impl>> parsers;
    return parsers;
  }
};

JsonDocument::JsonDocument() {
  auto& kept = Impl::kept();
  if (kept.empty()) {
    impl_ = std::make_unique<Impl>();
  } else {
    impl_ = std::move(kept.back());
    kept.pop_back();
  }
}

JsonDocument::~JsonDocument() {
  auto& kept = Impl::kept();
  if (kept.size() < kept_parsers_max && impl_->parser.capacity() <= kept_bytes_max)
    kept.push_back(std::move(impl_));
}

Result<JsonValue> JsonDocument::parse(std::string_view text) {
  if (impl_->parser.capacity() > kept_bytes_max) impl_->parser = dom::parser();
  dom::element root;
  if (const auto error = impl_->parser.parse(text.data(), text.size(), true).get(root)) {
    return fail(DialectError::malformed_json, describe_malformed_json(error, text));
  }
  JsonValue value;
  value.element_ = store(root);
  value.present_ = true;
  return value;
}

}  // namespace outlast::gateway
