// Words for messages: what a mistyped word may have meant, and lists.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace outlast::apps {

// The known word nearest to a mistyped one, or empty when none is near.
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> known);

// "a, b, c".
std::string join_words(std::span<const std::string_view> words);

}  // namespace outlast::apps
