// outlast reconcile: a provider's invoice against the ledger.
#include "apps/config/words.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/text_file.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t invoice_bytes_max = 4U << 20;  // as the admin interface takes

struct ReconcileOptions {
  std::string provider;
  std::string file;
  std::vector<std::string> map;
  std::vector<std::string> models;
  std::string key_is = "key";
  std::string tolerance = "1%";
};

Result<ReconcileQuery> query_of(const ReconcileOptions& options) {
  const auto wrong = [](std::string_view option, const std::string& message) {
    return fail(CliError::usage, std::string(option) + ": " + printable(message));
  };
  ReconcileQuery query;
  query.provider = options.provider;
  query.file = options.file == "-" ? "stdin" : options.file;
  for (const std::string& text : options.map) {
    auto title = parse_column_title(text);
    if (!title) return wrong("--map", title.error().message);
    query.map.push_back(std::move(*title));
  }
  for (const std::string& text : options.models) {
    auto model = parse_model_name(text);
    if (!model) return wrong("--model", model.error().message);
    query.models.insert(std::move(*model));
  }
  const auto key_is = read_key_dimension(options.key_is);
  if (!key_is) return wrong("--key-is", key_is.error().message);
  query.key_is = *key_is;
  const auto tolerance = parse_tolerance(options.tolerance);
  if (!tolerance) return wrong("--tolerance", tolerance_advice(options.tolerance));
  query.tolerance_ppm = *tolerance;
  return query;
}

std::string cost_of_side(const Json& side) {
  return side.is_null() ? "-" : text_of(side, "cost_usd");
}

std::string reconcile_table(const Json& result) {
  using Align = Table::Align;
  Table table({{"DAY"},
               {"MODEL"},
               {"KEY"},
               {"THERE USD", Align::right},
               {"HERE USD", Align::right},
               {"WHY"}});
  std::size_t differing = 0;
  for (const Json& line : member_of(result, "lines")) {
    if (member_of(line, "agrees") == true) continue;
    ++differing;
    bool first = true;
    for (const Json& reason : member_of(line, "reasons")) {
      const std::string why = text_of(reason, "reason") + ": " + text_of(reason, "text");
      if (first) {
        table.add({text_of(line, "day"), text_of(line, "model"), text_of(line, "key"),
                   cost_of_side(member_of(line, "invoice")),
                   cost_of_side(member_of(line, "ledger")), why});
      } else {
        table.add({"", "", "", "", "", why});
      }
      first = false;
    }
  }
  std::string text = differing > 0 ? table.text() : std::string();
  text += std::to_string(count_of(result, "agreeing_lines")) + " of " +
          std::to_string(member_of(result, "lines").size()) + " lines agree, " +
          printable(text_of(result, "first_day")) + " to " +
          printable(text_of(result, "last_day")) + "; in all ";
  const Json& total = member_of(result, "total");
  if (!member_of(total, "invoice_usd").is_null())
    text += "$" + printable(text_of(total, "invoice_usd")) + " there and ";
  return text + "$" + printable(text_of(total, "ledger_usd")) + " here\n";
}

Result<void> run(const GlobalOptions& global, const ReconcileOptions& options) {
  const auto query = query_of(options);
  if (!query) return fail(query.error());
  const auto csv = read_text_file(options.file, invoice_bytes_max);
  if (!csv) return fail(csv.error());
  // A wrong file is told without asking anybody.
  if (const auto invoice = read_invoice(*csv, query->file, query->map, query->models); !invoice)
    return fail(CliError::failed, printable(invoice.error().message));
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = (*source)->reconcile(*query, *csv);
  if (!text) return fail(text.error());
  const auto result = parse_object(*text, "the reconciliation");
  if (!result) return fail(result.error());
  print(global.json ? result->dump() + "\n" : reconcile_table(*result));
  if (member_of(*result, "agrees") == true) return {};
  const std::size_t differing =
      member_of(*result, "lines").size() - count_of(*result, "agreeing_lines");
  return fail(CliError::differs, std::to_string(differing) + " lines of " +
                                     printable(options.provider) +
                                     " differ by more than the tolerance");
}

}  // namespace

void add_reconcile_command(CommandLine& line) {
  auto options = std::make_shared<ReconcileOptions>();
  CLI::App* command = line.add_command(
      line.app, "reconcile", "compares a provider's invoice with the ledger and says what differs",
      [&line, options] { return run(line.options, *options); });
  command->add_option("provider", options->provider, "as the configuration names it")
      ->required()
      ->type_name("PROVIDER");
  command->add_option("--file", options->file, "the provider's CSV export; - for stdin")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--map", options->map,
                   "which title of the file is which column: " + join_words(invoice_column_names))
      ->type_name("COLUMN=TITLE")
      ->allow_extra_args(false);
  command
      ->add_option("--model", options->models,
                   "a model's name in the file and in the configuration")
      ->type_name("THEIRS=OURS")
      ->allow_extra_args(false);
  command
      ->add_option("--key-is", options->key_is,
                   "what the file's key is here: key, user, team, organisation, deployment, route")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--tolerance", options->tolerance, "what two figures may differ by and agree")
      ->capture_default_str()
      ->type_name("PERCENT");
}

}  // namespace outlast::apps
