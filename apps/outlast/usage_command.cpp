// outlast usage: what was spent, on what.
#include <algorithm>

#include "apps/config/words.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "core/clock.hpp"

namespace outlast::apps {
namespace {

struct UsageOptions {
  std::vector<std::string> by;
  std::string since;
  std::string until;
  bool csv = false;
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

void add_row(Table& table, std::vector<std::string> cells, const Json& row) {
  const auto cached = count_of(member_of(row, "tokens"), "input_cache_read");
  for (const auto count : {count_of(row, "requests"), count_of(row, "failed_attempts"),
                           tokens_of(row, "input"), cached, tokens_of(row, "output")}) {
    cells.push_back(std::to_string(count));
  }
  cells.push_back(text_of(row, "cost_usd"));
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
  Table table(columns);
  const Json& rows = member_of(report, "rows");
  for (const Json& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& dimension : by) cells.push_back(text_of(row, dimension));
    add_row(table, std::move(cells), row);
  }
  const Json& total = member_of(report, "total");
  if (!by.empty() && rows.size() > 1) {
    std::vector<std::string> cells(by.size());
    cells.front() = "total";
    add_row(table, std::move(cells), total);
  }
  std::string text = table.text();
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
  std::string csv = csv_line(line);
  for (const Json& row : member_of(report, "rows")) {
    line.clear();
    for (const std::string& dimension : by) line.push_back(text_of(row, dimension));
    for (const std::string& figure : figures) line.push_back(plain_text(member_of(row, figure)));
    for (const UsageBucket& bucket : usage_buckets) {
      line.push_back(std::to_string(count_of(member_of(row, "tokens"), std::string(bucket.name))));
    }
    csv += csv_line(line);
  }
  return csv;
}

Result<storage::UsageQuery> query_of(const UsageOptions& options) {
  const SystemClock clock;
  storage::UsageQuery query;
  for (const std::string& name : options.by) {
    const auto dimension = storage::parse_usage_dimension(name);
    if (!dimension) {
      const auto nearest = nearest_word(name, storage::usage_dimension_names);
      return fail(
          CliError::usage,
          "--by: '" + printable(name) + "' is not known; " +
              (nearest.empty() ? "write one of " + join_words(storage::usage_dimension_names)
                               : "did you mean '" + std::string(nearest) + "'?"));
    }
    if (std::find(query.by.begin(), query.by.end(), *dimension) != query.by.end()) {
      return fail(CliError::usage, "--by: '" + name + "' stands there twice; name it once");
    }
    query.by.push_back(*dimension);
  }
  const std::pair<const std::string*, std::optional<std::int64_t>*> times[] = {
      {&options.since, &query.since_ms}, {&options.until, &query.until_ms}};
  for (const auto& [text, into] : times) {
    if (text->empty()) continue;
    *into = parse_time_argument(*text, clock.wall_ms());
    if (!*into) {
      return fail(CliError::usage, std::string(text == &options.since ? "--since" : "--until") +
                                       ": '" + printable(*text) +
                                       "' is not a time; write 30m, 24h, 7d, 2026-11-01 or " +
                                       "2026-11-01T12:00Z");
    }
  }
  return query;
}

Result<void> show_usage(const GlobalOptions& global, const UsageOptions& options) {
  if (global.json && options.csv)
    return fail(CliError::usage, "--json and --csv exclude each other; give one");
  const auto query = query_of(options);
  if (!query) return fail(query.error());
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = (*source)->usage(*query);
  if (!text) return fail(text.error());
  const auto report = parse_object(*text, "the usage report");
  if (!report) return fail(report.error());
  if (global.json) {
    print(report->dump() + "\n");
  } else {
    print(options.csv ? usage_csv(*report, options.by) : usage_table(*report, options.by));
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
  command->add_flag("--csv", options->csv, "print CSV");
}

}  // namespace outlast::apps
