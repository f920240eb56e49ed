// outlast cluster demo
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/cluster_demo.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

struct DemoOptions {
  std::string folder;
  std::string command;
  std::uint32_t nodes = 3;
  bool keep = false;
  bool check = false;
};

// A folder of the demo's own, gone with it unless it is to be kept.
class DemoFolder {
 public:
  static Result<std::unique_ptr<DemoFolder>> make(const std::string& wanted, bool keep) {
    std::error_code error;
    if (!wanted.empty()) {
      const auto path = std::filesystem::absolute(wanted, error).lexically_normal();
      // Its path stands between quotes in TOML files.
      if (path.string().find_first_of("\"\\\n") != std::string::npos) {
        return fail(CliError::usage, "a demo's folder may not have quotes or backslashes in its path");
      }
      std::filesystem::create_directories(path, error);
      if (error || !std::filesystem::is_empty(path, error)) {
        return fail(CliError::failed, printable(path.string()) + " is no empty folder; name another one");
      }
      return std::unique_ptr<DemoFolder>(new DemoFolder(path.string(), true));
    }
    const auto base = std::filesystem::temp_directory_path(error);
    std::string pattern = ((error ? "/tmp" : base) / "outlast-demo-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) return fail(CliError::failed, "no folder can be made in " + base.string());
    return std::unique_ptr<DemoFolder>(new DemoFolder(pattern, keep));
  }
  ~DemoFolder() {
    std::error_code ignored;
    if (!keep_) std::filesystem::remove_all(path_, ignored);
  }
  DemoFolder(const DemoFolder&) = delete;
  DemoFolder& operator=(const DemoFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  DemoFolder(std::string path, bool keep) : path_(std::move(path)), keep_(keep) {}
  std::string path_;
  bool keep_;
};

Result<void> run_demo(const DemoOptions& options) {
  const auto programs = find_demo_programs();
  if (!programs) return fail(programs.error());
  // It stands before what runs in it, and so outlives it.
  const auto folder = DemoFolder::make(options.folder, options.keep);
  if (!folder) return fail(folder.error());
  const auto plan = plan_demo((*folder)->path(), options.nodes);
  if (!plan) return fail(plan.error());
  Demo demo(*programs, *plan);
  Result<void> done = demo.start();
  if (done && options.check) done = demo.check();
  if (done && !options.command.empty()) done = demo.run_command(options.command);
  if (done && !options.check && options.command.empty()) {
    demo.print_what_to_try();
    done = demo.watch();
  }
  demo.stop();
  return done;
}

}  // namespace

void add_cluster_demo(CommandLine& line, CLI::App& cluster) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* demo = line.add_command(cluster, "demo",
                                    "starts etcd, a simulated provider and nodes on this machine, until Ctrl-C",
                                    [options] { return run_demo(*options); });
  demo->add_option("--nodes", options->nodes, "how many")
      ->type_name("N")
      ->check(CLI::Range(1U, demo_nodes_max))
      ->capture_default_str();
  demo->add_option("--folder", options->folder, "an empty folder for everything; it stays")->type_name("DIR");
  demo->add_flag("--keep", options->keep, "leave the temporary folder at the end");
  demo->add_flag("--check", options->check, "kill an owner, see that requests go on, and end");
  demo->add_option("--command", options->command,
                   "run this shell command with OUTLAST_URL, OUTLAST_URLS, OUTLAST_KEY and OUTLAST_ADMIN, and end")
      ->type_name("TEXT");
}

}  // namespace outlast::apps
