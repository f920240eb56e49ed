// outlast worker list | run
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "apps/outlast/admin_json.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/our_programs.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/work_display.hpp"

namespace outlast::apps {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  std::string name;
  std::string files;
  std::string device = "cpu";
  std::size_t threads = 0;
};

Result<void> list(const GlobalOptions& global) {
  const auto answer = call_admin(global, "GET", "workers");
  if (!answer) return fail(answer.error());
  if (global.json) {
    print(answer->dump() + "\n");
    return {};
  }
  Table table({{"worker"}, {"device"}, {"memory", Table::Align::right}, {"does"}});
  for (const Json& worker : member_of(*answer, "workers")) {
    std::string does;
    for (const Json& one : member_of(worker, "capabilities")) does += (does.empty() ? "" : ", ") + printable(plain_text(one));
    table.add({printable(text_of(worker, "name")), printable(text_of(worker, "device")), bytes_text(static_cast<double>(count_of(worker, "memory_bytes"))), does});
  }
  print(table.text());
  if (member_of(*answer, "workers").empty()) print(dim("none; on a node with role gpu: outlast worker run --data DIR --files DIR\n"));
  return {};
}

// Becomes the worker's program, so that whoever supervises this process supervises the worker.
Result<void> run(const GlobalOptions& global, const RunOptions& options) {
  if (global.data.empty()) return fail(CliError::usage, "--data DIR says which node of this machine it works for");
  const std::string socket = (fs::absolute(global.data) / "worker" / "socket").lexically_normal().string();
  if (!fs::exists(socket)) {
    return fail(CliError::unreachable, "there is no " + socket + ": start the node of --data with \"gpu\" among its roles, as the user who runs this");
  }
  const std::string program = find_our_program("outlast-gpu-worker");
  if (program.empty()) return fail(CliError::failed, "the program outlast-gpu-worker is neither beside this one nor in PATH");
  std::vector<std::string> words{program, "--host", socket, "--files", fs::absolute(options.files).lexically_normal().string(), "--device", options.device,
                                 "--threads", std::to_string(options.threads)};
  if (!options.name.empty()) words.insert(words.end(), {"--name", options.name});
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  return fail(CliError::failed, "cannot run " + program + ": " + std::strerror(errno));
}

}  // namespace

void add_worker_commands(CommandLine& line) {
  CLI::App* group = line.add_group("worker", "GPU workers: processes that train and serve students");
  line.add_command(*group, "list", "the workers of all nodes", [&line] { return list(line.options); });
  auto options = std::make_shared<RunOptions>();
  CLI::App* run_command = line.add_command(*group, "run", "works for the node of --data until it ends", [&line, options] { return run(line.options, *options); });
  run_command->add_option("--files", options->files, "the folder that it may read and write; paths beyond it are refused")->required()->check(CLI::ExistingDirectory)->type_name("DIR");
  run_command->add_option("--name", options->name, "what the cluster calls it, NODE/NAME; unique on its node")->type_name("NAME");
  run_command->add_option("--device", options->device, "what it computes on: cpu, or cuda:N in a build with CUDA")->type_name("DEVICE");
  run_command->add_option("--threads", options->threads, "processors; 0: all")->check(CLI::Range(0, 256));
}

}  // namespace outlast::apps
