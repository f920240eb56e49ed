#include "apps/outlast/price_diff.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "apps/config/price_book_writer.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

// One figure of an entry: money has an amount too, so that it can be compared.
struct Figure {
  std::string text;
  std::optional<PicoUsd> amount;
};
using Figures = std::vector<std::pair<std::string, Figure>>;

using Subject = std::tuple<std::string, std::string, std::string, std::string, std::string, bool>;
Subject subject_of(const PriceEntry& entry) {
  return {entry.provider, entry.model, entry.contract, entry.service_tier, entry.geo, entry.batch};
}

void add_tokens(Figures& figures, const std::string& prefix, const TokenPrices& prices) {
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    const Figure figure{dollars_per_million(prices[i]), prices[i]};
    const std::size_t general = i < input_bucket_count ? general_input : general_output;
    if (i == general_input) figures.emplace_back(prefix + "input", figure);
    if (i == general_output) figures.emplace_back(prefix + "output", figure);
    if (prices[i] != prices[general])
      figures.emplace_back(prefix + std::string(usage_buckets[i].name), figure);
  }
}

Figures all_figures(const PriceEntry& entry) {
  Figures figures;
  const Price& price = entry.price;
  add_tokens(figures, "", price.per_token);
  if (price.per_request != PicoUsd{})
    figures.emplace_back("per_request", Figure{price.per_request.to_usd(), price.per_request});
  for (std::size_t i = 0; i < billed_unit_count; ++i) {
    if (price.per_unit[i] == PicoUsd{}) continue;
    figures.emplace_back("per_" + std::string(billed_units[i].name),
                         Figure{price.per_unit[i].to_usd(), price.per_unit[i]});
  }
  for (const PriceThreshold& threshold : price.thresholds) {
    add_tokens(figures, "above " + std::to_string(threshold.above_tokens) + ": ",
               threshold.per_token);
  }
  if (!price.thresholds.empty()) {
    const auto mode = threshold_mode_names[static_cast<std::size_t>(price.mode)];
    figures.emplace_back("mode", Figure{std::string(mode), std::nullopt});
  }
  if (entry.from_ms != PriceEntry{}.from_ms)
    figures.emplace_back("from", Figure{utc_time(entry.from_ms), std::nullopt});
  if (entry.until_ms != PriceEntry{}.until_ms)
    figures.emplace_back("until", Figure{utc_time(entry.until_ms), std::nullopt});
  return figures;
}

const Figure* find(const Figures& figures, const std::string& key) {
  for (const auto& [name, figure] : figures) {
    if (name == key) return &figure;
  }
  return nullptr;
}

// The figure, or for a bucket without one that of its side.
const Figure* effective(const Figures& figures, const std::string& key) {
  if (const Figure* own = find(figures, key)) return own;
  const std::size_t name = key.find(": ") == std::string::npos ? 0 : key.find(": ") + 2;
  for (const std::string_view side : {"input", "output"}) {
    if (std::string_view(key).substr(name).starts_with(std::string(side) + "_"))
      return find(figures, key.substr(0, name) + std::string(side));
  }
  return nullptr;
}

// To two decimals, rounded half away from zero.
std::string percent_of(const Figure* before, const Figure* after) {
  if (before == nullptr || after == nullptr || !before->amount || !after->amount) return {};
  const __int128 base = before->amount->value;
  if (base == 0) return {};
  const __int128 difference = after->amount->value - base;
  const bool negative = difference < 0;
  const __int128 hundredths = ((negative ? -difference : difference) * 10'000 + base / 2) / base;
  const std::string decimals = PicoUsd{hundredths % 100}.to_string();
  return (negative ? "-" : "+") + PicoUsd{hundredths / 100}.to_string() + "." +
         (decimals.size() == 1 ? "0" : "") + decimals;
}

void compare(const PriceEntry& before, const PriceEntry& after, std::vector<PriceChange>& changes) {
  const Figures old_figures = all_figures(before);
  const Figures new_figures = all_figures(after);
  Figures keys = new_figures;
  for (const auto& figure : old_figures) {
    if (find(keys, figure.first) == nullptr) keys.push_back(figure);
  }
  for (const auto& [key, unused] : keys) {
    const Figure* was = effective(old_figures, key);
    const Figure* is = effective(new_figures, key);
    const std::string was_text = was == nullptr ? "" : was->text;
    const std::string is_text = is == nullptr ? "" : is->text;
    if (was_text == is_text) continue;
    changes.push_back({PriceChange::Kind::changed, &after, key, was_text, is_text,
                       percent_of(was, is)});
  }
}

void list_entry(PriceChange::Kind kind, const PriceEntry& entry, std::vector<PriceChange>& changes) {
  const bool added = kind == PriceChange::Kind::added;
  for (const auto& [key, figure] : all_figures(entry)) {
    changes.push_back({kind, &entry, key, added ? "" : figure.text, added ? figure.text : "", ""});
  }
}

}  // namespace

std::string terms_of(const PriceEntry& entry) {
  std::string terms;
  const auto add = [&terms](const std::string& text) {
    if (!text.empty()) terms += (terms.empty() ? "" : ", ") + text;
  };
  add(entry.contract.empty() ? "" : "contract " + entry.contract);
  add(entry.batch ? "batch" : "");
  add(entry.service_tier);
  add(entry.geo);
  return terms;
}

std::vector<std::pair<std::string, std::string>> figures_of(const PriceEntry& entry) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const auto& [key, figure] : all_figures(entry)) texts.emplace_back(key, figure.text);
  return texts;
}

std::vector<PriceChange> diff_price_books(const PriceBook& before, const PriceBook& after) {
  std::map<Subject, std::pair<std::vector<const PriceEntry*>, std::vector<const PriceEntry*>>> all;
  for (const PriceEntry* entry : before.entries()) all[subject_of(*entry)].first.push_back(entry);
  for (const PriceEntry* entry : after.entries()) all[subject_of(*entry)].second.push_back(entry);
  std::vector<PriceChange> changes;
  for (auto& [subject, entries] : all) {
    auto& [old_entries, new_entries] = entries;
    if (old_entries.size() == 1 && new_entries.size() == 1) {
      compare(*old_entries.front(), *new_entries.front(), changes);
      continue;
    }
    for (const PriceEntry* entry : new_entries) {
      const auto same = std::find_if(
          old_entries.begin(), old_entries.end(),
          [entry](const PriceEntry* other) { return other->from_ms == entry->from_ms; });
      if (same == old_entries.end()) {
        list_entry(PriceChange::Kind::added, *entry, changes);
      } else {
        compare(**same, *entry, changes);
        old_entries.erase(same);
      }
    }
    for (const PriceEntry* entry : old_entries) list_entry(PriceChange::Kind::removed, *entry, changes);
  }
  return changes;
}

}  // namespace outlast::apps
