// ElasticTrainer: a run on one rank alone, or a rank of a run that goes on when other ranks are lost, with the same batches, from the
// last step that all of those that are left had completed.
//
// What the ranks must agree on is either a sum over them, as a wish to stop is, or the word of the first one, as an early end is. They
// wait for that word at the rendezvous, which knows whether the first one lives, and so for as long as it takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/collective/rendezvous.hpp"
#include "gpu/train/trainer.hpp"

namespace outlast::gpu {

struct ElasticOptions {
  std::string folder;                   // of checkpoints, on the first rank; empty: none
  std::uint64_t save_interval = 0;      // steps; 0: only when all are done
  std::size_t checkpoints_kept = 2;
  std::uint64_t evaluate_interval = 0;  // steps; 0: never
  std::chrono::milliseconds patience{120'000};  // for the others to come; more than a step takes
};

// What the ranks of a generation begin from.
enum class Origin : std::uint8_t {
  copies,      // of the ranks of the generation before: nothing that all had completed is lost
  checkpoint,  // the newest: the run was started again, or a rank and the one with its copies were lost together
  beginning,   // there is no checkpoint
};

// What follows on what the first rank did.
enum class Next : std::uint8_t {
  step,
  end,   // no more steps
  stop,  // it was stopped in the middle of it: a checkpoint is saved, and a run that goes on from there does it again
};

// Told and asked as it happens, on the thread of run() or make(); each may be empty. What is done again is told and asked again.
struct ElasticEvents {
  std::function<void(const Generation&, Origin, std::uint64_t step)> formed;  // the first generation too
  std::function<void(const StepReport&)> stepped;
  std::function<void(const Error&)> rank_lost;
  std::function<bool()> wants_stop;  // asked in each step; when one rank says so, all end after the same step

  // On the first rank. The others wait for as long as it lives; then the next one is asked.
  std::function<Result<Next>()> evaluate;  // after each interval, unless a rank wants to stop
  std::function<Result<Next>()> finish;    // when no more steps follow; a checkpoint is saved after it
  std::function<void()> saved;
};

// One owner.
class ElasticTrainer {
 public:
  // How the ranks of a generation are connected, such as by TcpCollective::make(). Errors: peer_lost, and others that end the run.
  using Connect = std::function<Result<std::unique_ptr<Collective>>(const Generation& generation)>;
  // Where ranks meet.
  struct Ranks {
    Rendezvous* rendezvous = nullptr;  // none: one rank alone
    Connect connect;
  };
  using Weights = std::function<Result<std::vector<float>>()>;
  struct Job {
    Device& device;
    const ModelConfig& config;
    Weights weights;  // as of Trainer::make(); read in the beginning, and where the run begins again
    std::span<const Sample> samples;
    TrainOptions options;
    Weights teacher = {};  // as of Trainer::make(), where there is one
  };

  // Waits for all ranks, and goes on from the newest checkpoint. What `job` and `ranks` refer to outlives it. Errors: as of
  // Trainer::make() and resume(), Rendezvous::join(), `connect` and the job's weights.
  static Result<std::unique_ptr<ElasticTrainer>> make(Job job, Ranks ranks, ElasticOptions options, ElasticEvents events);
  ~ElasticTrainer();
  ElasticTrainer(const ElasticTrainer&) = delete;
  ElasticTrainer& operator=(const ElasticTrainer&) = delete;

  // Until so many steps are done, or evaluate() ended it, or a rank wants to stop; a checkpoint is saved then, and every rank knows it.
  // False: it was stopped. Errors: as of Trainer::step() and save(), and of what is asked; peer_lost where this rank was taken for lost,
  // or where the others did not come.
  Result<bool> run(std::uint64_t steps);
  [[nodiscard]] Trainer& trainer() { return *trainer_; }
  [[nodiscard]] const Generation& generation() const { return generation_; }

 private:
  ElasticTrainer(Job job, Ranks ranks, ElasticOptions options, ElasticEvents events);
  Result<bool> go(std::uint64_t steps);
  // Of the first rank: what it does, if anything, and what follows on it, which the others hear.
  Result<Next> word_of_first(const std::string& key, const std::function<Result<Next>()>& act);
  Result<void> save_if_due(bool ends);
  Result<void> gather_ranks();  // until it works, or cannot
  Result<void> begin_generation();
  Result<void> make_trainer();
  // From the newest checkpoint, or anew.
  Result<Origin> begin_again(bool is_new);

  const Job job_;
  const Ranks ranks_;
  const ElasticOptions options_;
  const ElasticEvents events_;
  Generation generation_{1, 0, 1};
  std::unique_ptr<Collective> collective_;  // none: one rank alone
  std::unique_ptr<Trainer> trainer_;
  std::uint64_t saved_step_ = 0;  // what every rank knows to be saved; 0: nothing
};

}  // namespace outlast::gpu
