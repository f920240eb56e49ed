// outlast-gpu-worker: one device, and whoever asks for it through a socket: a node, or a command. A process of its own, so that a
// fault of a device never takes a node down.
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include <CLI/CLI.hpp>

#include "apps/outlast-gpu-worker/allowed_paths.hpp"
#include "apps/outlast-gpu-worker/generator.hpp"
#include "apps/outlast-gpu-worker/worker_jobs.hpp"
#include "cluster/worker_link.hpp"
#include "core/clock.hpp"
#include "core/log.hpp"
#include "gpu/collective/tcp_collective.hpp"
#include "gpu/cpu/cpu_device.hpp"
#ifdef OUTLAST_HAS_CUDA
#include "gpu/cuda/cuda.hpp"
#endif
#include "gpu/gpu_error.hpp"

namespace {

using namespace outlast;

constexpr int exit_failed = 1;
constexpr int exit_host_gone = 3;

struct Options {
  std::string socket;
  std::string name;
  std::string files;
  std::string device = "cpu";
  std::size_t threads = 0;
};

// The signals that end the process, and the one by which the link does.
sigset_t endings() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

// The ranks of a run have devices of one kind, and meet on one machine.
Result<gpu::ElasticTrainer::Connect> connect_ranks(gpu::Device& device, gpu::Rendezvous& rendezvous) {
#ifdef OUTLAST_HAS_CUDA
  if (device.name() != "cpu")
    return [&device, &rendezvous](const gpu::Generation& generation) { return gpu::make_nccl_collective(device, rendezvous, generation, worker::rank_patience); };
#endif
  if (device.name() != "cpu") return fail(gpu::GpuError::unsupported, device.name() + " cannot be a rank's device");
  return [&rendezvous](const gpu::Generation& generation) {
    gpu::TcpCollectiveOptions options;
    options.patience = worker::rank_patience;
    return gpu::TcpCollective::make(rendezvous, generation, options);
  };
}

Result<void> do_work(const work::Start& start, gpu::Device& device, worker::Generator& generator, worker::JobContext& context) {
  if (const auto* const generate = std::get_if<work::Generate>(&start)) return generator.run(*generate, context);
  generator.unload();
  if (const auto* const train = std::get_if<work::Train>(&start)) {
    return worker::train(*train, device, context, [&device](gpu::Rendezvous& rendezvous) { return connect_ranks(device, rendezvous); });
  }
  if (const auto* const evaluate = std::get_if<work::Evaluate>(&start)) return worker::evaluate(*evaluate, device, context);
  return fail(gpu::GpuError::unsupported, "this worker does no such work");
}

// "cpu", or "cuda:N". Errors: device; invalid (no such name); unsupported (this build has no CUDA).
Result<std::unique_ptr<gpu::Device>> make_device(const Options& options) {
  if (options.device == "cpu") {
    auto device = gpu::CpuDevice::make(options.threads);
    if (!device) return fail(std::move(device.error()));
    return std::unique_ptr<gpu::Device>(std::move(*device));
  }
  constexpr std::string_view prefix = "cuda:";
  const std::string_view name = options.device;
  const std::string_view digits = name.starts_with(prefix) ? name.substr(prefix.size()) : std::string_view();
  int number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || number < 0)
    return fail(gpu::GpuError::invalid, "there is no device '" + options.device + "'; write cpu, or cuda:0, cuda:1, …");
#ifdef OUTLAST_HAS_CUDA
  return gpu::make_cuda_device(number);
#else
  return fail(gpu::GpuError::unsupported, "this build has no CUDA, so no " + options.device + "; build it with scripts/build --cuda");
#endif
}

// Until a signal comes or the host goes.
int serve(const Options& options) {
  auto device = make_device(options);
  if (!device) {
    std::fprintf(stderr, "outlast-gpu-worker: %s\n", device.error().message.c_str());
    return exit_failed;
  }
  const SystemClock clock;
  worker::Generator generator(**device);
  worker::WorkerJobs jobs(**device, clock, [&](const work::Start& start, worker::JobContext& context) -> Result<void> {
    if (!options.files.empty()) {
      if (const auto allowed = worker::check_paths(start, options.files); !allowed) return allowed;
    }
    return do_work(start, **device, generator, context);
  });
  const WorkerDescription self{options.name, (*device)->name(), (*device)->memory().total_bytes, {"train", "evaluate", "generate"}};
  cluster::WorkerLink::Callbacks callbacks;
  callbacks.on_ask = [&jobs](std::uint16_t method, const FramePtr& body, cluster::WorkerLink::Answer answer) { jobs.ask(method, body, std::move(answer)); };
  callbacks.on_gone = [](const std::string& why) {
    log::error("worker_host_gone", {{"why", why}});
    ::kill(::getpid(), SIGUSR1);
  };
  auto link = cluster::WorkerLink::start({options.socket, self}, clock, std::move(callbacks));
  if (!link) {
    std::fprintf(stderr, "outlast-gpu-worker: %s\n", link.error().message.c_str());
    return exit_failed;
  }
  log::info("worker_started", {{"name", self.name}, {"device", self.device}, {"host", options.socket}});
  const sigset_t set = endings();
  int signal = 0;
  (void)sigwait(&set, &signal);
  log::info("worker_stopping", {{"signal", signal}});
  return signal == SIGUSR1 ? exit_host_gone : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Outlast's GPU worker: trains, evaluates and serves students on one device, for the node or the command that it links to."};
  app.set_version_flag("--version", "outlast-gpu-worker " OUTLAST_VERSION);
  Options options;
  options.name = "worker-" + std::to_string(::getpid());
  app.add_option("--host", options.socket, "the socket of its node or command")->required()->type_name("SOCKET");
  app.add_option("--name", options.name, "what the cluster calls it; unique on its node")->type_name("NAME");
  app.add_option("--files", options.files, "the folder that it may read and write; without it all that its user may")->type_name("DIR");
  app.add_option("--device", options.device, "what it computes on: cpu, or cuda:N in a build with CUDA")->type_name("DEVICE");
  app.add_option("--threads", options.threads, "processors that it computes with; 0: all")->check(CLI::Range(0, 256));
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  // Ranks on GPUs are on one machine: NCCL, which encrypts nothing, listens there only, unless the user says where.
  (void)::setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  const rlimit no_core{0, 0};  // a core file would hold what people wrote
  setrlimit(RLIMIT_CORE, &no_core);
  // Before any thread is there, so that all have it.
  const sigset_t set = endings();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return serve(options);
}
