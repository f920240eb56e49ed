// Packer: samples side by side in micro-batches of a bounded number of rows, without padding; and the micro-batch on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/train/sample.hpp"

namespace outlast::gpu {

struct MicroBatch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> begins{0};  // and the end
  std::vector<std::size_t> samples;     // which samples these are, as they were given
  std::size_t longest = 0;
  std::vector<std::int32_t> loss_rows;
  std::vector<std::int32_t> targets;
  std::vector<float> weights;
  std::vector<std::size_t> loss_samples;  // of each row that bears loss: place in `samples`
  std::size_t top_k = 0;                  // of the widest teacher
  std::vector<std::int32_t> top_tokens;   // [loss_rows, top_k], −1 where there is none
  std::vector<float> top_log_p;
};

// In order, each into the current micro-batch while it fits; the weights times `weight_scale`. A sample of more than `rows_max`
// is a bug.
std::vector<MicroBatch> pack(std::span<const Sample* const> samples, std::size_t rows_max, float weight_scale);

// Memory of one micro-batch on a device. One owner.
class BatchOnDevice {
 public:
  // Errors: too_large.
  static Result<std::unique_ptr<BatchOnDevice>> make(Device& device, std::size_t rows_max, std::size_t top_k_max);
  static std::size_t bytes_of(std::size_t rows_max, std::size_t top_k_max);
  // Valid until the next call.
  void load(const MicroBatch& batch);
  [[nodiscard]] const DecoderBatch& batch() const { return batch_; }
  // Its tokens, shape and a teacher's head are for the caller to add.
  [[nodiscard]] const LossBatch& loss() const { return loss_; }

 private:
  explicit BatchOnDevice(Device& device) : device_(device) {}
  Array put(std::size_t slot, std::span<const std::byte> bytes, std::size_t count);

  Device& device_;
  std::vector<std::unique_ptr<Memory>> slots_;
  DecoderBatch batch_;
  LossBatch loss_;
};

}  // namespace outlast::gpu
