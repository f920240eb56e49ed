// PicoUsd: money as a signed 128-bit integer of 1e-12 US dollars. No floating point touches money.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast {

enum class MoneyError : std::uint16_t { malformed = 1, too_precise = 2, out_of_range = 3 };
template <>
inline constexpr std::string_view error_module<MoneyError> = "money";

struct PicoUsd {
  __int128 value = 0;

  static constexpr int decimals = 12;

  constexpr auto operator<=>(const PicoUsd&) const = default;
  constexpr PicoUsd& operator+=(PicoUsd other) { value += other.value; return *this; }
  constexpr PicoUsd& operator-=(PicoUsd other) { value -= other.value; return *this; }
  friend constexpr PicoUsd operator+(PicoUsd a, PicoUsd b) { return {a.value + b.value}; }
  friend constexpr PicoUsd operator-(PicoUsd a, PicoUsd b) { return {a.value - b.value}; }
  // Units times a price per unit; exact. 2^64 units at 2^62 pico-USD still fit.
  friend constexpr PicoUsd operator*(PicoUsd price, std::uint64_t units) {
    return {price.value * static_cast<__int128>(units)};
  }

  // Dollars as a plain decimal with at least 2 and at most 12 decimals, e.g. "0.000123", "12.50", "-3.00".
  [[nodiscard]] std::string to_usd() const;
  // The integer number of pico-USD, e.g. "123000000".
  [[nodiscard]] std::string to_string() const;
  // Both refuse more digits than fit, exponents, signs other than one leading '-', and empty text.
  [[nodiscard]] static Result<PicoUsd> parse_usd(std::string_view text);
  [[nodiscard]] static Result<PicoUsd> parse_pico(std::string_view text);
  // Dollars as JSON writes numbers, with an exponent or without, e.g. "1.25e-06". Exact, or too_precise.
  [[nodiscard]] static Result<PicoUsd> parse_number(std::string_view text);
};

}  // namespace outlast
