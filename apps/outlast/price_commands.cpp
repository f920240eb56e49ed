// outlast prices check | diff | import | show
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "apps/config/node_config.hpp"
#include "apps/config/price_book_writer.hpp"
#include "apps/config/sections.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/price_diff.hpp"
#include "apps/outlast/price_map.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"
#include "core/clock.hpp"
#include "core/json_writer.hpp"
#include "storage/ledger_state.hpp"

namespace outlast::apps {
namespace {

Result<PriceBook> read_book(const std::string& file) {
  const auto toml = read_small_file(file);
  if (!toml)
    return fail(CliError::failed, "'" + file + "' cannot be read: " + toml.error().message);
  if (toml->size() > storage::prices_bytes_max) {
    return fail(CliError::failed, file + ": is larger than " +
                                      std::to_string(storage::prices_bytes_max) +
                                      " bytes, which the ledger records at most; leave out "
                                      "models that no deployment serves");
  }
  auto book = parse_price_book(*toml, file);
  if (!book) return fail(CliError::failed, book.error().message);
  return book;
}

// The book in force at the running node.
Result<PriceBook> ask_for_book(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "prices");
  if (!answer) return fail(answer.error());
  const auto body = parse_object(answer->body, "the node's prices");
  if (!body) return fail(body.error());
  auto book = parse_price_book(text_of(*body, "toml"), "the node's prices");
  if (!book) return fail(CliError::failed, book.error().message);
  return book;
}

void write_lines(JsonWriter& json, const std::string& lines) {
  json.begin_array();
  for (std::size_t at = 0; at < lines.size();) {
    const auto end = std::min(lines.find('\n', at), lines.size());
    json.string(std::string_view(lines).substr(at, end - at));
    at = end + 1;
  }
  json.end_array();
}

// Models that have prices, but none now.
std::string warnings_of(const PriceBook& book, std::int64_t now_ms) {
  std::string warnings;
  std::set<std::pair<std::string, std::string>> seen;
  for (const PriceEntry* entry : book.entries()) {
    if (!seen.emplace(entry->provider, entry->model).second) continue;
    PriceQuery query{.provider = entry->provider, .model = entry->model, .time_ms = now_ms};
    query.contract = entry->contract;
    if (book.find(query) != nullptr) continue;
    warnings += (warnings.empty() ? "" : "\n") + std::string("no price of '") + entry->model +
                "' of provider '" + entry->provider + "' holds now";
  }
  return warnings;
}

Result<void> check_prices(const GlobalOptions& global, const std::string& file) {
  const auto book = read_book(file);
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("ok").boolean(book.has_value()).key("errors");
  write_lines(json, book ? "" : book.error().message);
  if (!book) {
    json.end_object();
    if (global.json) print(text + "\n");
    return fail(CliError::failed, "this price book is refused:\n" + book.error().message);
  }
  const SystemClock clock;
  const std::string warnings = warnings_of(*book, clock.wall_ms());
  std::set<std::pair<std::string, std::string>> models;
  std::set<std::string> providers;
  for (const PriceEntry* entry : book->entries()) {
    models.emplace(entry->provider, entry->model);
    providers.insert(entry->provider);
  }
  json.key("warnings");
  write_lines(json, warnings);
  json.key("version").string(book->version());
  json.key("prices").number(static_cast<std::uint64_t>(book->size()));
  json.key("models").number(static_cast<std::uint64_t>(models.size()));
  json.key("providers").number(static_cast<std::uint64_t>(providers.size())).end_object();
  if (global.json) {
    print(text + "\n");
    return {};
  }
  print(file + " is right: version " + printable(book->version()) + ", " +
        std::to_string(book->size()) + " prices of " + std::to_string(models.size()) +
        " models of " + std::to_string(providers.size()) + " providers\n");
  if (!warnings.empty()) print(printable(warnings, true) + "\n");
  return {};
}

void write_subject(JsonWriter& json, const PriceEntry& entry) {
  json.key("provider").string(entry.provider).key("model").string(entry.model);
  json.key("contract").string(entry.contract).key("service_tier").string(entry.service_tier);
  json.key("geo").string(entry.geo).key("batch").boolean(entry.batch);
}

void write_text_or_null(JsonWriter& json, const std::string& text) {
  if (text.empty()) json.null();
  else json.string(text);
}

std::string diff_json(const PriceBook& before, const PriceBook& after,
                      const std::vector<PriceChange>& changes) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("old_version").string(before.version());
  json.key("new_version").string(after.version()).key("changes").begin_array();
  for (const PriceChange& change : changes) {
    json.begin_object();
    write_subject(json, *change.entry);
    json.key("change").string(price_change_names[static_cast<std::size_t>(change.kind)]);
    json.key("key").string(change.key);
    json.key("old");
    write_text_or_null(json, change.before);
    json.key("new");
    write_text_or_null(json, change.after);
    json.key("percent");
    write_text_or_null(json, change.percent);
    json.end_object();
  }
  json.end_array().end_object();
  return text + "\n";
}

Result<void> diff_prices(const GlobalOptions& global, const std::string& old_file,
                         const std::string& new_file) {
  const auto before = read_book(old_file);
  if (!before) return fail(before.error());
  const auto after = read_book(new_file);
  if (!after) return fail(after.error());
  const auto changes = diff_price_books(*before, *after);
  if (global.json) {
    print(diff_json(*before, *after, changes));
    return {};
  }
  if (changes.empty()) {
    print("nothing changed\n");
    return {};
  }
  using Align = Table::Align;
  Table table({{"PROVIDER"}, {"MODEL"}, {"FOR"}, {"PRICE"}, {"OLD", Align::right},
               {"NEW", Align::right}, {"CHANGE", Align::right}});
  for (const PriceChange& change : changes) {
    const std::string kind(price_change_names[static_cast<std::size_t>(change.kind)]);
    const bool listed = change.kind != PriceChange::Kind::changed || change.percent.empty();
    table.add({printable(change.entry->provider), printable(change.entry->model),
               printable(terms_of(*change.entry)), change.key,
               change.before.empty() ? "-" : change.before,
               change.after.empty() ? "-" : change.after, listed ? kind : change.percent + " %"});
  }
  print(table.text());
  return {};
}

struct ShowOptions {
  std::string provider;
  std::string model;
  std::string file;
  std::string service_tier;
  std::string geo;
  std::string contract;
  std::string at;
  bool batch = false;
};

Result<void> show_prices(const GlobalOptions& global, const ShowOptions& options) {
  const SystemClock clock;
  const auto at_ms = options.at.empty() ? std::optional(clock.wall_ms())
                                        : parse_time_argument(options.at, clock.wall_ms());
  if (!at_ms) {
    return fail(CliError::usage, "--at: '" + printable(options.at) +
                                     "' is not a time; write 30m, 24h, 7d, 2026-11-01 or "
                                     "2026-11-01T12:00Z");
  }
  const auto book = options.file.empty() ? ask_for_book(global) : read_book(options.file);
  if (!book) return fail(book.error());
  const Price* charged =
      book->find({options.provider, options.model, options.service_tier, options.geo,
                  options.contract, options.batch, *at_ms});
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("version").string(book->version()).key("prices").begin_array();
  Table table({{"PROVIDER"}, {"FOR"}, {"PRICE"}, {"US$", Table::Align::right}, {"NOW"}});
  bool any = false;
  for (const PriceEntry* entry : book->entries()) {
    if (entry->model != options.model) continue;
    if (entry->provider != options.provider && entry->provider != "*") continue;
    any = true;
    const bool holds = &entry->price == charged;
    json.begin_object();
    write_subject(json, *entry);
    json.key("source").string(entry->source).key("charged").boolean(holds);
    json.key("figures").begin_object();
    for (const auto& [key, figure] : figures_of(*entry)) {
      json.key(key).string(figure);
      table.add({printable(entry->provider), printable(terms_of(*entry)), key, figure,
                 holds ? "*" : ""});
    }
    json.end_object().end_object();
  }
  json.end_array().end_object();
  if (!any) {
    return fail(CliError::not_found, "there is no price of '" + printable(options.model) +
                                         "' of provider '" + printable(options.provider) +
                                         "' in " +
                                         (options.file.empty() ? "the node's price book"
                                                               : options.file));
  }
  print(global.json ? text + "\n" : table.text());
  if (!global.json && charged == nullptr) print("none of them holds for that\n");
  return {};
}

struct ImportOptions {
  std::string file;
  std::vector<std::string> providers;
  std::string as;
  std::string version;
  std::string output;
  bool force = false;
};

Result<void> write_output(const ImportOptions& options, const std::string& toml) {
  std::error_code error;
  if (!options.force && std::filesystem::exists(options.output, error)) {
    return fail(CliError::failed, "'" + options.output +
                                      "' is there already; name another file, or add --force");
  }
  const std::string partial = options.output + ".part";
  std::ofstream stream(partial, std::ios::binary | std::ios::trunc);
  stream << toml;
  stream.close();
  if (!stream) {
    return fail(CliError::failed,
                "'" + partial + "' cannot be written: " + std::strerror(errno));
  }
  std::filesystem::rename(partial, options.output, error);
  if (error) {
    return fail(CliError::failed,
                "'" + options.output + "' cannot be written: " + error.message());
  }
  return {};
}

void write_notes(JsonWriter& json, const std::vector<PriceMapNote>& notes) {
  json.begin_array();
  for (const PriceMapNote& note : notes) {
    json.begin_object().key("name").string(note.name).key("why").string(note.why).end_object();
  }
  json.end_array();
}

std::string import_json(const PriceMap& map, const std::string& toml,
                        const ImportOptions& options) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("version").string(map.book.version());
  json.key("models").number(static_cast<std::uint64_t>(map.models));
  json.key("prices").number(static_cast<std::uint64_t>(map.book.size()));
  json.key("skipped");
  write_notes(json, map.skipped);
  json.key("left_out");
  write_notes(json, map.left_out);
  if (options.output.empty()) json.key("toml").string(toml);
  else json.key("output").string(options.output);
  json.end_object();
  return text + "\n";
}

// What was not taken, to where the prices do not go.
void report_import(const PriceMap& map, const ImportOptions& options) {
  std::string text;
  for (const PriceMapNote& note : map.skipped)
    text += "skipped " + printable(note.name) + ": " + printable(note.why) + "\n";
  for (const PriceMapNote& note : map.left_out)
    text += "left out of " + printable(note.name) + ": " + printable(note.why) + "\n";
  text += std::to_string(map.book.size()) + " prices of " + std::to_string(map.models) +
          " models; " + std::to_string(map.skipped.size()) + " skipped\n";
  if (options.output.empty()) std::fputs(text.c_str(), stderr);
  else print(text);
}

Result<void> import_prices(const GlobalOptions& global, ImportOptions options) {
  if (!options.as.empty() && options.providers.size() != 1)
    return fail(CliError::usage, "--as: names one provider; choose it with --provider");
  const auto json = read_small_file(options.file);
  if (!json) {
    return fail(CliError::failed,
                "'" + options.file + "' cannot be read: " + json.error().message);
  }
  const SystemClock clock;
  if (options.version.empty())
    options.version = "imported-" + utc_time(clock.wall_ms()).substr(0, 10);
  const auto map = read_price_map(*json, {options.providers, options.as, options.version});
  if (!map) return fail(CliError::failed, options.file + ": " + map.error().message);
  if (map->models == 0) {
    return fail(CliError::failed,
                options.file + ": has no price to import" +
                    (options.providers.empty() ? "" : " of those providers") + "; " +
                    (map->skipped.empty()
                         ? std::string("--provider takes the map's litellm_provider")
                         : "the first that was skipped: '" + printable(map->skipped[0].name) +
                               "' " + printable(map->skipped[0].why)));
  }
  const std::string toml = write_price_book(
      map->book, "US dollars per million tokens, made by `outlast prices import` from a public "
                 "price map: compare with your contract.");
  if (toml.size() > storage::prices_bytes_max) {
    return fail(CliError::failed, "the prices take " + std::to_string(toml.size()) +
                                      " bytes and a node takes at most " +
                                      std::to_string(storage::prices_bytes_max) +
                                      "; choose providers with --provider");
  }
  if (const auto book = parse_price_book(toml, "imported prices"); !book)
    return fail(CliError::failed, book.error().message);
  if (!options.output.empty()) {
    if (auto written = write_output(options, toml); !written) return written;
  }
  if (global.json) {
    print(import_json(*map, toml, options));
    return {};
  }
  if (options.output.empty()) print(toml);
  report_import(*map, options);
  return {};
}

void add_show_command(CommandLine& line, CLI::App& prices) {
  auto options = std::make_shared<ShowOptions>();
  CLI::App* show =
      line.add_command(prices, "show", "the prices of a model, and which one a request would pay",
                       [&line, options] { return show_prices(line.options, *options); });
  show->add_option("provider", options->provider, "the provider")
      ->required()
      ->type_name("PROVIDER");
  show->add_option("model", options->model, "as the provider knows it")
      ->required()
      ->type_name("MODEL");
  show->add_option("--file", options->file, "a price book instead of the running node's")
      ->type_name("FILE");
  show->add_option("--tier", options->service_tier, "service tier as answered")->type_name("TIER");
  show->add_option("--geo", options->geo, "inference geo or region")->type_name("GEO");
  show->add_option("--contract", options->contract, "of the provider")->type_name("NAME");
  show->add_flag("--batch", options->batch, "for a batch");
  show->add_option("--at", options->at, "at that time instead of now: 7d, 2026-11-01, …")
      ->type_name("TIME");
}

void add_import_command(CommandLine& line, CLI::App& prices) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command = line.add_command(
      prices, "import", "makes a price book from a file of the public JSON price map",
      [&line, options] { return import_prices(line.options, *options); });
  command->add_option("file", options->file, "model_prices_and_context_window.json")
      ->required()
      ->type_name("FILE");
  command->add_option("--provider", options->providers, "only of these (the map's names)")
      ->delimiter(',')
      ->type_name("NAME,…");
  command->add_option("--as", options->as, "the provider's name here")->type_name("NAME");
  command->add_option("--version", options->version, "of the price book; else from the date")
      ->type_name("V");
  command->add_option("--output", options->output, "where to write instead of stdout")
      ->type_name("FILE");
  command->add_flag("--force", options->force, "replace that file");
}

}  // namespace

void add_price_commands(CommandLine& line) {
  CLI::App* prices = line.add_group("prices", "price books: what tokens cost");
  auto file = std::make_shared<std::string>();
  CLI::App* check = line.add_command(*prices, "check", "validates a price book",
                                     [&line, file] { return check_prices(line.options, *file); });
  check->add_option("file", *file, "the TOML file")->required()->type_name("FILE");
  auto files = std::make_shared<std::pair<std::string, std::string>>();
  CLI::App* diff = line.add_command(
      *prices, "diff", "what changed between two price books, in percent",
      [&line, files] { return diff_prices(line.options, files->first, files->second); });
  diff->add_option("old", files->first, "the old TOML file")->required()->type_name("OLD");
  diff->add_option("new", files->second, "the new TOML file")->required()->type_name("NEW");
  add_import_command(line, *prices);
  add_show_command(line, *prices);
}

}  // namespace outlast::apps
