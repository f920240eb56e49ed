// outlast usage: what was spent, on what.
#include <algorithm>
#include <cstdio>

#include "apps/config/words.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "apps/report/focus.hpp"
#include "apps/report/usage_words.hpp"

namespace outlast::apps {
namespace {

struct UsageOptions {
  std::vector<std::string> by;
  std::string since;
  std::string until;
  std::string every;
  std::vector<std::string> where;
  std::size_t top = 0;
  std::string sort;
  bool csv = false;
  bool focus = false;
};

std::string upper(std::string text) {
  for (char& c : text)
    c = c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::uint64_t tokens_of(const Json& row, std::string_view side) {
  std::uint64_t sum = 0;
  for (const UsageBucket& bucket : usage_buckets) {
    if (bucket.name.starts_with(side))
      sum += count_of(member_of(row, "tokens"), std::string(bucket.name));
  }
  return sum;
}

// What the node's report has: an older node's has no latency.
bool has_latency(const Json& report) {
  return member_of(member_of(report, "total"), "duration_ms").is_object();
}

std::string percent_of(const Json& share) {
  if (!share.is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", share.get<double>() * 100);
  return text;
}

void add_row(Table& table, std::vector<std::string> cells, const Json& row, bool latency) {
  const auto cached = count_of(member_of(row, "tokens"), "input_cache_read");
  for (const auto count : {count_of(row, "requests"), count_of(row, "failed_attempts"),
                           tokens_of(row, "input"), cached, tokens_of(row, "output")}) {
    cells.push_back(std::to_string(count));
  }
  cells.push_back(text_of(row, "cost_usd"));
  if (latency) {
    cells.push_back(percent_of(member_of(row, "failure_share")));
    for (const auto& [name, figure] :
         {std::pair{"first_event_ms", "p50"}, std::pair{"duration_ms", "p50"},
          std::pair{"duration_ms", "p95"}}) {
      cells.push_back(plain_text(member_of(member_of(row, name), figure)));
    }
  }
  table.add(std::move(cells));
}

std::string usage_table(const Json& report, const std::vector<std::string>& by) {
  using Align = Table::Align;
  std::vector<Table::Column> columns;
  for (const std::string& dimension : by) columns.push_back({upper(dimension)});
  for (const char* title :
       {"REQUESTS", "FAILED", "TOKENS IN", "CACHED", "TOKENS OUT", "COST USD"}) {
    columns.push_back({title, Align::right});
  }
  const bool latency = has_latency(report);
  if (latency) {
    for (const char* title : {"FAILED %", "FIRST MS P50", "MS P50", "MS P95"})
      columns.push_back({title, Align::right});
  }
  Table table(columns);
  const Json& rows = member_of(report, "rows");
  for (const Json& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& dimension : by) cells.push_back(text_of(row, dimension));
    add_row(table, std::move(cells), row, latency);
  }
  const Json& total = member_of(report, "total");
  if (!by.empty() && rows.size() > 1) {
    std::vector<std::string> cells(by.size());
    cells.front() = "total";
    add_row(table, std::move(cells), total, latency);
  }
  std::string text = table.text();
  if (member_of(report, "overlapping") == true) {
    text += dim("a request with several tags counts under each of them, also in the total") + "\n";
  }
  if (const auto left_out = count_of(report, "rows_left_out"); left_out > 0) {
    text +=
        dim(std::to_string(left_out) + " smaller rows are left out; the total counts them too") +
        "\n";
  }
  if (const auto unpriced = count_of(total, "unpriced_requests"); unpriced > 0) {
    text += dim(std::to_string(unpriced) +
                " requests have no known price and count as 0; add their models to the " +
                "price book") +
            "\n";
  }
  if (const auto estimated = count_of(total, "estimated"); estimated > 0) {
    text += dim(std::to_string(estimated) +
                " requests are estimated, since the provider reported no usage") +
            "\n";
  }
  return text;
}

std::string usage_csv(const Json& report, const std::vector<std::string>& by) {
  const std::vector<std::string> figures = {"requests", "attempts",    "failed_attempts",
                                            "cost_usd", "overrun_usd", "unpriced_requests",
                                            "estimated"};
  std::vector<std::string> line = by;
  line.insert(line.end(), figures.begin(), figures.end());
  for (const UsageBucket& bucket : usage_buckets)
    line.push_back("tokens_" + std::string(bucket.name));
  line.push_back("failure_share");
  static constexpr std::pair<const char*, const char*> latencies[] = {
      {"duration_ms", "mean"},    {"duration_ms", "p50"},    {"duration_ms", "p95"},
      {"first_event_ms", "mean"}, {"first_event_ms", "p50"}, {"first_event_ms", "p95"}};
  for (const auto& [name, figure] : latencies) line.push_back(std::string(name) + "_" + figure);
  const auto cell = [](const Json& value) { return value.is_null() ? "" : plain_text(value); };
  std::string csv = csv_line(line);
  for (const Json& row : member_of(report, "rows")) {
    line.clear();
    for (const std::string& dimension : by) line.push_back(text_of(row, dimension));
    for (const std::string& figure : figures) line.push_back(plain_text(member_of(row, figure)));
    for (const UsageBucket& bucket : usage_buckets) {
      line.push_back(std::to_string(count_of(member_of(row, "tokens"), std::string(bucket.name))));
    }
    line.push_back(cell(member_of(row, "failure_share")));
    for (const auto& [name, figure] : latencies)
      line.push_back(cell(member_of(member_of(row, name), figure)));
    csv += csv_line(line);
  }
  return csv;
}

// An option's words as the report reads them; the error begins with the option.
template <class T>
Result<void> read_option(std::string_view option, Result<T> word, T& into) {
  if (!word) {
    return fail(CliError::usage, std::string(option) + ": " + printable(word.error().message));
  }
  into = std::move(*word);
  return {};
}

Result<storage::UsageQuery> query_of(const UsageOptions& options) {
  storage::UsageQuery query;
  for (const std::string& name : options.by) {
    storage::UsageDimension dimension{};
    if (auto read = read_option("--by", read_usage_dimension(name), dimension); !read)
      return fail(std::move(read.error()));
    if (std::find(query.by.begin(), query.by.end(), dimension) != query.by.end()) {
      return fail(CliError::usage, "--by: '" + name + "' stands there twice; name it once");
    }
    query.by.push_back(dimension);
  }
  for (const std::string& text : options.where) {
    storage::UsageFilter filter{};
    if (auto read = read_option("--where", read_usage_filter(text), filter); !read)
      return fail(std::move(read.error()));
    query.where.push_back(std::move(filter));
  }
  if (!options.every.empty()) {
    if (auto read = read_option("--every", read_usage_every(options.every), query.every.emplace());
        !read)
      return fail(std::move(read.error()));
  }
  if (!options.sort.empty()) {
    if (auto read = read_option("--sort", read_usage_sort(options.sort), query.sort.emplace());
        !read)
      return fail(std::move(read.error()));
  }
  query.top = options.top;
  if (auto read = read_time_options(options.since, options.until, query.since_ms, query.until_ms);
      !read)
    return fail(std::move(read.error()));
  return query;
}

Result<void> show_usage(const GlobalOptions& global, const UsageOptions& options) {
  if (global.json + options.csv + options.focus > 1)
    return fail(CliError::usage, "--json, --csv and --focus exclude each other; give one");
  const auto query = query_of(options);
  if (!query) return fail(query.error());
  if (options.focus) {
    if (const auto grouped = focus_query(*query); !grouped)
      return fail(CliError::usage, "--focus: " + grouped.error().message);
  }
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = options.focus ? (*source)->usage_focus(*query) : (*source)->usage(*query);
  if (!text) return fail(text.error());
  if (options.focus) {
    print(*text);
    return {};
  }
  const auto report = parse_object(*text, "the usage report");
  if (!report) return fail(report.error());
  std::vector<std::string> columns = options.by;
  if (!options.every.empty()) columns.insert(columns.begin(), "start");
  if (global.json) {
    print(report->dump() + "\n");
  } else {
    print(options.csv ? usage_csv(*report, columns) : usage_table(*report, columns));
  }
  return {};
}

}  // namespace

void add_usage_command(CommandLine& line) {
  auto options = std::make_shared<UsageOptions>();
  CLI::App* command =
      line.add_command(line.app, "usage", "what was spent, on what",
                       [&line, options] { return show_usage(line.options, *options); });
  command
      ->add_option("--by", options->by,
                   "columns to group by: " + join_words(storage::usage_dimension_names))
      ->delimiter(',')
      ->type_name("NAME,…");
  command
      ->add_option("--since", options->since,
                   "from then on: 30m, 24h, 7d, 2026-11-01, 2026-11-01T12:00Z (whole hours)")
      ->type_name("TIME");
  command->add_option("--until", options->until, "until then, in the same forms")
      ->type_name("TIME");
  command->add_option("--every", options->every, "a row per hour, day, week or month, in UTC")
      ->type_name("TIME");
  command
      ->add_option("--where", options->where,
                   "count only what has this value; several of one name: any of them")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command->add_option("--top", options->top, "only the N largest rows, of each time")
      ->check(CLI::Range(std::size_t{1}, usage_top_max))
      ->type_name("N");
  command
      ->add_option("--sort", options->sort,
                   "the largest first: by " + join_words(storage::usage_sort_names))
      ->type_name("FIGURE");
  command->add_flag("--csv", options->csv, "print CSV");
  command->add_flag("--focus", options->focus,
                    "print CSV with the columns of FOCUS 1.2, the FinOps cost and usage format");
}

}  // namespace outlast::apps
