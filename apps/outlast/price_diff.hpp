// What changed between two price books, figure by figure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/price_book.hpp"

namespace outlast::apps {

struct PriceChange {
  enum class Kind : std::uint8_t { added, removed, changed };
  Kind kind = Kind::changed;
  const PriceEntry* entry = nullptr;  // the new one, or the removed one; lives in its book
  std::string key;  // "input", "output_reasoning", "above 200000: input", "per_request", "until"
  std::string before;  // dollars (per million tokens for tokens) or a time; empty for none
  std::string after;
  std::string percent;  // "+12.50"; empty where there is none to give
};
inline constexpr std::string_view price_change_names[] = {"added", "removed", "changed"};

// By provider, model, the most special first. Entries of one subject that begin at the same time
// are compared, and so are two that are the only ones of their subject.
std::vector<PriceChange> diff_price_books(const PriceBook& before, const PriceBook& after);

// "priority, us, batch": what an entry holds for beside its model; "" for everything.
std::string terms_of(const PriceEntry& entry);

// The figures of an entry as (key, text), in the words of PriceChange. A bucket that costs what its
// side costs has none of its own.
std::vector<std::pair<std::string, std::string>> figures_of(const PriceEntry& entry);

}  // namespace outlast::apps
