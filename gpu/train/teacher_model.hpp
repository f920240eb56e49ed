// TeacherModel: a model on a device whose distribution a student learns. It only computes forward, and never changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu {

// One owner.
class TeacherModel {
 public:
  // `weights`: of ParameterLayout(config). `rows`: of a micro-batch; `positions`: of the longest sequence. `device` outlives it.
  // Errors: too_large, invalid, device.
  static Result<std::unique_ptr<TeacherModel>> make(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t rows,
                                                    std::size_t positions);
  // Of its weights and activations. Its logits lie in the student's memory (DecoderLimits::teacher_head).
  static std::uint64_t bytes_of(const ModelConfig& config, std::size_t rows, std::size_t positions, Dtype compute);

  // Its states at some rows (i32 [count]) of a batch, and its head: for HeadLoss. Valid until the next call.
  Teacher look_at(const DecoderBatch& batch, const Array& rows);
  // Operations of look_at(): 2 for each matmul parameter and row, and attention's; `attended`: keys of all rows, halved by the mask.
  [[nodiscard]] double flops(double rows, double attended) const;

 private:
  explicit TeacherModel(const ModelConfig& config) : config_(config) {}

  const ModelConfig config_;
  std::unique_ptr<Memory> weights_;  // c [the model's]
  DecoderWeights views_;
  std::unique_ptr<Decoder> decoder_;
};

// That each token is the same for both, so that a student's distribution can be compared with its teacher's. Errors: invalid, with
// the first that differs.
Result<void> check_same_tokens(const Tokenizer& teacher, const Tokenizer& student);

}  // namespace outlast::gpu
