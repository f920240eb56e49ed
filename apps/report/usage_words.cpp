#include "apps/report/usage_words.hpp"

#include <optional>
#include <span>

#include "apps/config/words.hpp"
#include "apps/report/report_error.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t word_shown_max = 64;

template <class T>
Result<T> known(std::optional<T> value, std::string_view word,
                std::span<const std::string_view> words) {
  if (value) return *value;
  const std::string_view nearest = nearest_word(word, words);
  return fail(ReportError::malformed,
              "'" + std::string(word.substr(0, word_shown_max)) + "' is not known; " +
                  (nearest.empty() ? "write one of " + join_words(words)
                                   : "did you mean '" + std::string(nearest) + "'?"));
}

}  // namespace

Result<storage::UsageDimension> read_usage_dimension(std::string_view word) {
  return known(storage::parse_usage_dimension(word), word, storage::usage_dimension_names);
}

Result<storage::UsageEvery> read_usage_every(std::string_view word) {
  return known(storage::parse_usage_every(word), word, storage::usage_every_names);
}

Result<storage::UsageSort> read_usage_sort(std::string_view word) {
  return known(storage::parse_usage_sort(word), word, storage::usage_sort_names);
}

Result<storage::UsageFilter> read_usage_filter(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == text.npos) {
    return fail(ReportError::malformed, "'" + std::string(text.substr(0, word_shown_max)) +
                                            "' is no filter; write DIMENSION=VALUE, e.g. "
                                            "provider=alpha");
  }
  const Result<storage::UsageDimension> dimension = read_usage_dimension(text.substr(0, equals));
  if (!dimension) return fail(dimension.error());
  return storage::UsageFilter{*dimension, std::string(text.substr(equals + 1))};
}

}  // namespace outlast::apps
