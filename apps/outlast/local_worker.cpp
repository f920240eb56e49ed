#include "apps/outlast/local_worker.hpp"

#include <poll.h>

#include <cstdlib>
#include <filesystem>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/our_programs.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

namespace fs = std::filesystem;

constexpr int start_ms_max = 15'000;
constexpr int look_ms = 20;
constexpr std::uint32_t call_ms_max = 30'000;
constexpr int stop_ms_max = 10'000;

}  // namespace

Result<std::unique_ptr<LocalWorker>> LocalWorker::start(const LocalWorkerOptions& options, Interrupts& interrupts) {
  const std::string program = find_our_program("outlast-gpu-worker");
  if (program.empty()) return fail(CliError::failed, "the program outlast-gpu-worker is neither beside this one nor in PATH; install it, or build it with scripts/build");
  std::unique_ptr<LocalWorker> worker(new LocalWorker(options.name, interrupts));
  const char* const temporary = std::getenv("TMPDIR");
  std::string folder = std::string(temporary != nullptr && *temporary != '\0' ? temporary : "/tmp") + "/outlast-worker-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return fail(CliError::failed, "cannot make a folder for the worker in " + folder);
  worker->folder_ = folder;
  auto host = cluster::WorkerHost::start({folder + "/socket"}, worker->clock_, {});
  if (!host) return fail(CliError::failed, host.error().message);
  worker->host_ = std::move(*host);
  ChildOptions child;
  child.name = "outlast-gpu-worker";
  child.command = {program, "--host", folder + "/socket", "--name", options.name, "--device", options.device, "--threads", std::to_string(options.threads)};
  child.log_file = options.log_file.empty() ? folder + "/log" : options.log_file;
  auto process = ChildProcess::start(std::move(child));
  if (!process) return fail(process.error());
  worker->process_ = std::move(*process);
  if (Result<void> up = worker->wait_until_up(); !up) return fail(std::move(up.error()));
  return worker;
}

LocalWorker::~LocalWorker() {
  if (process_) (void)process_->stop(stop_ms_max);
  process_.reset();
  host_.reset();
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

Result<void> LocalWorker::wait_until_up() {
  for (int waited = 0; host_->workers().empty(); waited += look_ms) {
    if (!process_->running()) return gone();
    if (interrupts_.wait(look_ms)) return fail(CliError::failed, "interrupted");
    if (waited > start_ms_max) return fail(CliError::failed, "outlast-gpu-worker did not start within " + std::to_string(start_ms_max / 1'000) + " s");
  }
  return {};
}

bool LocalWorker::ends_within(int ms) {
  for (int waited = 0; process_->running(); waited += look_ms) {
    if (waited >= ms) return false;
    ::poll(nullptr, 0, look_ms);
  }
  return true;
}

Failure LocalWorker::gone() const {
  const std::string log = process_->log_end();
  return fail(CliError::failed, "the worker ended with " + process_->ending() + (log.empty() ? "" : "; its log ends:\n" + printable(log, true)));
}

std::future<Result<FramePtr>> LocalWorker::ask(std::uint16_t method, FramePtr body) {
  auto answered = std::make_shared<std::promise<Result<FramePtr>>>();
  auto future = answered->get_future();
  host_->ask(name_, method, std::move(body), call_ms_max, [answered](Result<FramePtr> result) { answered->set_value(std::move(result)); });
  return future;
}

Result<FramePtr> LocalWorker::call(std::uint16_t method, FramePtr body) {
  auto future = ask(method, std::move(body));
  while (future.wait_for(std::chrono::milliseconds(look_ms)) != std::future_status::ready) {
    (void)interrupts_.wait(0);
    if (!process_->running()) return gone();
  }
  return future.get();
}

}  // namespace outlast::apps
