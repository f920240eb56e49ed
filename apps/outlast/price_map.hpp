// The public JSON price map (model_prices_and_context_window.json: a member per model with
// input_cost_per_token and the like, in US dollars) as a price book. No amount passes through
// floating point.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/price_book.hpp"
#include "core/result.hpp"

namespace outlast::apps {

struct PriceMapOptions {
  std::vector<std::string> providers;  // by the map's names; empty for all
  std::string provider_name;           // instead of the map's, where it is one provider
  std::string version;
};

struct PriceMapNote {
  std::string name;  // of the map's member
  std::string why;
};

struct PriceMap {
  PriceBook book;
  std::size_t models = 0;
  std::vector<PriceMapNote> skipped;   // no price of these was taken
  std::vector<PriceMapNote> left_out;  // these have a price, but not all of the map's
};

// Errors (CliError::failed) only where the file is no price map.
Result<PriceMap> read_price_map(std::string_view json, const PriceMapOptions& options);

}  // namespace outlast::apps
