// outlast ledger heads | backup | restore
#include <filesystem>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"
#include "storage/backup.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::apps {
namespace {

struct HeadsOptions {
  std::uint64_t count = 10;
};

struct BackupOptions {
  std::string folder;
  std::string shard;
  std::uint32_t keep = storage::backups_kept_default;
};

struct RestoreOptions {
  std::string folder;
  bool force = false;
};

Result<void> heads(const GlobalOptions& global, const HeadsOptions& options) {
  auto source = open_ledger_source(global);
  if (!source) return fail(source.error());
  const auto text = (*source)->heads();
  if (!text) return fail(text.error());
  const auto report = parse_object(*text, "the list of signed heads");
  if (!report) return fail(report.error());
  const Json& list = member_of(*report, "heads");
  if (global.json) {
    print(report->dump() + "\n");
  } else {
    const std::size_t from = list.size() > options.count ? list.size() - options.count : 0;
    for (std::size_t i = from; i < list.size(); ++i) {
      print(printable(time_of(list[i], "time_ms") + "  " + text_of(list[i], "node") + "  entry " +
                      std::to_string(count_of(list[i], "index")) + "  " +
                      text_of(list[i], "hash")) +
            "\n");
    }
  }
  const std::string problem = text_of(*report, "problem");
  if (!problem.empty()) return fail(CliError::damaged, printable(problem));
  return {};
}

Result<Json> make_backup(AdminApi& api, const std::string& folder, std::uint32_t keep, const std::string& shard) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("folder").string(folder).key("keep").number(std::uint64_t{keep});
  if (!shard.empty()) json.key("shard").string(shard);
  json.end_object();
  const auto answer = api.call("POST", "ledger/backup", body);
  if (!answer) return fail(answer.error());
  return parse_object(answer->body, "the backup's report");
}

std::string backup_line(const Json& report, const std::string& folder) {
  return "backup " + std::to_string(count_of(report, "id")) + " in " + printable(folder) + " holds " +
         std::to_string(count_of(report, "entries")) + " entries and reads back; " +
         std::to_string(count_of(report, "kept")) + " kept\n";
}

// Each shard is a ledger of its own, so it has a folder of its own, by its name. One that fails does not keep others from theirs.
Result<void> backup_shards(const GlobalOptions& global, const BackupOptions& options, AdminApi& api, const std::string& folder,
                           const LedgerShards& shards) {
  Json all = Json::object();
  all["shards"] = Json::array();
  std::string failed;
  for (const std::string& shard : shards.here) {
    const std::string place = folder + "/" + shard;
    const auto report = make_backup(api, place, options.keep, shard);
    Json row = Json::object();
    row["shard"] = shard;
    if (report) {
      row.update(*report);
      if (!global.json) print(backup_line(*report, place));
    } else {
      row["error"] = report.error().message;
      failed += (failed.empty() ? "shard " : "; shard ") + printable(shard) + ": " + report.error().message;
    }
    all["shards"].push_back(std::move(row));
  }
  if (global.json) print(all.dump() + "\n");
  note_elsewhere(shards);
  if (!failed.empty()) return fail(CliError::failed, std::move(failed));
  return {};
}

Result<void> backup(const GlobalOptions& global, const BackupOptions& options) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto shards = wanted_shards(shards_of_node(*api), options.shard);
  if (!shards) return fail(shards.error());
  std::error_code error;
  // The node writes it, whose working folder may be another.
  const std::string folder = std::filesystem::absolute(options.folder, error).lexically_normal();
  if (shards->in_cluster()) return backup_shards(global, options, *api, folder, *shards);
  const auto report = make_backup(*api, folder, options.keep, "");
  if (!report) return fail(report.error());
  print(global.json ? report->dump() + "\n" : backup_line(*report, folder));
  return {};
}

Result<void> restore(const GlobalOptions& global, const RestoreOptions& options) {
  if (global.data.empty()) {
    return fail(CliError::usage,
                "name the data folder to restore to: outlast ledger restore DIR --data DATA");
  }
  std::error_code error;
  if (std::filesystem::is_directory(global.data + "/shards", error)) {
    return fail(CliError::failed, printable(global.data) + " is of a node of a cluster, whose replicas come from other nodes; "
                                                           "restore to a folder that holds nothing else");
  }
  if (std::filesystem::exists(options.folder + "/control/outlast-backup", error)) {
    return fail(CliError::failed, printable(options.folder) + " holds backups of a cluster's shards, each a ledger of its own; "
                                                              "name one of them: " + printable(options.folder) + "/control");
  }
  const auto report = storage::restore_backup(options.folder, global.data, options.force);
  if (!report) {
    const bool damaged = is(report.error(), storage::LedgerError::corrupt);
    return fail(damaged ? CliError::damaged : CliError::failed,
                printable(report.error().message));
  }
  if (global.json) {
    std::string text;
    JsonWriter json(text);
    json.begin_object().key("id").number(std::uint64_t{report->id});
    json.key("entries").number(report->verified.entries);
    json.key("head").string(to_hex(report->verified.head_hash)).key("moved_aside");
    if (report->moved_aside.empty()) json.null();
    else json.string(report->moved_aside);
    json.end_object();
    print(text + "\n");
    return {};
  }
  print("backup " + std::to_string(report->id) + " is in place: " +
        std::to_string(report->verified.entries) + " entries, verified\n");
  if (!report->moved_aside.empty())
    print("the ledger that was there is in " + printable(report->moved_aside) + "\n");
  return {};
}

}  // namespace

void add_ledger_upkeep(CommandLine& line, CLI::App& ledger) {
  auto heads_options = std::make_shared<HeadsOptions>();
  CLI::App* heads_command =
      line.add_command(ledger, "heads", "shows the last signed heads of the chain",
                       [&line, heads_options] { return heads(line.options, *heads_options); });
  heads_command->add_option("-n", heads_options->count, "how many (--json: all)")
      ->capture_default_str()
      ->type_name("N");

  auto backup_options = std::make_shared<BackupOptions>();
  CLI::App* backup_command = line.add_command(
      ledger, "backup", "lets the running node write a backup, and reads it back",
      [&line, backup_options] { return backup(line.options, *backup_options); });
  backup_command->add_option("folder", backup_options->folder, "for backups of this node only")
      ->required()
      ->type_name("DIR");
  add_shard_option(*backup_command, backup_options->shard);
  backup_command->add_option("--keep", backup_options->keep, "how many stay, the newest ones")
      ->check(CLI::Range(1U, storage::backups_kept_max))
      ->capture_default_str()
      ->type_name("N");

  auto restore_options = std::make_shared<RestoreOptions>();
  CLI::App* restore_command = line.add_command(
      ledger, "restore", "puts the newest backup into --data, while no node runs there",
      [&line, restore_options] { return restore(line.options, *restore_options); });
  restore_command->add_option("folder", restore_options->folder, "what `ledger backup` wrote")
      ->required()
      ->type_name("DIR");
  restore_command->add_flag("--force", restore_options->force,
                            "move a ledger that is there aside");
}

}  // namespace outlast::apps
