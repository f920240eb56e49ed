#include "core/price_book.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

namespace outlast {
namespace {

constexpr std::string_view every_provider = "*";

// What is named, the weightiest in the highest bit.
unsigned speciality(const PriceEntry& entry) {
  return (entry.contract.empty() ? 0U : 8U) | (entry.batch ? 4U : 0U) | (entry.service_tier.empty() ? 0U : 2U) |
         (entry.geo.empty() ? 0U : 1U);
}

bool goes_before(const PriceEntry& a, const PriceEntry& b) {
  return std::tuple(~speciality(a), std::tie(a.contract, a.service_tier, a.geo), a.from_ms) <
         std::tuple(~speciality(b), std::tie(b.contract, b.service_tier, b.geo), b.from_ms);
}

bool fits(std::string_view named, std::string_view given) { return named.empty() || named == given; }

// Whether an answer to the query may be charged by the entry.
bool may_hold(const PriceEntry& entry, const PriceQuery& query) {
  return entry.from_ms <= query.time_ms && query.time_ms < entry.until_ms && fits(entry.contract, query.contract);
}

bool holds(const PriceEntry& entry, const PriceQuery& query) {
  return may_hold(entry, query) && (!entry.batch || query.batch) && fits(entry.service_tier, query.service_tier) &&
         fits(entry.geo, query.geo);
}

constexpr std::size_t slots_per_model = 2;

// The length and eight bytes at either end: names of models differ there. Files of administrators are not hostile to
// each other, and names that agree cost a comparison each.
std::uint64_t hash_of(std::string_view text) {
  if (text.empty()) return 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  const std::size_t size = std::min(text.size(), sizeof(first));
  std::memcpy(&first, text.data(), size);
  std::memcpy(&last, text.data() + text.size() - size, size);
  return (first ^ text.size()) * 0x9e3779b97f4a7c15 ^ std::rotl(last * 0xc2b2ae3d27d4eb4f, 29);
}

std::size_t hash_of(std::string_view provider, std::string_view model) {
  const std::uint64_t hash = (std::rotl(hash_of(provider), 17) ^ hash_of(model)) * 0x9e3779b97f4a7c15;
  return static_cast<std::size_t>(hash ^ hash >> 32);
}

// `slots` has a free one.
void take_slot(std::vector<std::uint32_t>& slots, std::size_t hash, std::size_t model) {
  const std::size_t mask = slots.size() - 1;
  std::size_t at = hash & mask;
  while (slots[at] != 0) at = (at + 1) & mask;
  slots[at] = static_cast<std::uint32_t>(model + 1);
}

}  // namespace

void PriceBook::add(PriceEntry entry) {
  Entries& entries = model_of(entry.provider, entry.model).entries;
  const auto place = std::lower_bound(entries.begin(), entries.end(), entry, goes_before);
  if (place != entries.end() && !goes_before(entry, *place)) {
    *place = std::move(entry);
    return;
  }
  entries.insert(place, std::move(entry));
  ++size_;
}

void PriceBook::set(std::string provider, std::string model, Price price) {
  PriceEntry entry;
  entry.provider = std::move(provider);
  entry.model = std::move(model);
  entry.price = std::move(price);
  add(std::move(entry));
}

const PriceBook::Model* PriceBook::find_model(std::string_view provider, std::string_view name) const {
  if (slots_.empty()) return nullptr;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash_of(provider, name) & mask; slots_[at] != 0; at = (at + 1) & mask) {
    const Model& model = models_[slots_[at] - 1];
    if (model.name == name && model.provider == provider) return &model;
  }
  return nullptr;
}

PriceBook::Model& PriceBook::model_of(const std::string& provider, const std::string& name) {
  if (const Model* known = find_model(provider, name)) {
    return models_[static_cast<std::size_t>(known - models_.data())];
  }
  models_.push_back({provider, name, {}});
  if (models_.size() * slots_per_model > slots_.size()) {
    slots_.assign(std::bit_ceil(models_.size() * slots_per_model * 2), 0);
    for (std::size_t i = 0; i + 1 < models_.size(); ++i) {
      take_slot(slots_, hash_of(models_[i].provider, models_[i].name), i);
    }
  }
  take_slot(slots_, hash_of(provider, name), models_.size() - 1);
  return models_.back();
}

const Price* PriceBook::find(const PriceQuery& query) const {
  for (const std::string_view provider : {query.provider, every_provider}) {
    const Model* model = find_model(provider, query.model);
    if (model == nullptr) continue;
    for (const PriceEntry& entry : model->entries) {
      if (holds(entry, query)) return &entry.price;
    }
  }
  return nullptr;
}

std::optional<PicoUsd> PriceBook::worst_case(const PriceQuery& query, std::uint64_t input_tokens_max,
                                             std::uint64_t output_tokens_max) const {
  PicoUsd amount;
  for (const std::string_view provider : {query.provider, every_provider}) {
    const Model* model = find_model(provider, query.model);
    if (model == nullptr) continue;
    for (const PriceEntry& entry : model->entries) {
      if (!may_hold(entry, query)) continue;
      amount = std::max(amount, worst_case_of(entry.price, input_tokens_max, output_tokens_max));
      if (entry.is_general()) return amount;  // nothing after it is ever chosen
    }
  }
  return std::nullopt;
}

std::vector<const PriceEntry*> PriceBook::entries() const {
  std::vector<const PriceEntry*> all;
  for (const Model& model : models_) {
    for (const PriceEntry& entry : model.entries) all.push_back(&entry);
  }
  std::sort(all.begin(), all.end(), [](const PriceEntry* a, const PriceEntry* b) {
    const auto name = std::tie(a->provider, a->model) <=> std::tie(b->provider, b->model);
    return name != 0 ? name < 0 : goes_before(*a, *b);
  });
  return all;
}

}  // namespace outlast
