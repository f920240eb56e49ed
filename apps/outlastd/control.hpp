// The control loop: the main thread's Asio loop with the admin listener, signals, and the end of the daemon.
#pragma once

#include "apps/outlastd/daemon.hpp"

namespace outlast::apps {

// Binds the admin listener, says "ready", and runs until SIGTERM or SIGINT has drained the node, or a second one ends
// it at once. Returns the process's exit status (exit_status.hpp).
int run_control(Daemon& daemon);

}  // namespace outlast::apps
