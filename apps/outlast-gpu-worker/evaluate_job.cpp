#include <algorithm>
#include <chrono>

#include "apps/outlast-gpu-worker/job.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/model_folder.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/train/evaluator.hpp"

namespace outlast::worker {

Result<void> check_sizes(std::uint32_t rows, std::uint32_t positions) {
  if (rows > 0 && rows <= rows_max && positions > 0 && positions <= positions_max) return {};
  return fail(gpu::GpuError::invalid, "1 to " + std::to_string(rows_max) + " tokens are computed at once, and a sample has 1 to " + std::to_string(positions_max));
}

void tell_template(JobContext& context, const std::string& folder, const std::string& foreign) {
  if (foreign.empty()) return;
  emit(context, work::EventKind::note,
       "the chat template of " + folder + " is not one that Outlast renders (" + foreign +
           "): conversations are written by Outlast's instead, and a student that is taught has that one beside it", {});
}

gpu::EvalProgress follow_evaluation(JobContext& context, std::vector<work::Figure> figures) {
  return [&context, figures = std::move(figures)](std::size_t done, std::size_t all) {
    auto all_figures = figures;
    all_figures.insert(all_figures.end(), {{"samples_done", number(done)}, {"samples", number(all)}});
    // The text is for who knows no such event yet.
    emit(context, work::EventKind::evaluating, "evaluated " + std::to_string(done) + " of " + std::to_string(all) + " samples", std::move(all_figures));
    return !context.stopping();
  };
}

Result<void> evaluate(const work::Evaluate& work, gpu::Device& device, JobContext& context) {
  if (Result<void> good = check_sizes(work.rows, work.positions); !good) return good;
  const auto model = gpu::read_model_folder(work.model);
  if (!model) return fail(model.error());
  tell_template(context, work.model, model->foreign_template);
  const auto encoder = gpu::TokenEncoder::make(model->tokenizer);
  if (!encoder) return fail(encoder.error());
  const auto data = gpu::read_samples(work.data, **encoder, {model->format(), std::min<std::size_t>(work.positions, work.rows)});
  if (!data) return fail(data.error());
  const auto files = gpu::WeightFiles::open(work.model);
  if (!files) return fail(files.error());
  const auto weights = gpu::load_weights(gpu::ParameterLayout(model->config), **files);
  if (!weights) return fail(weights.error());
  const auto evaluator = gpu::Evaluator::make(device, model->config, *weights, model->tokenizer->size(), work.rows, gpu::longest_of(data->samples));
  if (!evaluator) return fail(evaluator.error());
  const auto begin = std::chrono::steady_clock::now();
  const auto report = (*evaluator)->evaluate(data->samples, follow_evaluation(context, {}));
  if (!report) return fail(report.error());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  emit(context, work::EventKind::evaluation, {},
       {{"loss", report->loss}, {"exact", report->exact}, {"token_accuracy", report->tokens}, {"samples", static_cast<double>(report->samples)},
        {"cut_samples", static_cast<double>(data->cut)}, {"seconds", seconds}});
  return {};
}

}  // namespace outlast::worker
