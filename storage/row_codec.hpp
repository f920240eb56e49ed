// How the bytes of rows are put together and taken apart. For the encoders of rows only.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/check.hpp"

namespace outlast::storage {

template <class T>
void put(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

inline void put_text(std::string& out, std::string_view text) {
  check(text.size() <= UINT16_MAX, "a text of a row fits its length");
  put(out, static_cast<std::uint16_t>(text.size()));
  out.append(text);
}

// Takes from the front; once something is missing, everything is.
class RowReader {
 public:
  explicit RowReader(std::string_view bytes) : rest_(bytes) {}
  template <class T>
  RowReader& take(T& value) {
    if (rest_.size() < sizeof(T)) return failed();
    std::memcpy(static_cast<void*>(&value), rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return *this;
  }
  RowReader& take_text(std::string_view& text) {
    std::uint16_t size = 0;
    take(size);
    if (rest_.size() < size) return failed();
    text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return *this;
  }
  RowReader& take_text(std::string& text) {
    std::string_view view;
    take_text(view);
    text.assign(view);
    return *this;
  }
  [[nodiscard]] bool more() const { return ok_ && !rest_.empty(); }
  [[nodiscard]] bool done() const { return ok_ && rest_.empty(); }

 private:
  RowReader& failed() {
    ok_ = false;
    rest_ = {};
    return *this;
  }
  std::string_view rest_;
  bool ok_ = true;
};

inline std::string prefixed(char prefix, std::string_view rest) {
  std::string key;
  key.reserve(1 + rest.size());
  key += prefix;
  key += rest;
  return key;
}

}  // namespace outlast::storage
