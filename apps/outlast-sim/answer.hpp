// SimAnswer: what the simulated model says, as a pure function of the request, the answer length
// and the seed.
//
// The text is `answer_tokens` words; a word is a token. With tools, the model calls one when the
// last user message contains the word "tool" or a tool's name, or when the request requires it, and
// all of them when it contains "every tool"; 8 bytes of a call's arguments are a token.
// `[tokens=N]` in the last user message sets the length.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/outlast-sim/chat_request.hpp"

namespace outlast::sim {

struct SimToolCall {
  std::string id;
  std::string name;
  std::vector<std::string> fragments;  // of the arguments; a token each
};

struct SimChoice {
  std::vector<std::string> words;  // with the space before each but the first
  std::vector<SimToolCall> tool_calls;
  bool cut_by_length = false;
};

struct SimUsage {
  std::uint64_t input = 0;  // without the cache
  std::uint64_t cache_read = 0;
  std::uint64_t cache_write_5m = 0;
  std::uint64_t cache_write_1h = 0;
  std::uint64_t output = 0;
};

struct SimAnswer {
  std::string id;  // hexadecimal; the dialect puts its prefix before it
  std::string model;
  std::vector<SimChoice> choices;
  SimUsage usage;
};

SimAnswer make_answer(const SimRequest& request, Dialect dialect, std::uint64_t answer_tokens,
                      std::uint64_t seed);

std::string joined(const std::vector<std::string>& parts);
std::string hex16(std::uint64_t value);

}  // namespace outlast::sim
