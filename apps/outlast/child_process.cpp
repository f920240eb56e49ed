#include "apps/outlast/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

constexpr int look_ms = 20;
constexpr std::size_t ready_line_bytes_max = 4'096;
constexpr std::size_t output_bytes_max = 1'048'576;
constexpr std::size_t log_lines_shown = 8;
constexpr int no_such_program = 127;

using Clock = std::chrono::steady_clock;

bool over(Clock::time_point deadline) { return Clock::now() >= deadline; }
Clock::time_point after(int ms) { return Clock::now() + std::chrono::milliseconds(ms); }

// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* command, char* const* environment, int output, int log, pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Ctrl-C on the terminal reaches the whole group; the parent alone decides what it means for its children.
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(no_such_program);
  if (output >= 0 || log >= 0) dup2(output >= 0 ? output : log, STDOUT_FILENO);
  if (log >= 0) dup2(log, STDERR_FILENO);
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  ::execvpe(command[0], command, environment);
  constexpr std::string_view message = "this program cannot be run\n";
  if (::write(STDERR_FILENO, message.data(), message.size()) < 0) _exit(no_such_program);
  _exit(no_such_program);
}

std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<std::string> result;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view line(*at);
    const auto replaced = [line](const auto& one) { return line.substr(0, line.find('=')) == one.first; };
    bool ours = false;
    for (const auto& one : more) ours = ours || replaced(one);
    if (!ours) result.emplace_back(line);
  }
  for (const auto& [name, value] : more) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers_of(std::vector<std::string>& words) {
  std::vector<char*> result;
  result.reserve(words.size() + 1);
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Interrupts::Interrupts() {
  sigemptyset(&watched_);
  sigaddset(&watched_, SIGINT);
  sigaddset(&watched_, SIGTERM);
  sigaddset(&watched_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &watched_, &before_);
}

Interrupts::~Interrupts() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool Interrupts::wait(int ms) {
  if (came_) return true;
  const timespec time{ms / 1'000, (ms % 1'000) * 1'000'000L};
  came_ = sigtimedwait(&watched_, nullptr, &time) > 0;
  return came_;
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(ChildOptions options) {
  const auto refuse = [&options](const std::string& what) {
    return fail(CliError::failed, options.name + " cannot be started: " + what + ": " + std::strerror(errno));
  };
  const bool logged = !options.log_file.empty();
  const int log = logged ? ::open(options.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (logged && log < 0) return refuse(options.log_file);
  int pipe[2] = {-1, -1};
  if (options.has_ready_line && ::pipe2(pipe, O_CLOEXEC) != 0) {
    const auto failure = refuse("pipe");
    if (log >= 0) ::close(log);
    return failure;
  }
  std::vector<std::string> environment = environment_with(options.environment);
  const auto command_words = pointers_of(options.command);
  const auto environment_words = pointers_of(environment);
  const pid_t parent = getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(command_words.data(), environment_words.data(), pipe[1], log, parent);
  const auto failure = refuse("fork");
  if (log >= 0) ::close(log);
  if (pipe[1] >= 0) ::close(pipe[1]);
  if (pid < 0) {
    if (pipe[0] >= 0) ::close(pipe[0]);
    return failure;
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(std::move(options), pid, pipe[0]));
}

ChildProcess::ChildProcess(ChildOptions options, pid_t pid, int output)
    : options_(std::move(options)), pid_(pid), output_(output) {}

ChildProcess::~ChildProcess() {
  kill();
  if (output_ >= 0) ::close(output_);
}

Result<std::string> ChildProcess::ready_line(int deadline_ms, Interrupts& interrupts) {
  const auto deadline = after(deadline_ms);
  std::string line;
  while (line.size() < ready_line_bytes_max) {
    if (interrupts.wait(0)) return fail(CliError::failed, "interrupted");
    if (over(deadline)) break;
    pollfd wanted{output_, POLLIN, 0};
    if (::poll(&wanted, 1, look_ms) <= 0) continue;
    char byte = 0;
    const ssize_t got = ::read(output_, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (byte == '\n') return line;
    line += byte;
  }
  wait(look_ms);
  const std::string how = status_ ? "ended with " + ending() : "said nothing within " + std::to_string(deadline_ms / 1'000) + " s";
  return fail(CliError::failed, name() + " " + how + "; its log, " + options_.log_file + ", ends:\n" + log_end());
}

Result<std::string> ChildProcess::output(int deadline_ms, Interrupts& interrupts) {
  const auto deadline = after(deadline_ms);
  std::string text;
  bool ended = false;
  while (!ended && !over(deadline) && text.size() < output_bytes_max) {
    if (interrupts.wait(0)) return fail(CliError::failed, "interrupted");
    pollfd wanted{output_, POLLIN, 0};
    if (::poll(&wanted, 1, look_ms) <= 0) continue;
    char block[4'096];
    const ssize_t got = ::read(output_, block, sizeof block);
    if (got > 0) text.append(block, static_cast<std::size_t>(got));
    ended = got == 0 || (got < 0 && errno != EINTR);
  }
  if (ended) wait(look_ms * 10);
  if (status_ && WIFEXITED(*status_) && WEXITSTATUS(*status_) == 0) return text;
  const std::string how = status_ ? "ended with " + ending() : "did not end within " + std::to_string(deadline_ms / 1'000) + " s";
  return fail(CliError::failed, name() + " " + how + ":\n" + log_end());
}

bool ChildProcess::running() {
  wait(0);
  return !status_.has_value();
}

std::string ChildProcess::ending() const {
  if (!status_) return {};
  if (WIFSIGNALED(*status_)) return "signal " + std::to_string(WTERMSIG(*status_));
  return "exit status " + std::to_string(WEXITSTATUS(*status_));
}

bool ChildProcess::wait(int deadline_ms) {
  const auto deadline = after(deadline_ms);
  while (!status_) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    if (status_ || over(deadline)) break;
    ::poll(nullptr, 0, look_ms);
  }
  return status_.has_value();
}

void ChildProcess::kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = status;
}

void ChildProcess::ask_to_stop() {
  if (!running()) return;
  ::kill(pid_, SIGTERM);
  ::kill(pid_, SIGCONT);
}

bool ChildProcess::stop(int deadline_ms) {
  ask_to_stop();
  if (wait(deadline_ms)) return true;
  kill();
  return false;
}

std::string ChildProcess::log_end() const {
  std::ifstream stream(options_.log_file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    lines.push_back("  " + printable(line));
    if (lines.size() > log_lines_shown) lines.erase(lines.begin());
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  if (!text.empty()) text.pop_back();
  return text.empty() ? "  (nothing)" : text;
}

}  // namespace outlast::apps
