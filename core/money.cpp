#include "core/money.hpp"

#include <algorithm>
#include <charconv>

namespace outlast {
namespace {

constexpr __int128 pico_per_usd = 1'000'000'000'000;
// Far beyond any invoice, and far enough from 2^127 that sums of such amounts cannot overflow.
constexpr __int128 amount_max = static_cast<__int128>(1'000'000'000'000'000'000) * pico_per_usd;

// Of a number with an exponent.
constexpr std::size_t number_bytes_max = 64;
constexpr int exponent_max = 64;

std::string digits_of(unsigned __int128 value) {
  std::string text;
  do {
    text += static_cast<char>('0' + static_cast<int>(value % 10));
    value /= 10;
  } while (value != 0);
  std::reverse(text.begin(), text.end());
  return text;
}

unsigned __int128 magnitude(__int128 value) {
  return value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
}

}  // namespace

std::string PicoUsd::to_string() const { return (value < 0 ? "-" : "") + digits_of(magnitude(value)); }

std::string PicoUsd::to_usd() const {
  const unsigned __int128 amount = magnitude(value);
  std::string fraction = digits_of(amount % pico_per_usd);
  fraction.insert(0, static_cast<std::size_t>(decimals) - fraction.size(), '0');
  while (fraction.size() > 2 && fraction.back() == '0') fraction.pop_back();
  return (value < 0 ? "-" : "") + digits_of(amount / pico_per_usd) + "." + fraction;
}

Result<PicoUsd> PicoUsd::parse_usd(std::string_view text) {
  const std::string quoted = "'" + std::string(text) + "'";
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  __int128 value = 0;
  int fraction_digits = -1;
  bool any_digit = false;
  for (const char c : text) {
    if (c == '.' && fraction_digits < 0) {
      fraction_digits = 0;
      continue;
    }
    if (c < '0' || c > '9') return fail(MoneyError::malformed, quoted + " is not an amount; write e.g. '12.50'");
    any_digit = true;
    if (fraction_digits >= 0 && ++fraction_digits > decimals) {
      return fail(MoneyError::too_precise, quoted + " has more than 12 decimals");
    }
    value = value * 10 + (c - '0');
    if (value > amount_max) return fail(MoneyError::out_of_range, quoted + " is too large");
  }
  if (!any_digit) return fail(MoneyError::malformed, quoted + " is not an amount; write e.g. '12.50'");
  for (int i = std::max(fraction_digits, 0); i < decimals; ++i) {
    value *= 10;
    if (value > amount_max) return fail(MoneyError::out_of_range, quoted + " is too large");
  }
  return PicoUsd{negative ? -value : value};
}

Result<PicoUsd> PicoUsd::parse_pico(std::string_view text) {
  const std::string quoted = "'" + std::string(text) + "'";
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return fail(MoneyError::malformed, quoted + " is not a whole number of pico-USD");
  __int128 value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return fail(MoneyError::malformed, quoted + " is not a whole number of pico-USD");
    value = value * 10 + (c - '0');
    if (value > amount_max) return fail(MoneyError::out_of_range, quoted + " is too large");
  }
  return PicoUsd{negative ? -value : value};
}

Result<PicoUsd> PicoUsd::parse_number(std::string_view text) {
  const std::string quoted = "'" + std::string(text.substr(0, number_bytes_max)) + "'";
  const auto malformed = [&quoted] {
    return fail(MoneyError::malformed, quoted + " is not a number; write e.g. 1.25e-06");
  };
  if (text.size() > number_bytes_max) return malformed();
  const std::size_t mark = text.find_first_of("eE");
  int exponent = 0;
  if (mark != std::string_view::npos) {
    std::string_view digits = text.substr(mark + 1);
    if (digits.starts_with('+') && !digits.starts_with("+-")) digits.remove_prefix(1);
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if (read.ec != std::errc{} || read.ptr != digits.data() + digits.size()) return malformed();
    if (exponent < -exponent_max || exponent > exponent_max) {
      return fail(MoneyError::out_of_range, quoted + " has an exponent that no price has");
    }
    text = text.substr(0, mark);
  }
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  // The significant digits as a whole number, times ten to the `exponent` of pico-USD.
  const std::size_t point = text.find('.');
  std::string digits(text.substr(0, point));
  if (digits.empty()) return malformed();
  if (point != std::string_view::npos) {
    if (point + 1 == text.size()) return malformed();
    digits += text.substr(point + 1);
    exponent -= static_cast<int>(text.size() - point - 1);
  }
  exponent += decimals;
  for (; exponent < 0 && digits.size() > 1 && digits.back() == '0'; ++exponent) digits.pop_back();
  __int128 value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return malformed();
    value = value * 10 + (c - '0');
    if (value > amount_max) return fail(MoneyError::out_of_range, quoted + " is too large");
  }
  if (value == 0) return PicoUsd{};
  if (exponent < 0) return fail(MoneyError::too_precise, quoted + " has more than 12 decimals");
  for (; exponent > 0; --exponent) {
    value *= 10;
    if (value > amount_max) return fail(MoneyError::out_of_range, quoted + " is too large");
  }
  return PicoUsd{negative ? -value : value};
}

}  // namespace outlast
