// Operations: what a decoder and its training are made of. Every device has all of them; the CPU's are the reference.
//
// Names of sizes: rows = tokens of all sequences that are packed one after the other; width = of the residual stream.
// "c" is the device's compute type (Device::compute_dtype()); reductions accumulate in f32. A gradient of a weight is f32 and
// added to; a gradient of an activation is c and written, where it does not say "added to".
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/array.hpp"

namespace outlast::gpu {

// out = table[tokens]
struct Embedding {
  Array out;     // c [rows, width]
  Array table;   // c [vocabulary, width]
  Array tokens;  // i32 [rows], each below the vocabulary
  std::size_t width = 0;
};
struct EmbeddingBackward {
  Array d_table;  // f32 [vocabulary, width]
  Array d_out;    // c [rows, width]
  Array tokens;   // i32 [rows]
  std::size_t width = 0;
};

// out = x / sqrt(mean(x²) + epsilon) · weight, by row (Zhang and Sennrich 2019).
struct RmsNorm {
  Array out;     // c [rows, width]
  Array scale;   // f32 [rows]: 1 / sqrt(…), for the backward pass
  Array x;       // c [rows, width]
  Array delta;   // c [rows, width], or empty: added to x first
  Array sum;     // c [rows, width]: x + delta, with a delta; may be x itself
  Array weight;  // c [width]
  std::size_t width = 0;
  float epsilon = 0;
};
struct RmsNormBackward {
  Array d_x;       // c [rows, width], added to
  Array d_weight;  // f32 [width], or empty (frozen)
  Array d_out;     // c [rows, width]
  Array x;         // c [rows, width], as it was normalised
  Array scale;     // f32 [rows]
  Array weight;    // c [width]
  std::size_t width = 0;
};

// out = x · weightᵀ + bias
struct Linear {
  Array out;     // c [rows, outputs]
  Array x;       // c [rows, inputs]
  Array weight;  // c [outputs, inputs]
  Array bias;    // c [outputs], or empty
  std::size_t inputs = 0;
  std::size_t outputs = 0;
};
struct LinearBackward {
  Array d_x;       // c [rows, inputs], or empty
  Array d_weight;  // f32 [outputs, inputs], or empty (frozen)
  Array d_bias;    // f32 [outputs], or empty
  Array d_out;     // c [rows, outputs]
  Array x;         // c [rows, inputs]
  Array weight;    // c [outputs, inputs]
  std::size_t inputs = 0;
  std::size_t outputs = 0;
};

// Sizes of attention: query head h reads the key-value head h / (heads / kv_heads).
struct HeadShape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t dim = 0;  // of a head; even
  [[nodiscard]] std::size_t q_width() const { return heads * dim; }
  [[nodiscard]] std::size_t kv_width() const { return kv_heads * dim; }
  [[nodiscard]] std::size_t qkv_width() const { return q_width() + 2 * kv_width(); }
};

// Queries and keys from the fused projection: RMSNorm over each head (where there are weights), then the rotary embedding,
// rotate-half: y[i] = x[i]·cos − x[i + dim/2]·sin, y[i + dim/2] = x[i + dim/2]·cos + x[i]·sin, angle = position·theta^(−2i/dim)
// (Su et al. 2021). Values stay in qkv.
struct QkRope {
  Array q;          // c [rows, heads, dim]
  Array k;          // c [rows, kv_heads, dim]
  Array scale;      // f32 [rows, heads + kv_heads]: of the norms; empty without
  Array qkv;        // c [rows, qkv_width]: q, then k, then v
  Array q_weight;   // c [dim], or empty
  Array k_weight;   // c [dim], or empty
  Array positions;  // i32 [rows], each below the tables' rows
  Array cosines;    // f32 [positions, dim / 2]
  Array sines;      // f32 [positions, dim / 2]
  HeadShape shape;
  float epsilon = 0;
};
struct QkRopeBackward {
  Array d_qkv;       // c [rows, qkv_width]: its q and k
  Array d_q_weight;  // f32 [dim], or empty (none, or frozen)
  Array d_k_weight;  // f32 [dim], or empty
  Array d_q;         // c [rows, heads, dim]
  Array d_k;         // c [rows, kv_heads, dim]
  Array scale;       // f32 [rows, heads + kv_heads]
  Array qkv;         // c [rows, qkv_width], as it was
  Array q_weight;    // c [dim], or empty
  Array k_weight;    // c [dim], or empty
  Array positions;   // i32 [rows]
  Array cosines;     // f32 [positions, dim / 2]
  Array sines;       // f32 [positions, dim / 2]
  HeadShape shape;
};

// Causal attention within each of the packed sequences: out = softmax(q·kᵀ/√dim)·v; never holds all scores (Dao et al. 2022).
struct Attention {
  Array out;      // c [rows, heads, dim]
  Array log_sum;  // f32 [rows, heads]: log Σ exp of the scaled scores
  Array q;        // c [rows, heads, dim]
  Array k;        // c [rows, kv_heads, dim]
  Array qkv;      // c [rows, qkv_width]: its v
  Array begins;   // i32 [sequences + 1]: first row of each; the last is rows
  std::size_t sequences = 0;
  std::size_t longest = 0;  // rows of the longest sequence
  HeadShape shape;
};
struct AttentionBackward {
  Array d_q;      // c [rows, heads, dim]
  Array d_k;      // c [rows, kv_heads, dim]
  Array d_qkv;    // c [rows, qkv_width]: its v
  Array d_out;    // c [rows, heads, dim]
  Array out;      // c [rows, heads, dim]
  Array log_sum;  // f32 [rows, heads]
  Array q;        // c [rows, heads, dim]
  Array k;        // c [rows, kv_heads, dim]
  Array qkv;      // c [rows, qkv_width]
  Array begins;   // i32 [sequences + 1]
  std::size_t sequences = 0;
  std::size_t longest = 0;
  HeadShape shape;
};

// Causal attention of rows that go on from others, whose keys and values lie in pages (Kwon et al. 2023): chunks of prompts and
// single tokens in one batch. First the rows' own k and v go to their places, then each row attends to its sequence up to itself.
struct PagedAttention {
  Array out;        // c [rows, heads, dim]
  Array keys;       // c [pages, kv_heads, page_rows, dim]
  Array values;     // c [pages, kv_heads, page_rows, dim]
  Array q;          // c [rows, heads, dim]
  Array k;          // c [rows, kv_heads, dim]
  Array qkv;        // c [rows, qkv_width]: its v
  Array positions;  // i32 [rows]: rising by one within a sequence
  Array begins;     // i32 [sequences + 1]: first row of each; the last is rows
  Array tables;     // i32 [sequences, table_width]: position p of a sequence lies in page tables[p / page_rows], row p % page_rows
  std::size_t sequences = 0;
  std::size_t table_width = 0;
  std::size_t page_rows = 0;
  std::size_t longest = 0;  // keys of the longest sequence, its new rows among them
  HeadShape shape;
};

// out = silu(gate) · up, silu(x) = x / (1 + e^−x)
struct SwiGlu {
  Array out;      // c [rows, width]
  Array gate_up;  // c [rows, 2 · width]: gate, then up
  std::size_t width = 0;
};
struct SwiGluBackward {
  Array d_gate_up;  // c [rows, 2 · width]; may be gate_up itself
  Array d_out;      // c [rows, width]
  Array gate_up;    // c [rows, 2 · width]
  std::size_t width = 0;
};

// What a token's distribution should become. p: teacher, q: student, both at temperature T; each divergence counts T² times.
enum class LossKind : std::uint8_t {
  cross_entropy,  // −log q(target), at T = 1
  forward_kl,     // Σ p (log p − log q)
  reverse_kl,     // Σ q (log q − log p)
  jsd,            // β·KL(p ‖ m) + (1 − β)·KL(q ‖ m), m = β·p + (1 − β)·q; at 0 forward and at 1 reverse KL
  skew_kl,        // KL(p ‖ α·p + (1 − α)·q)
};
struct LossShape {
  LossKind kind = LossKind::cross_entropy;
  float temperature = 1;
  float mix = 0;             // β of jsd, α of skew_kl
  float cross_entropy = 0;   // this much of −log q(target) is added to a divergence, which counts 1 − this
};

// Where the teacher's distribution comes from; none: cross-entropy only.
struct Teacher {
  // Its k likeliest tokens, the rest of the mass in one bucket: then q's rest is one bucket too.
  Array top_tokens;  // i32 [loss_rows, k]; −1: no token; a row that begins with one has no teacher
  Array top_log_p;   // f32 [loss_rows, k], at the loss's temperature
  std::size_t top_k = 0;
  // Or its own head: its logits are made chunk by chunk.
  Array x;     // c [loss_rows, width of the teacher]
  Array head;  // c [at least `tokens` of HeadLoss, width of the teacher]
  std::size_t width = 0;
};

// Logits, loss and gradients in one go, in chunks of rows, so that the logits of all rows never exist.
struct HeadLoss {
  Array losses;     // f32 [loss_rows]: of each row, before its weight
  Array best;       // i32 [loss_rows], or empty: the likeliest token, of equal ones the first
  Array d_x;        // c [loss_rows, width], or empty: no gradients
  Array d_head;     // f32 [vocabulary, width], or empty
  Array x;          // c [loss_rows, width]: the rows that bear loss, gathered
  Array head;       // c [vocabulary, width]
  Array targets;    // i32 [loss_rows]
  Array weights;    // f32 [loss_rows]: of each row in the sum that is differentiated
  Array logits;     // c [chunk_rows, vocabulary]: scratch
  Array teacher_logits;  // c [chunk_rows, vocabulary]: scratch, with a teacher's own head
  std::size_t width = 0;
  std::size_t vocabulary = 0;  // rows of head
  std::size_t tokens = 0;      // of these the first so many are tokens; the others are padding, never produced
  std::size_t chunk_rows = 0;
  LossShape shape;
  Teacher teacher;
};

// Of each row of logits: the likeliest token, of equal ones the first, and its log-probability, which is NaN where a logit is not finite.
struct Likeliest {
  Array tokens;  // i32 [rows]
  Array log_p;   // f32 [rows]
  Array logits;  // c [rows, width]
  std::size_t width = 0;
};

// rows of `from` where `out` has them: out[i] = from[rows[i]]; and back, adding: into[rows[i]] += from[i]
struct Gather {
  Array out;   // c [count, width]
  Array from;  // c [rows, width]
  Array rows;  // i32 [count], all different
  std::size_t width = 0;
};
struct Scatter {
  Array into;  // c [rows, width], added to
  Array from;  // c [count, width]
  Array rows;  // i32 [count]
  std::size_t width = 0;
};

// One step of AdamW (Loshchilov and Hutter 2019): decay is not part of the gradient, and scaled by the rate.
struct AdamW {
  Array weights;   // f32 [n]: the master copy
  Array working;   // c [n]: what operations use; empty where the master copy is that
  Array gradient;  // f32 [n]
  Array first;     // f32 [n]: moments
  Array second;    // f32 [n]
  float rate = 0;
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float epsilon = 1e-8F;
  float decay = 0;
  float gradient_scale = 1;   // of the gradient, before all else: for clipping and averaging
  std::uint64_t step = 1;     // from 1
};

class Operations {
 public:
  virtual ~Operations() = default;
  Operations() = default;
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  virtual void run(const Embedding& operation) = 0;
  virtual void run(const EmbeddingBackward& operation) = 0;
  virtual void run(const RmsNorm& operation) = 0;
  virtual void run(const RmsNormBackward& operation) = 0;
  virtual void run(const Linear& operation) = 0;
  virtual void run(const LinearBackward& operation) = 0;
  virtual void run(const QkRope& operation) = 0;
  virtual void run(const QkRopeBackward& operation) = 0;
  virtual void run(const Attention& operation) = 0;
  virtual void run(const AttentionBackward& operation) = 0;
  virtual void run(const PagedAttention& operation) = 0;
  virtual void run(const SwiGlu& operation) = 0;
  virtual void run(const SwiGluBackward& operation) = 0;
  virtual void run(const HeadLoss& operation) = 0;
  virtual void run(const Likeliest& operation) = 0;
  virtual void run(const Gather& operation) = 0;
  virtual void run(const Scatter& operation) = 0;
  virtual void run(const AdamW& operation) = 0;
  // Σ x², into one f32 number of the device, added to what is there.
  virtual void add_square_sum(const Array& sum, const Array& numbers) = 0;
};

}  // namespace outlast::gpu
