// Decoder: the transformer of the Qwen family, forward and backward, as a list of operations on one device. To add an
// architecture: its tensors in parameters.cpp, its block in decoder.cpp.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "core/result.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::gpu {

// What is kept of a layer for its backward pass.
enum class Keep : std::uint8_t {
  everything,
  inputs,  // and the rest is made again: a third more time for a fraction of the memory
};

struct DecoderLimits {
  std::size_t rows = 0;       // tokens of one micro-batch
  std::size_t loss_rows = 0;  // of these, those that may bear loss
  std::size_t chunk_rows = 0; // rows whose logits exist at once
  std::size_t positions = 0;  // the longest sequence
  bool trains = true;         // else there are no gradients, and nothing is kept
  Keep keep = Keep::everything;
  bool teacher_head = false;  // whether losses are by a teacher's own head
  LoraOptions lora;           // the adapter that weights may have
};

// Keys and values of what came before, in pages that the batch's own are added to.
struct PagedCache {
  Array keys;    // c [layers, pages, kv_heads, page_rows, head_dim]
  Array values;  // c [layers, pages, kv_heads, page_rows, head_dim]
  Array tables;  // i32 [sequences, table_width]: the pages of each sequence
  std::size_t table_width = 0;
  std::size_t page_rows = 0;
};
// Packed sequences, on the device.
struct DecoderBatch {
  Array tokens;     // i32 [rows]
  Array positions;  // i32 [rows]: from 0 in each sequence; with a cache, from where it goes on
  Array begins;     // i32 [sequences + 1]
  std::size_t sequences = 0;
  std::size_t longest = 0;  // of a sequence, with what lies in the cache
  PagedCache cache;         // empty: each sequence is whole
};
// Which rows bear loss, and what they should say next.
struct LossBatch {
  Array rows;     // i32 [loss_rows], rising
  Array targets;  // i32 [loss_rows]
  Array weights;  // f32 [loss_rows]
  std::size_t tokens = 0;  // the tokenizer's size: ids beyond are padding
  LossShape shape;
  Teacher teacher;
};

// One owner.
class Decoder {
 public:
  // `device` outlives it. Errors: too_large, invalid.
  static Result<std::unique_ptr<Decoder>> make(Device& device, const ModelConfig& config, const DecoderLimits& limits);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  // Bytes of activations and scratch that one takes.
  static std::size_t bytes_of(const ModelConfig& config, const DecoderLimits& limits, Dtype compute);

  // The last layer's states after the final norm: c [rows, hidden], valid until the next call.
  Array forward(const DecoderWeights& weights, const DecoderBatch& batch);
  // Of these, those of some rows (i32 [count], at most the limit's loss_rows): c [count, hidden], valid until the next call.
  Array states(const DecoderWeights& weights, const DecoderBatch& batch, const Array& rows);
  // What may follow some of the rows (i32 [count], at most the limit's loss_rows and chunk_rows), of the first `tokens` of the
  // vocabulary: c [count, tokens], valid until the next call.
  Array logits(const DecoderWeights& weights, const DecoderBatch& batch, const Array& rows, std::size_t tokens);
  // Losses of the rows (f32 [loss_rows], valid until the next call), and gradients of Σ weight · loss, added to `gradients`; none of
  // weights whose gradients are empty.
  // `layer_done` is told of each layer, from the last to the first, as soon as its gradients are whole; what comes after the layers
  // is whole with the last one, unless that is the embedding too.
  using LayerDone = std::function<void(std::size_t layer)>;
  Array loss_and_gradients(const DecoderWeights& weights, const DecoderWeights& gradients, const DecoderBatch& batch, const LossBatch& loss,
                           const LayerDone& layer_done = {});
  struct Scores {
    Array losses;  // f32 [loss_rows]
    Array best;    // i32 [loss_rows]: what the model itself would say
  };
  // Without gradients; valid until the next call.
  Scores scores(const DecoderWeights& weights, const DecoderBatch& batch, const LossBatch& loss);

 private:
  struct LayerStates;
  struct LoraArrays;
  struct Arrays;  // all of them, cut from one memory

  Decoder(Device& device, const ModelConfig& config, const DecoderLimits& limits);
  void upload_rope();
  Result<void> upload_lora();
  // From the layer's input, which `before` + delta_ become first where `before` is not empty.
  void forward_layer(const DecoderWeights& weights, std::size_t layer, const DecoderBatch& batch, const Array& before);
  void forward_to_mlp(const DecoderWeights& weights, std::size_t layer, const DecoderBatch& batch, const Array& before);
  void attend(std::size_t layer, const DecoderBatch& batch, const Array& out);
  // d_stream_: from after the layer to before it.
  void backward_layer(const LayerWeights& weights, const LayerWeights& gradients, const LayerStates& states, const DecoderBatch& batch);
  void backward_mlp(const LayerWeights& weights, const LayerWeights& gradients, const LayerStates& states);
  // Some projections' adapters, into what one multiplication of `x` made, and their gradients from those of it; d_x is added to.
  void add_adapters(const LayerWeights& weights, std::initializer_list<LoraTarget> targets, const Array& out, const Array& x);
  void add_adapters_backward(const LayerWeights& weights, const LayerWeights& gradients, std::initializer_list<LoraTarget> targets, const Array& d_x,
                             const Array& d_out, const Array& x);
  HeadLoss head_loss(const DecoderWeights& weights, const LossBatch& loss);
  [[nodiscard]] HeadShape heads() const { return {config_.heads, config_.kv_heads, config_.head_dim}; }
  [[nodiscard]] const LayerStates& states_of(std::size_t layer) const;
  // The part of an array of [limits.rows, width] that the batch at hand has.
  [[nodiscard]] Array rows_of(const Array& whole, std::size_t width) const { return whole.part(0, rows_ * width); }

  Device& device_;
  const ModelConfig config_;
  const DecoderLimits limits_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Arrays> arrays_;
  std::size_t rows_ = 0;  // of the batch at hand
};

}  // namespace outlast::gpu
