#include "apps/config/price_series.hpp"

#include <algorithm>

namespace outlast::apps {
namespace {

std::string quoted_name(const std::string& provider, const std::string& model) {
  return "'" + model + "' of provider '" + provider + "'";
}

}  // namespace

void PriceSeries::note(const PriceEntry& entry, TableReader& reader) {
  if (entry.model.empty() || entry.provider.empty()) return;  // reported already
  const std::pair name(entry.provider, entry.model);
  if (entry.is_general()) general_.insert(name);
  else special_.emplace(name, reader.line_of("model"));
  std::vector<Span>& spans = spans_[{entry.provider, entry.model, entry.contract,
                                     entry.service_tier, entry.geo, entry.batch}];
  for (const Span& other : spans) {
    if (other.from_ms != entry.from_ms) continue;
    reader.error("model", quoted_name(entry.provider, entry.model) +
                              " already has the price of line " + std::to_string(other.line) +
                              "; keep one of them");
    return;
  }
  spans.push_back({entry.from_ms, entry.until_ms, reader.line(), reader.line_of("from"),
                   reader.line_of("until")});
}

void PriceSeries::report(ConfigErrors& errors) const {
  for (const auto& [subject, unsorted] : spans_) {
    std::vector<Span> spans = unsorted;
    std::sort(spans.begin(), spans.end(),
              [](const Span& a, const Span& b) { return a.from_ms < b.from_ms; });
    const std::string name = quoted_name(std::get<0>(subject), std::get<1>(subject));
    for (std::size_t i = 1; i < spans.size(); ++i) {
      const Span& before = spans[i - 1];
      const Span& after = spans[i];
      const std::string line = std::to_string(before.line);
      if (before.until_ms > after.from_ms) {
        errors.add(after.from_line, "price.from",
                   name + " has the price of line " + line +
                       " at that time too; end that one with 'until' when this one begins");
      } else if (before.until_ms < after.from_ms) {
        errors.add(after.from_line, "price.from",
                   name + " has no price between the end of that of line " + line +
                       " and this one; let one begin when the other ends");
      }
    }
  }
  for (const auto& [name, line] : special_) {
    if (general_.contains(name) || general_.contains({"*", name.second})) continue;
    errors.add(line, "price.model",
               quoted_name(name.first, name.second) +
                   " has special prices only; add one without service_tier, geo and batch, for "
                   "answers that name no other");
  }
}

}  // namespace outlast::apps
