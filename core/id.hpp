// Uuid: 128-bit identifiers; version 7 (RFC 9562) so that ids sort by the time they were made.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.hpp"
#include "core/random.hpp"

namespace outlast {

struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  [[nodiscard]] bool is_nil() const { return *this == Uuid{}; }
  // Milliseconds since 1970 of a version 7 id.
  [[nodiscard]] std::int64_t unix_ms() const;
  // 36 characters, lower case.
  using Text = std::array<char, 36>;
  [[nodiscard]] Text text() const;
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] static std::optional<Uuid> parse(std::string_view text);
};

using RequestId = Uuid;
// One run of a process; a reservation of a dead incarnation is in doubt.
using Incarnation = Uuid;

// Makes version 7 ids, strictly increasing within one generator even when the clock goes back. One owner.
class UuidGenerator {
 public:
  UuidGenerator(const Clock& clock, std::uint64_t seed) : clock_(clock), random_(seed) {}
  Uuid next();

 private:
  const Clock& clock_;
  Random random_;
  std::int64_t last_ms_ = 0;
  std::uint16_t sequence_ = 0;  // 12 bits after the milliseconds
};

}  // namespace outlast

template <>
struct std::hash<outlast::Uuid> {
  std::size_t operator()(const outlast::Uuid& id) const noexcept {
    std::uint64_t low = 0;
    for (int i = 8; i < 16; ++i) low = low << 8 | id.bytes[static_cast<std::size_t>(i)];
    std::uint64_t high = 0;
    for (int i = 0; i < 8; ++i) high = high << 8 | id.bytes[static_cast<std::size_t>(i)];
    return static_cast<std::size_t>(low ^ (high * 0x9e3779b97f4a7c15ULL));
  }
};
