// ChildProcess: a program that this process starts, and that dies with it. Interrupts: Ctrl-C as something to look for and
// not as a sudden end, so that children are stopped in order.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

struct ChildOptions {
  std::string name;  // for messages
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> environment;  // beside this process's
  std::string log_file;  // takes stderr, and stdout where that is not wanted here; empty: both are this process's
  bool has_ready_line = false;   // or other output on stdout that is wanted
};

// Blocks SIGINT and SIGTERM as long as it lives, and says whether one came. One at a time, on the main thread.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  // Whether one has come by now; waits for it at most so long. Once true, always true.
  bool wait(int ms);
  [[nodiscard]] bool came() const { return came_; }

 private:
  sigset_t watched_;
  sigset_t before_;
  bool came_ = false;
};

// One owner; killed when destroyed. Start on the main thread: a child dies with the thread that started it.
class ChildProcess {
 public:
  // Error: failed, also when there is no such program.
  static Result<std::unique_ptr<ChildProcess>> start(ChildOptions options);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The first line of its stdout. Errors: failed, with the end of its log, when it ends before or says nothing in time, or
  // when an interrupt comes.
  Result<std::string> ready_line(int deadline_ms, Interrupts& interrupts);
  // All of its stdout, once it has ended with exit status 0. Errors: failed, with what it wrote to its log, when it ends
  // otherwise or not in time.
  Result<std::string> output(int deadline_ms, Interrupts& interrupts);
  bool running();
  // "exit status 1", "signal 9"; empty while it runs.
  [[nodiscard]] std::string ending() const;
  // Also a process that was stopped (SIGSTOP) ends by these.
  void kill();
  // SIGTERM, and after so long SIGKILL. False where it took the second.
  bool stop(int deadline_ms);
  // Without waiting.
  void ask_to_stop();
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] std::string log_end() const;

 private:
  ChildProcess(ChildOptions options, pid_t pid, int output);
  bool wait(int deadline_ms);

  ChildOptions options_;
  pid_t pid_;
  int output_;  // -1: none
  std::optional<int> status_;
};

}  // namespace outlast::apps
