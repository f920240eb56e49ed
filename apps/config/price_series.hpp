// PriceSeries: what only all prices of a book together can have wrong: two for the same moment, a
// moment between two without any, special prices without a general one. One owner.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "apps/config/toml_reader.hpp"
#include "core/price_book.hpp"

namespace outlast::apps {

class PriceSeries {
 public:
  // `reader` is of the entry's table. Reports at once a price for the same and the same time.
  void note(const PriceEntry& entry, TableReader& reader);
  // Reports the rest.
  void report(ConfigErrors& errors) const;

 private:
  // What an entry holds for, but for the time: provider, model, contract, service tier, geo, batch.
  using Subject =
      std::tuple<std::string, std::string, std::string, std::string, std::string, bool>;
  struct Span {
    std::int64_t from_ms;
    std::int64_t until_ms;
    std::uint32_t line;        // of the table
    std::uint32_t from_line;   // of its `from`
    std::uint32_t until_line;  // of its `until`
  };

  std::map<Subject, std::vector<Span>> spans_;
  std::set<std::pair<std::string, std::string>> general_;                   // provider, model
  std::map<std::pair<std::string, std::string>, std::uint32_t> special_;    // and their first line
};

}  // namespace outlast::apps
