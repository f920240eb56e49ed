#include "gpu/model/decoder.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {

struct Decoder::LayerStates {
  Array input;        // c [rows, hidden]: the residual stream before the layer
  Array norm1;        // c [rows, hidden]
  Array norm1_scale;  // f32 [rows]
  Array qkv;          // c [rows, qkv_width]
  Array q;            // c [rows, q_width]
  Array k;            // c [rows, kv_width]
  Array qk_scale;     // f32 [rows, heads + kv_heads], or empty
  Array attention;    // c [rows, q_width]
  Array log_sum;      // f32 [rows, heads]
  Array middle;       // c [rows, hidden]: the residual stream after attention
  Array norm2;        // c [rows, hidden]
  Array norm2_scale;  // f32 [rows]
  Array gate_up;      // c [rows, 2 · intermediate]
  Array mlp;          // c [rows, intermediate]
};

namespace {

// The rows of an array of blocks that are a projection's outputs, for Gather and Scatter: with other projections' between them where
// one multiplication makes several.
struct Blocks {
  explicit Blocks(const Projection& projection)
      : width(std::gcd(projection.outputs, std::gcd(projection.first, projection.all))),
        own(projection.outputs / width), first(projection.first / width), all(projection.all / width) {}
  [[nodiscard]] std::vector<std::int32_t> places(std::size_t rows) const {
    std::vector<std::int32_t> places;
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = 0; i < own; ++i) places.push_back(static_cast<std::int32_t>(row * all + first + i));
    }
    return places;
  }
  std::size_t width;
  std::size_t own;    // of a row
  std::size_t first;
  std::size_t all;
};

}  // namespace

// What adapters are computed in; empty without.
struct Decoder::LoraArrays {
  Array scale;     // c [rank, rank]: alpha / rank on the diagonal, since no operation has a factor
  Array low;       // c [rows, rank]: x · Aᵀ
  Array scaled;    // c [rows, rank]
  Array d_low;     // c [rows, rank]
  Array d_scaled;  // c [rows, rank]
  Array wide;      // c [rows, the widest input or output]
  Array rows;      // i32 [rows]: 0, 1, 2, …
  PerLoraTarget<Array> places;  // i32 [rows, blocks]: of each target
};

struct Decoder::Arrays {
  std::vector<LayerStates> layers;  // where nothing is kept: one for all
  Array cosines;                    // f32 [positions, head_dim / 2]
  Array sines;
  Array delta;       // c [rows, hidden]: what the part of a layer that ran last adds to the stream
  Array last;        // c [rows, hidden]: the stream after the last layer
  Array last_norm;   // c [rows, hidden]
  Array last_scale;  // f32 [rows]
  Array gathered;    // c [loss_rows, hidden]
  Array losses;      // f32 [loss_rows]
  Array best;        // i32 [loss_rows]
  Array logits;      // c [chunk_rows, vocabulary]
  Array teacher_logits;
  Array d_gathered;  // c [loss_rows, hidden]
  Array d_stream;    // c [rows, hidden]
  Array d_norm;      // c [rows, hidden]
  Array d_attention; // c [rows, q_width]
  Array d_q;         // c [rows, q_width]
  Array d_k;         // c [rows, kv_width]
  Array d_qkv;       // c [rows, qkv_width]
  Array d_mlp;       // c [rows, intermediate]
  LoraArrays lora;

  // `take(count, dtype)` gives each array its place, or only counts.
  template <class Take>
  static Arrays cut(const ModelConfig& config, const DecoderLimits& limits, Dtype compute, const Take& take) {
    const std::size_t rows = limits.rows;
    const HeadShape heads{config.heads, config.kv_heads, config.head_dim};
    const auto states = [&](std::size_t width) { return take(rows * width, compute); };
    const auto numbers = [&](std::size_t width) { return take(rows * width, Dtype::f32); };
    Arrays arrays;
    const bool keeps = limits.trains;
    const auto layer = [&](const Array& input) {
      LayerStates one;
      one.input = input;
      one.norm1 = states(config.hidden);
      one.norm1_scale = numbers(1);
      one.qkv = states(heads.qkv_width());
      one.q = states(heads.q_width());
      one.k = states(heads.kv_width());
      if (config.has_qk_norm()) one.qk_scale = numbers(heads.heads + heads.kv_heads);
      one.attention = states(heads.q_width());
      one.log_sum = numbers(heads.heads);
      one.middle = states(config.hidden);
      one.norm2 = states(config.hidden);
      one.norm2_scale = numbers(1);
      one.gate_up = states(2 * config.intermediate);
      one.mlp = states(config.intermediate);
      return one;
    };
    const bool one_for_all = !keeps || limits.keep == Keep::inputs;
    for (std::size_t i = 0; i < config.layers; ++i) {
      if (i == 0 || !one_for_all) {
        arrays.layers.push_back(layer(states(config.hidden)));
      } else {
        arrays.layers.push_back(arrays.layers.front());
        if (keeps) arrays.layers.back().input = states(config.hidden);
      }
    }
    arrays.cosines = take(limits.positions * config.head_dim / 2, Dtype::f32);
    arrays.sines = take(limits.positions * config.head_dim / 2, Dtype::f32);
    arrays.delta = states(config.hidden);
    arrays.last = states(config.hidden);
    arrays.last_norm = states(config.hidden);
    arrays.last_scale = numbers(1);
    arrays.gathered = take(limits.loss_rows * config.hidden, compute);
    arrays.losses = take(limits.loss_rows, Dtype::f32);
    arrays.best = take(limits.loss_rows, Dtype::i32);
    arrays.logits = take(limits.chunk_rows * config.vocabulary, compute);
    if (limits.lora.rank > 0) arrays.lora = cut_lora(config, limits, compute, take);
    if (limits.teacher_head) arrays.teacher_logits = take(limits.chunk_rows * config.vocabulary, compute);
    if (!limits.trains) return arrays;
    arrays.d_gathered = take(limits.loss_rows * config.hidden, compute);
    arrays.d_stream = states(config.hidden);
    arrays.d_norm = states(config.hidden);
    arrays.d_attention = states(heads.q_width());
    arrays.d_q = states(heads.q_width());
    arrays.d_k = states(heads.kv_width());
    arrays.d_qkv = states(heads.qkv_width());
    arrays.d_mlp = states(config.intermediate);
    return arrays;
  }

  template <class Take>
  static LoraArrays cut_lora(const ModelConfig& config, const DecoderLimits& limits, Dtype compute, const Take& take) {
    const std::size_t rows = limits.rows;
    const std::size_t rank = limits.lora.rank;
    LoraArrays lora;
    std::size_t widest = 0;
    for (const LoraTarget target : lora_targets) {
      if (!limits.lora.has(target)) continue;
      const Projection projection = projection_of(config, target);
      widest = std::max({widest, projection.inputs, projection.outputs});
      lora.places[static_cast<std::size_t>(target)] = take(rows * Blocks(projection).own, Dtype::i32);
    }
    lora.scale = take(rank * rank, compute);
    lora.low = take(rows * rank, compute);
    lora.scaled = take(rows * rank, compute);
    lora.wide = take(rows * widest, compute);
    if (!limits.trains) return lora;
    lora.d_low = take(rows * rank, compute);
    lora.d_scaled = take(rows * rank, compute);
    lora.rows = take(rows, Dtype::i32);
    return lora;
  }
};

std::size_t Decoder::bytes_of(const ModelConfig& config, const DecoderLimits& limits, Dtype compute) {
  std::size_t bytes = 0;
  Arrays::cut(config, limits, compute, [&bytes](std::size_t count, Dtype dtype) {
    bytes += Arena::bytes_of(count, dtype);
    return Array{nullptr, count, dtype};
  });
  return bytes;
}

Decoder::Decoder(Device& device, const ModelConfig& config, const DecoderLimits& limits) : device_(device), config_(config), limits_(limits) {}
Decoder::~Decoder() = default;

Result<std::unique_ptr<Decoder>> Decoder::make(Device& device, const ModelConfig& config, const DecoderLimits& limits) {
  if (Result<void> good = check_model_config(config); !good) return fail(std::move(good.error()));
  if (Result<void> good = check_lora(config, limits.lora); !good) return fail(std::move(good.error()));
  if (limits.rows == 0 || limits.positions == 0 || (limits.loss_rows > 0 && limits.chunk_rows == 0))
    return fail(GpuError::invalid, "a decoder takes at least one token, one position and one row of logits");
  std::unique_ptr<Decoder> decoder(new Decoder(device, config, limits));
  auto memory = device.allocate(bytes_of(config, limits, device.compute_dtype()), Dtype::u8);
  if (!memory) return fail(Error{memory.error().module, memory.error().code, "the model's activations do not fit: " + memory.error().message});
  decoder->memory_ = std::move(*memory);
  Arena arena(decoder->memory_->array());
  decoder->arrays_ = std::make_unique<Arrays>(
      Arrays::cut(config, limits, device.compute_dtype(), [&arena](std::size_t count, Dtype dtype) { return arena.take(count, dtype); }));
  decoder->upload_rope();
  if (Result<void> done = decoder->upload_lora(); !done) return fail(std::move(done.error()));
  return decoder;
}

// In fp32 as the models were taught: an angle is a position times a rounded frequency, rounded.
void Decoder::upload_rope() {
  const std::size_t half = config_.head_dim / 2;
  std::vector<float> cosines(limits_.positions * half);
  std::vector<float> sines(limits_.positions * half);
  for (std::size_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config_.head_dim);
    const float frequency = 1.0F / std::pow(static_cast<float>(config_.rope_theta), exponent);
    for (std::size_t position = 0; position < limits_.positions; ++position) {
      const float angle = static_cast<float>(position) * frequency;
      cosines[position * half + i] = std::cos(angle);
      sines[position * half + i] = std::sin(angle);
    }
  }
  device_.upload(arrays_->cosines, std::as_bytes(std::span(cosines)));
  device_.upload(arrays_->sines, std::as_bytes(std::span(sines)));
}

Result<void> Decoder::upload_lora() {
  const LoraOptions& options = limits_.lora;
  if (options.rank == 0) return {};
  const LoraArrays& lora = arrays_->lora;
  const auto put = [this](const Array& to, const std::vector<std::int32_t>& numbers) { device_.upload(to, std::as_bytes(std::span(numbers))); };
  for (const LoraTarget target : lora_targets) {
    if (options.has(target)) put(lora.places[static_cast<std::size_t>(target)], Blocks(projection_of(config_, target)).places(limits_.rows));
  }
  if (limits_.trains) {
    std::vector<std::int32_t> rows(limits_.rows);
    std::iota(rows.begin(), rows.end(), 0);
    put(lora.rows, rows);
  }
  std::vector<float> scale(lora.scale.count, 0.0F);
  for (std::size_t i = 0; i < options.rank; ++i) scale[i * (options.rank + 1)] = options.scale();
  const auto uploaded = upload_weights(device_, scale);
  if (!uploaded) return fail(uploaded.error());
  device_.copy(lora.scale, (*uploaded)->array());
  return device_.synchronize();
}

const Decoder::LayerStates& Decoder::states_of(std::size_t layer) const { return arrays_->layers[layer]; }

Array Decoder::forward(const DecoderWeights& weights, const DecoderBatch& batch) {
  rows_ = batch.tokens.count;
  check(rows_ > 0 && rows_ <= limits_.rows && batch.longest <= limits_.positions, "a batch is within the decoder's limits");
  device_.run(Embedding{rows_of(states_of(0).input, config_.hidden), weights.embedding, batch.tokens, config_.hidden});
  Array before;
  for (std::size_t layer = 0; layer < config_.layers; ++layer) {
    forward_layer(weights, layer, batch, before);
    before = states_of(layer).middle;
  }
  const std::size_t hidden = config_.hidden;
  RmsNorm norm;
  norm.out = rows_of(arrays_->last_norm, hidden);
  norm.scale = rows_of(arrays_->last_scale, 1);
  norm.x = rows_of(before, hidden);
  norm.delta = rows_of(arrays_->delta, hidden);
  norm.sum = rows_of(arrays_->last, hidden);
  norm.weight = weights.norm;
  norm.width = hidden;
  norm.epsilon = static_cast<float>(config_.norm_epsilon);
  device_.run(norm);
  return norm.out;
}

void Decoder::forward_layer(const DecoderWeights& weights, std::size_t layer, const DecoderBatch& batch, const Array& before) {
  forward_to_mlp(weights, layer, batch, before);
  const Array mlp = rows_of(states_of(layer).mlp, config_.intermediate);
  const Array delta = rows_of(arrays_->delta, config_.hidden);
  device_.run(Linear{delta, mlp, weights.layers[layer].down, {}, config_.intermediate, config_.hidden});
  add_adapters(weights.layers[layer], {LoraTarget::down}, delta, mlp);
}

void Decoder::add_adapters(const LayerWeights& weights, std::initializer_list<LoraTarget> targets, const Array& out, const Array& x) {
  const std::size_t rank = limits_.lora.rank;
  const LoraArrays& lora = arrays_->lora;
  for (const LoraTarget target : targets) {
    const LoraWeights& adapter = weights.lora[static_cast<std::size_t>(target)];
    if (adapter.a.empty()) continue;
    const Projection projection = projection_of(config_, target);
    const Blocks blocks(projection);
    const Array low = rows_of(lora.low, rank);
    const Array scaled = rows_of(lora.scaled, rank);
    const Array wide = rows_of(lora.wide, projection.outputs);
    device_.run(Linear{low, x, adapter.a, {}, projection.inputs, rank});
    device_.run(Linear{scaled, low, lora.scale, {}, rank, rank});
    device_.run(Linear{wide, scaled, adapter.b, {}, rank, projection.outputs});
    device_.run(Scatter{out, wide, rows_of(lora.places[static_cast<std::size_t>(target)], blocks.own), blocks.width});
  }
}

// x · Aᵀ is made again: it takes less time than it would take memory.
void Decoder::add_adapters_backward(const LayerWeights& weights, const LayerWeights& gradients, std::initializer_list<LoraTarget> targets, const Array& d_x,
                                    const Array& d_out, const Array& x) {
  const std::size_t rank = limits_.lora.rank;
  const LoraArrays& lora = arrays_->lora;
  for (const LoraTarget target : targets) {
    const LoraWeights& adapter = weights.lora[static_cast<std::size_t>(target)];
    if (adapter.a.empty()) continue;
    const LoraWeights& d_adapter = gradients.lora[static_cast<std::size_t>(target)];
    const Projection projection = projection_of(config_, target);
    const Blocks blocks(projection);
    const Array low = rows_of(lora.low, rank);
    const Array scaled = rows_of(lora.scaled, rank);
    const Array d_low = rows_of(lora.d_low, rank);
    const Array d_scaled = rows_of(lora.d_scaled, rank);
    const Array d_own = rows_of(lora.wide, projection.outputs);
    const Array d_input = rows_of(lora.wide, projection.inputs);  // when d_own has been used
    device_.run(Linear{low, x, adapter.a, {}, projection.inputs, rank});
    device_.run(Linear{scaled, low, lora.scale, {}, rank, rank});
    device_.run(Gather{d_own, d_out, rows_of(lora.places[static_cast<std::size_t>(target)], blocks.own), blocks.width});
    device_.run(LinearBackward{d_scaled, d_adapter.b, {}, d_own, scaled, adapter.b, rank, projection.outputs});
    device_.run(LinearBackward{d_low, {}, {}, d_scaled, low, lora.scale, rank, rank});
    device_.run(LinearBackward{d_input, d_adapter.a, {}, d_low, x, adapter.a, projection.inputs, rank});
    device_.run(Scatter{d_x, d_input, rows_of(lora.rows, 1), projection.inputs});
  }
}

void Decoder::attend(std::size_t layer, const DecoderBatch& batch, const Array& out) {
  const LayerStates& states = states_of(layer);
  const HeadShape shape = heads();
  const Array q = rows_of(states.q, shape.q_width());
  const Array k = rows_of(states.k, shape.kv_width());
  const Array qkv = rows_of(states.qkv, shape.qkv_width());
  const PagedCache& cache = batch.cache;
  if (cache.keys.empty()) return device_.run(Attention{out, rows_of(states.log_sum, shape.heads), q, k, qkv, batch.begins, batch.sequences, batch.longest, shape});
  const std::size_t of_layer = cache.keys.count / config_.layers;
  PagedAttention paged;
  paged.out = out;
  paged.keys = cache.keys.part(layer * of_layer, of_layer);
  paged.values = cache.values.part(layer * of_layer, of_layer);
  paged.q = q;
  paged.k = k;
  paged.qkv = qkv;
  paged.positions = batch.positions;
  paged.begins = batch.begins;
  paged.tables = cache.tables;
  paged.sequences = batch.sequences;
  paged.table_width = cache.table_width;
  paged.page_rows = cache.page_rows;
  paged.longest = batch.longest;
  paged.shape = shape;
  device_.run(paged);
}

void Decoder::forward_to_mlp(const DecoderWeights& all, std::size_t layer, const DecoderBatch& batch, const Array& before) {
  const LayerWeights& weights = all.layers[layer];
  const LayerStates& states = states_of(layer);
  const std::size_t hidden = config_.hidden;
  const HeadShape shape = heads();
  RmsNorm norm;
  norm.out = rows_of(states.norm1, hidden);
  norm.scale = rows_of(states.norm1_scale, 1);
  norm.x = rows_of(before.empty() ? states.input : before, hidden);
  if (!before.empty()) {
    norm.delta = rows_of(arrays_->delta, hidden);
    norm.sum = rows_of(states.input, hidden);
  }
  norm.weight = weights.attention_norm;
  norm.width = hidden;
  norm.epsilon = static_cast<float>(config_.norm_epsilon);
  device_.run(norm);

  const Array qkv = rows_of(states.qkv, shape.qkv_width());
  device_.run(Linear{qkv, norm.out, weights.qkv, weights.qkv_bias, hidden, shape.qkv_width()});
  add_adapters(weights, {LoraTarget::q, LoraTarget::k, LoraTarget::v}, qkv, norm.out);
  QkRope rope;
  rope.q = rows_of(states.q, shape.q_width());
  rope.k = rows_of(states.k, shape.kv_width());
  if (!states.qk_scale.empty()) rope.scale = rows_of(states.qk_scale, shape.heads + shape.kv_heads);
  rope.qkv = qkv;
  rope.q_weight = weights.q_norm;
  rope.k_weight = weights.k_norm;
  rope.positions = batch.positions;
  rope.cosines = arrays_->cosines;
  rope.sines = arrays_->sines;
  rope.shape = shape;
  rope.epsilon = static_cast<float>(config_.norm_epsilon);
  device_.run(rope);
  const Array attention = rows_of(states.attention, shape.q_width());
  attend(layer, batch, attention);
  const Array delta = rows_of(arrays_->delta, hidden);
  device_.run(Linear{delta, attention, weights.attention_out, {}, shape.q_width(), hidden});
  add_adapters(weights, {LoraTarget::o}, delta, attention);

  norm.out = rows_of(states.norm2, hidden);
  norm.scale = rows_of(states.norm2_scale, 1);
  norm.x = rows_of(states.input, hidden);
  norm.delta = delta;
  norm.sum = rows_of(states.middle, hidden);
  norm.weight = weights.mlp_norm;
  device_.run(norm);
  const Array gate_up = rows_of(states.gate_up, 2 * config_.intermediate);
  device_.run(Linear{gate_up, norm.out, weights.gate_up, {}, hidden, 2 * config_.intermediate});
  add_adapters(weights, {LoraTarget::gate, LoraTarget::up}, gate_up, norm.out);
  device_.run(SwiGlu{rows_of(states.mlp, config_.intermediate), gate_up, config_.intermediate});
}

Array Decoder::states(const DecoderWeights& weights, const DecoderBatch& batch, const Array& rows) {
  const std::size_t hidden = config_.hidden;
  check(rows.count > 0 && rows.count <= limits_.loss_rows, "states are asked for within the decoder's limits");
  const Array all = forward(weights, batch);
  const Array gathered = arrays_->gathered.part(0, rows.count * hidden);
  device_.run(Gather{gathered, all, rows, hidden});
  return gathered;
}

Array Decoder::logits(const DecoderWeights& weights, const DecoderBatch& batch, const Array& rows, std::size_t tokens) {
  const std::size_t hidden = config_.hidden;
  check(rows.count <= limits_.chunk_rows && tokens <= config_.vocabulary, "logits are asked for within the decoder's limits");
  const Array gathered = states(weights, batch, rows);
  const Array logits = arrays_->logits.part(0, rows.count * tokens);
  device_.run(Linear{logits, gathered, weights.head.part(0, tokens * hidden), {}, hidden, tokens});
  return logits;
}

HeadLoss Decoder::head_loss(const DecoderWeights& weights, const LossBatch& loss) {
  const std::size_t count = loss.rows.count;
  check(count > 0 && count <= limits_.loss_rows, "a batch bears loss within the decoder's limits");
  check(loss.tokens <= config_.vocabulary, "no more tokens than rows of the head");
  const Teacher& teacher = loss.teacher;
  check(teacher.width == 0 || (limits_.teacher_head && teacher.head.count >= loss.tokens * teacher.width), "a teacher's head has every token");
  HeadLoss head;
  head.losses = arrays_->losses.part(0, count);
  head.x = arrays_->gathered.part(0, count * config_.hidden);
  head.head = weights.head;
  head.targets = loss.targets;
  head.weights = loss.weights;
  head.logits = arrays_->logits;
  head.teacher_logits = arrays_->teacher_logits;
  head.width = config_.hidden;
  head.vocabulary = config_.vocabulary;
  head.tokens = loss.tokens;
  head.chunk_rows = limits_.chunk_rows;
  head.shape = loss.shape;
  head.teacher = loss.teacher;
  device_.run(Gather{head.x, rows_of(arrays_->last_norm, config_.hidden), loss.rows, config_.hidden});
  return head;
}

Decoder::Scores Decoder::scores(const DecoderWeights& weights, const DecoderBatch& batch, const LossBatch& loss) {
  forward(weights, batch);
  HeadLoss head = head_loss(weights, loss);
  head.best = arrays_->best.part(0, head.losses.count);
  device_.run(head);
  return {head.losses, head.best};
}

Array Decoder::loss_and_gradients(const DecoderWeights& weights, const DecoderWeights& gradients, const DecoderBatch& batch, const LossBatch& loss,
                                  const LayerDone& layer_done) {
  check(limits_.trains, "a decoder that does not train has no gradients");
  forward(weights, batch);
  const std::size_t hidden = config_.hidden;
  HeadLoss head = head_loss(weights, loss);
  head.d_x = arrays_->d_gathered.part(0, head.x.count);
  head.d_head = gradients.head;
  device_.run(head);

  const Array d_norm = rows_of(arrays_->d_norm, hidden);
  const Array d_stream = rows_of(arrays_->d_stream, hidden);
  device_.fill_zero(d_norm);
  device_.fill_zero(d_stream);
  device_.run(Scatter{d_norm, head.d_x, loss.rows, hidden});
  device_.run(RmsNormBackward{d_stream, gradients.norm, d_norm, rows_of(arrays_->last, hidden), rows_of(arrays_->last_scale, 1), weights.norm, hidden});
  for (std::size_t layer = config_.layers; layer-- > 0;) {
    const bool was_overwritten = limits_.keep == Keep::inputs && layer + 1 < config_.layers;
    if (was_overwritten) forward_to_mlp(weights, layer, batch, {});
    backward_layer(weights.layers[layer], gradients.layers[layer], states_of(layer), batch);
    if (layer_done) layer_done(layer);
  }
  if (!gradients.embedding.empty()) device_.run(EmbeddingBackward{gradients.embedding, d_stream, batch.tokens, hidden});
  return head.losses;
}

void Decoder::backward_mlp(const LayerWeights& weights, const LayerWeights& gradients, const LayerStates& states) {
  const std::size_t hidden = config_.hidden;
  const std::size_t intermediate = config_.intermediate;
  const Array d_stream = rows_of(arrays_->d_stream, hidden);
  const Array d_mlp = rows_of(arrays_->d_mlp, intermediate);
  const Array mlp = rows_of(states.mlp, intermediate);
  device_.run(LinearBackward{d_mlp, gradients.down, {}, d_stream, mlp, weights.down, intermediate, hidden});
  add_adapters_backward(weights, gradients, {LoraTarget::down}, d_mlp, d_stream, mlp);
  const Array gate_up = rows_of(states.gate_up, 2 * intermediate);
  device_.run(SwiGluBackward{gate_up, d_mlp, gate_up, intermediate});
  const Array d_norm = rows_of(arrays_->d_norm, hidden);
  const Array norm = rows_of(states.norm2, hidden);
  device_.run(LinearBackward{d_norm, gradients.gate_up, {}, gate_up, norm, weights.gate_up, hidden, 2 * intermediate});
  add_adapters_backward(weights, gradients, {LoraTarget::gate, LoraTarget::up}, d_norm, gate_up, norm);
  device_.run(RmsNormBackward{d_stream, gradients.mlp_norm, d_norm, rows_of(states.middle, hidden), rows_of(states.norm2_scale, 1), weights.mlp_norm, hidden});
}

void Decoder::backward_layer(const LayerWeights& weights, const LayerWeights& gradients, const LayerStates& states, const DecoderBatch& batch) {
  backward_mlp(weights, gradients, states);
  const std::size_t hidden = config_.hidden;
  const HeadShape shape = heads();
  const Array d_stream = rows_of(arrays_->d_stream, hidden);
  const Array d_attention = rows_of(arrays_->d_attention, shape.q_width());
  const Array attention = rows_of(states.attention, shape.q_width());
  device_.run(LinearBackward{d_attention, gradients.attention_out, {}, d_stream,
                             attention, weights.attention_out, shape.q_width(), hidden});
  add_adapters_backward(weights, gradients, {LoraTarget::o}, d_attention, d_stream, attention);

  AttentionBackward attend;
  attend.d_q = rows_of(arrays_->d_q, shape.q_width());
  attend.d_k = rows_of(arrays_->d_k, shape.kv_width());
  attend.d_qkv = rows_of(arrays_->d_qkv, shape.qkv_width());
  attend.d_out = d_attention;
  attend.out = attention;
  attend.log_sum = rows_of(states.log_sum, shape.heads);
  attend.q = rows_of(states.q, shape.q_width());
  attend.k = rows_of(states.k, shape.kv_width());
  attend.qkv = rows_of(states.qkv, shape.qkv_width());
  attend.begins = batch.begins;
  attend.sequences = batch.sequences;
  attend.longest = batch.longest;
  attend.shape = shape;
  device_.run(attend);

  QkRopeBackward rope;
  rope.d_qkv = attend.d_qkv;
  rope.d_q_weight = gradients.q_norm;
  rope.d_k_weight = gradients.k_norm;
  rope.d_q = attend.d_q;
  rope.d_k = attend.d_k;
  if (!states.qk_scale.empty()) rope.scale = rows_of(states.qk_scale, shape.heads + shape.kv_heads);
  rope.qkv = attend.qkv;
  rope.q_weight = weights.q_norm;
  rope.k_weight = weights.k_norm;
  rope.positions = batch.positions;
  rope.cosines = arrays_->cosines;
  rope.sines = arrays_->sines;
  rope.shape = shape;
  device_.run(rope);

  const Array d_norm = rows_of(arrays_->d_norm, hidden);
  const Array norm = rows_of(states.norm1, hidden);
  device_.run(LinearBackward{d_norm, gradients.qkv, gradients.qkv_bias, attend.d_qkv, norm, weights.qkv, hidden, shape.qkv_width()});
  add_adapters_backward(weights, gradients, {LoraTarget::q, LoraTarget::k, LoraTarget::v}, d_norm, attend.d_qkv, norm);
  device_.run(RmsNormBackward{d_stream, gradients.attention_norm, d_norm, rows_of(states.input, hidden), rows_of(states.norm1_scale, 1), weights.attention_norm, hidden});
}

}  // namespace outlast::gpu
