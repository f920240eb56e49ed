// outlast ledger verify | tail | export; the rest of `outlast ledger`: ledger_upkeep.cpp
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/merged_tail.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/money.hpp"

namespace outlast::apps {
namespace {

constexpr std::uint64_t page_entries = 5'000;
constexpr auto follow_interval = std::chrono::milliseconds(300);
constexpr auto look_interval = std::chrono::seconds(2);  // for replicas that come or go

struct TailOptions {
  std::string shard;
  std::uint64_t count = 10;
  bool follow = false;
};

struct ExportOptions {
  std::string shard;
  std::string format = "jsonl";
  std::uint64_t from = 0;
};

Result<Json> verified(LedgerSource& source, const std::string& shard) {
  const auto text = source.verify(shard);
  if (!text) return fail(text.error());
  return parse_object(*text, "the verification's report");
}

bool is_whole(const Json& report) { return member_of(report, "ok") == true; }

std::string verdict(const Json& report) {
  const std::string entries = std::to_string(count_of(report, "entries"));
  if (!is_whole(report)) {
    const Json& bad = member_of(report, "first_bad_index");
    return "damaged" + (bad.is_null() ? "" : " from entry " + plain_text(bad) + " on") + ": " +
           printable(text_of(report, "message")) + " (" + entries + " entries checked)";
  }
  const std::uint64_t heads = count_of(report, "signed_heads");
  return entries + " entries are whole; head " + printable(text_of(report, "head")) +
         (heads == 0 ? "" : "; " + std::to_string(heads) + " signed heads hold");
}

Result<void> verify_alone(const GlobalOptions& global, LedgerSource& source) {
  const auto report = verified(source, "");
  if (!report) return fail(report.error());
  if (global.json) print(report->dump() + "\n");
  if (!is_whole(*report)) {
    return fail(CliError::damaged, "the ledger is " + verdict(*report) +
                                       "; stop the node and restore its data from a backup");
  }
  if (!global.json) print(verdict(*report) + "\n");
  return {};
}

// A line for each shard as soon as it is done, and the sum.
Result<void> verify_shards(const GlobalOptions& global, LedgerSource& source, const LedgerShards& shards) {
  Json all{{"ok", true}, {"entries", 0}, {"shards", Json::array()}};
  std::uint64_t entries = 0;
  std::string damaged;
  for (const std::string& shard : shards.here) {
    auto report = verified(source, shard);
    if (!report && is(report.error(), CliError::damaged))  // so much that it cannot be read
      report = Json{{"ok", false}, {"entries", 0}, {"message", report.error().message}};
    if (!report) return fail(report.error());
    entries += count_of(*report, "entries");
    if (!is_whole(*report)) damaged += (damaged.empty() ? "" : ", ") + shard;
    if (!global.json) print("shard " + printable(shard) + ": " + verdict(*report) + "\n");
    Json row = Json::object();
    row["shard"] = shard;
    row.update(*report);
    all["shards"].push_back(std::move(row));
  }
  all["ok"] = damaged.empty();
  all["entries"] = entries;
  if (global.json) print(all.dump() + "\n");
  else if (shards.here.size() > 1)
    print(std::to_string(shards.here.size()) + " shards, " + std::to_string(entries) + " entries\n");
  note_elsewhere(shards);
  if (damaged.empty()) return {};
  return fail(CliError::damaged, "this node's replica is damaged of shard " + printable(damaged) +
                                     "; verify it at another node, and have this one take a copy (docs/cluster.md)");
}

Result<void> verify(const GlobalOptions& global, const std::string& shard) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto shards = wanted_shards((*source)->shards(), shard);
  if (!shards) return fail(shards.error());
  return shards->in_cluster() ? verify_shards(global, **source, *shards) : verify_alone(global, **source);
}

std::string cost_text(const Json& entry) {
  const auto cost = PicoUsd::parse_pico(text_of(entry, "cost_pico_usd"));
  return cost && *cost != PicoUsd{} ? "US$ " + cost->to_usd() : std::string();
}

// One line for people: in a cluster the shard, then index, time, kind, and what there is to say about the kind.
std::string entry_line(std::string_view json) {
  const Json entry = Json::parse(json, nullptr, false);
  if (!entry.is_object()) return printable(json) + "\n";
  const std::string shard = text_of(entry, "ledger_shard").substr(0, 32);
  char head[128];
  std::snprintf(head, sizeof(head), shard.empty() ? "%s%8llu  %-20s  %-11s" : "%-7s %8llu  %-20s  %-11s", shard.c_str(),
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

std::string tail_line(const GlobalOptions& global, std::string_view line) {
  return global.json ? std::string(line) + "\n" : entry_line(line);
}

Result<void> tail_one(const GlobalOptions& global, const TailOptions& options, LedgerSource& source,
                      const std::string& shard) {
  const auto entries = source.entries(shard);
  if (!entries) return fail(entries.error());
  std::uint64_t next = *entries > options.count ? *entries - options.count : 0;
  while (true) {
    std::string text;
    const auto read = source.read(shard, next, page_entries, [&text, &global](std::string_view line) {
      text += tail_line(global, line);
    });
    if (!read) return fail(read.error());
    print(text);
    next += *read;
    if (*read == page_entries) continue;
    if (!options.follow) return {};
    std::this_thread::sleep_for(follow_interval);
  }
}

Result<void> follow(MergedTail& merged) {
  auto looked_at = std::chrono::steady_clock::now();
  while (true) {
    const auto now = std::chrono::steady_clock::now();
    const bool look = now - looked_at > look_interval;
    if (look) looked_at = now;
    const auto news = merged.next(look);
    if (!news) return fail(news.error());
    print(news->lines);
    for (const std::string& change : news->changes) std::fprintf(stderr, "outlast: %s\n", change.c_str());
    if (!news->more) std::this_thread::sleep_for(follow_interval);
  }
}

Result<void> tail(const GlobalOptions& global, const TailOptions& options) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto shards = wanted_shards((*source)->shards(), options.shard);
  if (!shards) return fail(shards.error());
  note_elsewhere(*shards);
  if (shards->here.size() == 1) return tail_one(global, options, **source, shards->here.front());
  if (options.count > page_entries) {
    return fail(CliError::usage, "-n is at most " + std::to_string(page_entries) +
                                     " over several shards; name one of them with --shard");
  }
  MergedTail merged(**source, [&global](std::string_view line) { return tail_line(global, line); }, page_entries);
  const auto newest = merged.newest(shards->here, options.count);
  if (!newest) return fail(newest.error());
  print(*newest);
  if (options.follow) return follow(merged);
  return {};
}

constexpr const char* csv_columns[] = {
    "index",       "time_ms",         "kind",          "request_id",
    "attempt",     "tenant",          "key_id",        "route",
    "deployment",  "provider",        "model",         "status",
    "http_status", "amount_pico_usd", "cost_pico_usd", "overrun_pico_usd",
    "price_known", "price_version",   "estimated",     "first_event_ms",
    "duration_ms", "reason",          "hash",          "service_tier",
    "inference_geo", "batch",           "contract"};

constexpr const char* csv_shard_column = "ledger_shard";  // first, in a cluster

std::string csv_of_entry(std::string_view json, bool in_cluster) {
  const Json entry = Json::parse(json, nullptr, false);
  std::vector<std::string> cells;
  if (in_cluster) cells.push_back(text_of(entry, csv_shard_column));
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

std::string csv_titles(bool in_cluster) {
  std::vector<std::string> titles(std::begin(csv_columns), std::end(csv_columns));
  if (in_cluster) titles.insert(titles.begin(), csv_shard_column);
  for (const UsageBucket& bucket : usage_buckets)
    titles.push_back("tokens_" + std::string(bucket.name));
  for (const BilledUnit& unit : billed_units)
    titles.push_back("units_" + std::string(unit.plural));
  return csv_line(titles);
}

Result<void> export_shard(LedgerSource& source, const std::string& shard, std::uint64_t next, bool csv) {
  while (true) {
    std::string text;
    const auto read = source.read(shard, next, page_entries, [&text, &shard, csv](std::string_view line) {
      text += csv ? csv_of_entry(line, !shard.empty()) : std::string(line) + "\n";
    });
    if (!read) return fail(read.error());
    print(text);
    next += *read;
    if (*read == 0) return {};
  }
}

Result<void> export_entries(const GlobalOptions& global, const ExportOptions& options) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto shards = wanted_shards((*source)->shards(), options.shard);
  if (!shards) return fail(shards.error());
  if (options.from > 0 && shards->here.size() > 1)
    return fail(CliError::usage, "an index counts within its shard; with --from, name one with --shard");
  const bool csv = options.format == "csv";
  if (csv) print(csv_titles(shards->in_cluster()));
  for (const std::string& shard : shards->here) {
    if (const auto done = export_shard(**source, shard, options.from, csv); !done) return done;
  }
  note_elsewhere(*shards);
  return {};
}

}  // namespace

void add_shard_option(CLI::App& command, std::string& shard) {
  command.add_option("--shard", shard, "in a cluster: control, 0, 1 and so on; without it, all that are here")
      ->type_name("S");
}

void add_ledger_commands(CommandLine& line) {
  CLI::App* ledger = line.add_group(
      "ledger", "the record of every request; with --data DIR also while no node runs");
  auto verified_shard = std::make_shared<std::string>();
  CLI::App* verify_command =
      line.add_command(*ledger, "verify", "recomputes the chain, the sums and the balances",
                       [&line, verified_shard] { return verify(line.options, *verified_shard); });
  add_shard_option(*verify_command, *verified_shard);

  add_ledger_upkeep(line, *ledger);

  auto tail_options = std::make_shared<TailOptions>();
  CLI::App* tail_command =
      line.add_command(*ledger, "tail", "shows the last entries",
                       [&line, tail_options] { return tail(line.options, *tail_options); });
  add_shard_option(*tail_command, tail_options->shard);
  tail_command->add_option("-n", tail_options->count, "how many")
      ->capture_default_str()
      ->type_name("N");
  tail_command->add_flag("-f,--follow", tail_options->follow,
                         "go on with new entries as they come");

  auto export_options = std::make_shared<ExportOptions>();
  CLI::App* export_command = line.add_command(
      *ledger, "export", "writes every entry to stdout",
      [&line, export_options] { return export_entries(line.options, *export_options); });
  add_shard_option(*export_command, export_options->shard);
  export_command->add_option("--format", export_options->format, "jsonl or csv")
      ->check(CLI::IsMember({"jsonl", "csv"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  export_command->add_option("--from", export_options->from, "first index")
      ->capture_default_str()
      ->type_name("N");
}

}  // namespace outlast::apps
