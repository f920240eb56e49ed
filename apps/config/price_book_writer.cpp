#include "apps/config/price_book_writer.hpp"

#include <array>
#include <chrono>
#include <cstdio>

namespace outlast::apps {
namespace {

constexpr std::size_t general_input = 0;   // input_uncached speaks for its side
constexpr std::size_t general_output = 6;  // and output_text for the other
static_assert(usage_buckets[general_output].name == "output_text");

std::string toml_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

void line(std::string& out, std::string_view key, std::string_view value) {
  out.append(key).append(" = ").append(value) += '\n';
}

void text_line(std::string& out, std::string_view key, std::string_view value) {
  if (!value.empty()) line(out, key, toml_string(value));
}

// A TOML date and time in UTC, to the millisecond.
std::string moment(std::int64_t unix_ms) {
  const std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(unix_ms)};
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(days);
  const std::chrono::hh_mm_ss clock(time - days);
  char text[64];
  std::snprintf(text, sizeof(text), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()));
  return text;
}

// The side's price, and that of each bucket that costs something else or is in `named`, which
// learns of those.
void token_lines(std::string& out, const TokenPrices& prices,
                 std::array<bool, usage_bucket_count>& named) {
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    const std::size_t general = i < input_bucket_count ? general_input : general_output;
    if (i == general_input) line(out, "input", toml_string(dollars_per_million(prices[i])));
    if (i == general_output) line(out, "output", toml_string(dollars_per_million(prices[i])));
    named[i] = named[i] || prices[i] != prices[general];
    if (named[i]) line(out, usage_buckets[i].name, toml_string(dollars_per_million(prices[i])));
  }
}

void write_entry(std::string& out, const PriceEntry& entry) {
  out += "\n[[price]]\n";
  text_line(out, "provider", entry.provider);
  text_line(out, "model", entry.model);
  text_line(out, "contract", entry.contract);
  text_line(out, "service_tier", entry.service_tier);
  text_line(out, "geo", entry.geo);
  if (entry.batch) line(out, "batch", "true");
  if (entry.from_ms != PriceEntry{}.from_ms) line(out, "from", moment(entry.from_ms));
  if (entry.until_ms != PriceEntry{}.until_ms) line(out, "until", moment(entry.until_ms));
  text_line(out, "source", entry.source);
  std::array<bool, usage_bucket_count> named{};
  token_lines(out, entry.price.per_token, named);
  if (entry.price.per_request != PicoUsd{}) {
    line(out, "per_request", toml_string(entry.price.per_request.to_usd()));
  }
  for (std::size_t i = 0; i < billed_unit_count; ++i) {
    if (entry.price.per_unit[i] == PicoUsd{}) continue;
    line(out, "per_" + std::string(billed_units[i].name), toml_string(entry.price.per_unit[i].to_usd()));
  }
  for (const PriceThreshold& threshold : entry.price.thresholds) {
    out += "[[price.threshold]]\n";
    line(out, "above_tokens", std::to_string(threshold.above_tokens));
    line(out, "mode", toml_string(threshold_mode_names[static_cast<std::size_t>(entry.price.mode)]));
    auto of_threshold = named;
    token_lines(out, threshold.per_token, of_threshold);
  }
}

}  // namespace

std::string dollars_per_million(PicoUsd per_token) { return (per_token * 1'000'000).to_usd(); }

std::string write_price_book(const PriceBook& book, std::string_view note) {
  std::string out;
  if (!note.empty()) out.append("# ").append(note) += '\n';
  line(out, "version", toml_string(book.version()));
  for (const PriceEntry* entry : book.entries()) write_entry(out, *entry);
  return out;
}

}  // namespace outlast::apps
