// outlast reprice: what history would have cost by another price book.
#include <filesystem>

#include "apps/config/node_config.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/text_file.hpp"
#include "apps/outlast/time_argument.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t prices_bytes_max = 1U << 20;

struct RepriceOptions {
  std::string with;
  std::string since;
  std::string until;
};

// A file where there is one of that name or the name is of a file's form; else a version.
bool names_file(const std::string& with) {
  std::error_code error;
  return with == "-" || with.ends_with(".toml") || with.find('/') != std::string::npos ||
         std::filesystem::is_regular_file(with, error);
}

Result<RepriceQuery> query_of(const RepriceOptions& options) {
  RepriceQuery query;
  if (auto read = read_time_options(options.since, options.until, query.since_ms, query.until_ms);
      !read)
    return fail(std::move(read.error()));
  if (!names_file(options.with)) {
    query.version = options.with;
    return query;
  }
  auto toml = read_text_file(options.with, prices_bytes_max);
  if (!toml) return fail(std::move(toml.error()));
  query.toml = std::move(*toml);
  query.file = options.with == "-" ? "stdin" : options.with;
  if (const auto book = parse_price_book(query.toml, query.file); !book)
    return fail(CliError::failed, printable(book.error().message, true));
  return query;
}

void add_row(Table& table, const std::string& provider, const std::string& model, const Json& row) {
  table.add({provider, model, std::to_string(count_of(row, "attempts")),
             std::to_string(count_of(row, "tokens")), text_of(row, "recorded_usd"),
             text_of(row, "repriced_usd"), text_of(row, "difference_usd")});
}

std::string reprice_table(const Json& report) {
  using Align = Table::Align;
  Table table({{"PROVIDER"},
               {"MODEL"},
               {"ATTEMPTS", Align::right},
               {"TOKENS", Align::right},
               {"RECORDED USD", Align::right},
               {"REPRICED USD", Align::right},
               {"DIFFERENCE", Align::right}});
  for (const Json& row : member_of(report, "rows")) {
    const std::string provider = text_of(row, "provider");
    add_row(table, provider.empty() ? "(in doubt)" : provider, text_of(row, "model"), row);
  }
  const Json& total = member_of(report, "total");
  add_row(table, "total", "", total);
  std::string text = table.text();
  if (const auto unpriced = count_of(total, "unpriced_attempts"); unpriced > 0) {
    text += dim(std::to_string(unpriced) + " attempts have no price in '" +
                printable(text_of(report, "with")) + "' and keep what was recorded") +
            "\n";
  }
  if (const auto kept = count_of(total, "kept_attempts"); kept > 0) {
    text += dim(std::to_string(kept) +
                " attempts were in doubt and keep what was recorded: their model is not known") +
            "\n";
  }
  return text;
}

Result<void> run(const GlobalOptions& global, const RepriceOptions& options) {
  const auto query = query_of(options);
  if (!query) return fail(query.error());
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = (*source)->reprice(*query);
  if (!text) return fail(text.error());
  const auto report = parse_object(*text, "the report");
  if (!report) return fail(report.error());
  print(global.json ? report->dump() + "\n" : reprice_table(*report));
  return {};
}

}  // namespace

void add_reprice_command(CommandLine& line) {
  auto options = std::make_shared<RepriceOptions>();
  CLI::App* command = line.add_command(line.app, "reprice",
                                       "what recorded usage would have cost by another price book",
                                       [&line, options] { return run(line.options, *options); });
  command
      ->add_option("--with", options->with,
                   "a version that the ledger has recorded, or a price book's file")
      ->required()
      ->type_name("VERSION|FILE");
  command->add_option("--since", options->since, "from then on: 30m, 24h, 7d, 2026-11-01")
      ->required()
      ->type_name("TIME");
  command->add_option("--until", options->until, "until then, in the same forms")
      ->type_name("TIME");
}

}  // namespace outlast::apps
