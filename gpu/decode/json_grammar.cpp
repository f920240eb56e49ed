#include "gpu/decode/json_grammar.hpp"

#include <algorithm>
#include <span>

#include "core/check.hpp"

namespace outlast::gpu {
namespace {

// As many ways to read a text are followed at once: more than any one choice gives. Where choices multiply, what is beyond is
// not allowed, which leaves each of these to be finished.
constexpr std::size_t stacks_max = 128;

constexpr std::uint16_t at_begin = 0;  // of every kind: nothing but white space has come
enum StringPhase : std::uint16_t { string_text = 1, string_rest, string_escape, string_hex };
// Of a character whose first byte came: how many bytes are to come, and from where to where the next may be.
constexpr std::uint32_t rest_of(std::uint32_t bytes, std::uint32_t low, std::uint32_t high) { return bytes << 16 | low << 8 | high; }
enum NumberPhase : std::uint16_t { number_minus = 1, number_zero, number_digits, number_point, number_fraction, number_e, number_sign, number_exponent };
enum ObjectPhase : std::uint16_t { object_first = 1, object_key, object_value, object_comma };
enum ArrayPhase : std::uint16_t { array_empty = 1, array_value };

bool is_space(std::uint8_t byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }
bool is_digit(std::uint8_t byte) { return byte >= '0' && byte <= '9'; }
bool is_hex(std::uint8_t byte) { return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F'); }

bool may_end(const JsonFrame& number) {
  return number.phase == number_zero || number.phase == number_digits || number.phase == number_fraction || number.phase == number_exponent;
}

}  // namespace

// One byte's way out of one stack: what is below the top frame, the top as it is changed, and where results go.
struct JsonStep {
  const JsonGrammar& grammar;
  std::span<const JsonFrame> below;
  std::uint8_t byte;
  JsonState& to;

  const JsonNode& node_of(const JsonFrame& frame) const { return grammar.nodes_[frame.node]; }

  void keep(std::size_t begin) const {
    auto& frames = to.frames_;
    if (to.ends_.size() == stacks_max) return frames.resize(begin);
    for (std::size_t stack = 0; stack < to.size(); ++stack) {
      if (std::equal(to.begin_of(stack), to.begin_of(stack) + to.size_of(stack), frames.begin() + static_cast<std::ptrdiff_t>(begin), frames.end()))
        return frames.resize(begin);
    }
    to.ends_.push_back(frames.size());
  }
  std::size_t put_below() const {
    const std::size_t begin = to.frames_.size();
    to.frames_.insert(to.frames_.end(), below.begin(), below.end());
    return begin;
  }
  void stay(const JsonFrame& top) const {
    const std::size_t begin = put_below();
    to.frames_.push_back(top);
    keep(begin);
  }
  // The value has ended.
  void leave() const { keep(put_below()); }
  // A value of `node` begins within the top one.
  void enter(const JsonFrame& top, std::uint32_t node) const {
    const JsonNode& inner = grammar.nodes_[node];
    const std::span<const std::uint32_t> choices = inner.kind == JsonNode::Kind::any_of ? std::span(inner.choices) : std::span(&node, 1);
    for (const std::uint32_t choice : choices) {
      const std::size_t begin = put_below();
      to.frames_.push_back(top);
      to.frames_.push_back({choice, 0, 0, at_begin, 0});
      keep(begin);
    }
  }
  // Whether the byte was white space, where there may be some.
  bool space(JsonFrame top) const {
    if (!is_space(byte)) return false;
    if (top.spaces >= grammar.spaces_max_) return true;
    ++top.spaces;
    stay(top);
    return true;
  }

  void words(JsonFrame top) const {
    const JsonNode& node = node_of(top);
    const auto next = node.words.next(top.place, byte);
    if (!next) return;
    top.place = *next;
    top.phase = 1;
    top.spaces = 0;
    if (node.words.goes_on(*next)) stay(top);
    if (node.words.is_word(*next)) leave();
  }

  void character_done(JsonFrame top) const {
    const JsonNode& node = node_of(top);
    // Without an upper limit there is nothing to count beyond the lower one.
    if (node.most != no_limit || top.count < node.least) ++top.count;
    top.phase = string_text;
    top.place = 0;
    stay(top);
  }
  void string_first(JsonFrame top) const {
    const JsonNode& node = node_of(top);
    if (byte == '"') {
      if (top.count >= node.least) leave();
      return;
    }
    if (byte < 0x20 || top.count >= node.most) return;
    if (byte == '\\') {
      top.phase = string_escape;
      return stay(top);
    }
    if (byte < 0x80) return character_done(top);
    // Well-formed sequences only (Unicode, table 3-7).
    if (byte < 0xC2 || byte > 0xF4) return;
    std::uint32_t low = 0x80;
    std::uint32_t high = 0xBF;
    if (byte == 0xE0) low = 0xA0;
    if (byte == 0xED) high = 0x9F;
    if (byte == 0xF0) low = 0x90;
    if (byte == 0xF4) high = 0x8F;
    top.phase = string_rest;
    top.place = rest_of(byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3, low, high);
    stay(top);
  }
  void string(JsonFrame top) const {
    switch (top.phase) {
      case at_begin:
        if (byte != '"') return;
        top.phase = string_text;
        top.spaces = 0;
        return stay(top);
      case string_text: return string_first(top);
      case string_rest: {
        if (byte < (top.place >> 8 & 0xFF) || byte > (top.place & 0xFF)) return;
        const std::uint32_t left = (top.place >> 16) - 1;
        if (left == 0) return character_done(top);
        top.place = rest_of(left, 0x80, 0xBF);
        return stay(top);
      }
      case string_escape:
        if (std::string_view("\"\\/bfnrt").find(static_cast<char>(byte)) != std::string_view::npos) return character_done(top);
        if (byte != 'u') return;
        top.phase = string_hex;
        top.place = 0;
        return stay(top);
      default:
        // \uD800 to \uDFFF are halves of characters, which can stand as they are.
        if (!is_hex(byte)) return;
        if ((top.place & 0xF) == 1 && (top.place & 0x10) != 0 && byte > '7') return;
        if ((top.place & 0xF) == 3) return character_done(top);
        if (top.place == 0 && (byte == 'd' || byte == 'D')) top.place |= 0x10;
        ++top.place;
        return stay(top);
    }
  }

  // A digit in a part of a number that has room for `most`.
  void digit(JsonFrame top, std::uint16_t phase, std::uint32_t most) const {
    if (!is_digit(byte)) return;
    if (top.phase != phase) top.place = 0;
    if (top.place == most) return;
    ++top.place;
    top.phase = phase;
    more_number(top);
  }
  // What comes behind a number ends it: both are possible from here.
  void more_number(const JsonFrame& top) const {
    stay(top);
    if (may_end(top)) leave();
  }
  void number(JsonFrame top) const {
    const bool whole = node_of(top).whole;
    const auto go = [this, &top](std::uint16_t phase) {
      top.phase = phase;
      top.place = 0;
      more_number(top);
    };
    top.spaces = 0;
    switch (top.phase) {
      case at_begin:
        if (byte == '-') return go(number_minus);
        [[fallthrough]];
      case number_minus: return byte == '0' ? go(number_zero) : digit(top, number_digits, number_digits_max);
      case number_zero:
      case number_digits:
        if (byte == '.' && !whole) return go(number_point);
        if ((byte == 'e' || byte == 'E') && !whole) return go(number_e);
        return top.phase == number_digits ? digit(top, number_digits, number_digits_max) : void();
      case number_point: return digit(top, number_fraction, number_digits_max);
      case number_fraction: return byte == 'e' || byte == 'E' ? go(number_e) : digit(top, number_fraction, number_digits_max);
      case number_e:
        if (byte == '+' || byte == '-') return go(number_sign);
        [[fallthrough]];
      default: return digit(top, number_exponent, exponent_digits_max);
    }
  }

  // The keys that may come, from property `top.count` to the next that must.
  void keys(JsonFrame top) const {
    const auto& properties = node_of(top).properties;
    top.phase = object_key;
    top.place = 1;  // its quote
    top.spaces = 0;
    for (; top.count < properties.size(); ++top.count) {
      stay(top);
      if (properties[top.count].required) return;
    }
  }
  void object(JsonFrame top) const {
    const auto& properties = node_of(top).properties;
    const auto may_close = [&properties, &top] {
      return std::none_of(properties.begin() + top.count, properties.end(), [](const JsonNode::Property& property) { return property.required; });
    };
    switch (top.phase) {
      case at_begin:
        if (byte != '{') return;
        top.phase = object_first;
        top.spaces = 0;
        return stay(top);
      case object_key: {
        const JsonNode::Property& property = properties[top.count];
        if (byte != static_cast<std::uint8_t>(property.key[top.place])) return;
        if (++top.place < property.key.size()) return stay(top);
        top.phase = object_value;
        top.place = 0;
        ++top.count;
        return enter(top, property.value);
      }
      case object_value:
        if (byte == ',' && top.count < properties.size()) {
          top.phase = object_comma;
          top.spaces = 0;
          return stay(top);
        }
        break;
      default:
        if (byte == '"') return keys(top);
    }
    if (byte == '}' && top.phase != object_comma && may_close()) return leave();
    space(top);
  }

  void array(JsonFrame top) const {
    const JsonNode& node = node_of(top);
    const auto item = [this, &node, &top] {
      top.phase = array_value;
      top.spaces = 0;
      if (node.most != no_limit || top.count < node.least) ++top.count;
      enter(top, node.items);
    };
    if (top.phase == at_begin) {
      if (byte != '[') return;
      top.phase = array_empty;
      top.spaces = 0;
      if (node.least == 0) stay(top);
      if (node.most > 0) item();
      return;
    }
    if (byte == ']') return top.phase == array_empty || top.count >= node.least ? leave() : void();
    if (byte == ',') return top.phase == array_value && top.count < node.most ? item() : void();
    space(top);
  }

  void run(const JsonFrame& top) const {
    // Before a value that is not the whole text.
    if (top.phase == at_begin && !below.empty() && space(top)) return;
    switch (node_of(top).kind) {
      case JsonNode::Kind::words: return words(top);
      case JsonNode::Kind::string: return string(top);
      case JsonNode::Kind::number: return number(top);
      case JsonNode::Kind::object: return object(top);
      case JsonNode::Kind::array: return array(top);
      case JsonNode::Kind::never:
      case JsonNode::Kind::any_of: break;
    }
    check(false, "a value that has begun is of a kind that has texts");
  }
};

JsonGrammar::JsonGrammar(std::vector<JsonNode> nodes, std::uint32_t root, std::uint16_t spaces_max)
    : nodes_(std::move(nodes)), root_(root), spaces_max_(spaces_max) {
  check(root < nodes_.size() && nodes_[root].kind != JsonNode::Kind::never, "some text fits a grammar");
}

JsonState JsonGrammar::start() const {
  JsonState state;
  const JsonNode& root = nodes_[root_];
  const std::span<const std::uint32_t> choices = root.kind == JsonNode::Kind::any_of ? std::span(root.choices) : std::span(&root_, 1);
  for (const std::uint32_t choice : choices.first(std::min(choices.size(), stacks_max))) {
    state.frames_.push_back({choice, 0, 0, at_begin, 0});
    state.ends_.push_back(state.frames_.size());
  }
  return state;
}

bool JsonGrammar::step(const JsonState& from, std::uint8_t byte, JsonState& to) const {
  to.clear();
  for (std::size_t stack = 0; stack < from.size(); ++stack) {
    const std::size_t size = from.size_of(stack);
    if (size == 0) continue;  // the text has ended
    const JsonFrame* const frames = from.begin_of(stack);
    JsonStep{*this, {frames, size - 1}, byte, to}.run(frames[size - 1]);
  }
  return to.size() > 0;
}

bool JsonGrammar::complete(const JsonState& state) {
  for (std::size_t stack = 0; stack < state.size(); ++stack) {
    if (state.size_of(stack) == 0) return true;
  }
  return false;
}

void JsonGrammar::key_of(const JsonState& state, std::size_t longest, std::string& key) const {
  key.clear();
  const auto put = [&key](const auto& value) { key.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (std::size_t stack = 0; stack < state.size(); ++stack) {
    put(state.size_of(stack));
    for (std::size_t i = 0; i < state.size_of(stack); ++i) {
      JsonFrame frame = state.begin_of(stack)[i];
      const JsonNode& node = nodes_[frame.node];
      // So far from its upper limit that no token gets there.
      if (node.kind == JsonNode::Kind::string && node.most != no_limit && node.most > longest && frame.count >= node.least)
        frame.count = std::max<std::uint32_t>(frame.count, std::max<std::uint32_t>(node.least, node.most - static_cast<std::uint32_t>(longest)));
      put(frame);
    }
  }
}

}  // namespace outlast::gpu
