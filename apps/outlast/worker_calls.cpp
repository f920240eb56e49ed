#include "apps/outlast/worker_calls.hpp"

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/local_worker.hpp"
#include "apps/outlast/node_access.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

constexpr std::uint32_t next_wait_ms = 500;

// A worker of a node, or of another node of its cluster.
class NodeWorker final : public WorkerCalls {
 public:
  NodeWorker(AdminApi api, std::string worker) : api_(std::move(api)), worker_(std::move(worker)) {}
  Result<FramePtr> call(std::uint16_t method, FramePtr body) override {
    std::string bytes;
    if (body) bytes.assign(reinterpret_cast<const char*>(body->bytes().data()), body->size());
    const auto answer = api_.call("POST", "workers/ask?worker=" + url_encoded(worker_) + "&method=" + std::to_string(method), bytes);
    if (!answer) return fail(answer.error());
    return Frame::copy_of(std::as_bytes(std::span(answer->body)));
  }

 private:
  AdminApi api_;
  const std::string worker_;
};

}  // namespace

Result<std::unique_ptr<WorkerCalls>> find_worker(const GlobalOptions& global, const WorkerChoice& choice, Interrupts& interrupts) {
  if (choice.name.empty()) {
    auto local = LocalWorker::start({"local", choice.device, choice.threads, choice.log_file}, interrupts);
    if (!local) return fail(std::move(local.error()));
    return std::unique_ptr<WorkerCalls>(std::move(*local));
  }
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  return std::unique_ptr<WorkerCalls>(std::make_unique<NodeWorker>(std::move(*api), choice.name));
}

void add_worker_options(CLI::App& command, WorkerChoice& choice) {
  CLI::Option* name = command.add_option("--worker", choice.name, "a GPU worker of the cluster, as 'outlast worker list' calls it; paths are its machine's")->type_name("NODE/NAME");
  command.add_option("--device", choice.device, "cpu, or cuda:N in a build with CUDA")->excludes(name)->type_name("DEVICE");
  command.add_option("--threads", choice.threads, "processors; 0: all")->check(CLI::Range(0, 256))->excludes(name);
  command.add_option("--worker-log", choice.log_file, "keeps what the worker logs")->excludes(name)->type_name("FILE");
}

Result<void> run_work(WorkerCalls& worker, const work::Start& work, Interrupts& interrupts,
                      const std::function<void(const work::Event&)>& on_event) {
  const auto failed = [](const Error& error) {
    return error.module == error_module<CliError> ? fail(error) : fail(CliError::failed, printable(error.message, true));
  };
  auto start = work::encode(work);
  if (!start) return failed(start.error());
  const auto started = worker.call(work::method_start, std::move(*start));
  if (!started) return failed(started.error());
  const auto job = work::decode_job((*started)->bytes());
  if (!job) return failed(job.error());
  bool asked_to_stop = false;
  for (std::uint64_t known = 0;;) {
    if (!asked_to_stop && interrupts.wait(0)) {
      asked_to_stop = true;
      auto stop = work::encode(*job);
      if (const auto stopped = worker.call(work::method_stop, std::move(*stop)); !stopped) return failed(stopped.error());
    }
    auto next = work::encode(work::Next{job->id, known, next_wait_ms});
    const auto answer = worker.call(work::method_next, std::move(*next));
    if (!answer) return failed(answer.error());
    const auto events = work::decode_events((*answer)->bytes());
    if (!events) return failed(events.error());
    for (const work::Event& event : events->events) {
      on_event(event);
      if (event.kind == work::EventKind::failed) return fail(CliError::failed, printable(event.text, true));
    }
    known = events->first + events->events.size();
    if (events->ended) return {};
  }
}

}  // namespace outlast::apps
