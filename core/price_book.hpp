// PriceBook: which price holds for which request: by provider and contract, model, service tier, place, batch and time.
// Immutable once published: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/price.hpp"

namespace outlast {

// A price and what it holds for. An empty text holds for everything that no more special price names.
struct PriceEntry {
  std::string provider;      // "*": every provider without a price of its own
  std::string model;         // or a snapshot of it, as the provider knows it
  std::string contract;      // of the provider's configuration
  std::string service_tier;  // as answered: "priority", "flex", …
  std::string geo;           // inference_geo as answered, else the provider's configured region
  bool batch = false;        // true: for batches only
  std::int64_t from_ms = std::numeric_limits<std::int64_t>::min();
  std::int64_t until_ms = std::numeric_limits<std::int64_t>::max();  // the first moment at which it no longer holds
  std::string source;        // where the figures come from
  Price price;

  bool operator==(const PriceEntry&) const = default;
  // Whether it holds whatever is answered.
  [[nodiscard]] bool is_general() const { return service_tier.empty() && geo.empty() && !batch; }
};

// What is known of a request. `time_ms` is when it began, so that its reservation and its settlement agree.
struct PriceQuery {
  std::string_view provider;
  std::string_view model;
  std::string_view service_tier;  // as answered; empty when nothing was
  std::string_view geo;
  std::string_view contract;
  bool batch = false;
  std::int64_t time_ms = 0;
};

class PriceBook {
 public:
  PriceBook() = default;
  explicit PriceBook(std::string version) : version_(std::move(version)) {}

  // Replaces an entry that holds for the same and from the same moment on.
  void add(PriceEntry entry);
  // A price that holds always and for everything of the model.
  void set(std::string provider, std::string model, Price price);

  // The price of the most special entry that holds: the provider's own before those of "*"; then, in this order, one
  // that names the contract, batch, the service tier, the geo. Null where none holds. Allocates nothing.
  [[nodiscard]] const Price* find(const PriceQuery& query) const;
  // The bound of `worst_case_of` over every price that an answer may turn out to be charged by, whatever its service
  // tier, geo or batch: those of the query are not looked at. Absent where some answers would have no price.
  [[nodiscard]] std::optional<PicoUsd> worst_case(const PriceQuery& query, std::uint64_t input_tokens_max,
                                                  std::uint64_t output_tokens_max) const;

  [[nodiscard]] const std::string& version() const { return version_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  // By provider, model, the most special first, and time. Valid until the book changes.
  [[nodiscard]] std::vector<const PriceEntry*> entries() const;

 private:
  using Entries = std::vector<PriceEntry>;  // the most special first
  struct Model {
    std::string provider;
    std::string name;
    Entries entries;
  };

  [[nodiscard]] const Model* find_model(std::string_view provider, std::string_view name) const;
  Model& model_of(const std::string& provider, const std::string& name);

  std::string version_ = "none";
  std::size_t size_ = 0;
  std::vector<Model> models_;
  // An open-addressing table over models_: an index plus one, 0 for free; its size is a power of two. Every request looks
  // up at least twice, and standard maps cost more than all the arithmetic of a price.
  std::vector<std::uint32_t> slots_;
};

}  // namespace outlast
