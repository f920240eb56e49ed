// Answers that pass unmodified from an openai upstream to an openai caller. answer_reader.cpp
// chooses them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/dialect.hpp"

namespace outlast::gateway {

// Of a whole answer.
inline constexpr std::size_t answer_bytes_max = 64 * 1024 * 1024;
// Of a stream before its first content.
inline constexpr std::size_t preamble_bytes_max = 1024 * 1024;

std::unique_ptr<AnswerReader> make_pass_whole();
// Events pass when they are complete, so that a cut never leaves half an event with the caller.
std::unique_ptr<AnswerReader> make_pass_stream(AnswerContext context);
// Through typed events, from either dialect into every form.
std::unique_ptr<AnswerReader> make_translating_reader(Dialect upstream, AnswerContext context);

// Where an answer's first byte stands that is neither white space nor of a byte order mark; npos
// while there is none. A '{' begins a whole answer, all else a stream: some upstreams answer a
// streamed request with one JSON object.
std::size_t find_meaningful_byte(std::string_view bytes);

}  // namespace outlast::gateway
