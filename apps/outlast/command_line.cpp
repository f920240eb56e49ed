#include "apps/outlast/command_line.hpp"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "apps/config/words.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

constexpr const char* exit_codes =
    "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no node answers,\n"
    "            4 what was named is not there, 5 the ledger is damaged, 6 what was compared\n"
    "            differs, 7 interrupted.\n"
    "Environment: OUTLAST_ADMIN, OUTLAST_ADMIN_TOKEN (admin interface), OUTLAST_URL,\n"
    "             OUTLAST_KEY (chat, models), NO_COLOR.";

int report(const Error& error) {
  const bool ours = error.module == error_module<CliError>;
  std::fprintf(stderr, "outlast: %s\n", error.message.c_str());
  return ours ? error.code : static_cast<int>(CliError::failed);
}

// The command that was parsed as far as words name one, and the first word that it does not know.
const CLI::App* deepest_command(const CLI::App& root, std::string& unknown) {
  const CLI::App* command = &root;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().back();
  if (command->get_require_subcommand_min() == 0) return command;
  const std::vector<std::string> left = command->remaining();
  const auto word = std::find_if(left.begin(), left.end(), [](const std::string& one) { return !one.starts_with('-'); });
  if (word != left.end()) unknown = *word;
  return command;
}

std::string name_with_parents(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? command.get_name()
                           : name_with_parents(*parent) + " " + command.get_name();
}

int report_usage(const CLI::App& root, const CLI::ParseError& error) {
  std::string unknown;
  const CLI::App* command = deepest_command(root, unknown);
  std::string message = error.what();
  if (!unknown.empty()) {
    std::vector<std::string_view> names;
    for (const CLI::App* sub : command->get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(sub->get_name());
    }
    const auto nearest = nearest_word(unknown, names);
    message = "'" + printable(unknown) + "' is not a command; " +
              (nearest.empty() ? "the commands are " + join_words(names)
                               : "did you mean '" + std::string(nearest) + "'?");
  }
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  std::fprintf(stderr, "outlast: %s; see '%s --help'\n", message.c_str(),
               name_with_parents(*command).c_str());
  return static_cast<int>(CliError::usage);
}

}  // namespace

CommandLine::CommandLine()
    : app("Talks to an Outlast node: keys, budgets, commitments, usage, the ledger, clusters, configuration and chat; and teaches students.", "outlast") {
  app.require_subcommand(1);
  app.footer(exit_codes);
  app.set_version_flag("--version", OUTLAST_VERSION);
  app.get_formatter()->column_width(34);
  add_global_options(app);
  add_key_commands(*this);
  add_budget_commands(*this);
  add_commitment_commands(*this);
  add_usage_command(*this);
  add_reconcile_command(*this);
  add_reprice_command(*this);
  add_ledger_commands(*this);
  add_breaker_commands(*this);
  add_config_commands(*this);
  add_price_commands(*this);
  add_node_commands(*this);
  add_member_commands(*this);
  add_cluster_commands(*this);
  add_rate_limit_command(*this);
  add_chat_command(*this);
  add_sample_task_command(*this);
  add_tokenizer_command(*this);
  add_train_commands(*this);
  add_generate_command(*this);
  add_worker_commands(*this);
  add_completion_command(*this);
}

void CommandLine::add_global_options(CLI::App& command) {
  command
      .add_option("--admin", options.admin, "admin interface, http://HOST:PORT [env OUTLAST_ADMIN]")
      ->type_name("URL")
      ->group("Node");
  command
      .add_option("--data", options.data,
                  "data folder of a node on this machine: its address and admin token")
      ->type_name("DIR")
      ->group("Node");
  command.add_option("--ca-file", options.ca_file, "authorities to trust for https, as PEM")
      ->type_name("FILE")
      ->group("Node");
  command.add_flag("--json", options.json, "print JSON")->group("Node");
}

CLI::App* CommandLine::add_command(CLI::App& parent, const std::string& name,
                                   const std::string& description,
                                   std::function<Result<void>()> run) {
  CLI::App* command = parent.add_subcommand(name, description);
  add_global_options(*command);
  command->callback([this, run] { action = run; });
  return command;
}

CLI::App* CommandLine::add_group(const std::string& name, const std::string& description) {
  CLI::App* group = app.add_subcommand(name, description);
  group->require_subcommand(1);
  add_global_options(*group);
  return group;
}

int run_command_line(int argc, const char* const* argv) {
  CommandLine line;
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return line.app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report_usage(line.app, error);
  }
  const auto done = line.action();
  const int code = done ? 0 : report(done.error());
  const auto printed = check_printed();
  return printed || code != 0 ? code : report(printed.error());
}

}  // namespace outlast::apps
