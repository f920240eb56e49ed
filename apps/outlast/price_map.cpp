#include "apps/outlast/price_map.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/raw_json.hpp"

namespace outlast::apps {
namespace {

using Kind = RawJson::Kind;
using BucketPrices = std::array<std::optional<PicoUsd>, usage_bucket_count>;

constexpr std::size_t cache_write_5m = 2;
constexpr std::size_t cache_write_1h = 3;
constexpr std::uint64_t thousand = 1'000;
constexpr std::size_t source_bytes_max = 512;  // as a price book takes
constexpr PicoUsd per_token_max{1'000'000'000'000};  // US$ 1,000,000 per million tokens

// The map's names of token prices, by bucket.
constexpr std::pair<std::string_view, std::size_t> bucket_keys[] = {
    {"input_cost_per_token", general_input},
    {"cache_read_input_token_cost", 1},
    {"cache_creation_input_token_cost", cache_write_5m},
    {"cache_creation_input_token_cost_above_1hr", cache_write_1h},
    {"input_cost_per_audio_token", 4},
    {"input_cost_per_image_token", 5},
    {"output_cost_per_token", general_output},
    {"output_cost_per_reasoning_token", 7},
    {"output_cost_per_audio_token", 8}};

// What a key's end says: the service tier, or batches.
constexpr std::string_view batches = "batches";
constexpr std::string_view variants[] = {"priority", "flex", batches};

// Modes whose tokens this gateway passes on.
constexpr std::string_view served_modes[] = {"chat", "completion", "responses"};

// Places that have prices of their own.
constexpr std::string_view places[] = {"eu", "us"};

// A token price: of which variant ("" for none), above how many tokens, in which bucket.
struct CostKey {
  std::string_view variant;
  std::uint64_t above_tokens = 0;
  std::size_t bucket = 0;
};

std::optional<CostKey> parse_cost_key(std::string_view key) {
  CostKey result;
  for (const std::string_view variant : variants) {
    if (!key.ends_with(variant) || !key.substr(0, key.size() - variant.size()).ends_with('_'))
      continue;
    result.variant = variant;
    key.remove_suffix(variant.size() + 1);
    break;
  }
  constexpr std::string_view above = "_above_";
  constexpr std::string_view tokens = "k_tokens";
  if (key.ends_with(tokens)) {
    const std::size_t at = key.rfind(above);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view digits =
        key.substr(at + above.size(), key.size() - at - above.size() - tokens.size());
    std::uint32_t thousands = 0;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), thousands);
    if (read.ec != std::errc{} || read.ptr != digits.data() + digits.size() || thousands == 0 ||
        thousands > 1'000'000) {
      return std::nullopt;
    }
    result.above_tokens = thousands * thousand;
    key = key.substr(0, at);
  }
  for (const auto& [name, bucket] : bucket_keys) {
    if (key == name) {
      result.bucket = bucket;
      return result;
    }
  }
  return std::nullopt;
}

// One member of the map.
class Model {
 public:
  // Both outlive it.
  Model(const std::string& name, const RawJson& body) : name_(&name), body_(&body) {}
  [[nodiscard]] const std::string& name() const { return *name_; }

  // Reads every price; says why there is none to take. Empty when all is well.
  std::string read();
  // The entries of the model, with thresholds, variants and places.
  void add_to(PriceBook& book, const std::string& provider, std::vector<PriceMapNote>& left_out);
  // The name without the provider's and the place that Azure's names hold, and that place.
  [[nodiscard]] std::string model() const;
  [[nodiscard]] std::string geo() const;
  [[nodiscard]] std::string provider() const { return (*body_)["litellm_provider"].text; }

 private:
  std::string read_costs();
  std::string read_tiered(const RawJson& tiers);
  void read_searches(const RawJson& costs);
  [[nodiscard]] std::optional<PicoUsd> find(std::string_view variant, std::uint64_t above,
                                            std::size_t bucket) const;
  [[nodiscard]] TokenPrices resolve(std::string_view variant, std::uint64_t above) const;
  [[nodiscard]] Price price_of(std::string_view variant) const;
  [[nodiscard]] std::map<std::string, PicoUsd> multipliers() const;
  void leave_out(std::string_view key, std::string_view why) {
    left_out_.push_back({*name_, std::string(key) + ": " + std::string(why)});
  }

  const std::string* name_;
  const RawJson* body_;
  std::map<std::pair<std::string, std::uint64_t>, BucketPrices> costs_;  // by variant, threshold
  PicoUsd per_request_;
  PicoUsd per_query_;
  std::vector<PriceMapNote> left_out_;
};

std::string read_cost(std::string_view key, const RawJson& value, PicoUsd& into) {
  const auto amount = PicoUsd::parse_number(value.text);
  if (!amount) return std::string(key) + ": " + amount.error().message;
  if (*amount < PicoUsd{} || *amount > per_token_max)
    return std::string(key) + ": '" + value.text + "' is out of range";
  into = *amount;
  return {};
}

std::string Model::read() {
  const std::string& mode = (*body_)["mode"].text;
  if (!mode.empty() &&
      std::find(std::begin(served_modes), std::end(served_modes), mode) == std::end(served_modes)) {
    return "mode '" + mode + "' is not one that a gateway of chats serves";
  }
  if (auto why = read_costs(); !why.empty()) return why;
  if (!find("", 0, general_input) || !find("", 0, general_output))
    return "has no price per token of input and output";
  return {};
}

std::string Model::read_costs() {
  for (const auto& [key, value] : body_->members) {
    if (key == "tiered_pricing" && value.is(Kind::array)) {
      if (auto why = read_tiered(value); !why.empty()) return why;
    } else if (key == "search_context_cost_per_query" && value.is(Kind::object)) {
      read_searches(value);
    } else if (key == "provider_specific_entry") {
      for (const auto& [what, factor] : value.members) {
        const bool place =
            std::find(std::begin(places), std::end(places), what) != std::end(places);
        if (factor.is(Kind::number) && !place)
          leave_out(key + "." + what, "no answer says that it was billed so");
      }
    } else if (value.is(Kind::number)) {
      PicoUsd cost;
      if (const auto known = parse_cost_key(key)) {
        if (auto why = read_cost(key, value, cost); !why.empty()) return why;
        costs_[{std::string(known->variant), known->above_tokens}][known->bucket] = cost;
      } else if (key == "input_cost_per_request") {
        if (auto why = read_cost(key, value, per_request_); !why.empty()) return why;
      } else if (key.find("cost") != std::string::npos &&
                 (!read_cost(key, value, cost).empty() || cost != PicoUsd{})) {
        leave_out(key, "no usage that a chat reports is billed by it");
      }
    }
  }
  return {};
}

// Prices by ranges of the input's length: [{"range": [0, 32000], "input_cost_per_token": …}, …].
std::string Model::read_tiered(const RawJson& tiers) {
  for (const RawJson& tier : tiers.elements) {
    const RawJson& range = tier["range"];
    if (!range.is(Kind::array) || range.elements.empty()) return "tiered_pricing: has no range";
    const auto above = PicoUsd::parse_number(range.elements.front().text);
    if (!above || above->value < 0 || above->value % 1'000'000'000'000 != 0)
      return "tiered_pricing: a range does not begin at a whole number of tokens";
    const __int128 tokens = above->value / 1'000'000'000'000;
    if (tokens > 1'000'000'000) return "tiered_pricing: a range begins beyond 1000000000 tokens";
    for (const auto& [key, value] : tier.members) {
      const auto known = parse_cost_key(key);
      if (!value.is(Kind::number) || !known) continue;
      PicoUsd cost;
      if (auto why = read_cost(key, value, cost); !why.empty()) return "tiered_pricing: " + why;
      costs_[{std::string(known->variant), static_cast<std::uint64_t>(tokens)}][known->bucket] =
          cost;
    }
  }
  return {};
}

// A search has one price here: where the map has one for each size, none is taken.
void Model::read_searches(const RawJson& costs) {
  std::set<PicoUsd> amounts;
  for (const auto& [size, value] : costs.members) {
    PicoUsd cost;
    if (!read_cost(size, value, cost).empty()) {
      leave_out("search_context_cost_per_query", "is not a price");
      return;
    }
    amounts.insert(cost);
  }
  if (amounts.size() == 1) per_query_ = *amounts.begin();
  else leave_out("search_context_cost_per_query", "differs by the size of the search");
}

std::optional<PicoUsd> Model::find(std::string_view variant, std::uint64_t above,
                                   std::size_t bucket) const {
  const auto prices = costs_.find({std::string(variant), above});
  return prices == costs_.end() ? std::nullopt : prices->second[bucket];
}

// What the map leaves out of a variant or behind a threshold costs what it costs without.
TokenPrices Model::resolve(std::string_view variant, std::uint64_t above) const {
  const auto look = [this, variant, above](std::size_t bucket) -> std::optional<PicoUsd> {
    const std::pair<std::string_view, std::uint64_t> order[] = {
        {variant, above}, {"", above}, {variant, 0}, {"", 0}};
    for (const auto& [of, beyond] : order) {
      if (const auto price = find(of, beyond, bucket)) return price;
    }
    return std::nullopt;
  };
  TokenPrices prices{};
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    auto price = look(i);
    if (!price && i == cache_write_1h) price = look(cache_write_5m);
    if (!price) price = look(i < input_bucket_count ? general_input : general_output);
    prices[i] = price.value_or(PicoUsd{});
  }
  return prices;
}

Price Model::price_of(std::string_view variant) const {
  Price price;
  price.per_token = resolve(variant, 0);
  price.per_request = per_request_;
  price.per_unit[2] = per_query_;
  std::set<std::uint64_t> thresholds;
  for (const auto& [key, prices] : costs_) {
    if (key.second > 0 && (key.first.empty() || key.first == variant))
      thresholds.insert(key.second);
  }
  for (const std::uint64_t above : thresholds)
    price.thresholds.push_back({above, resolve(variant, above)});
  return price;
}

// What places cost more, by their name: as a number of pico-USD per US dollar.
std::map<std::string, PicoUsd> Model::multipliers() const {
  std::map<std::string, PicoUsd> found;
  constexpr std::string_view uplift = "regional_processing_uplift_multiplier_";
  for (const auto& [key, value] : body_->members) {
    if (!key.starts_with(uplift) || !value.is(Kind::number)) continue;
    if (const auto factor = PicoUsd::parse_number(value.text))
      found[key.substr(uplift.size())] = *factor;
  }
  for (const std::string_view place : places) {
    const RawJson& value = (*body_)["provider_specific_entry"][place];
    if (!value.is(Kind::number)) continue;
    if (const auto factor = PicoUsd::parse_number(value.text)) found[std::string(place)] = *factor;
  }
  return found;
}

// Multiplies every price per token; false where a price would not stay whole.
bool scale(TokenPrices& prices, PicoUsd factor) {
  constexpr __int128 one = 1'000'000'000'000;
  for (PicoUsd& price : prices) {
    const __int128 product = price.value * factor.value;
    if (product % one != 0) return false;
    price.value = product / one;
  }
  return true;
}

bool scale(Price& price, PicoUsd factor) {
  return scale(price.per_token, factor) &&
         std::all_of(price.thresholds.begin(), price.thresholds.end(),
                     [factor](PriceThreshold& at) { return scale(at.per_token, factor); });
}

std::string without_provider(const std::string& name, const std::string& provider) {
  const std::size_t slash = name.find('/');
  if (slash == std::string::npos || slash + 1 == name.size()) return name;
  const std::string first = name.substr(0, slash);
  const bool same = provider == first || provider.starts_with(first + "-") ||
                    provider.starts_with(first + "_");
  return same ? name.substr(slash + 1) : name;
}

std::string Model::geo() const {
  if (provider() != "azure") return {};
  const std::string rest = without_provider(*name_, provider());
  for (const std::string_view place : places) {
    if (rest.starts_with(std::string(place) + "/")) return std::string(place);
  }
  return {};
}

std::string Model::model() const {
  std::string rest = without_provider(*name_, provider());
  if (const std::string place = geo(); !place.empty()) rest.erase(0, place.size() + 1);
  return rest;
}

void Model::add_to(PriceBook& book, const std::string& provider,
                   std::vector<PriceMapNote>& left_out) {
  std::set<std::string> found = {""};
  for (const auto& [key, prices] : costs_) found.insert(key.first);
  for (const std::string& variant : found) {
    PriceEntry entry;
    entry.provider = provider;
    entry.model = model();
    entry.batch = variant == batches;
    if (!entry.batch) entry.service_tier = variant;
    entry.geo = geo();
    if (const RawJson& source = (*body_)["source"]; source.text.size() <= source_bytes_max)
      entry.source = source.text;
    entry.price = price_of(variant);
    if (entry.price.thresholds.size() > price_thresholds_max) {
      leave_out("thresholds", "are more than " + std::to_string(price_thresholds_max));
      entry.price.thresholds.resize(price_thresholds_max);
    }
    book.add(entry);
    for (const auto& [place, factor] : multipliers()) {
      PriceEntry there = entry;
      there.geo = place;
      if (place == entry.geo || factor.value == 1'000'000'000'000) continue;
      if (scale(there.price, factor)) book.add(there);
      else leave_out("geo " + place, "its prices are not whole multiples of 1e-12 dollars");
    }
  }
  left_out.insert(left_out.end(), left_out_.begin(), left_out_.end());
}

bool wanted(const PriceMapOptions& options, const std::string& provider) {
  return options.providers.empty() || std::find(options.providers.begin(), options.providers.end(),
                                                provider) != options.providers.end();
}

}  // namespace

Result<PriceMap> read_price_map(std::string_view json, const PriceMapOptions& options) {
  const auto root = parse_raw_json(json);
  if (!root) return fail(CliError::failed, root.error().message);
  if (!root->is(Kind::object)) {
    return fail(CliError::failed, "is no price map: it has no object with a member per model");
  }
  PriceMap map;
  map.book = PriceBook(options.version);
  std::vector<Model> models;
  std::map<std::tuple<std::string, std::string, std::string>, std::string> taken;
  for (const auto& [name, body] : root->members) {
    if (name == "sample_spec") continue;  // the map's description of itself
    if (!body.is(Kind::object)) {
      map.skipped.push_back({name, "is not an object"});
      continue;
    }
    Model model(name, body);
    if (!wanted(options, model.provider())) continue;
    std::string why = model.provider().empty() ? "names no litellm_provider" : model.read();
    if (why.empty()) {
      const auto [first, added] =
          taken.try_emplace({model.provider(), model.model(), model.geo()}, name);
      if (!added) why = "is the same model as '" + first->second + "'";
    }
    if (why.empty()) models.push_back(std::move(model));
    else map.skipped.push_back({name, why});
  }
  for (Model& model : models) {
    if (!taken.contains({model.provider(), model.model(), ""})) {
      map.skipped.push_back({model.name(), "has a price for one place and none for all others"});
      continue;
    }
    model.add_to(map.book,
                 options.provider_name.empty() ? model.provider() : options.provider_name,
                 map.left_out);
    ++map.models;
  }
  return map;
}

}  // namespace outlast::apps
