// Trainer: steps of AdamW on a decoder, with everything a run needs to go on where it stopped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/train/data_order.hpp"
#include "gpu/train/evaluator.hpp"
#include "gpu/train/packer.hpp"
#include "gpu/train/sample.hpp"
#include "gpu/train/schedule.hpp"

namespace outlast::gpu {

struct TrainOptions {
  std::size_t rows = 4'096;          // tokens of a micro-batch
  std::size_t batch_samples = 32;    // of one step
  std::size_t chunk_rows = 256;      // rows whose logits exist at once
  Keep keep = Keep::everything;
  Schedule schedule;
  double decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double clip = 1.0;                 // of the gradient's norm; 0: none
  std::uint64_t seed = 1;
  LossShape loss;
  std::size_t tokens = 0;            // the tokenizer's size; 0: the whole vocabulary
  std::size_t positions = 0;         // of the longest sample that is evaluated; 0: as long as the longest to learn from

  // What makes two runs the same run: a checkpoint is resumed with these only.
  [[nodiscard]] std::string fingerprint() const;
};

struct StepReport {
  std::uint64_t step = 0;  // from 1
  double loss = 0;         // weighted mean over the step's rows
  double rate = 0;
  double gradient_norm = 0;  // before clipping
  std::size_t rows = 0;
  std::size_t loss_rows = 0;
  double seconds = 0;
  double flops = 0;        // by the formula of facts: 6 for each matmul parameter and row, and attention's
};

// Bytes on the device by what they are for; known before anything is allocated.
struct TrainMemory {
  std::uint64_t weights = 0;
  std::uint64_t gradients = 0;
  std::uint64_t optimizer = 0;
  std::uint64_t activations = 0;  // and the batch
  [[nodiscard]] std::uint64_t total() const { return weights + gradients + optimizer + activations; }
};
// `positions`: of the longest sample; `top_k`: of the widest teacher.
TrainMemory train_memory(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, Dtype compute);
// Whether it fits. Errors: too_large, with the numbers and what would fit.
Result<void> check_fits(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, const Device& device);

// One owner.
class Trainer {
 public:
  // `weights`: of the layout of `config`. `samples` and `device` outlive it. Errors: too_large, invalid.
  static Result<std::unique_ptr<Trainer>> make(Device& device, const ModelConfig& config, std::span<const float> weights,
                                               std::span<const Sample> samples, const TrainOptions& options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // The next step. Errors: device; invalid where the loss or the gradient is not a number, which the weights then do not follow.
  Result<StepReport> step();
  [[nodiscard]] std::uint64_t steps_done() const { return step_; }
  Result<EvalReport> evaluate(std::span<const Sample> samples);
  Result<std::vector<float>> weights();

  // FOLDER/step-NNNNNNNN with weights, optimizer state and place; whole or not at all. Errors: io, device.
  Result<void> save(const std::string& folder);
  // From the newest; false where there is none. Errors: io, malformed, invalid (of another run).
  Result<bool> resume(const std::string& folder);

 private:
  Trainer(Device& device, const ModelConfig& config, std::span<const Sample> samples, const TrainOptions& options);
  Result<void> allocate(std::span<const float> weights);
  void update(double rate, float gradient_scale);
  [[nodiscard]] LossBatch loss_of(const LossShape& shape) const;

  Device& device_;
  const ModelConfig config_;
  const std::span<const Sample> samples_;
  const TrainOptions options_;
  const ParameterLayout layout_;
  const DataOrder order_;
  const std::size_t positions_;
  const std::uint64_t data_hash_;
  std::unique_ptr<Memory> weights_;    // f32 [n]
  std::unique_ptr<Memory> working_;    // c [n]; none where f32 is the compute type
  std::unique_ptr<Memory> gradients_;  // f32 [n]
  std::unique_ptr<Memory> first_;      // f32 [n]
  std::unique_ptr<Memory> second_;     // f32 [n]
  std::unique_ptr<Memory> norm_;       // f32 [1]
  DecoderWeights weight_views_;
  DecoderWeights gradient_views_;
  std::unique_ptr<BatchOnDevice> batch_;
  std::unique_ptr<Decoder> decoder_;
  std::uint64_t step_ = 0;
};

// Removes all but the newest `keep` checkpoints, and what a crash left half-written. Errors: io.
Result<void> prune_checkpoints(const std::string& folder, std::size_t keep);

}  // namespace outlast::gpu
