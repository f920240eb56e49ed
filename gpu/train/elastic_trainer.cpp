#include "gpu/train/elastic_trainer.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

// Generations in a row that came to nothing, though their ranks lived: then the network between them is at fault.
constexpr int attempts_max = 16;
// For what the first rank finds: it may evaluate for long, and when it dies the rendezvous says so.
constexpr std::chrono::hours word_patience{24};
constexpr std::array<std::string_view, 3> next_words{"step", "end", "stop"};

bool is_due(std::uint64_t step, std::uint64_t interval) { return step > 0 && interval > 0 && step % interval == 0; }

}  // namespace

ElasticTrainer::ElasticTrainer(Job job, Ranks ranks, ElasticOptions options, ElasticEvents events)
    : job_(std::move(job)), ranks_(std::move(ranks)), options_(std::move(options)), events_(std::move(events)) {}

ElasticTrainer::~ElasticTrainer() = default;

Result<std::unique_ptr<ElasticTrainer>> ElasticTrainer::make(Job job, Ranks ranks, ElasticOptions options, ElasticEvents events) {
  std::unique_ptr<ElasticTrainer> elastic(new ElasticTrainer(std::move(job), std::move(ranks), std::move(options), std::move(events)));
  if (Result<void> gathered = elastic->gather_ranks(); !gathered) return fail(std::move(gathered.error()));
  return elastic;
}

Result<bool> ElasticTrainer::run(std::uint64_t steps) {
  for (;;) {
    Result<bool> gone = go(steps);
    if (gone || !is(gone.error(), GpuError::peer_lost)) return gone;
    if (events_.rank_lost) events_.rank_lost(gone.error());
    if (Result<void> gathered = gather_ranks(); !gathered) return fail(std::move(gathered.error()));
  }
}

// Every rank comes to the same end of the same step. After a loss a wish to stop is forgotten: whoever has it says so again.
Result<bool> ElasticTrainer::go(std::uint64_t steps) {
  bool stops = false;
  for (;;) {
    bool is_last = trainer_->steps_done() >= steps;
    if (!is_last && !stops && is_due(trainer_->steps_done(), options_.evaluate_interval)) {
      const auto next = word_of_first("evaluated " + std::to_string(trainer_->steps_done()), events_.evaluate);
      if (!next) return fail(next.error());
      is_last = *next == Next::end;
      stops = *next == Next::stop;
    }
    if (is_last) {
      const auto next = word_of_first("finished", events_.finish);
      if (!next) return fail(next.error());
      stops = *next == Next::stop;
    }
    if (Result<void> saved = save_if_due(is_last || stops); !saved) return fail(std::move(saved.error()));
    if (is_last || stops) {
      // Whoever needs this rank to do a step again still finds it.
      if (ranks_.rendezvous != nullptr) {
        if (Result<void> left = ranks_.rendezvous->leave(generation_.number, options_.patience); !left) return fail(std::move(left.error()));
      }
      return !stops;
    }
    const auto report = trainer_->step(events_.wants_stop);
    if (!report) return fail(report.error());
    stops = report->stops;
    if (events_.stepped) events_.stepped(*report);
  }
}

Result<Next> ElasticTrainer::word_of_first(const std::string& key, const std::function<Result<Next>()>& act) {
  if (generation_.rank > 0) {
    const auto word = ranks_.rendezvous->get(generation_.number, key, word_patience);
    if (!word) return fail(word.error());
    const auto* const known = std::find(next_words.begin(), next_words.end(), *word);
    if (known == next_words.end()) return fail(GpuError::malformed, "the first rank says '" + *word + "', which is no word of this version");
    return static_cast<Next>(known - next_words.begin());
  }
  const Result<Next> next = act ? act() : Result<Next>(Next::step);
  if (!next || generation_.ranks == 1) return next;
  if (Result<void> told = ranks_.rendezvous->put(generation_.number, key, std::string(next_words[static_cast<std::size_t>(*next)])); !told) return fail(std::move(told.error()));
  return next;
}

Result<void> ElasticTrainer::save_if_due(bool ends) {
  const std::uint64_t step = trainer_->steps_done();
  if (options_.folder.empty() || step == saved_step_ || !(ends || is_due(step, options_.save_interval))) return {};
  if (Result<void> saved = trainer_->save(options_.folder); !saved) return saved;
  saved_step_ = step;
  if (generation_.rank != 0) return {};
  if (Result<void> pruned = prune_checkpoints(options_.folder, options_.checkpoints_kept); !pruned) return pruned;
  if (events_.saved) events_.saved();
  return {};
}

Result<void> ElasticTrainer::gather_ranks() {
  if (ranks_.rendezvous == nullptr) return begin_generation();
  Error last;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    if (trainer_) trainer_->leave_ranks();
    collective_.reset();
    const auto generation = ranks_.rendezvous->join(options_.patience);
    if (!generation) return fail(generation.error());
    generation_ = *generation;
    auto connected = ranks_.connect(generation_);
    Result<void> begun;
    if (connected) {
      collective_ = std::move(*connected);
      begun = begin_generation();
    } else {
      begun = fail(std::move(connected.error()));
    }
    if (begun || !is(begun.error(), GpuError::peer_lost)) return begun;
    last = std::move(begun.error());
  }
  return fail(GpuError::peer_lost, "the ranks did not come together in " + std::to_string(attempts_max) + " attempts; the last failed because " + last.message);
}

// The same in each generation: when the first one fails, some ranks have begun and others have not.
Result<void> ElasticTrainer::begin_generation() {
  const bool is_new = !trainer_;
  if (is_new) {
    if (Result<void> made = make_trainer(); !made) return made;
  }
  Result<bool> regrouped = false;
  if (collective_) regrouped = trainer_->regroup(*collective_);
  if (!regrouped) return fail(std::move(regrouped.error()));
  saved_step_ = 0;
  Result<Origin> origin = Origin::copies;
  if (!*regrouped) origin = begin_again(is_new);
  if (!origin) return fail(std::move(origin.error()));
  if (events_.formed) events_.formed(generation_, *origin, trainer_->steps_done());
  return {};
}

Result<void> ElasticTrainer::make_trainer() {
  const auto weights = job_.weights();
  if (!weights) return fail(weights.error());
  Result<std::vector<float>> teacher;
  if (job_.teacher) teacher = job_.teacher();
  if (!teacher) return fail(std::move(teacher.error()));
  auto made = Trainer::make(job_.device, job_.config, *weights, job_.samples, job_.options, collective_.get(), *teacher);
  if (!made) return fail(std::move(made.error()));
  trainer_ = std::move(*made);
  return {};
}

Result<Origin> ElasticTrainer::begin_again(bool is_new) {
  Result<bool> resumed = false;
  if (!options_.folder.empty()) resumed = trainer_->resume(options_.folder);
  if (!resumed) return fail(std::move(resumed.error()));
  if (*resumed) {
    saved_step_ = trainer_->steps_done();
    return Origin::checkpoint;
  }
  if (!is_new) {
    const auto weights = job_.weights();
    if (!weights) return fail(weights.error());
    trainer_->restart(*weights);
  }
  return Origin::beginning;
}

}  // namespace outlast::gpu
