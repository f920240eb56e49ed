// CommandLine: the commands of `outlast` and what the words of one call chose. One owner, not
// movable: options point into it.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/outlast/node_access.hpp"
#include "core/result.hpp"

namespace outlast::apps {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  CLI::App app;
  GlobalOptions options;
  std::function<Result<void>()> action;  // set by the command that was chosen

  // A command with the options that every command takes; `run` becomes the action when it is
  // chosen.
  CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                        std::function<Result<void>()> run);
  // A command that only holds others; the one of this name where there is one.
  CLI::App* add_group(const std::string& name, const std::string& description);

 private:
  void add_global_options(CLI::App& command);
};

// One per file: each adds its commands.
void add_breaker_commands(CommandLine& line);
void add_budget_commands(CommandLine& line);
void add_chat_command(CommandLine& line);
void add_cluster_certificates(CommandLine& line, CLI::App& cluster);
void add_cluster_commands(CommandLine& line);
void add_cluster_demo(CommandLine& line, CLI::App& cluster);
void add_commitment_commands(CommandLine& line);
void add_completion_command(CommandLine& line);
void add_config_commands(CommandLine& line);
void add_generate_command(CommandLine& line);
void add_join_commands(CommandLine& line, CLI::App& node);  // init, join
void add_key_commands(CommandLine& line);
void add_ledger_commands(CommandLine& line);
void add_ledger_upkeep(CommandLine& line, CLI::App& ledger);  // heads, backup, restore
// --shard, of the commands that read a ledger.
void add_shard_option(CLI::App& command, std::string& shard);
void add_member_commands(CommandLine& line);
void add_node_commands(CommandLine& line);
void add_price_commands(CommandLine& line);
void add_rate_limit_command(CommandLine& line);
void add_reconcile_command(CommandLine& line);
void add_reprice_command(CommandLine& line);
void add_sample_task_command(CommandLine& line);
void add_tokenizer_command(CommandLine& line);
void add_train_commands(CommandLine& line);  // train, eval
void add_usage_command(CommandLine& line);
void add_worker_commands(CommandLine& line);

// Who the ledger is told asks for a change: the user of this machine.
std::string who_asks();

// Parses, runs, and gives the exit code of the process. The one place that writes errors: one line
// to stderr.
int run_command_line(int argc, const char* const* argv);

}  // namespace outlast::apps
