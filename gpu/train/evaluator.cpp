#include "gpu/train/evaluator.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gpu/gpu_error.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t chunk_rows_max = 256;  // rows whose logits exist at once

DecoderLimits limits_of(std::size_t rows, std::size_t positions) {
  DecoderLimits limits;
  limits.rows = rows;
  limits.loss_rows = rows;
  limits.chunk_rows = std::min(rows, chunk_rows_max);
  limits.positions = positions;
  limits.trains = false;
  return limits;
}

}  // namespace

Result<EvalReport> evaluate_samples(Device& device, Decoder& decoder, const DecoderWeights& weights, BatchOnDevice& batch, std::size_t tokens,
                                    std::size_t rows, std::span<const Sample> samples, const EvalProgress& progress) {
  EvalReport report;
  std::vector<const Sample*> all;
  double weight_sum = 0;
  for (const Sample& sample : samples) {
    all.push_back(&sample);
    weight_sum += sample.weight_sum();
  }
  std::size_t loss_rows = 0;
  std::size_t right = 0;
  std::size_t exact = 0;
  std::size_t done = 0;
  for (MicroBatch& micro : pack(all, rows, static_cast<float>(1 / weight_sum))) {
    if (progress && !progress(done, samples.size()))
      return fail(GpuError::cancelled, "the evaluation was stopped after " + std::to_string(done) + " of " + std::to_string(samples.size()) + " samples");
    micro.top_k = 0;  // what a teacher thinks is no part of it
    batch.load(micro);
    LossBatch loss = batch.loss();
    loss.tokens = tokens;
    loss.shape = {};
    const Decoder::Scores scores = decoder.scores(weights, batch.batch(), loss);
    const auto losses = numbers_of<float>(device, scores.losses);
    const auto best = numbers_of<std::int32_t>(device, scores.best);
    if (!losses) return fail(losses.error());
    if (!best) return fail(best.error());
    std::vector<bool> all_right(micro.samples.size(), true);
    if (!std::all_of(losses->begin(), losses->end(), [](float of_row) { return std::isfinite(of_row); }))
      return fail(GpuError::invalid, "the model's logits are not all numbers: its weights are broken");
    for (std::size_t i = 0; i < losses->size(); ++i) {
      report.loss += static_cast<double>((*losses)[i]) * static_cast<double>(micro.weights[i]);
      const bool same = (*best)[i] == micro.targets[i];
      right += same ? 1 : 0;
      if (!same) all_right[micro.loss_samples[i]] = false;
    }
    loss_rows += losses->size();
    done += micro.samples.size();
    exact += static_cast<std::size_t>(std::count(all_right.begin(), all_right.end(), true));
  }
  report.samples = samples.size();
  report.tokens = loss_rows == 0 ? 0 : static_cast<double>(right) / static_cast<double>(loss_rows);
  report.exact = samples.empty() ? 0 : static_cast<double>(exact) / static_cast<double>(samples.size());
  return report;
}

Result<std::unique_ptr<Evaluator>> Evaluator::make(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t tokens,
                                                   std::size_t rows, std::size_t positions) {
  const ParameterLayout layout(config);
  const Dtype compute = device.compute_dtype();
  const std::uint64_t bytes = layout.count() * size_of(compute) + Decoder::bytes_of(config, limits_of(rows, positions), compute) + BatchOnDevice::bytes_of(rows, 0);
  if (const std::uint64_t free = device.memory().free_bytes; bytes > free) {
    return fail(GpuError::too_large, "the evaluation takes " + std::to_string(bytes >> 20) + " MiB and " + device.name() + " has " + std::to_string(free >> 20) +
                                         " MiB free; fewer tokens at once or a smaller model fit");
  }
  std::unique_ptr<Evaluator> evaluator(new Evaluator(device, tokens, rows, positions));
  auto placed = upload_weights(device, weights);
  if (!placed) return fail(std::move(placed.error()));
  evaluator->weights_ = std::move(*placed);
  evaluator->views_ = view_weights(config, layout, evaluator->weights_->array());
  auto decoder = Decoder::make(device, config, limits_of(rows, positions));
  if (!decoder) return fail(std::move(decoder.error()));
  evaluator->decoder_ = std::move(*decoder);
  auto batch = BatchOnDevice::make(device, rows, 0);
  if (!batch) return fail(std::move(batch.error()));
  evaluator->batch_ = std::move(*batch);
  return evaluator;
}

Result<EvalReport> Evaluator::evaluate(std::span<const Sample> samples, const EvalProgress& progress) {
  if (Result<void> good = check_samples(samples, tokens_, std::min(rows_, positions_)); !good) return fail(std::move(good.error()));
  return evaluate_samples(device_, *decoder_, views_, *batch_, tokens_, rows_, samples, progress);
}

}  // namespace outlast::gpu
