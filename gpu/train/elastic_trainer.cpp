#include "gpu/train/elastic_trainer.hpp"

#include <utility>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

// Generations in a row that came to nothing, though their ranks lived: then the network between them is at fault.
constexpr int attempts_max = 16;

}  // namespace

ElasticTrainer::ElasticTrainer(const Job& job, Rendezvous& rendezvous, Connect connect, ElasticOptions options, ElasticEvents events)
    : job_(job), rendezvous_(rendezvous), connect_(std::move(connect)), options_(std::move(options)), events_(std::move(events)) {}

ElasticTrainer::~ElasticTrainer() = default;

Result<std::unique_ptr<ElasticTrainer>> ElasticTrainer::make(const Job& job, Rendezvous& rendezvous, Connect connect, ElasticOptions options,
                                                             ElasticEvents events) {
  std::unique_ptr<ElasticTrainer> elastic(new ElasticTrainer(job, rendezvous, std::move(connect), std::move(options), std::move(events)));
  if (Result<void> gathered = elastic->gather_ranks(); !gathered) return fail(std::move(gathered.error()));
  return elastic;
}

Result<void> ElasticTrainer::run(std::uint64_t steps) {
  for (;;) {
    Result<void> gone = go(steps);
    if (gone || !is(gone.error(), GpuError::peer_lost)) return gone;
    if (events_.rank_lost) events_.rank_lost(gone.error());
    if (Result<void> gathered = gather_ranks(); !gathered) return gathered;
  }
}

Result<void> ElasticTrainer::go(std::uint64_t steps) {
  for (;;) {
    if (Result<void> saved = save_if_due(steps); !saved) return saved;
    if (trainer_->steps_done() >= steps) break;
    const auto report = trainer_->step();
    if (!report) return fail(report.error());
    if (events_.stepped) events_.stepped(*report);
  }
  // Whoever needs this rank to do a step again still finds it.
  return rendezvous_.leave(generation_.number, options_.patience);
}

Result<void> ElasticTrainer::save_if_due(std::uint64_t steps) {
  const std::uint64_t step = trainer_->steps_done();
  const bool is_due = step >= steps || (options_.save_interval > 0 && step % options_.save_interval == 0);
  if (options_.folder.empty() || !is_due || step == saved_step_) return {};
  if (Result<void> saved = trainer_->save(options_.folder); !saved) return saved;
  saved_step_ = step;
  if (generation_.rank != 0) return {};
  return prune_checkpoints(options_.folder, options_.checkpoints_kept);
}

Result<void> ElasticTrainer::gather_ranks() {
  Error last;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    if (trainer_) trainer_->leave_ranks();
    ranks_.reset();
    const auto generation = rendezvous_.join(options_.patience);
    if (!generation) return fail(generation.error());
    generation_ = *generation;
    Result<void> begun = begin_generation();
    if (begun || !is(begun.error(), GpuError::peer_lost)) return begun;
    last = std::move(begun.error());
  }
  return fail(GpuError::peer_lost, "the ranks did not come together in " + std::to_string(attempts_max) + " attempts; the last failed because " + last.message);
}

// The same in each generation: when the first one fails, some ranks have begun and others have not.
Result<void> ElasticTrainer::begin_generation() {
  auto ranks = connect_(generation_);
  if (!ranks) return fail(std::move(ranks.error()));
  ranks_ = std::move(*ranks);
  if (!trainer_) {
    auto made = Trainer::make(job_.device, job_.config, job_.weights, job_.samples, job_.options, ranks_.get());
    if (!made) return fail(std::move(made.error()));
    trainer_ = std::move(*made);
  }
  Origin origin = Origin::copies;
  const auto regrouped = trainer_->regroup(*ranks_);
  if (!regrouped) return fail(regrouped.error());
  saved_step_ = 0;
  if (!*regrouped) {
    Result<bool> resumed = false;
    if (!options_.folder.empty()) resumed = trainer_->resume(options_.folder);
    if (!resumed) return fail(std::move(resumed.error()));
    origin = *resumed ? Origin::checkpoint : Origin::beginning;
    if (*resumed) saved_step_ = trainer_->steps_done();
    else trainer_->restart(job_.weights);
  }
  if (events_.formed) events_.formed(generation_, origin, trainer_->steps_done());
  return {};
}

}  // namespace outlast::gpu
