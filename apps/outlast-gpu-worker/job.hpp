// What work on the device needs of whoever asked for it, and the kinds of work. Each runs to its end on the device's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/train/elastic_trainer.hpp"
#include "proto/work_codec.hpp"

namespace outlast::worker {

// Two implementations: the worker's table of jobs, and tests.
class JobContext {
 public:
  virtual ~JobContext() = default;
  virtual void emit(work::Event event) = 0;
  // Whether somebody asked for the job to stop; it then ends as soon as it has saved what it has.
  [[nodiscard]] virtual bool stopping() const = 0;
  // The job has ended, before the work on the device has: when its answers are there and those of others are not. At most once.
  virtual void end(Result<void> result) = 0;
  // The next job, where it generates with the same model: it is done along with this one, and ended by who took it.
  struct Joined {
    const work::Generate* work = nullptr;  // as long as `context`
    std::shared_ptr<JobContext> context;
  };
  virtual std::optional<Joined> join(const std::string& model) = 0;
};

inline double number(std::uint64_t value) { return static_cast<double>(value); }

inline void emit(JobContext& context, work::EventKind kind, std::string text, std::vector<work::Figure> figures) {
  context.emit({kind, std::move(text), std::move(figures), {}, 0});
}

// Beyond these an ask is refused before a file is read: what it would take is no run but a mistake.
inline constexpr std::uint32_t batch_samples_max = 65'536;
inline constexpr std::uint32_t rows_max = 1'048'576;
inline constexpr std::uint32_t positions_max = 131'072;
// Errors: GpuError (invalid).
Result<void> check_sizes(std::uint32_t rows, std::uint32_t positions);

// How long ranks wait for one that lives and does not come: the longest that they are apart in their work, such as when the first one
// writes a checkpoint. The rendezvous tells sooner where one is gone.
inline constexpr std::chrono::minutes rank_patience{10};
// How the ranks of a run are connected, by the kind of the worker's device. `rendezvous` outlives it. Errors: unsupported.
using ConnectRanks = std::function<Result<gpu::ElasticTrainer::Connect>(gpu::Rendezvous& rendezvous)>;

// A student in `output`, with checkpoints of the way there in its folder "checkpoints". With ranks this is one of them. Errors: GpuError
// (cancelled, when it was stopped: a checkpoint is saved then).
Result<void> train(const work::Train& work, gpu::Device& device, JobContext& context, const ConnectRanks& connect_ranks);

// Tells where a model's own chat template is not what it is taught and asked by. `foreign`: of its ModelFolder.
void tell_template(JobContext& context, const std::string& folder, const std::string& foreign);

// Tells an evaluation's progress, with `figures`, and ends it where the job is to stop. `context` outlives it.
gpu::EvalProgress follow_evaluation(JobContext& context, std::vector<work::Figure> figures);

// One `evaluation` event, after those of its progress. Errors: GpuError (cancelled, when it was stopped).
Result<void> evaluate(const work::Evaluate& work, gpu::Device& device, JobContext& context);

}  // namespace outlast::worker
