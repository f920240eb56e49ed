#include "apps/outlastd/admin_query.hpp"

#include <algorithm>
#include <charconv>

#include "apps/config/node_config.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/usage_words.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t file_name_bytes_max = 256;  // in messages

std::string percent_decoded(std::string_view raw) {
  std::string value;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    unsigned byte = 0;
    if (raw[i] == '%' && i + 2 < raw.size() &&
        std::from_chars(raw.data() + i + 1, raw.data() + i + 3, byte, 16).ptr ==
            raw.data() + i + 3) {
      value += static_cast<char>(byte);
      i += 2;
    } else {
      value += raw[i] == '+' ? ' ' : raw[i];
    }
  }
  return value;
}

Result<void> read_times(std::string_view query, std::optional<std::int64_t>& since_ms,
                        std::optional<std::int64_t>& until_ms) {
  const auto since = number_parameter(query, "since");
  if (!since) return fail(since.error());
  const auto until = number_parameter(query, "until");
  if (!until) return fail(until.error());
  since_ms = *since;
  until_ms = *until;
  return {};
}

void read_file_name(std::string_view query, std::string& file) {
  const auto given = parameter(query, "file");
  if (!given || given->empty()) return;
  file = given->substr(0, file_name_bytes_max);
}

}  // namespace

std::vector<std::string> parameters(std::string_view query, std::string_view name) {
  std::vector<std::string> values;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) != name) continue;
    values.push_back(equals == pair.npos ? std::string()
                                         : percent_decoded(pair.substr(equals + 1)));
  }
  return values;
}

std::optional<std::string> parameter(std::string_view query, std::string_view name) {
  auto values = parameters(query, name);
  if (values.empty()) return std::nullopt;
  return std::move(values.front());
}

Result<std::optional<std::int64_t>> number_parameter(std::string_view query,
                                                     std::string_view name) {
  const auto text = parameter(query, name);
  if (!text) return std::optional<std::int64_t>{};
  std::int64_t value = 0;
  const auto end = std::from_chars(text->data(), text->data() + text->size(), value);
  if (end.ec != std::errc{} || end.ptr != text->data() + text->size() || value < 0) {
    return fail(ConfigError::invalid,
                "the parameter '" + std::string(name) + "' takes a whole number");
  }
  return std::optional<std::int64_t>(value);
}

Result<storage::UsageQuery> read_usage_query(std::string_view query) {
  storage::UsageQuery parsed;
  const std::string by = parameter(query, "by").value_or("");
  std::string_view rest = by;
  while (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    const auto dimension = read_usage_dimension(name);
    if (!dimension) return fail(dimension.error());
    if (std::find(parsed.by.begin(), parsed.by.end(), *dimension) != parsed.by.end())
      return fail(ReportError::malformed, "'" + std::string(name) + "' stands in by twice");
    parsed.by.push_back(*dimension);
  }
  if (const auto every = parameter(query, "every")) {
    const auto known = read_usage_every(*every);
    if (!known) return fail(known.error());
    parsed.every = *known;
  }
  for (const std::string& text : parameters(query, "where")) {
    auto filter = read_usage_filter(text);
    if (!filter) return fail(filter.error());
    parsed.where.push_back(std::move(*filter));
  }
  if (const auto sort = parameter(query, "sort")) {
    const auto known = read_usage_sort(*sort);
    if (!known) return fail(known.error());
    parsed.sort = *known;
  }
  const auto top = number_parameter(query, "top");
  if (!top) return fail(top.error());
  parsed.top = static_cast<std::size_t>(
      std::min<std::int64_t>(top->value_or(0), static_cast<std::int64_t>(usage_top_max)));
  if (auto times = read_times(query, parsed.since_ms, parsed.until_ms); !times)
    return fail(std::move(times.error()));
  return parsed;
}

Result<ReconcileQuery> read_reconcile_query(std::string_view query) {
  ReconcileQuery parsed;
  parsed.provider = parameter(query, "provider").value_or("");
  if (parsed.provider.empty())
    return fail(ReportError::malformed, "name the provider: provider=NAME");
  for (const std::string& text : parameters(query, "map")) {
    auto title = parse_column_title(text);
    if (!title) return fail(title.error());
    parsed.map.push_back(std::move(*title));
  }
  for (const std::string& text : parameters(query, "model")) {
    auto model = parse_model_name(text);
    if (!model) return fail(model.error());
    parsed.models.insert(std::move(*model));
  }
  if (const auto key_is = parameter(query, "key_is")) {
    const auto dimension = read_key_dimension(*key_is);
    if (!dimension) return fail(dimension.error());
    parsed.key_is = *dimension;
  }
  if (const auto text = parameter(query, "tolerance")) {
    const auto tolerance = parse_tolerance(*text);
    if (!tolerance) return fail(ReportError::malformed, tolerance_advice(*text));
    parsed.tolerance_ppm = *tolerance;
  }
  read_file_name(query, parsed.file);
  return parsed;
}

Result<RepriceQuery> read_reprice_query(std::string_view query, std::string_view body) {
  RepriceQuery parsed;
  parsed.version = parameter(query, "version").value_or("");
  parsed.toml = body;
  if (parsed.version.empty() == parsed.toml.empty()) {
    return fail(ReportError::malformed,
                "name a recorded price book with version=NAME, or send one as the body");
  }
  read_file_name(query, parsed.file);
  if (auto times = read_times(query, parsed.since_ms, parsed.until_ms); !times)
    return fail(std::move(times.error()));
  return parsed;
}

}  // namespace outlast::apps
