// JsonGrammar: the JSON texts that a schema allows, byte by byte. json_schema.hpp makes one from a schema.
//
// A grammar is a tree of nodes without cycles (references are expanded to a bounded depth), and a node that no text fits is never
// part of another: from each state that can be reached, a text can be finished. So there are no dead ends.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gpu/decode/byte_trie.hpp"

namespace outlast::gpu {

inline constexpr std::uint32_t no_limit = std::numeric_limits<std::uint32_t>::max();
// So that every reader of JSON holds what comes: whole numbers in 64 bits, others in a double.
inline constexpr std::uint32_t number_digits_max = 18;  // before the point, and after it
inline constexpr std::uint32_t exponent_digits_max = 2;

struct JsonNode {
  enum class Kind : std::uint8_t {
    never,   // no text fits
    words,   // one of some texts, as they stand
    string,  // `least` to `most` characters
    number,
    object,  // properties in this order, others not
    array,   // `least` to `most` items
    any_of,
  };
  struct Property {
    std::string key;  // as text, with the colon: "name":
    std::uint32_t value = 0;
    bool required = false;
  };
  Kind kind = Kind::never;
  bool whole = false;  // of a number: no point and no exponent
  std::uint32_t least = 0;
  std::uint32_t most = no_limit;
  std::uint32_t items = 0;
  ByteTrie words;
  std::vector<Property> properties;
  std::vector<std::uint32_t> choices;  // of any_of; none of them any_of or never
};

// One value that has begun and not ended.
struct JsonFrame {
  std::uint32_t node = 0;
  std::uint32_t place = 0;  // by kind: where in its words; bytes of its key; digits so far; of a character, what is to come
  std::uint32_t count = 0;  // by kind: characters; properties or items that have begun
  std::uint16_t phase = 0;  // by kind
  std::uint16_t spaces = 0; // that came just now
  auto operator<=>(const JsonFrame&) const = default;
};

// Where a text stands: all that it may be in the middle of, each a stack of values, the outermost first. A value.
class JsonState {
 public:
  [[nodiscard]] std::size_t size() const { return ends_.size(); }
  [[nodiscard]] const JsonFrame* begin_of(std::size_t stack) const { return frames_.data() + (stack == 0 ? 0 : ends_[stack - 1]); }
  [[nodiscard]] std::size_t size_of(std::size_t stack) const { return ends_[stack] - (stack == 0 ? 0 : ends_[stack - 1]); }
  void clear() {
    frames_.clear();
    ends_.clear();
  }

 private:
  friend class JsonGrammar;
  friend struct JsonStep;
  std::vector<JsonFrame> frames_;
  std::vector<std::size_t> ends_;
};

// Immutable.
class JsonGrammar {
 public:
  // `spaces_max`: white space that may stand at one place between values.
  JsonGrammar(std::vector<JsonNode> nodes, std::uint32_t root, std::uint16_t spaces_max);

  [[nodiscard]] JsonState start() const;
  // What `byte` makes of a state, in `to`; false where it cannot come.
  bool step(const JsonState& from, std::uint8_t byte, JsonState& to) const;
  [[nodiscard]] static bool complete(const JsonState& state);
  // The same for states in which tokens of up to `longest` bytes go the same ways.
  void key_of(const JsonState& state, std::size_t longest, std::string& key) const;

 private:
  friend struct JsonStep;
  const std::vector<JsonNode> nodes_;
  const std::uint32_t root_;
  const std::uint16_t spaces_max_;
};

}  // namespace outlast::gpu
