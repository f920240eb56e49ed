#include "apps/report/invoice.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <span>

#include "apps/config/words.hpp"
#include "apps/report/csv.hpp"
#include "apps/report/iso_time.hpp"
#include "apps/report/report_error.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t column_count = std::size(invoice_column_names);
constexpr std::size_t titles_shown_max = 20;
constexpr PicoUsd invoice_cost_max{static_cast<__int128>(1'000'000'000'000) * 1'000'000'000'000};

// Titles as providers export them, in the order in which one is preferred.
struct Alias {
  InvoiceColumn column;
  std::string_view title;
};
constexpr Alias aliases[] = {
    {InvoiceColumn::day, "date"},
    {InvoiceColumn::day, "usage_date_utc"},
    {InvoiceColumn::day, "usage_date"},
    {InvoiceColumn::day, "start_time_iso"},
    {InvoiceColumn::day, "start_time"},
    {InvoiceColumn::day, "timestamp"},
    {InvoiceColumn::model, "model_version"},
    {InvoiceColumn::model, "model_id"},
    {InvoiceColumn::key, "api_key"},
    {InvoiceColumn::key, "api_key_id"},
    {InvoiceColumn::key, "project"},
    {InvoiceColumn::key, "project_id"},
    {InvoiceColumn::key, "workspace"},
    {InvoiceColumn::cost, "cost_usd"},
    {InvoiceColumn::cost, "amount_usd"},
    {InvoiceColumn::cost, "amount_value"},
    {InvoiceColumn::cost, "amount"},
    {InvoiceColumn::requests, "num_model_requests"},
    {InvoiceColumn::requests, "request_count"},
    {InvoiceColumn::input_tokens, "usage_input_tokens_no_cache"},
    {InvoiceColumn::input_tokens, "uncached_input_tokens"},
    {InvoiceColumn::cache_read_tokens, "usage_input_tokens_cache_read"},
    {InvoiceColumn::cache_read_tokens, "cache_read_input_tokens"},
    {InvoiceColumn::cache_read_tokens, "input_cached_tokens"},
    {InvoiceColumn::cache_read_tokens, "cached_tokens"},
    {InvoiceColumn::cache_write_tokens, "usage_input_tokens_cache_write_5m"},
    {InvoiceColumn::cache_write_tokens, "usage_input_tokens_cache_write_1h"},
    {InvoiceColumn::cache_write_tokens, "cache_creation_input_tokens"},
    {InvoiceColumn::output_tokens, "usage_output_tokens"},
    {InvoiceColumn::output_tokens, "completion_tokens"},
    {InvoiceColumn::input_total_tokens, "prompt_tokens"},
};
// Beside one of these, `input_tokens` counts those from the cache too.
constexpr std::string_view within_input[] = {"input_cached_tokens", "cached_tokens"};

bool is_tokens(InvoiceColumn column) { return column >= InvoiceColumn::input_tokens; }

std::string plain_title(std::string_view title) {
  std::string plain;
  for (const char c : title) {
    if (c == ' ' || c == '-') plain += '_';
    else plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return plain;
}

// Which cells hold what.
using Places = std::array<std::vector<std::size_t>, column_count>;

std::vector<std::size_t>& of(Places& places, InvoiceColumn column) {
  return places[static_cast<std::size_t>(column)];
}

Error missing(const CsvReader& reader, const std::vector<std::string>& titles,
              const std::string& what) {
  std::vector<std::string_view> shown(
      titles.begin(),
      titles.begin() + static_cast<std::ptrdiff_t>(std::min(titles.size(), titles_shown_max)));
  return reader.error(reader.line(), 1,
                      what + "; say which column it is with --map COLUMN=TITLE. The titles are " +
                          join_words(shown));
}

Result<Places> find_places(const CsvReader& reader, const std::vector<std::string>& titles,
                           const std::vector<ColumnTitle>& map) {
  Places places;
  for (const ColumnTitle& given : map) {
    const auto at = std::find(titles.begin(), titles.end(), given.title);
    if (at == titles.end())
      return fail(missing(reader, titles, "there is no column '" + given.title + "'"));
    of(places, given.column).push_back(static_cast<std::size_t>(at - titles.begin()));
  }
  const Places mapped = places;
  std::vector<std::string> plain(titles.size());
  std::transform(titles.begin(), titles.end(), plain.begin(), plain_title);
  const auto take = [&](InvoiceColumn column, std::string_view title) {
    if (!mapped[static_cast<std::size_t>(column)].empty()) return;
    if (!is_tokens(column) && !of(places, column).empty()) return;
    const auto at = std::find(plain.begin(), plain.end(), title);
    if (at != plain.end())
      of(places, column).push_back(static_cast<std::size_t>(at - plain.begin()));
  };
  for (std::size_t i = 0; i < column_count; ++i)
    take(static_cast<InvoiceColumn>(i), invoice_column_names[i]);
  for (const Alias& alias : aliases) take(alias.column, alias.title);

  const bool total = std::any_of(std::begin(within_input), std::end(within_input), [&](auto title) {
    return std::find(plain.begin(), plain.end(), title) != plain.end();
  });
  auto& input = of(places, InvoiceColumn::input_tokens);
  if (total && mapped[static_cast<std::size_t>(InvoiceColumn::input_tokens)].empty() &&
      of(places, InvoiceColumn::input_total_tokens).empty()) {
    of(places, InvoiceColumn::input_total_tokens).swap(input);
  }
  if (!of(places, InvoiceColumn::input_total_tokens).empty() && !input.empty()) {
    return fail(missing(reader, titles, "both input_tokens and input_total_tokens are there"));
  }
  for (const auto column : {InvoiceColumn::day, InvoiceColumn::model}) {
    if (!of(places, column).empty()) continue;
    const std::string name(invoice_column_names[static_cast<std::size_t>(column)]);
    return fail(missing(reader, titles, "no column is the " + name));
  }
  const bool figures = std::any_of(places.begin() + static_cast<int>(InvoiceColumn::cost),
                                   places.end(), [](const auto& cells) { return !cells.empty(); });
  if (!figures) return fail(missing(reader, titles, "no column is a cost or a count of tokens"));
  return places;
}

class Rows {
 public:
  Rows(CsvReader& reader, Places places, std::vector<std::string> titles,
       const std::map<std::string, std::string>& models)
      : reader_(reader), places_(std::move(places)), titles_(std::move(titles)), models_(models) {
    const auto there = [this](InvoiceColumn column) { return !of(places_, column).empty(); };
    invoice_.has_key = there(InvoiceColumn::key);
    invoice_.has_cost = there(InvoiceColumn::cost);
    invoice_.has_requests = there(InvoiceColumn::requests);
    const bool total = there(InvoiceColumn::input_total_tokens);
    const bool cached = there(InvoiceColumn::cache_read_tokens);
    const bool written = there(InvoiceColumn::cache_write_tokens);
    invoice_.has_tokens = {total || there(InvoiceColumn::input_tokens), cached, written,
                           there(InvoiceColumn::output_tokens)};
    // Without columns of a cache, the input is all of it.
    invoice_.input_with_cache = invoice_.has_tokens[0] && !cached && !written;
  }
  Result<void> add(const std::vector<std::string>& cells);
  Invoice take() { return std::move(invoice_); }

 private:
  Failure error(std::size_t cell, std::string_view what) const {
    return fail(
        reader_.error(reader_.line(), cell + 1, "(" + titles_[cell] + ") " + std::string(what)));
  }
  Result<std::int64_t> day(const std::vector<std::string>& cells);
  Result<std::uint64_t> count(const std::vector<std::string>& cells, InvoiceColumn column);
  Result<void> add_cost(const std::vector<std::string>& cells, InvoiceRow& row);
  Result<void> add_tokens(const std::vector<std::string>& cells, InvoiceRow& row);

  CsvReader& reader_;
  Places places_;
  std::vector<std::string> titles_;
  const std::map<std::string, std::string>& models_;
  Invoice invoice_;
};

Result<std::int64_t> Rows::day(const std::vector<std::string>& cells) {
  const std::size_t cell = of(places_, InvoiceColumn::day).front();
  const std::string& text = cells[cell];
  if (const auto day = parse_iso_day(text)) return *day;
  constexpr std::size_t unix_digits = 10;
  std::int64_t seconds = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.size() == unix_digits && end.ec == std::errc{} && end.ptr == text.data() + text.size() &&
      seconds > 0) {
    return seconds / (report_day_ms / 1'000);
  }
  return error(cell, "'" + text + "' is not a day; write 2026-11-01, or seconds since 1970");
}

Result<std::uint64_t> Rows::count(const std::vector<std::string>& cells, InvoiceColumn column) {
  std::uint64_t sum = 0;
  for (const std::size_t cell : of(places_, column)) {
    const std::string& text = cells[cell];
    if (text.empty()) continue;
    std::uint64_t value = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end.ec != std::errc{} || end.ptr != text.data() + text.size())
      return error(cell, "'" + text + "' is not a whole number of 0 or more");
    if (__builtin_add_overflow(sum, value, &sum)) return error(cell, "the sum is too large");
  }
  return sum;
}

Result<void> Rows::add_cost(const std::vector<std::string>& cells, InvoiceRow& row) {
  if (!invoice_.has_cost) return {};
  const std::size_t cell = of(places_, InvoiceColumn::cost).front();
  std::string_view text = cells[cell];
  if (text.empty()) return {};
  if (text.starts_with('$')) text.remove_prefix(1);
  const Result<PicoUsd> cost = PicoUsd::parse_usd(text);
  if (!cost) return error(cell, cost.error().message);
  row.cost += *cost;
  // Invoices round to cents at least; an amount without decimals is taken as one of whole cents.
  const std::size_t point = text.find('.');
  const std::size_t decimals = point == text.npos ? 0 : text.size() - point - 1;
  __int128 half = 5;
  for (std::size_t i = std::max<std::size_t>(decimals, 2) + 1; i < PicoUsd::decimals; ++i)
    half *= 10;
  if (decimals < PicoUsd::decimals) row.rounding.value += half;
  if (row.cost > invoice_cost_max || row.cost < PicoUsd{-invoice_cost_max.value})
    return error(cell, "the sum is beyond 10^12 US dollars");
  return {};
}

Result<void> Rows::add_tokens(const std::vector<std::string>& cells, InvoiceRow& row) {
  static constexpr std::pair<InvoiceColumn, TokenClass> classes[] = {
      {InvoiceColumn::input_tokens, TokenClass::input},
      {InvoiceColumn::cache_read_tokens, TokenClass::cache_read},
      {InvoiceColumn::cache_write_tokens, TokenClass::cache_write},
      {InvoiceColumn::output_tokens, TokenClass::output},
      {InvoiceColumn::input_total_tokens, TokenClass::input}};
  std::uint64_t cached = 0;
  for (const auto& [column, token_class] : classes) {
    Result<std::uint64_t> tokens = count(cells, column);
    if (!tokens) return fail(tokens.error());
    if (column == InvoiceColumn::cache_read_tokens) cached = *tokens;
    if (column == InvoiceColumn::input_total_tokens && !of(places_, column).empty()) {
      const std::size_t cell = of(places_, column).front();
      if (cached > *tokens) return error(cell, "is less than what was read from the cache");
      *tokens -= cached;
    }
    std::uint64_t& sum = row.tokens[static_cast<std::size_t>(token_class)];
    if (__builtin_add_overflow(sum, *tokens, &sum))
      return error(of(places_, column).front(), "the sum is too large");
  }
  return {};
}

Result<void> Rows::add(const std::vector<std::string>& cells) {
  if (cells.size() != titles_.size()) {
    return fail(reader_.error(reader_.line(), std::min(cells.size(), titles_.size()) + 1,
                              "there are " + std::to_string(cells.size()) + " cells under " +
                                  std::to_string(titles_.size()) + " titles"));
  }
  const Result<std::int64_t> on = day(cells);
  if (!on) return fail(on.error());
  std::string model = cells[of(places_, InvoiceColumn::model).front()];
  if (const auto known = models_.find(model); known != models_.end()) model = known->second;
  const std::string key =
      invoice_.has_key ? cells[of(places_, InvoiceColumn::key).front()] : std::string();
  InvoiceRow& row = invoice_.rows[{*on, std::move(model), key}];
  if (row.lines++ == 0) row.line = reader_.line();
  if (const Result<void> added = add_cost(cells, row); !added) return added;
  const Result<std::uint64_t> requests = count(cells, InvoiceColumn::requests);
  if (!requests) return fail(requests.error());
  row.requests += *requests;
  return add_tokens(cells, row);
}

}  // namespace

Result<ColumnTitle> parse_column_title(std::string_view text) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const auto* at =
      std::find(std::begin(invoice_column_names), std::end(invoice_column_names), name);
  if (equals == text.npos || equals + 1 == text.size() || at == std::end(invoice_column_names)) {
    return fail(ReportError::malformed, "'" + std::string(text) +
                                            "' maps no column; write COLUMN=TITLE, where COLUMN "
                                            "is one of " +
                                            join_words(invoice_column_names));
  }
  return ColumnTitle{static_cast<InvoiceColumn>(at - std::begin(invoice_column_names)),
                     std::string(text.substr(equals + 1))};
}

Result<Invoice> read_invoice(std::string_view csv, std::string_view file,
                             const std::vector<ColumnTitle>& map,
                             const std::map<std::string, std::string>& models) {
  CsvReader reader(csv, file);
  std::vector<std::string> titles;
  Result<bool> more = reader.next(titles);
  if (!more) return fail(more.error());
  if (!*more) return fail(reader.error(1, 1, "the file is empty; it begins with a line of titles"));
  Result<Places> places = find_places(reader, titles, map);
  if (!places) return fail(places.error());
  Rows rows(reader, std::move(*places), titles, models);
  std::vector<std::string> cells;
  for (std::size_t lines = 0;; ++lines) {
    more = reader.next(cells);
    if (!more) return fail(more.error());
    if (!*more) break;
    if (lines == invoice_lines_max) {
      return fail(reader.error(
          reader.line(), 1,
          "more than " + std::to_string(invoice_lines_max) + " lines; split the file by time"));
    }
    if (const Result<void> added = rows.add(cells); !added) return fail(added.error());
  }
  Invoice invoice = rows.take();
  if (invoice.rows.empty())
    return fail(reader.error(reader.line(), 1, "there is no line below the titles"));
  return invoice;
}

}  // namespace outlast::apps
