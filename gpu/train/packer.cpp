#include "gpu/train/packer.hpp"

#include <algorithm>

#include "core/check.hpp"

namespace outlast::gpu {
namespace {

void append(MicroBatch& batch, const Sample& sample, std::size_t number, float weight_scale) {
  const std::size_t begin = batch.tokens.size();
  const std::size_t place = batch.samples.size();
  const std::size_t size = sample.tokens.size();
  batch.samples.push_back(number);
  for (std::size_t i = 0; i < size; ++i) {
    batch.tokens.push_back(sample.tokens[i]);
    batch.positions.push_back(static_cast<std::int32_t>(i));
    if (i + 1 == size || sample.weights[i + 1] == 0) continue;
    batch.loss_rows.push_back(static_cast<std::int32_t>(begin + i));
    batch.targets.push_back(sample.tokens[i + 1]);
    batch.weights.push_back(sample.weights[i + 1] * weight_scale);
    batch.loss_samples.push_back(place);
    if (!sample.teacher.empty()) batch.top_k = std::max(batch.top_k, sample.teacher[i + 1].tokens.size());
  }
  batch.begins.push_back(static_cast<std::int32_t>(batch.tokens.size()));
  batch.longest = std::max(batch.longest, size);
}

// Once the width of all is known.
void append_teachers(MicroBatch& batch, std::span<const Sample* const> samples) {
  if (batch.top_k == 0) return;
  batch.top_tokens.assign(batch.loss_rows.size() * batch.top_k, -1);
  batch.top_log_p.assign(batch.loss_rows.size() * batch.top_k, 0);
  for (std::size_t row = 0; row < batch.loss_rows.size(); ++row) {
    const std::size_t place = batch.loss_samples[row];
    const Sample& sample = *samples[batch.samples[place]];
    if (sample.teacher.empty()) continue;
    const TopTokens& top = sample.teacher[static_cast<std::size_t>(batch.loss_rows[row] - batch.begins[place]) + 1];
    std::copy(top.tokens.begin(), top.tokens.end(), batch.top_tokens.begin() + static_cast<std::ptrdiff_t>(row * batch.top_k));
    std::copy(top.log_p.begin(), top.log_p.end(), batch.top_log_p.begin() + static_cast<std::ptrdiff_t>(row * batch.top_k));
  }
}

template <class T>
std::span<const std::byte> raw(const std::vector<T>& numbers) {
  return std::as_bytes(std::span(numbers));
}

enum Slot : std::size_t { tokens, positions, begins, loss_rows, targets, weights, top_tokens, top_log_p, slot_count };

}  // namespace

std::vector<MicroBatch> pack(std::span<const Sample* const> samples, std::size_t rows_max, float weight_scale) {
  std::vector<MicroBatch> batches;
  for (std::size_t number = 0; number < samples.size(); ++number) {
    const std::size_t size = samples[number]->tokens.size();
    check(size <= rows_max, "a sample fits into a micro-batch");
    if (batches.empty() || batches.back().tokens.size() + size > rows_max) batches.emplace_back();
    append(batches.back(), *samples[number], number, weight_scale);
  }
  for (MicroBatch& batch : batches) append_teachers(batch, samples);
  return batches;
}

std::size_t BatchOnDevice::bytes_of(std::size_t rows_max, std::size_t top_k_max) {
  return 4 * ((slot_count - 2) * (rows_max + 1) + 2 * rows_max * top_k_max);
}

Result<std::unique_ptr<BatchOnDevice>> BatchOnDevice::make(Device& device, std::size_t rows_max, std::size_t top_k_max) {
  std::unique_ptr<BatchOnDevice> batch(new BatchOnDevice(device));
  for (std::size_t slot = 0; slot < slot_count; ++slot) {
    const bool is_teacher = slot == Slot::top_tokens || slot == Slot::top_log_p;
    const bool is_real = slot == Slot::weights || slot == Slot::top_log_p;
    auto memory = device.allocate(is_teacher ? rows_max * top_k_max : rows_max + 1, is_real ? Dtype::f32 : Dtype::i32);
    if (!memory) return fail(std::move(memory.error()));
    batch->slots_.push_back(std::move(*memory));
  }
  return batch;
}

Array BatchOnDevice::put(std::size_t slot, std::span<const std::byte> bytes, std::size_t count) {
  const Array array = slots_[slot]->array().part(0, count);
  device_.upload(array, bytes);
  return array;
}

void BatchOnDevice::load(const MicroBatch& batch) {
  batch_.tokens = put(Slot::tokens, raw(batch.tokens), batch.tokens.size());
  batch_.positions = put(Slot::positions, raw(batch.positions), batch.positions.size());
  batch_.begins = put(Slot::begins, raw(batch.begins), batch.begins.size());
  batch_.sequences = batch.samples.size();
  batch_.longest = batch.longest;
  loss_ = {};
  loss_.rows = put(Slot::loss_rows, raw(batch.loss_rows), batch.loss_rows.size());
  loss_.targets = put(Slot::targets, raw(batch.targets), batch.targets.size());
  loss_.weights = put(Slot::weights, raw(batch.weights), batch.weights.size());
  if (batch.top_k == 0) return;
  loss_.teacher.top_k = batch.top_k;
  loss_.teacher.top_tokens = put(Slot::top_tokens, raw(batch.top_tokens), batch.top_tokens.size());
  loss_.teacher.top_log_p = put(Slot::top_log_p, raw(batch.top_log_p), batch.top_log_p.size());
}

}  // namespace outlast::gpu
