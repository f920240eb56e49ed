// outlast cluster certificates | demo: what starts a cluster, and needs no node.
#include "apps/outlast/command_line.hpp"

namespace outlast::apps {

void add_cluster_setup_commands(CommandLine& line) {
  CLI::App* cluster = line.add_group("cluster", "several nodes that work as one");
  add_cluster_certificates(line, *cluster);
}

}  // namespace outlast::apps
