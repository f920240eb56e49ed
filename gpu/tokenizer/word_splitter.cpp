#include "gpu/tokenizer/word_splitter.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::uint32_t match_steps_max = 10'000'000;
constexpr std::size_t jit_stack_bytes_max = 8U << 20;

// White space by Unicode's property, as the content of a class. PCRE2's own \s has U+180E too, which left the property in
// Unicode 6.3, and which tokenizers take for another sign.
constexpr std::string_view white_space =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string with_unicode_space(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char sign = pattern[at];
    if (sign == '\\' && at + 1 < pattern.size()) {
      const char escaped = pattern[++at];
      if (escaped == 's') {
        out += in_class ? std::string(white_space) : "[" + std::string(white_space) + "]";
      } else if (escaped == 'S' && !in_class) {
        out += "[^" + std::string(white_space) + "]";
      } else {
        out += sign;
        out += escaped;
      }
      continue;
    }
    if (sign == '[') in_class = true;
    if (sign == ']') in_class = false;
    out += sign;
  }
  return out;
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct WordSplitter::Machine {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_match_data* match = nullptr;
  pcre2_jit_stack* stack = nullptr;

  Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
    pcre2_code_free(code);
  }
};

WordSplitter::WordSplitter(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) {}
WordSplitter::~WordSplitter() = default;

Result<std::unique_ptr<WordSplitter>> WordSplitter::make(std::string_view pattern) {
  if (pattern.empty() || pattern.size() > split_pattern_bytes_max) {
    return fail(GpuError::malformed, "the pre-tokenizer's pattern has " + std::to_string(pattern.size()) +
                                         " bytes; 1 to " + std::to_string(split_pattern_bytes_max) + " are allowed");
  }
  const std::string unicode = with_unicode_space(pattern);
  auto machine = std::make_unique<Machine>();
  int code = 0;
  PCRE2_SIZE offset = 0;
  machine->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(unicode.data()), unicode.size(),
                                PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, nullptr);
  if (machine->code == nullptr)
    return fail(GpuError::malformed, "the pre-tokenizer's pattern is not a regular expression: " + message_of(code));
  // Without it matching is slower, and as right.
  const bool compiled = pcre2_jit_compile(machine->code, PCRE2_JIT_COMPLETE) == 0;
  machine->context = pcre2_match_context_create(nullptr);
  machine->match = pcre2_match_data_create_from_pattern(machine->code, nullptr);
  if (machine->context == nullptr || machine->match == nullptr)
    return fail(GpuError::too_large, "no memory for the pre-tokenizer's pattern");
  pcre2_set_match_limit(machine->context, match_steps_max);
  if (compiled) {
    machine->stack = pcre2_jit_stack_create(64U << 10, jit_stack_bytes_max, nullptr);
    pcre2_jit_stack_assign(machine->context, nullptr, machine->stack);
  }
  return std::unique_ptr<WordSplitter>(new WordSplitter(std::move(machine)));
}

Result<void> WordSplitter::split(std::string_view text, std::vector<std::string_view>& words) {
  std::size_t from = 0;  // of what no word has yet
  std::size_t search = 0;
  while (search < text.size()) {
    const int found = pcre2_match(machine_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), search,
                                  PCRE2_NO_UTF_CHECK, machine_->match, machine_->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) return fail(GpuError::too_large, "the pre-tokenizer's pattern gave up: " + message_of(found));
    const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(machine_->match);
    const std::size_t begin = place[0];
    const std::size_t end = place[1];
    if (begin == end) {  // matches nothing there: one character on
      search = end + 1;
      while (search < text.size() && (static_cast<unsigned char>(text[search]) & 0xC0) == 0x80) ++search;
      continue;
    }
    if (begin > from) words.push_back(text.substr(from, begin - from));
    words.push_back(text.substr(begin, end - begin));
    from = search = end;
  }
  if (from < text.size()) words.push_back(text.substr(from));
  return {};
}

}  // namespace outlast::gpu
