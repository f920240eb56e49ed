// outlast ledger verify | tail | export; the rest of `outlast ledger`: ledger_upkeep.cpp
#include <chrono>
#include <cstdio>
#include <thread>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/money.hpp"

namespace outlast::apps {
namespace {

constexpr std::uint64_t page_entries = 5'000;
constexpr auto follow_interval = std::chrono::milliseconds(300);

struct TailOptions {
  std::uint64_t count = 10;
  bool follow = false;
};

struct ExportOptions {
  std::string format = "jsonl";
  std::uint64_t from = 0;
};

Result<void> verify(const GlobalOptions& global) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = (*source)->verify();
  if (!text) return fail(text.error());
  const auto report = parse_object(*text, "the verification's report");
  if (!report) return fail(report.error());
  if (global.json) print(report->dump() + "\n");
  const std::string entries = std::to_string(count_of(*report, "entries"));
  if (member_of(*report, "ok") != true) {
    const Json& bad = member_of(*report, "first_bad_index");
    return fail(CliError::damaged,
                "the ledger is damaged" +
                    (bad.is_null() ? "" : " from entry " + plain_text(bad) + " on") + ": " +
                    printable(text_of(*report, "message")) + " (" + entries +
                    " entries checked); stop the node and restore its data from a backup");
  }
  if (global.json) return {};
  const std::uint64_t heads = count_of(*report, "signed_heads");
  print(entries + " entries are whole; head " + printable(text_of(*report, "head")) +
        (heads == 0 ? "" : "; " + std::to_string(heads) + " signed heads hold") + "\n");
  return {};
}

std::string cost_text(const Json& entry) {
  const auto cost = PicoUsd::parse_pico(text_of(entry, "cost_pico_usd"));
  return cost && *cost != PicoUsd{} ? "US$ " + cost->to_usd() : std::string();
}

// One line for people: index, time, kind, and what there is to say about the kind.
std::string entry_line(std::string_view json) {
  const Json entry = Json::parse(json, nullptr, false);
  if (!entry.is_object()) return printable(json) + "\n";
  char head[96];
  std::snprintf(head, sizeof(head), "%8llu  %-20s  %-11s",
                static_cast<unsigned long long>(count_of(entry, "index")),
                time_of(entry, "time_ms").c_str(), text_of(entry, "kind").substr(0, 32).c_str());
  std::string line = head;
  // Attempts carry the price version too; it is news only where prices are recorded.
  const std::string version =
      text_of(entry, "kind") == "prices" ? text_of(entry, "price_version") : "";
  const std::string words[] = {text_of(entry, "request_id"),
                               text_of(entry, "tenant"),
                               text_of(entry, "key_id"),
                               text_of(entry, "route"),
                               text_of(entry, "deployment"),
                               text_of(entry, "status"),
                               cost_text(entry),
                               text_of(entry, "reason"),
                               version};
  for (const std::string& word : words) {
    if (!word.empty()) line += "  " + word;
  }
  if (member_of(entry, "estimated") == true) line += "  estimated";
  while (line.ends_with(' ')) line.pop_back();
  return printable(line) + "\n";
}

Result<void> tail(const GlobalOptions& global, const TailOptions& options) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto entries = (*source)->entries();
  if (!entries) return fail(entries.error());
  std::uint64_t next = *entries > options.count ? *entries - options.count : 0;
  while (true) {
    std::string text;
    const auto read = (*source)->read(next, page_entries, [&text, &global](std::string_view line) {
      text += global.json ? std::string(line) + "\n" : entry_line(line);
    });
    if (!read) return fail(read.error());
    print(text);
    next += *read;
    if (*read == page_entries) continue;
    if (!options.follow) return {};
    std::this_thread::sleep_for(follow_interval);
  }
}

constexpr const char* csv_columns[] = {
    "index",       "time_ms",         "kind",          "request_id",
    "attempt",     "tenant",          "key_id",        "route",
    "deployment",  "provider",        "model",         "status",
    "http_status", "amount_pico_usd", "cost_pico_usd", "overrun_pico_usd",
    "price_known", "price_version",   "estimated",     "first_event_ms",
    "duration_ms", "reason",          "hash",          "service_tier",
    "inference_geo", "batch",           "contract"};

std::string csv_of_entry(std::string_view json) {
  const Json entry = Json::parse(json, nullptr, false);
  std::vector<std::string> cells;
  for (const char* name : csv_columns) {
    const Json& value = member_of(entry, name);
    cells.push_back(value.is_null() ? "" : plain_text(value));
  }
  const Json& tokens = member_of(entry, "tokens");
  for (const UsageBucket& bucket : usage_buckets) {
    const Json& value = member_of(tokens, std::string(bucket.name));
    cells.push_back(value.is_null() ? "" : plain_text(value));
  }
  const Json& units = member_of(entry, "units");
  for (const BilledUnit& unit : billed_units) {
    const Json& value = member_of(units, std::string(unit.plural));
    cells.push_back(value.is_null() ? "" : plain_text(value));
  }
  return csv_line(cells);
}

Result<void> export_entries(const GlobalOptions& global, const ExportOptions& options) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const bool csv = options.format == "csv";
  if (csv) {
    std::vector<std::string> titles(std::begin(csv_columns), std::end(csv_columns));
    for (const UsageBucket& bucket : usage_buckets)
      titles.push_back("tokens_" + std::string(bucket.name));
    for (const BilledUnit& unit : billed_units)
      titles.push_back("units_" + std::string(unit.plural));
    print(csv_line(titles));
  }
  std::uint64_t next = options.from;
  while (true) {
    std::string text;
    const auto read = (*source)->read(next, page_entries, [&text, csv](std::string_view line) {
      text += csv ? csv_of_entry(line) : std::string(line) + "\n";
    });
    if (!read) return fail(read.error());
    print(text);
    next += *read;
    if (*read == 0) return {};
  }
}

}  // namespace

void add_ledger_commands(CommandLine& line) {
  CLI::App* ledger = line.add_group(
      "ledger", "the record of every request; with --data DIR also while no node runs");
  line.add_command(*ledger, "verify", "recomputes the chain, the sums and the balances",
                   [&line] { return verify(line.options); });

  add_ledger_upkeep(line, *ledger);

  auto tail_options = std::make_shared<TailOptions>();
  CLI::App* tail_command =
      line.add_command(*ledger, "tail", "shows the last entries",
                       [&line, tail_options] { return tail(line.options, *tail_options); });
  tail_command->add_option("-n", tail_options->count, "how many")
      ->capture_default_str()
      ->type_name("N");
  tail_command->add_flag("-f,--follow", tail_options->follow,
                         "go on with new entries as they come");

  auto export_options = std::make_shared<ExportOptions>();
  CLI::App* export_command = line.add_command(
      *ledger, "export", "writes every entry to stdout",
      [&line, export_options] { return export_entries(line.options, *export_options); });
  export_command->add_option("--format", export_options->format, "jsonl or csv")
      ->check(CLI::IsMember({"jsonl", "csv"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  export_command->add_option("--from", export_options->from, "first index")
      ->capture_default_str()
      ->type_name("N");
}

}  // namespace outlast::apps
