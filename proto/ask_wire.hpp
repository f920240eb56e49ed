// What the codecs of the control channel share. For proto/ask_codec.cpp and proto/spend_codec.cpp alone.
#pragma once

#include <string>
#include <string_view>

#include "proto/ask.capnp.h"
#include "proto/ask_codec.hpp"

namespace outlast::ask {

// Thrown by readers and writers, caught in ask_codec.cpp: Cap'n Proto's own getters throw as well.
struct Refused {
  FrameError code;
  std::string message;
};

inline void at_most(std::size_t size, std::size_t size_max, const char* what) {
  if (size <= size_max) return;
  throw Refused{FrameError::too_large, std::to_string(size) + " " + what + "; at most " + std::to_string(size_max)};
}

inline capnp::Text::Reader text_of(std::string_view text) { return {text.data(), text.size()}; }

// A cut name would be another name, so it is refused and not cut.
inline capnp::Text::Reader name_of(const std::string& name) {
  at_most(name.size(), name_bytes_max, "bytes of a name");
  return text_of(name);
}

inline unsigned count_of(std::size_t count) { return static_cast<unsigned>(count); }

inline std::string string_of(capnp::Text::Reader text, std::size_t bytes_max, const char* what) {
  at_most(text.size(), bytes_max, what);
  return {text.begin(), text.size()};
}

inline std::string read_name(capnp::Text::Reader text) { return string_of(text, name_bytes_max, "bytes of a name"); }

void write(const SpendBatch& batch, schema::SpendBatch::Builder out);
SpendBatch read_spend(schema::SpendBatch::Reader in);

}  // namespace outlast::ask
