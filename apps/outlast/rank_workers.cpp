#include "apps/outlast/rank_workers.hpp"

#include <algorithm>
#include <array>
#include <thread>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/crypto.hpp"
#include "core/random.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::apps {
namespace {

using gpu::GpuError;

constexpr const char* loopback = "127.0.0.1";
constexpr std::size_t run_secret_bytes = 32;
constexpr std::int64_t silence_ms_max = 10'000;     // a process that dies is heard of at once; one of a busy machine may be late
constexpr std::int64_t rejoin_ms_max = 3'600'000;   // the first rank may be in an evaluation when another one is lost
constexpr std::uint32_t events_wait_ms = 500;
constexpr auto events_look = std::chrono::milliseconds(20);
constexpr int end_ms_max = 500;
constexpr auto last_words_patience = std::chrono::seconds(5);  // of the others, when one has ended

std::string new_run_secret() {
  std::array<std::uint8_t, run_secret_bytes> bytes;
  secure_random(std::as_writable_bytes(std::span(bytes)));
  return to_hex(bytes);
}

Failure failed_with(const Error& error) { return error.module == error_module<CliError> ? fail(error) : fail(CliError::failed, printable(error.message, true)); }

bool says(const work::Event& event, GpuError code) { return event.error_module == error_module<GpuError> && event.error_code == static_cast<std::uint16_t>(code); }

}  // namespace

Result<std::unique_ptr<RankWorkers>> RankWorkers::start(const std::vector<std::string>& devices, std::size_t threads, const std::string& log_file, Interrupts& interrupts) {
  const std::string secret = new_run_secret();
  auto server = gpu::RendezvousServer::make(loopback, 0, {secret, devices.size(), silence_ms_max, rejoin_ms_max});
  if (!server) return failed_with(server.error());
  std::unique_ptr<RankWorkers> workers(new RankWorkers(secret, std::move(*server), interrupts));
  if (threads == 0) threads = std::max<std::size_t>(std::thread::hardware_concurrency() / devices.size(), 1);
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    auto worker = LocalWorker::start({"rank-" + std::to_string(rank), devices[rank], threads, log_file}, interrupts);
    if (!worker) return fail(std::move(worker.error()));
    workers->ranks_.emplace_back().worker = std::move(*worker);
  }
  return workers;
}

RankWorkers::~RankWorkers() {
  server_.reset();  // whoever waits for others no longer does
  for (const Rank& rank : ranks_) rank.worker->ask_to_stop();
}

Result<void> RankWorkers::run(work::Train train, const OnEvent& on_event) {
  train.ranks = {static_cast<std::uint32_t>(ranks_.size()), loopback, server_->port(), secret_};
  for (Rank& rank : ranks_) {
    if (Result<void> begun = begin(rank, train); !begun) return begun;
  }
  bool asked_to_stop = false;
  while (going() > 0 && !(outcome_ && std::chrono::steady_clock::now() - ended_at_ > last_words_patience)) {
    if (!asked_to_stop && interrupts_.wait(0)) {
      asked_to_stop = true;
      ask_to_stop();
    }
    for (Rank& rank : ranks_) {
      if (!rank.goes_on) continue;
      if (Result<void> good = look_at(rank, on_event); !good) return good;
    }
    const auto waits = std::find_if(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.goes_on; });
    if (waits != ranks_.end()) (void)waits->events.wait_for(events_look);
  }
  if (*outcome_) on_event({work::EventKind::done, {}, {}, {}, 0});
  return *outcome_;
}

Result<void> RankWorkers::begin(Rank& rank, const work::Train& train) {
  auto start = work::encode(work::Start(train));
  if (!start) return failed_with(start.error());
  const auto started = rank.worker->call(work::method_start, std::move(*start));
  if (!started) return failed_with(started.error());
  const auto job = work::decode_job((*started)->bytes());
  if (!job) return failed_with(job.error());
  rank.job = *job;
  rank.goes_on = true;
  ask_for_events(rank);
  return {};
}

void RankWorkers::ask_for_events(Rank& rank) { rank.events = rank.worker->ask(work::method_next, *work::encode(work::Next{rank.job.id, rank.known, events_wait_ms})); }

// The answers do not matter: what comes of it, events tell.
void RankWorkers::ask_to_stop() {
  for (const Rank& rank : ranks_) {
    if (rank.goes_on) (void)rank.worker->ask(work::method_stop, *work::encode(rank.job));
  }
}

Result<void> RankWorkers::look_at(Rank& rank, const OnEvent& on_event) {
  if (rank.events.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    return rank.worker->running() ? Result<void>() : lose(rank, {}, on_event);
  }
  const auto answer = rank.events.get();
  if (!answer) {
    (void)rank.worker->ends_within(end_ms_max);
    return lose(rank, answer.error().message, on_event);
  }
  const auto events = work::decode_events((*answer)->bytes());
  if (!events) return failed_with(events.error());
  for (const work::Event& event : events->events) {
    if (Result<void> good = hear(rank, event, on_event); !good) return good;
  }
  rank.known = events->first + events->events.size();
  if (rank.goes_on) ask_for_events(rank);
  return {};
}

Result<void> RankWorkers::hear(Rank& rank, const work::Event& event, const OnEvent& on_event) {
  switch (event.kind) {
    case work::EventKind::done: return end(rank, {});
    case work::EventKind::failed:
      if (says(event, GpuError::device) || says(event, GpuError::peer_lost)) return lose(rank, event.text, on_event);
      // Of a stop, or of another rank's failure, which that one tells.
      if (says(event, GpuError::cancelled)) return end(rank, fail(CliError::failed, printable(event.text, true)));
      return fail(CliError::failed, printable(event.text, true));
    case work::EventKind::plan:
      if (std::exchange(plan_is_told_, true)) return {};  // the same of all
      break;
    case work::EventKind::step: {
      // After a loss ranks may do steps again, and the next first rank tells those that the one before may not have told.
      const double step = event.figure("step");
      if (!(step > step_told_)) return {};
      step_told_ = step;
      break;
    }
    default: break;
  }
  on_event(event);
  return {};
}

Result<void> RankWorkers::end(Rank& rank, Result<void> how) {
  rank.goes_on = false;
  if (!outcome_) ended_at_ = std::chrono::steady_clock::now();
  if (!outcome_ || how) outcome_ = std::move(how);
  return {};
}

Result<void> RankWorkers::lose(Rank& rank, std::string why, const OnEvent& on_event) {
  rank.goes_on = false;
  std::string whole = printable(why, true);
  if (!rank.worker->running()) {
    why = "the worker ended with " + rank.worker->ending();
    whole = rank.worker->gone().value().message;
  }
  rank.worker->kill();  // nobody listens to it any more
  if (outcome_) return {};
  if (server_->generation() == 0) return fail(CliError::failed, std::move(whole));
  if (going() == 0) return fail(CliError::failed, "no rank is left, and the same command with --resume goes on from the newest checkpoint: " + whole);
  const auto number = &rank - ranks_.data();
  on_event({work::EventKind::rank_lost,
            "rank " + std::to_string(number) + " was lost; " + std::to_string(going()) + " of " + std::to_string(ranks_.size()) + " go on: " + why,
            {{"rank", static_cast<double>(number)}, {"ranks", static_cast<double>(going())}}, {}, 0});
  return {};
}

std::size_t RankWorkers::going() const {
  return static_cast<std::size_t>(std::count_if(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.goes_on; }));
}

}  // namespace outlast::apps
