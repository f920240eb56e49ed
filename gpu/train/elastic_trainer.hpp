// ElasticTrainer: a rank of a run that goes on when other ranks are lost, with the same batches, from the last step that all of those
// that are left had completed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/result.hpp"
#include "gpu/collective/rendezvous.hpp"
#include "gpu/train/trainer.hpp"

namespace outlast::gpu {

struct ElasticOptions {
  std::string folder;               // of checkpoints, on the first rank; empty: none
  std::uint64_t save_interval = 0;  // steps; 0: only when all are done
  std::size_t checkpoints_kept = 2;
  std::chrono::milliseconds patience{120'000};  // for the others to come; more than a step takes
};

// What the ranks of a generation begin from.
enum class Origin : std::uint8_t {
  copies,      // of the ranks of the generation before: nothing that all had completed is lost
  checkpoint,  // the newest: the run was started again, or a rank and the one with its copies were lost together
  beginning,   // there is no checkpoint
};

// Told as it happens, on the thread of run(); each may be empty.
struct ElasticEvents {
  std::function<void(const Generation&, Origin, std::uint64_t step)> formed;  // the first generation too
  std::function<void(const StepReport&)> stepped;                             // a step that is done again is told again
  std::function<void(const Error&)> rank_lost;
};

// One owner.
class ElasticTrainer {
 public:
  // How the ranks of a generation are connected, such as by TcpCollective::make(). Errors: peer_lost, and others that end the run.
  using Connect = std::function<Result<std::unique_ptr<Collective>>(const Generation& generation)>;
  struct Job {
    Device& device;
    const ModelConfig& config;
    std::span<const float> weights;  // as of Trainer::make()
    std::span<const Sample> samples;
    TrainOptions options;
  };

  // Waits for all ranks, and goes on from the newest checkpoint. What `job` refers to and `rendezvous` outlive it. Errors: as of
  // Trainer::make() and resume(), Rendezvous::join() and `connect`.
  static Result<std::unique_ptr<ElasticTrainer>> make(const Job& job, Rendezvous& rendezvous, Connect connect, ElasticOptions options, ElasticEvents events);
  ~ElasticTrainer();
  ElasticTrainer(const ElasticTrainer&) = delete;
  ElasticTrainer& operator=(const ElasticTrainer&) = delete;

  // Until so many steps are done, and every rank knows it. Errors: as of Trainer::step() and save(); peer_lost where this rank was
  // taken for lost, or where the others did not come.
  Result<void> run(std::uint64_t steps);
  [[nodiscard]] Trainer& trainer() { return *trainer_; }
  [[nodiscard]] const Generation& generation() const { return generation_; }

 private:
  ElasticTrainer(const Job& job, Rendezvous& rendezvous, Connect connect, ElasticOptions options, ElasticEvents events);
  Result<void> go(std::uint64_t steps);
  Result<void> save_if_due(std::uint64_t steps);
  Result<void> gather_ranks();  // until it works, or cannot
  Result<void> begin_generation();

  const Job job_;
  Rendezvous& rendezvous_;
  const Connect connect_;
  const ElasticOptions options_;
  const ElasticEvents events_;
  Generation generation_;
  std::unique_ptr<Collective> ranks_;
  std::unique_ptr<Trainer> trainer_;
  std::uint64_t saved_step_ = 0;  // what every rank knows to be saved; 0: nothing
};

}  // namespace outlast::gpu
