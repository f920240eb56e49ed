// Evaluator: how well a model says what samples want it to say, without anything that learning needs.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/train/packer.hpp"
#include "gpu/train/sample.hpp"

namespace outlast::gpu {

struct EvalReport {
  double loss = 0;    // weighted mean over the samples' rows
  double exact = 0;   // share of samples whose every loss-bearing token the model would have said itself
  double tokens = 0;  // share of these tokens
  std::size_t samples = 0;
};

// Asked before each micro-batch: so many of the samples are evaluated. False: no more of them are.
using EvalProgress = std::function<bool(std::size_t done, std::size_t all)>;

// Of weights on the decoder's device. `tokens`: the tokenizer's size. The samples fit `rows` and the decoder. Errors: device;
// invalid, where a logit is not a number; cancelled, where `progress` said so.
Result<EvalReport> evaluate_samples(Device& device, Decoder& decoder, const DecoderWeights& weights, BatchOnDevice& batch, std::size_t tokens,
                                    std::size_t rows, std::span<const Sample> samples, const EvalProgress& progress = {});

// One owner.
class Evaluator {
 public:
  // `weights`: of the layout of `config`; `positions`: of the longest sample. `device` outlives it. Errors: too_large, with the numbers.
  static Result<std::unique_ptr<Evaluator>> make(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t tokens,
                                                 std::size_t rows, std::size_t positions);
  // Errors: invalid (a sample too long, or with a token that the model has not), and as of evaluate_samples().
  Result<EvalReport> evaluate(std::span<const Sample> samples, const EvalProgress& progress = {});

 private:
  Evaluator(Device& device, std::size_t tokens, std::size_t rows, std::size_t positions)
      : device_(device), tokens_(tokens), rows_(rows), positions_(positions) {}

  Device& device_;
  const std::size_t tokens_;
  const std::size_t rows_;
  const std::size_t positions_;
  std::unique_ptr<Memory> weights_;  // c [n]
  DecoderWeights views_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<BatchOnDevice> batch_;
};

}  // namespace outlast::gpu
