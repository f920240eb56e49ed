// Trainer: steps of AdamW on a decoder, with everything a run needs to go on where it stopped.
//
// On several ranks each has a trainer of its own with the same samples, computes the gradients of its share of every batch, and steps
// its shard of the weights (shard_plan.hpp). The batch, and so the loss, is the same for any number of ranks but for rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/collective/collective.hpp"
#include "gpu/collective/collective_queue.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/train/buddy_copies.hpp"
#include "gpu/train/data_order.hpp"
#include "gpu/train/evaluator.hpp"
#include "gpu/train/packer.hpp"
#include "gpu/train/recovery_point.hpp"
#include "gpu/train/sample.hpp"
#include "gpu/train/schedule.hpp"
#include "gpu/train/shard_plan.hpp"
#include "gpu/train/teacher_model.hpp"

namespace outlast::gpu {

struct TrainOptions {
  std::size_t rows = 4'096;          // tokens of a micro-batch
  std::size_t batch_samples = 32;    // of one step
  std::size_t chunk_rows = 512;      // rows whose logits exist at once; on a CPU half of it is a fifth slower
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
  LoraOptions lora;                  // with a rank: an adapter is learned, and the weights stay as they are
  std::optional<ModelConfig> teacher;  // whose distribution is learned by `loss`; none: what samples say of theirs, where they do

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
  bool stops = false;      // a rank wants to stop: the same on all of them
  double flops = 0;        // 6 for each matmul parameter and row (4 where it is frozen, 2 of a teacher's), and attention's
};

// Bytes on the device by what they are for; known before anything is allocated. With LoRA the weights are once there in the compute
// type; master copy, gradients, moments and copies are the adapter's.
struct TrainMemory {
  std::uint64_t weights = 0;
  std::uint64_t gradients = 0;
  std::uint64_t optimizer = 0;
  std::uint64_t activations = 0;  // and the batch
  std::uint64_t copies = 0;       // for the loss of a rank
  std::uint64_t teacher = 0;      // its weights and activations
  [[nodiscard]] std::uint64_t total() const { return weights + gradients + optimizer + activations + copies + teacher; }
};
// `positions`: of the longest sample; `top_k`: of what samples say of teachers, top_k_of().
TrainMemory train_memory(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, Dtype compute,
                         std::size_t ranks = 1);
// Whether it fits. Errors: too_large, with the numbers and what would fit.
Result<void> check_fits(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, const Device& device,
                        std::size_t ranks = 1);

// One owner.
class Trainer {
 public:
  // `weights`: of the model, ParameterLayout(config); an adapter begins by the options' seed. `samples` and `device` outlive it, and so do `ranks`, until they are left: none for one
  // rank alone. `teacher`: the weights of the options' teacher, where there is one. Errors: too_large, invalid.
  static Result<std::unique_ptr<Trainer>> make(Device& device, const ModelConfig& config, std::span<const float> weights,
                                               std::span<const Sample> samples, const TrainOptions& options, Collective* ranks = nullptr,
                                               std::span<const float> teacher = {});
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // The next step; with ranks, on all of them, and each has the report of all. `wants_stop` is asked late in the step, and only told to
  // the others. Errors: device; invalid where the loss or the gradient is not a number, which the weights then do not follow; peer_lost:
  // then only leave_ranks() and regroup() help.
  Result<StepReport> step(const std::function<bool()>& wants_stop = {});
  [[nodiscard]] std::uint64_t steps_done() const { return step_; }
  // Errors: as of Evaluator::evaluate().
  Result<EvalReport> evaluate(std::span<const Sample> samples, const EvalProgress& progress = {});
  // What is learned: the model's weights, or with LoRA the adapter's; of ParameterLayout(config, options.lora).
  Result<std::vector<float>> weights();

  // FOLDER/step-NNNNNNNN with weights, optimizer state and place; whole or not at all. With ranks, on all of them, and the first one
  // writes; any number of ranks may resume. Errors: io, device, peer_lost; cancelled where it is the first rank that could not.
  Result<void> save(const std::string& folder);
  // From the newest; false where there is none. With ranks, on all of them, and the first one reads. Errors: io, malformed, invalid
  // (of another run), peer_lost; cancelled where it is the first rank that could not.
  Result<bool> resume(const std::string& folder);
  // Back to the beginning. `weights`: those of make(), which frozen ones still are.
  void restart(std::span<const float> weights);

  // After the loss of a rank: forgets the collective, which then may go.
  void leave_ranks();
  // On all that are left, or some of them: shards anew and puts together the state after the last step that all completed. False:
  // a rank and the one with its copies are both gone; resume() or restart() follows. Errors: peer_lost (then again with those that are
  // left), too_large.
  Result<bool> regroup(Collective& ranks);

 private:
  // Of a step's rows; counts too, so that ranks can add theirs.
  struct Sums {
    double loss = 0;
    double square = 0;    // of the gradient's norm
    double rows = 0;
    double loss_rows = 0;
    double attended = 0;  // Σ of keys over rows, halved by the mask
    double stops = 0;     // ranks that want to stop
  };
  struct Stored;

  Trainer(Device& device, const ModelConfig& config, std::span<const Sample> samples, const TrainOptions& options, Collective* ranks);
  Result<void> allocate(std::span<const float> weights, std::span<const float> teacher);
  Result<void> allocate_shard();
  void put_weights(std::span<const float> weights);
  void put_beginning(std::span<const float> weights);
  // This rank's share of a step's samples; `weight_sum`: of all.
  std::vector<const Sample*> choose(double& weight_sum) const;
  Result<void> add_gradients(std::span<const Sample* const> samples, double weight_sum, Sums& sums);
  Result<void> add_square_of_gradient(Sums& sums);
  Result<void> update(double rate, float gradient_scale);
  void update_bucket(const ShardPlan::Bucket& bucket, double rate, float gradient_scale);
  // Of the micro-batch that is loaded, with what the teacher says of it.
  LossBatch loss_of_batch();

  // trainer_ranks.cpp
  void send_gradients_of_layer(std::size_t layer);
  void send_bucket(const ShardPlan::Bucket& bucket);
  Result<void> sum_over_ranks(Sums& sums);
  Result<void> keep_copies();
  Result<std::optional<RecoveryPoint>> find_recovery_point(Collective& ranks) const;
  Result<void> restore(const RecoveryPoint& point, const BuddyCopies& copies);
  [[nodiscard]] std::array<Array, state_arrays> state() const;
  // A piece of one of the state's arrays, from and to the shards of all ranks: everyone gets it whole, and takes its own.
  Result<void> gather_piece(std::size_t array, const Part& piece, const Array& into);
  void place_piece(std::size_t array, const Part& piece, const Array& from);

  // checkpoint.cpp
  class PieceFeed;
  Result<void> write_checkpoint(const std::string& folder, PieceFeed& moments);
  [[nodiscard]] Result<Stored> find_newest(const std::string& folder) const;
  Result<void> take_state(const Stored& stored);

  Device& device_;
  const ModelConfig config_;
  const std::span<const Sample> samples_;
  const TrainOptions options_;
  const ParameterLayout layout_;  // of what is learned
  Collective* ranks_ = nullptr;  // none: one rank alone
  ShardPlan plan_;
  const DataOrder order_;
  const std::size_t positions_;
  const std::uint64_t data_hash_;
  std::uint64_t frozen_hash_ = 0;      // with LoRA
  std::uint64_t teacher_hash_ = 0;     // with a teacher
  std::unique_ptr<Memory> frozen_;     // c [the model's], with LoRA
  std::unique_ptr<Memory> weights_;    // f32 [n]
  std::unique_ptr<Memory> working_;    // c [n]; none where f32 is the compute type
  std::unique_ptr<Memory> gradients_;  // f32 [n]
  std::unique_ptr<Memory> first_;      // f32 [shard_count of the plan]
  std::unique_ptr<Memory> second_;     // f32 [shard_count of the plan]
  std::unique_ptr<Memory> norm_;       // f32 [1]
  DecoderWeights weight_views_;
  DecoderWeights gradient_views_;
  std::unique_ptr<BatchOnDevice> batch_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<TeacherModel> teacher_;
  std::unique_ptr<CollectiveQueue> queue_;      // with several ranks
  std::unique_ptr<BuddyCopies> copies_;         // with several ranks
  std::unique_ptr<BuddyCopies> former_copies_;  // while those of a new generation are not whole everywhere
  std::uint64_t step_ = 0;
};

// Removes all but the newest `keep` checkpoints, and what a crash left half-written. Errors: io.
Result<void> prune_checkpoints(const std::string& folder, std::size_t keep);

}  // namespace outlast::gpu
