// DecodeBatch: a step's rows on their way to the device, the paged cache that they go on from, and the logits on their way back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/result.hpp"
#include "gpu/decode/scheduler.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"

namespace outlast::gpu {

// One owner. Allocates nothing after make().
class DecodeBatch {
 public:
  // Errors: too_large.
  static Result<std::unique_ptr<DecodeBatch>> make(Device& device, const ModelConfig& config, const SchedulerLimits& limits, std::size_t tokens);
  static std::size_t cache_bytes_of(const ModelConfig& config, const SchedulerLimits& limits, Dtype compute);
  static std::size_t batch_bytes_of(const ModelConfig& config, const SchedulerLimits& limits, Dtype compute);

  // Valid until the next call.
  void load(std::span<const PlannedRows> plan);
  [[nodiscard]] const DecoderBatch& batch() const { return batch_; }
  // Of a step in which each sequence goes on by one token: those of the same number differ in numbers alone (Repeats).
  [[nodiscard]] std::optional<std::uint64_t> repeats_as() const { return repeats_as_; }
  // i32 [count]: the rows from which a token follows; perhaps none.
  [[nodiscard]] const Array& giving() const { return giving_; }
  // Fetches c [count, tokens]; row by row. Errors: device.
  Result<void> fetch(const Array& logits);
  // Of c [count, tokens], which stay where they are, the likeliest token of each row. Errors: device.
  Result<void> fetch_likeliest(const Array& logits);
  struct Token {
    std::int32_t token = 0;
    float log_p = 0;
  };
  [[nodiscard]] Token likeliest(std::size_t row) const { return {likeliest_[row], likeliest_log_p_[row]}; }
  [[nodiscard]] std::span<const float> logits(std::size_t row) const { return std::span(logits_).subspan(row * tokens_, tokens_); }

 private:
  DecodeBatch(Device& device, const SchedulerLimits& limits, std::size_t tokens) : device_(device), limits_(limits), tokens_(tokens) {}
  Array put(const Array& whole, const std::vector<std::int32_t>& numbers);

  Device& device_;
  const SchedulerLimits limits_;
  const std::size_t tokens_;
  std::unique_ptr<Memory> keys_;
  std::unique_ptr<Memory> values_;
  std::unique_ptr<Memory> numbers_;  // u8: the next seven
  Array tokens_on_;     // i32 [rows]
  Array positions_on_;  // i32 [rows]
  Array begins_on_;     // i32 [sequences + 1]
  Array tables_on_;     // i32 [sequences, table_width]
  Array giving_on_;     // i32 [sequences]
  Array likeliest_on_;  // i32 [sequences]
  Array log_p_on_;      // f32 [sequences]
  std::unique_ptr<Memory> logits_on_;  // f32 [sequences, tokens], where the compute type is another
  std::vector<std::int32_t> row_tokens_;  // the same on the host
  std::vector<std::int32_t> row_positions_;
  std::vector<std::int32_t> begins_;
  std::vector<std::int32_t> tables_;
  std::vector<std::int32_t> giving_rows_;
  std::vector<std::int32_t> likeliest_;
  std::vector<float> likeliest_log_p_;
  std::vector<float> logits_;  // [sequences, tokens]
  DecoderBatch batch_;
  Array giving_;
  std::optional<std::uint64_t> repeats_as_;
};

}  // namespace outlast::gpu
