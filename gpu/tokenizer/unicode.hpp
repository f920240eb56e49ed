// Text as a tokenizer wants it: valid UTF-8, in the normal form that the model was trained with.
#pragma once

#include <string>
#include <string_view>

namespace outlast::gpu {

// `text` with each longest run of bytes that begins a character and does not end one, and each byte that cannot stand
// where it does, replaced by U+FFFD: what Python's errors="replace" and browsers do. `copy` is written only where
// something was wrong; the result points into it or is `text`.
std::string_view valid_utf8(std::string_view text, std::string& copy);

// The bytes of the last character that `text` begins and does not end: 0 to 3.
std::size_t unfinished_utf8(std::string_view text);

// Canonical composition (NFC). `text` is valid UTF-8; `copy` is written only where the form differs.
std::string_view nfc(std::string_view text, std::string& copy);

}  // namespace outlast::gpu
