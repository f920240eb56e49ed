// outlastd: the node daemon.
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/config/node_config.hpp"
#include "apps/outlastd/control.hpp"
#include "apps/outlastd/daemon.hpp"
#include "core/log.hpp"

namespace {

// A core file would hold provider keys; and every open stream is two descriptors.
void set_process_limits() {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Outlast's node daemon: one endpoint in front of every model, metered in a durable ledger."};
  app.set_version_flag("--version", "outlastd " OUTLAST_VERSION);
  std::string file;
  app.add_option("--config", file, "the node's TOML file (see configs/outlast.toml)")->required();
  CLI11_PARSE(app, argc, argv);

  std::signal(SIGPIPE, SIG_IGN);
  set_process_limits();
  auto config = outlast::apps::load_node_config(file);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return 1;
  }
  outlast::log::configure(config->log_format, config->log_level);
  auto daemon = outlast::apps::Daemon::start(std::move(*config));
  if (!daemon) {
    std::fprintf(stderr, "outlastd: %s\n", daemon.error().message.c_str());
    return 1;
  }
  return outlast::apps::run_control(**daemon);
}
