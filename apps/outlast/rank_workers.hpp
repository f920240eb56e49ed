// RankWorkers: the ranks of a run as workers of this command's own, and the rendezvous at which they meet. A rank that is lost does
// not end the run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/outlast/local_worker.hpp"
#include "core/result.hpp"
#include "gpu/collective/rendezvous_server.hpp"
#include "proto/work_codec.hpp"

namespace outlast::apps {

inline constexpr std::size_t local_ranks_max = 16;

// One owner, on the main thread; the workers end with it.
class RankWorkers {
 public:
  using OnEvent = std::function<void(const work::Event&)>;

  // One rank on each device. `threads`: of each; 0: they divide the processors. Errors: failed.
  static Result<std::unique_ptr<RankWorkers>> start(const std::vector<std::string>& devices, std::size_t threads, const std::string& log_file, Interrupts& interrupts);
  ~RankWorkers();
  RankWorkers(const RankWorkers&) = delete;
  RankWorkers& operator=(const RankWorkers&) = delete;

  // As run_work() (worker_calls.hpp): what the ranks tell is told as if they were one, each step once, and which of them were lost. Once. Errors:
  // failed, when no rank is left, one was lost before all had come together, or the work itself cannot be done.
  Result<void> run(work::Train train, const OnEvent& on_event);

 private:
  struct Rank {
    std::unique_ptr<LocalWorker> worker;
    work::Job job;
    std::uint64_t known = 0;                // events
    std::future<Result<FramePtr>> events;   // that were asked for; while it goes on
    bool goes_on = false;
  };

  RankWorkers(std::string secret, std::unique_ptr<gpu::RendezvousServer> server, Interrupts& interrupts)
      : secret_(std::move(secret)), server_(std::move(server)), interrupts_(interrupts) {}
  Result<void> begin(Rank& rank, const work::Train& train);
  void ask_for_events(Rank& rank);
  void ask_to_stop();
  // What has come of it. Errors: what ends the run.
  Result<void> look_at(Rank& rank, const OnEvent& on_event);
  Result<void> hear(Rank& rank, const work::Event& event, const OnEvent& on_event);
  Result<void> end(Rank& rank, Result<void> how);
  // `why`: where its process lives.
  Result<void> lose(Rank& rank, std::string why, const OnEvent& on_event);
  [[nodiscard]] std::size_t going() const;

  const std::string secret_;
  std::unique_ptr<gpu::RendezvousServer> server_;
  Interrupts& interrupts_;
  std::vector<Rank> ranks_;
  bool plan_is_told_ = false;
  double step_told_ = 0;
  std::optional<Result<void>> outcome_;  // once a rank has ended: that of the run
  std::chrono::steady_clock::time_point ended_at_;
};

}  // namespace outlast::apps
