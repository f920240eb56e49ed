// ChatScanner: one full parse for validity, then one walk over the parser's index of structural
// characters, which is still there, for the places of the few fields that matter.
#include <algorithm>
#include <array>

#include <simdjson.h>

#include "gateway/dialect.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/json_reader.hpp"

namespace outlast::gateway {
namespace {

namespace dom = simdjson::dom;

constexpr std::size_t depth_max = 128;
constexpr std::uint64_t choices_max = 128;
constexpr std::size_t top_level_keys_max = 256;
constexpr std::size_t model_bytes_max = 512;
constexpr std::size_t beginning_messages_max = 16;  // before the first user message
// A parser that has grown beyond this is given back after its body.
constexpr std::size_t kept_bytes_max = 1024 * 1024;

static_assert(http::body_padding_bytes >= simdjson::SIMDJSON_PADDING);

// Finds where values stand, in text that has been parsed whole: every index below is one of a
// well-formed document.
class ValueWalk {
 public:
  ValueWalk(std::string_view text, const std::uint32_t* structurals)
      : text_(text), structurals_(structurals) {}

  // Stands on the value of the first member of the object whose brace is structural `brace`.
  void enter(std::size_t brace) { value_ = brace + 3; }
  [[nodiscard]] std::size_t value() const { return value_; }
  // Stands on the first element of the array whose bracket is structural `bracket`.
  void enter_array(std::size_t bracket) { value_ = bracket + 1; }
  // The value under the walk; moves on to the next member's value.
  ByteRange take() {
    const ByteRange range = take_value();
    value_ += 3;  // past ',' key ':'
    return range;
  }
  // The same for an element of an array.
  ByteRange take_element() {
    const ByteRange range = take_value();
    ++value_;  // past ','
    return range;
  }
  [[nodiscard]] std::size_t depth() const { return depth_; }

 private:
  // Leaves the walk on the structural character after the value.
  ByteRange take_value() {
    const std::size_t begin = structurals_[value_];
    std::size_t end_structural = value_ + 1;
    std::size_t end = 0;
    if (is_open(text_[begin])) {
      end_structural = skip_container(value_);
      end = structurals_[end_structural - 1] + 1;
    } else {
      end = structurals_[end_structural];
      while (is_space(text_[end - 1])) --end;
    }
    value_ = end_structural;
    return {begin, end};
  }
  static bool is_open(char c) { return (c | 0x20) == '{'; }
  static bool is_close(char c) { return (c | 0x20) == '}'; }
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

  std::size_t skip_container(std::size_t open) {
    std::size_t depth = 1;  // of this container
    std::size_t deepest = 1;
    std::size_t i = open + 1;
    for (; depth > 0; ++i) {
      const char c = text_[structurals_[i]];
      if (is_open(c)) deepest = std::max(deepest, ++depth);
      else if (is_close(c)) --depth;
    }
    depth_ = std::max(depth_, deepest + 1);
    return i;
  }

  std::string_view text_;
  const std::uint32_t* structurals_;
  std::size_t value_ = 0;
  std::size_t depth_ = 1;
};

class HeadReader {
 public:
  HeadReader(std::string_view body, const std::uint32_t* structurals)
      : body_(body), structurals_(structurals), walk_(body, structurals) {}

  Result<ChatHead> read(dom::object object) {
    walk_.enter(0);
    for (const auto field : object) {
      if (auto fresh = remember(field.key); !fresh) return fail(std::move(fresh.error()));
      const std::size_t structural = walk_.value();
      const ByteRange range = walk_.take();
      if (auto read = read_field(field.key, field.value, range, structural); !read)
        return fail(std::move(read.error()));
    }
    head_.depth = walk_.depth();
    if (head_.depth > depth_max) {
      return fail(DialectError::malformed_json, "the JSON is nested deeper than 128 levels");
    }
    if (head_.model_value.empty()) return invalid("'model' is missing; name a route or a model");
    if (!messages_)
      return invalid("'messages' is missing; an array of at least one message is expected");
    return std::move(head_);
  }

 private:
  Result<void> remember(std::string_view key) {
    if (std::find(keys_.begin(), keys_.begin() + key_count_, key) != keys_.begin() + key_count_) {
      return fail(DialectError::malformed_json,
                  "the field '" + std::string(key.substr(0, 64)) +
                      "' is given twice; which one counts is not defined");
    }
    if (key_count_ == top_level_keys_max) {
      return fail(DialectError::malformed_json, "the request has more than 256 top-level fields");
    }
    keys_[key_count_++] = key;
    return {};
  }

  Result<void> read_field(std::string_view key, dom::element value, ByteRange range,
                          std::size_t structural) {
    if (key == "model") return read_model(value, range);
    if (key == "messages") return read_messages(value, structural);
    if (key == "stream") return read_flag(value, head_.stream, "stream");
    if (key == "stream_options") return read_stream_options(value, range, structural);
    if (key == "max_tokens") {
      if (value.is_null()) head_.max_tokens_value = range;
      return read_max_tokens(value, "max_tokens");
    }
    if (key == "max_completion_tokens") return read_max_tokens(value, "max_completion_tokens");
    if (key == "n") return read_choices(value);
    return {};
  }

  Result<void> read_model(dom::element value, ByteRange range) {
    std::string_view model;
    if (value.get(model)) return invalid("'model' must be a string");
    if (model.empty()) return invalid("'model' is empty; name a route or a model");
    if (model.size() > model_bytes_max) return invalid("'model' is longer than 512 bytes");
    head_.model = model;
    head_.model_value = range;
    return {};
  }

  Result<void> read_messages(dom::element value, std::size_t structural) {
    dom::array messages;
    if (value.get(messages)) return invalid("'messages' must be an array");
    if (messages.begin() == messages.end())
      return invalid("'messages' is empty; at least one message is expected");
    messages_ = true;
    find_beginning(messages, structural);
    return {};
  }

  // Where the conversation begins: what makes two requests parts of one.
  void find_beginning(dom::array messages, std::size_t structural) {
    ValueWalk walk(body_, structurals_);
    walk.enter_array(structural);
    std::size_t looked_at = 0;
    for (const dom::element message : messages) {
      if (++looked_at > beginning_messages_max) return;
      const ByteRange range = walk.take_element();
      dom::object object;
      std::string_view role;
      if (message.get(object) || object["role"].get(role)) continue;
      if ((role == "system" || role == "developer") && head_.system_message.empty())
        head_.system_message = range;
      if (role != "user") continue;
      head_.first_user_message = range;
      return;
    }
  }

  static Result<void> read_flag(dom::element value, bool& flag, std::string_view name) {
    if (value.is_null() || !value.get(flag)) return {};
    return invalid("'" + std::string(name) + "' must be true or false");
  }

  Result<void> read_max_tokens(dom::element value, std::string_view name) {
    if (value.is_null()) return {};
    std::uint64_t count = 0;
    if (value.get(count) || count == 0)
      return invalid("'" + std::string(name) + "' must be a whole number of at least 1");
    head_.max_tokens = std::min(count, head_.max_tokens.value_or(count));
    return {};
  }

  Result<void> read_choices(dom::element value) {
    if (value.is_null()) return {};
    std::uint64_t count = 0;
    if (value.get(count) || count == 0 || count > choices_max)
      return invalid("'n' must be a whole number from 1 to 128");
    head_.choices = count;
    return {};
  }

  Result<void> read_stream_options(dom::element value, ByteRange range, std::size_t structural) {
    head_.stream_options_value = range;
    if (value.is_null()) return {};
    dom::object options;
    if (value.get(options)) return invalid("'stream_options' must be an object");
    ValueWalk walk(body_, structurals_);
    walk.enter(structural);
    for (const auto field : options) {
      const ByteRange field_range = walk.take();
      if (field.key != "include_usage") continue;
      if (!head_.include_usage_value.empty()) {
        return fail(DialectError::malformed_json,
                    "the field 'stream_options.include_usage' is given twice");
      }
      head_.include_usage_value = field_range;
      if (auto read = read_flag(field.value, head_.include_usage, "stream_options.include_usage");
          !read)
        return read;
    }
    return {};
  }

  std::string_view body_;
  const std::uint32_t* structurals_;
  ValueWalk walk_;
  std::array<std::string_view, top_level_keys_max> keys_;
  std::size_t key_count_ = 0;
  bool messages_ = false;
  ChatHead head_;
};

}  // namespace

struct ChatScanner::Impl {
  dom::parser parser;
};

ChatScanner::ChatScanner() : impl_(std::make_unique<Impl>()) {}
ChatScanner::~ChatScanner() = default;

Result<ChatHead> ChatScanner::scan(std::string_view body) {
  dom::parser& parser = impl_->parser;
  if (parser.capacity() > kept_bytes_max) parser = dom::parser();
  if (parser.capacity() == 0) {
    // Two levels more than allowed, so that the limit's own message is given and not the parser's.
    if (const auto error = parser.allocate(4096, depth_max + 2)) {
      return fail(DialectError::malformed_json, describe_malformed_json(error, body));
    }
  }
  dom::element root;
  if (const auto error = parser.parse(body.data(), body.size(), false).get(root)) {
    return fail(DialectError::malformed_json, describe_malformed_json(error, body));
  }
  dom::object object;
  if (root.get(object)) return fail(DialectError::malformed_json, "the body must be a JSON object");
  return HeadReader(body, parser.implementation->structural_indexes.get()).read(object);
}

}  // namespace outlast::gateway
