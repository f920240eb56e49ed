// outlastd: the node daemon.
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/config/node_config.hpp"
#include "apps/outlastd/control.hpp"
#include "apps/outlastd/daemon.hpp"
#include "apps/outlastd/exit_status.hpp"
#include "core/log.hpp"

namespace {

constexpr const char* exit_statuses =
    "Exit status: 0 stopped by a signal, 1 failed: the next start may go well, 2 wrong options or a\n"
    "             configuration that cannot be used, 70 a disk failed a write or a sync, 77 the cluster\n"
    "             does not let the node take part: it was removed or revoked, or has yet to join.";

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
  app.footer(exit_statuses);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : outlast::apps::exit_unusable;
  }

  std::signal(SIGPIPE, SIG_IGN);
  set_process_limits();
  auto config = outlast::apps::load_node_config(file);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return outlast::apps::exit_unusable;
  }
  outlast::log::configure(config->log_format, config->log_level);
  auto daemon = outlast::apps::Daemon::start(std::move(*config));
  if (!daemon) {
    std::fprintf(stderr, "outlastd: %s\n", daemon.error().message.c_str());
    return outlast::apps::exit_status_of(daemon.error());
  }
  return outlast::apps::run_control(**daemon);
}
