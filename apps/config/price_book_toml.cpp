// The price book's TOML. Prices are US dollars per million tokens with at most 6 decimals, so that
// pico-USD per token is a whole number and no charge is ever rounded.
#include <algorithm>
#include <array>
#include <optional>

#include "apps/config/node_config.hpp"
#include "apps/config/price_series.hpp"
#include "apps/config/sections.hpp"
#include "apps/config/toml_reader.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t version_length_max = 64;
constexpr std::size_t price_name_length_max = 1'024;  // as in the ledger
constexpr std::size_t source_length_max = 512;
constexpr std::size_t snapshots_max = 64;
constexpr std::uint64_t above_tokens_max = 1'000'000'000;
constexpr std::size_t price_decimals_max = 6;
constexpr std::uint64_t tokens_per_price = 1'000'000;
constexpr PicoUsd price_max{static_cast<__int128>(1'000'000) * 1'000'000'000'000};  // US$ 1,000,000
constexpr std::array<std::string_view, 2> sides = {"input", "output"};

// The keys of pieces, in the order of billed_units.
constexpr std::array<std::string_view, billed_unit_count> unit_keys = {"per_image", "per_second",
                                                                       "per_query", "per_session"};
static_assert(billed_units[2].name == "query" && billed_units[3].name == "session");

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

// A price per million tokens for each bucket. `own_buckets` collects those with a price of their
// own; a threshold (`below` is what holds under it) has to name the same ones, or it would make
// them dearer without a word.
TokenPrices read_token_prices(TableReader& reader,
                              std::array<bool, usage_bucket_count>& own_buckets,
                              const std::array<bool, usage_bucket_count>* below) {
  TokenPrices prices{};
  for (const std::string_view side : sides) {
    if (!reader.has(side)) {
      reader.error(side, "is missing; write US dollars per million tokens, e.g. " +
                             std::string(side) + " = \"2.50\"");
    }
    const auto general = read_price_per_token(reader, side);
    for (std::size_t i = 0; i < usage_bucket_count; ++i) {
      const std::string_view bucket = usage_buckets[i].name;
      if (!bucket.starts_with(side)) continue;
      own_buckets[i] = reader.has(bucket);
      const auto own = read_price_per_token(reader, bucket);
      prices[i] = own ? *own : general.value_or(PicoUsd{});
      if (below != nullptr && (*below)[i] && !own_buckets[i]) {
        reader.error(bucket, "is missing, and the price below the threshold has one; write " +
                                 std::string(bucket) + " for this threshold too");
      }
    }
  }
  return prices;
}

void read_thresholds(TableReader& reader, const std::array<bool, usage_bucket_count>& own_buckets,
                     Price& price) {
  std::uint64_t last = 0;
  for (TableReader& table : reader.tables("threshold")) {
    PriceThreshold threshold;
    if (!table.has("above_tokens")) {
      table.error("above_tokens", "is missing; write e.g. above_tokens = 200000");
    }
    const bool given = table.integer("above_tokens", threshold.above_tokens, 1, above_tokens_max);
    if (!table.has("mode")) {
      table.error("mode", "is missing; write mode = \"cliff\" (all tokens at the new price) or "
                          "\"marginal\" (only those beyond)");
    }
    if (const auto mode = table.choice("mode", threshold_mode_names)) {
      if (price.thresholds.empty()) {
        price.mode = static_cast<ThresholdMode>(*mode);
      } else if (price.mode != static_cast<ThresholdMode>(*mode)) {
        table.error("mode", "differs from the threshold before; write the same mode in all");
      }
    }
    std::array<bool, usage_bucket_count> own{};
    threshold.per_token = read_token_prices(table, own, &own_buckets);
    table.refuse_unknown_keys();
    if (given && threshold.above_tokens <= last) {
      table.error("above_tokens", std::to_string(threshold.above_tokens) +
                                      " is not above the threshold before; write them in order");
    }
    last = std::max(last, threshold.above_tokens);
    price.thresholds.push_back(threshold);
  }
  if (price.thresholds.size() > price_thresholds_max) {
    reader.error("threshold", "stands there more than " + std::to_string(price_thresholds_max) +
                                  " times; keep fewer");
    price.thresholds.resize(price_thresholds_max);
  }
}

void read_name(TableReader& reader, std::string_view key, std::string& into,
               std::string_view example) {
  if (reader.required_text(key, into, example) && into.size() > price_name_length_max) {
    reader.error(key, "is longer than " + std::to_string(price_name_length_max) + " characters");
  }
}

void read_currency(TableReader& reader) {
  std::string currency;
  if (reader.text("currency", currency) && currency != "USD") {
    reader.error("currency", "'" + currency +
                                 "' is not supported; prices are in US dollars, write "
                                 "currency = \"USD\" and the dollars of your contract");
  }
}

void read_validity(TableReader& reader, PriceEntry& entry) {
  const bool from = reader.time_ms("from", entry.from_ms);
  const bool until = reader.time_ms("until", entry.until_ms);
  if (from && until && entry.until_ms <= entry.from_ms) {
    reader.error("until", "is not after 'from'; it is the first moment without this price");
  }
}

void read_source(TableReader& reader, std::string& source) {
  if (reader.text("source", source) && source.size() > source_length_max) {
    reader.error("source", "is longer than " + std::to_string(source_length_max) + " characters");
  }
}

std::vector<std::string> read_snapshots(TableReader& reader) {
  std::vector<std::string> names;
  if (!reader.texts("snapshots", names)) return names;
  const bool sane = std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return !name.empty() && name.size() <= price_name_length_max;
  });
  if (!sane || names.size() > snapshots_max) {
    reader.error("snapshots", "is not a list of names; write at most " +
                                  std::to_string(snapshots_max) +
                                  " models, e.g. snapshots = [\"gpt-5-2025-08-07\"]");
  }
  return names;
}

// The keys in the order in which messages list them.
PriceEntry read_entry(TableReader& reader, std::vector<std::string>& snapshots) {
  PriceEntry entry;
  read_name(reader, "provider", entry.provider, R"(provider = "alpha", or "*" for every provider)");
  read_name(reader, "model", entry.model, R"(model = "claude-fable-5")");
  std::array<bool, usage_bucket_count> own_buckets{};
  entry.price.per_token = read_token_prices(reader, own_buckets, nullptr);
  if (const auto amount = read_dollars(reader, "per_request", PicoUsd::decimals))
    entry.price.per_request = *amount;
  for (std::size_t i = 0; i < billed_unit_count; ++i) {
    if (const auto amount = read_dollars(reader, unit_keys[i], PicoUsd::decimals))
      entry.price.per_unit[i] = *amount;
  }
  snapshots = read_snapshots(reader);
  read_price_label(reader, "contract", entry.contract);
  read_price_label(reader, "service_tier", entry.service_tier);
  read_price_label(reader, "geo", entry.geo);
  reader.boolean("batch", entry.batch);
  read_validity(reader, entry);
  read_currency(reader);
  read_source(reader, entry.source);
  read_thresholds(reader, own_buckets, entry.price);
  reader.refuse_unknown_keys();
  return entry;
}

}  // namespace

void read_price_label(TableReader& reader, std::string_view key, std::string& into) {
  if (!reader.text(key, into)) return;
  const bool clean = std::all_of(into.begin(), into.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
  if (clean && !into.empty() && into.size() <= billing_text_bytes_max) return;
  reader.error(key, "is not a label; write 1 to " + std::to_string(billing_text_bytes_max) +
                        " lower-case letters, digits, '-', '_' and '.'");
}

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
  read_currency(root);
  std::string source;  // of all prices that name none
  read_source(root, source);
  PriceBook book(version);
  PriceSeries series;
  for (TableReader& reader : root.tables("price")) {
    std::vector<std::string> names;
    PriceEntry entry = read_entry(reader, names);
    if (entry.source.empty()) entry.source = source;
    names.insert(names.begin(), entry.model);
    for (std::string& name : names) {
      entry.model = std::move(name);
      series.note(entry, reader);
      book.add(entry);
    }
  }
  root.refuse_unknown_keys();
  series.report(errors);
  if (!errors.empty()) return fail(ConfigError::invalid, errors.text());
  return book;
}

}  // namespace outlast::apps
