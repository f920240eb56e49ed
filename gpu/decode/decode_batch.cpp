#include "gpu/decode/decode_batch.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace outlast::gpu {
namespace {

constexpr std::size_t repeated_longest_min = 256;  // keys

std::size_t table_width_of(const SchedulerLimits& limits) { return (limits.positions + limits.page_rows - 1) / limits.page_rows; }

std::size_t cache_count_of(const ModelConfig& config, const SchedulerLimits& limits) {
  return std::size_t{config.layers} * limits.pages * limits.page_rows * config.kv_width();
}

// Numbers of each of the arrays of a batch, in their order.
std::array<std::size_t, 5> counts_of(const SchedulerLimits& limits) {
  return {limits.rows, limits.rows, limits.sequences + 1, limits.sequences * table_width_of(limits), limits.sequences};
}

std::size_t number_bytes_of(const SchedulerLimits& limits) {
  std::size_t bytes = 0;
  for (const std::size_t count : counts_of(limits)) bytes += Arena::bytes_of(count, Dtype::i32);
  return bytes + Arena::bytes_of(limits.sequences, Dtype::i32) + Arena::bytes_of(limits.sequences, Dtype::f32);
}

}  // namespace

std::size_t DecodeBatch::cache_bytes_of(const ModelConfig& config, const SchedulerLimits& limits, Dtype compute) {
  return 2 * cache_count_of(config, limits) * size_of(compute);
}

std::size_t DecodeBatch::batch_bytes_of(const ModelConfig& config, const SchedulerLimits& limits, Dtype compute) {
  return number_bytes_of(limits) + (compute == Dtype::f32 ? 0 : limits.sequences * config.vocabulary * sizeof(float));
}

Result<std::unique_ptr<DecodeBatch>> DecodeBatch::make(Device& device, const ModelConfig& config, const SchedulerLimits& limits, std::size_t tokens) {
  std::unique_ptr<DecodeBatch> batch(new DecodeBatch(device, limits, tokens));
  const auto allocate = [&device](std::unique_ptr<Memory>& memory, std::size_t count, Dtype dtype) -> Result<void> {
    auto made = device.allocate(count, dtype);
    if (!made) return fail(Error{made.error().module, made.error().code, "the key-value cache does not fit: " + made.error().message});
    memory = std::move(*made);
    return {};
  };
  for (auto* const memory : {&batch->keys_, &batch->values_}) {
    if (Result<void> done = allocate(*memory, cache_count_of(config, limits), device.compute_dtype()); !done) return fail(std::move(done.error()));
  }
  if (Result<void> done = allocate(batch->numbers_, number_bytes_of(limits), Dtype::u8); !done) return fail(std::move(done.error()));
  if (device.compute_dtype() != Dtype::f32) {
    if (Result<void> done = allocate(batch->logits_on_, limits.sequences * tokens, Dtype::f32); !done) return fail(std::move(done.error()));
  }
  Arena arena(batch->numbers_->array());
  const auto counts = counts_of(limits);
  Array* const arrays[] = {&batch->tokens_on_, &batch->positions_on_, &batch->begins_on_, &batch->tables_on_, &batch->giving_on_};
  std::vector<std::int32_t>* const numbers[] = {&batch->row_tokens_, &batch->row_positions_, &batch->begins_, &batch->tables_, &batch->giving_rows_};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    *arrays[i] = arena.take(counts[i], Dtype::i32);
    numbers[i]->reserve(counts[i]);
  }
  batch->likeliest_on_ = arena.take(limits.sequences, Dtype::i32);
  batch->log_p_on_ = arena.take(limits.sequences, Dtype::f32);
  batch->likeliest_.resize(limits.sequences);
  batch->likeliest_log_p_.resize(limits.sequences);
  batch->logits_.resize(limits.sequences * tokens);
  return batch;
}

Array DecodeBatch::put(const Array& whole, const std::vector<std::int32_t>& numbers) {
  const Array array = whole.part(0, numbers.size());
  device_.upload(array, std::as_bytes(std::span(numbers)));
  return array;
}

void DecodeBatch::load(std::span<const PlannedRows> plan) {
  row_tokens_.clear();
  row_positions_.clear();
  begins_.assign(1, 0);
  tables_.clear();
  giving_rows_.clear();
  const std::size_t width = table_width_of(limits_);
  batch_.longest = 0;
  for (const PlannedRows& rows : plan) {
    const Sequence& sequence = *rows.sequence;
    for (std::size_t i = sequence.computed; i < sequence.computed + rows.rows; ++i) {
      row_tokens_.push_back(static_cast<std::int32_t>(sequence.tokens[i]));
      row_positions_.push_back(static_cast<std::int32_t>(i));
    }
    begins_.push_back(static_cast<std::int32_t>(row_tokens_.size()));
    for (const PageId page : sequence.pages) tables_.push_back(static_cast<std::int32_t>(page));
    tables_.resize((begins_.size() - 1) * width);
    if (rows.gives_token()) giving_rows_.push_back(begins_.back() - 1);
    batch_.longest = std::max(batch_.longest, sequence.computed + rows.rows);
  }
  repeats_as_.reset();
  if (row_tokens_.size() == plan.size() && giving_rows_.size() == plan.size()) {
    // A step is launched for as many keys as the longest sequence has: of powers of two there are few.
    batch_.longest = std::min(std::bit_ceil(std::max(batch_.longest, repeated_longest_min)), limits_.positions);
    repeats_as_ = plan.size() << 32U | batch_.longest;
  }
  batch_.tokens = put(tokens_on_, row_tokens_);
  batch_.positions = put(positions_on_, row_positions_);
  batch_.begins = put(begins_on_, begins_);
  batch_.sequences = plan.size();
  batch_.cache = {keys_->array(), values_->array(), put(tables_on_, tables_), width, limits_.page_rows};
  giving_ = put(giving_on_, giving_rows_);
}

Result<void> DecodeBatch::fetch(const Array& logits) {
  Array numbers = logits;
  if (logits.dtype != Dtype::f32) {
    numbers = logits_on_->array().part(0, logits.count);
    device_.copy(numbers, logits);
  }
  return device_.download(std::as_writable_bytes(std::span(logits_).first(logits.count)), numbers);
}

Result<void> DecodeBatch::fetch_likeliest(const Array& logits) {
  const std::size_t rows = logits.count / tokens_;
  const Array tokens = likeliest_on_.part(0, rows);
  const Array log_p = log_p_on_.part(0, rows);
  device_.run(Likeliest{tokens, log_p, logits, tokens_});
  if (Result<void> done = device_.download(std::as_writable_bytes(std::span(likeliest_).first(rows)), tokens); !done) return done;
  return device_.download(std::as_writable_bytes(std::span(likeliest_log_p_).first(rows)), log_p);
}

}  // namespace outlast::gpu
