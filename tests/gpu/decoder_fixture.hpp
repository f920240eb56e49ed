// A decoder on a CPU with its weights, gradients and a packed batch; and what a fixture's library said of it.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::gpu {

template <class T>
T need(Result<T> result) {
  if (!result) FAIL(result.error().message);
  return std::move(*result);
}

// Device memory with numbers in it.
class Loaded {
 public:
  template <class T>
  Loaded(Device& device, const std::vector<T>& numbers) : memory_(need(device.allocate(numbers.size(), dtype_of<T>()))) {
    device.upload(array(), std::as_bytes(std::span(numbers)));
  }
  [[nodiscard]] Array array() const { return memory_->array(); }
  operator Array() const { return array(); }  // NOLINT(google-explicit-constructor)

 private:
  std::unique_ptr<Memory> memory_;
};

// In the device's compute type.
inline Loaded load_weights_on(Device& device, const std::vector<float>& weights) {
  if (device.compute_dtype() == Dtype::f32) return {device, weights};
  std::vector<std::uint16_t> bits;
  for (const float number : weights) bits.push_back(to_bf16(number));
  return {device, bits};
}

inline std::vector<float> numbers_of(const Array& array) { return {array.as<float>(), array.as<float>() + array.count}; }

// The largest difference, as a share of the largest number.
inline double relative_difference(std::span<const float> got, std::span<const float> expected) {
  REQUIRE(got.size() == expected.size());
  double most = 0;
  double size = 1e-12;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    most = std::max(most, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
    size = std::max(size, std::abs(static_cast<double>(expected[i])));
  }
  return most / size;
}

// Sequences one after the other, each row to say the next one's token.
struct PackedBatch {
  PackedBatch(Device& device, const std::vector<std::vector<std::int32_t>>& sequences, const std::vector<float>& weights_of_next) {
    std::vector<std::int32_t> all;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> begins{0};
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> targets;
    std::vector<float> weights;
    std::size_t longest = 0;
    for (const auto& sequence : sequences) {
      for (std::size_t i = 0; i < sequence.size(); ++i) {
        const float weight = i + 1 < sequence.size() ? weights_of_next[all.size() + 1] : 0;
        if (weight != 0) {
          rows.push_back(static_cast<std::int32_t>(all.size()));
          targets.push_back(sequence[i + 1]);
          weights.push_back(weight);
        }
        all.push_back(sequence[i]);
        positions.push_back(static_cast<std::int32_t>(i));
      }
      begins.push_back(static_cast<std::int32_t>(all.size()));
      longest = std::max(longest, sequence.size());
    }
    for (const float weight : weights) weight_sum += weight;
    for (float& weight : weights) weight /= weight_sum;
    const auto keep = [this, &device](const auto& numbers) { return arrays.emplace_back(std::make_unique<Loaded>(device, numbers))->array(); };
    batch = {keep(all), keep(positions), keep(begins), sequences.size(), longest};
    loss.rows = keep(rows);
    loss.targets = keep(targets);
    loss.weights = keep(weights);
    loss_weights = weights;
  }

  std::vector<std::unique_ptr<Loaded>> arrays;
  DecoderBatch batch;
  LossBatch loss;
  std::vector<float> loss_weights;
  float weight_sum = 0;
};

}  // namespace outlast::gpu
