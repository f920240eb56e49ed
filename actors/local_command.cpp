#include "actors/local_command.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace outlast::actors {
namespace {

namespace asio = boost::asio;

// posix_spawn's arguments, freed in every case.
class SpawnPlan {
 public:
  explicit SpawnPlan(int input) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, input, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);  // listeners and the ledger are not its own
    posix_spawnattr_init(&attributes_);
    sigset_t all;
    sigfillset(&all);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  Result<pid_t> run(std::vector<std::string>& argv) {
    std::vector<char*> arguments;
    for (std::string& argument : argv) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    char* no_environment[] = {nullptr};
    pid_t pid = 0;
    const int error = posix_spawn(&pid, arguments[0], &actions_, &attributes_, arguments.data(), no_environment);
    if (error != 0) return fail(CommandError::not_started, argv[0] + ": " + std::strerror(error));
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

Result<pid_t> start(std::vector<std::string>& argv, std::string_view input) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(CommandError::not_started, std::string("pipe: ") + std::strerror(errno));
  // The pipe holds all of it, so nobody waits for a child that does not read.
  const bool written = write(ends[1], input.data(), input.size()) == static_cast<ssize_t>(input.size());
  close(ends[1]);
  Result<pid_t> pid = written ? SpawnPlan(ends[0]).run(argv)
                              : Result<pid_t>(fail(CommandError::not_started, "its input could not be written"));
  close(ends[0]);
  return pid;
}

Result<void> result_of(const std::string& program, int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return fail(CommandError::failed, program + (WIFEXITED(status) ? " ended with status " + std::to_string(WEXITSTATUS(status))
                                                                 : " ended by signal " + std::to_string(WTERMSIG(status))));
}

}  // namespace

asio::awaitable<Result<void>> run_local_command(std::vector<std::string> argv, std::string input,
                                                std::chrono::milliseconds limit) {
  if (argv.empty() || input.size() > command_input_bytes_max) {
    co_return fail(CommandError::not_started, "a command needs a program, and at most 16 KiB of input");
  }
  const auto pid = start(argv, input);
  if (!pid) co_return fail(pid.error());
  const auto executor = co_await asio::this_coro::executor;
  asio::posix::stream_descriptor ended(executor);
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, *pid, 0));
  if (descriptor < 0) {  // the child cannot be watched, so it may not go on
    kill(-*pid, SIGKILL);
    waitpid(*pid, nullptr, 0);
    co_return fail(CommandError::not_started, "this kernel has no pidfd_open(2)");
  }
  ended.assign(descriptor);
  asio::steady_timer timer(executor, limit);
  bool late = false;
  timer.async_wait([&late, &ended](const boost::system::error_code& error) {
    if (error) return;
    late = true;
    ended.cancel();
  });
  const auto [waited] = co_await ended.async_wait(asio::posix::stream_descriptor::wait_read,
                                                  asio::as_tuple(asio::use_awaitable));
  static_cast<void>(waited);  // cancelled: it is late
  timer.cancel();
  if (late) kill(-*pid, SIGKILL);
  int status = 0;
  waitpid(*pid, &status, 0);  // it has ended, or was just killed
  if (late) co_return fail(CommandError::timed_out, argv[0] + " was killed after " + std::to_string(limit.count()) + " ms");
  co_return result_of(argv[0], status);
}

}  // namespace outlast::actors
