// The price book's TOML. Prices are US dollars per million tokens with at most 6 decimals, so that
// pico-USD per token is a whole number and no charge is ever rounded.
#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "apps/config/node_config.hpp"
#include "apps/config/toml_reader.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t version_length_max = 64;
constexpr std::size_t price_decimals_max = 6;
constexpr std::uint64_t tokens_per_price = 1'000'000;
constexpr PicoUsd price_max{static_cast<__int128>(1'000'000) * 1'000'000'000'000};  // US$ 1,000,000

// Reads a decimal string of US dollars.
std::optional<PicoUsd> read_dollars(TableReader& reader, std::string_view key,
                                    std::size_t decimals_max) {
  std::string text;
  const std::string advice = "; write dollars as a string with at most " +
                             std::to_string(decimals_max) + " decimals, e.g. " + std::string(key) +
                             " = \"2.50\"";
  if (reader.holds_number(key)) {
    reader.error(key, "is a number" + advice);
    reader.ignore(key);
    return std::nullopt;
  }
  if (!reader.text(key, text)) return std::nullopt;
  const auto point = text.find('.');
  const std::size_t decimals = point == std::string::npos ? 0 : text.size() - point - 1;
  const auto amount = PicoUsd::parse_usd(text);
  if (!amount || decimals > decimals_max) {
    const bool precise = amount || is(amount.error(), MoneyError::too_precise);
    reader.error(key, "'" + text + "' " +
                          (precise ? "has too many decimals" : "is not an amount of dollars") +
                          advice);
    return std::nullopt;
  }
  if (*amount < PicoUsd{} || *amount > price_max) {
    reader.error(key,
                 "'" + text + "' is out of range; write an amount from 0 to " + price_max.to_usd());
    return std::nullopt;
  }
  return *amount;
}

std::optional<PicoUsd> read_price_per_token(TableReader& reader, std::string_view key) {
  auto amount = read_dollars(reader, key, price_decimals_max);
  if (amount) amount->value /= tokens_per_price;  // whole: at most 6 of the 12 decimals are used
  return amount;
}

Price read_price(TableReader& reader) {
  Price price;
  for (const std::string_view side : {std::string_view("input"), std::string_view("output")}) {
    if (!reader.has(side)) {
      reader.error(side, "is missing; write US dollars per million tokens, e.g. " +
                             std::string(side) + " = \"2.50\"");
    }
    const auto general = read_price_per_token(reader, side);
    for (std::size_t i = 0; i < usage_bucket_count; ++i) {
      if (!usage_buckets[i].name.starts_with(side)) continue;
      const auto own = read_price_per_token(reader, usage_buckets[i].name);
      price.per_token[i] = own ? *own : general.value_or(PicoUsd{});
    }
  }
  if (const auto amount = read_dollars(reader, "per_request", PicoUsd::decimals))
    price.per_request = *amount;
  return price;
}

}  // namespace

Result<PriceBook> parse_price_book(std::string_view toml, const std::string& file) {
  toml::table document;
  try {
    document = toml::parse(toml, std::string_view(file));
  } catch (const toml::parse_error& error) {
    return fail(ConfigError::syntax, syntax_error_text(file, error));
  }
  ConfigErrors errors(file);
  TableReader root(document, "", 1, errors);
  std::string version;
  if (root.required_text("version", version, R"(version = "2026-11-01")") &&
      version.size() > version_length_max) {
    root.error("version", "is longer than " + std::to_string(version_length_max) +
                              " characters; write e.g. a date");
  }
  PriceBook book(version);
  std::map<std::pair<std::string, std::string>, std::uint32_t> lines;
  for (TableReader& reader : root.tables("price")) {
    std::string provider;
    std::string model;
    reader.required_text("provider", provider, R"(provider = "alpha", or "*" for every provider)");
    reader.required_text("model", model, R"(model = "claude-fable-5")");
    const Price price = read_price(reader);
    reader.refuse_unknown_keys();
    const auto [first, added] = lines.emplace(std::pair(provider, model), reader.line());
    if (!added && !model.empty()) {
      reader.error("model", "'" + model + "' of provider '" + provider +
                                "' already has the price of line " + std::to_string(first->second) +
                                "; keep one of them");
    }
    book.set(provider, model, price);
  }
  root.refuse_unknown_keys();
  if (!errors.empty()) return fail(ConfigError::invalid, errors.text());
  return book;
}

}  // namespace outlast::apps
