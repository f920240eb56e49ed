// Each operation of the CPU against its formula or finite differences of itself. What another device does is compared with the
// CPU's.
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/finite_differences.hpp"

namespace outlast::gpu::operations_test {
namespace {

constexpr double tolerance = 5e-3;
constexpr float epsilon = 1e-6F;

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

struct Cpu {
  std::unique_ptr<CpuDevice> device = need(CpuDevice::make(2));
  [[nodiscard]] Loaded load(const std::vector<float>& numbers) const { return {*device, numbers}; }
  [[nodiscard]] Loaded zeros(std::size_t count) const { return {*device, std::vector<float>(count)}; }
};

TEST_CASE("an embedding is a row of its table, and its gradient goes back there", "[gpu]") {
  const Cpu cpu;
  const Loaded table = cpu.load({0, 1, 10, 11, 20, 21});
  const Loaded tokens(*cpu.device, std::vector<std::int32_t>{2, 0, 2});
  const Loaded out = cpu.zeros(6);
  cpu.device->run(Embedding{out, table, tokens, 2});
  CHECK(numbers_of(out) == std::vector<float>{20, 21, 0, 1, 20, 21});
  const Loaded d_table = cpu.load({1, 1, 1, 1, 1, 1});
  cpu.device->run(EmbeddingBackward{d_table, out, tokens, 2});
  CHECK(numbers_of(d_table) == std::vector<float>{1, 2, 1, 1, 41, 43});
}

TEST_CASE("rows are gathered, and scattered back", "[gpu]") {
  const Cpu cpu;
  const Loaded from = cpu.load({0, 1, 10, 11, 20, 21});
  const Loaded rows(*cpu.device, std::vector<std::int32_t>{2, 1});
  const Loaded out = cpu.zeros(4);
  cpu.device->run(Gather{out, from, rows, 2});
  CHECK(numbers_of(out) == std::vector<float>{20, 21, 10, 11});
  cpu.device->run(Scatter{from, out, rows, 2});
  CHECK(numbers_of(from) == std::vector<float>{0, 1, 20, 22, 40, 42});
}

TEST_CASE("RMSNorm and its gradients", "[gpu]") {
  const Cpu cpu;
  constexpr std::size_t rows = 33;
  constexpr std::size_t width = 7;
  const auto x = random_numbers(rows * width, 1);
  const auto delta = random_numbers(rows * width, 2);
  const auto weight = random_numbers(width, 3);
  const auto d_out = random_numbers(rows * width, 4);
  const Loaded scale = cpu.zeros(rows);
  const Loaded sum = cpu.zeros(rows * width);
  const auto forward = [&](const std::vector<float>& x_now, const std::vector<float>& weight_now) {
    const Loaded out = cpu.zeros(rows * width);
    cpu.device->run(RmsNorm{out, scale, cpu.load(x_now), cpu.load(delta), sum, cpu.load(weight_now), width, epsilon});
    return numbers_of(out);
  };
  const auto out = forward(x, weight);
  const auto summed = numbers_of(sum);
  double squares = 0;
  for (std::size_t i = 0; i < width; ++i) squares += static_cast<double>((x[i] + delta[i]) * (x[i] + delta[i]));
  CHECK(out[2] == Approx((x[2] + delta[2]) / std::sqrt(squares / width) * weight[2]));
  const auto scales = numbers_of(scale);
  const auto start = random_numbers(rows * width, 5);
  const Loaded d_x = cpu.load(start);
  const Loaded d_weight = cpu.zeros(width);
  cpu.device->run(RmsNormBackward{d_x, d_weight, cpu.load(d_out), cpu.load(summed), cpu.load(scales), cpu.load(weight), width});
  auto expected = slopes_of(x, [&](const std::vector<float>& now) { return dot(forward(now, weight), d_out); });
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += start[i];
  check_close(numbers_of(d_x), expected, tolerance);
  check_close(numbers_of(d_weight), slopes_of(weight, [&](const std::vector<float>& now) { return dot(forward(x, now), d_out); }), tolerance);
}

TEST_CASE("a linear map and its gradients, of few rows and of many", "[gpu]") {
  const Cpu cpu;
  const std::size_t rows = GENERATE(1U, 5U, 70U);
  constexpr std::size_t inputs = 9;
  constexpr std::size_t outputs = 37;
  const auto x = random_numbers(rows * inputs, 1);
  const auto weight = random_numbers(outputs * inputs, 2);
  const auto bias = random_numbers(outputs, 3);
  const auto d_out = random_numbers(rows * outputs, 4);
  const auto forward = [&](const std::vector<float>& x_now, const std::vector<float>& weight_now, const std::vector<float>& bias_now) {
    const Loaded out = cpu.zeros(rows * outputs);
    cpu.device->run(Linear{out, cpu.load(x_now), cpu.load(weight_now), cpu.load(bias_now), inputs, outputs});
    return numbers_of(out);
  };
  const auto out = forward(x, weight, bias);
  double expected = static_cast<double>(bias[4]);
  for (std::size_t i = 0; i < inputs; ++i) expected += static_cast<double>(x[(rows - 1) * inputs + i]) * static_cast<double>(weight[4 * inputs + i]);
  CHECK(out[(rows - 1) * outputs + 4] == Approx(expected).epsilon(1e-4));

  const Loaded d_x = cpu.load(std::vector<float>(rows * inputs, 1));
  const Loaded d_weight = cpu.zeros(outputs * inputs);
  const Loaded d_bias = cpu.zeros(outputs);
  cpu.device->run(LinearBackward{d_x, d_weight, d_bias, cpu.load(d_out), cpu.load(x), cpu.load(weight), inputs, outputs});
  check_close(numbers_of(d_x), slopes_of(x, [&](const std::vector<float>& now) { return dot(forward(now, weight, bias), d_out); }), tolerance);
  check_close(numbers_of(d_weight), slopes_of(weight, [&](const std::vector<float>& now) { return dot(forward(x, now, bias), d_out); }), tolerance);
  check_close(numbers_of(d_bias), slopes_of(bias, [&](const std::vector<float>& now) { return dot(forward(x, weight, now), d_out); }), tolerance);
}

TEST_CASE("products of few rows are those of their definition, whatever the sizes", "[gpu]") {
  const Cpu cpu;
  for (const std::size_t inputs : {1U, 7U, 16U, 37U, 320U}) {
    for (const std::size_t outputs : {1U, 4U, 67U}) {
      for (std::size_t rows = 1; rows <= 17; ++rows) {
        const auto x = random_numbers(rows * inputs, 1);
        const auto weight = random_numbers(outputs * inputs, 2);
        const Loaded out = cpu.zeros(rows * outputs);
        cpu.device->run(Linear{out, cpu.load(x), cpu.load(weight), {}, inputs, outputs});
        std::vector<float> expected(rows * outputs);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          double sum = 0;
          for (std::size_t k = 0; k < inputs; ++k) sum += static_cast<double>(x[i / outputs * inputs + k]) * static_cast<double>(weight[i % outputs * inputs + k]);
          expected[i] = static_cast<float>(sum);
        }
        CAPTURE(inputs, outputs, rows);
        CHECK(relative_difference(numbers_of(out), expected) < 1e-5);
      }
    }
  }
}

struct Heads {
  HeadShape shape{4, 2, 6};
  std::size_t rows = 9;
  std::size_t positions = 8;
  std::vector<float> cosines = std::vector<float>(positions * 3);
  std::vector<float> sines = std::vector<float>(positions * 3);
  std::vector<std::int32_t> places{0, 1, 2, 3, 0, 1, 2, 3, 4};
  std::vector<std::int32_t> begins{0, 4, 9};
  Heads() {
    for (std::size_t i = 0; i < cosines.size(); ++i) {
      cosines[i] = std::cos(0.3F * static_cast<float>(i));
      sines[i] = std::sin(0.3F * static_cast<float>(i));
    }
  }
};

TEST_CASE("queries and keys are normed and turned, and so are their gradients", "[gpu]") {
  const Cpu cpu;
  const Heads heads;
  const HeadShape& shape = heads.shape;
  const bool norms = GENERATE(true, false);
  const auto qkv = random_numbers(heads.rows * shape.qkv_width(), 1);
  const auto q_weight = random_numbers(shape.dim, 2);
  const auto k_weight = random_numbers(shape.dim, 3);
  const auto d_q = random_numbers(heads.rows * shape.q_width(), 4);
  const auto d_k = random_numbers(heads.rows * shape.kv_width(), 5);
  const Loaded cosines = cpu.load(heads.cosines);
  const Loaded sines = cpu.load(heads.sines);
  const Loaded places(*cpu.device, heads.places);
  const Loaded scale = cpu.zeros(heads.rows * (shape.heads + shape.kv_heads));
  const Array no_scale;
  const auto forward = [&](const std::vector<float>& qkv_now, const std::vector<float>& q_now, const std::vector<float>& k_now) {
    const Loaded q = cpu.zeros(heads.rows * shape.q_width());
    const Loaded k = cpu.zeros(heads.rows * shape.kv_width());
    const Loaded q_loaded = cpu.load(q_now);
    const Loaded k_loaded = cpu.load(k_now);
    cpu.device->run(QkRope{q, k, norms ? scale.array() : no_scale, cpu.load(qkv_now), norms ? q_loaded.array() : Array{}, norms ? k_loaded.array() : Array{}, places,
                           cosines, sines, shape, epsilon});
    return dot(numbers_of(q), d_q) + dot(numbers_of(k), d_k);
  };
  forward(qkv, q_weight, k_weight);
  const auto scales = numbers_of(scale);
  const Loaded d_qkv = cpu.load(std::vector<float>(qkv.size(), 7));
  const Loaded d_q_weight = cpu.zeros(shape.dim);
  const Loaded d_k_weight = cpu.zeros(shape.dim);
  const Loaded q_loaded = cpu.load(q_weight);
  const Loaded k_loaded = cpu.load(k_weight);
  const Loaded scale_loaded = cpu.load(scales);
  QkRopeBackward backward;
  backward.d_qkv = d_qkv;
  if (norms) {
    backward.d_q_weight = d_q_weight;
    backward.d_k_weight = d_k_weight;
    backward.q_weight = q_loaded;
    backward.k_weight = k_loaded;
    backward.scale = scale_loaded;
  }
  const Loaded d_q_loaded = cpu.load(d_q);
  const Loaded d_k_loaded = cpu.load(d_k);
  const Loaded qkv_loaded = cpu.load(qkv);
  backward.d_q = d_q_loaded;
  backward.d_k = d_k_loaded;
  backward.qkv = qkv_loaded;
  backward.positions = places;
  backward.cosines = cosines;
  backward.sines = sines;
  backward.shape = shape;
  cpu.device->run(backward);
  auto expected = slopes_of(qkv, [&](const std::vector<float>& now) { return forward(now, q_weight, k_weight); }, 3e-3F);
  for (std::size_t row = 0; row < heads.rows; ++row) {
    for (std::size_t i = shape.q_width() + shape.kv_width(); i < shape.qkv_width(); ++i) expected[row * shape.qkv_width() + i] = 7;  // values are not touched
  }
  check_close(numbers_of(d_qkv), expected, tolerance);
  if (!norms) return;
  check_close(numbers_of(d_q_weight), slopes_of(q_weight, [&](const std::vector<float>& now) { return forward(qkv, now, k_weight); }), tolerance);
  check_close(numbers_of(d_k_weight), slopes_of(k_weight, [&](const std::vector<float>& now) { return forward(qkv, q_weight, now); }), tolerance);
}

TEST_CASE("attention looks back within its own sequence, and so do its gradients", "[gpu]") {
  const Cpu cpu;
  const Heads heads;
  const HeadShape& shape = heads.shape;
  const auto q = random_numbers(heads.rows * shape.q_width(), 1);
  const auto k = random_numbers(heads.rows * shape.kv_width(), 2);
  const auto qkv = random_numbers(heads.rows * shape.qkv_width(), 3);
  const auto d_out = random_numbers(heads.rows * shape.q_width(), 4);
  const Loaded begins(*cpu.device, heads.begins);
  const Loaded log_sum = cpu.zeros(heads.rows * shape.heads);
  const auto forward = [&](const std::vector<float>& q_now, const std::vector<float>& k_now, const std::vector<float>& qkv_now) {
    const Loaded out = cpu.zeros(heads.rows * shape.q_width());
    cpu.device->run(Attention{out, log_sum, cpu.load(q_now), cpu.load(k_now), cpu.load(qkv_now), begins, 2, 5, shape});
    return numbers_of(out);
  };
  const auto out = forward(q, k, qkv);
  // By definition: row 6 (third of the second sequence), head 3 (key-value head 1).
  std::vector<double> scores;
  for (std::size_t row = 4; row <= 6; ++row) {
    double score = 0;
    for (std::size_t i = 0; i < shape.dim; ++i)
      score += static_cast<double>(q[(6 * shape.heads + 3) * shape.dim + i]) * static_cast<double>(k[(row * shape.kv_heads + 1) * shape.dim + i]);
    scores.push_back(std::exp(score / std::sqrt(static_cast<double>(shape.dim))));
  }
  double expected = 0;
  for (std::size_t row = 4; row <= 6; ++row)
    expected += scores[row - 4] / (scores[0] + scores[1] + scores[2]) * static_cast<double>(qkv[row * shape.qkv_width() + shape.q_width() + shape.kv_width() + shape.dim + 2]);
  CHECK(out[(6 * shape.heads + 3) * shape.dim + 2] == Approx(expected).epsilon(1e-4));
  CHECK(numbers_of(log_sum)[6 * shape.heads + 3] == Approx(std::log(scores[0] + scores[1] + scores[2])).epsilon(1e-4));

  const auto log_sums = numbers_of(log_sum);
  const Loaded d_q = cpu.zeros(q.size());
  const Loaded d_k = cpu.load(std::vector<float>(k.size(), 9));
  const Loaded d_qkv = cpu.zeros(qkv.size());
  cpu.device->run(AttentionBackward{d_q, d_k, d_qkv, cpu.load(d_out), cpu.load(out), cpu.load(log_sums), cpu.load(q), cpu.load(k), cpu.load(qkv), begins, 2, 5, shape});
  check_close(numbers_of(d_q), slopes_of(q, [&](const std::vector<float>& now) { return dot(forward(now, k, qkv), d_out); }), tolerance);
  check_close(numbers_of(d_k), slopes_of(k, [&](const std::vector<float>& now) { return dot(forward(q, now, qkv), d_out); }), tolerance);
  check_close(numbers_of(d_qkv), slopes_of(qkv, [&](const std::vector<float>& now) { return dot(forward(q, k, now), d_out); }), tolerance);
}

TEST_CASE("long sequences attend as short ones do", "[gpu]") {
  const Cpu cpu;
  const HeadShape shape{2, 1, 4};
  constexpr std::size_t rows = 150;  // several blocks of queries
  const auto q = random_numbers(rows * shape.q_width(), 1);
  const auto k = random_numbers(rows * shape.kv_width(), 2);
  const auto qkv = random_numbers(rows * shape.qkv_width(), 3);
  const Loaded begins(*cpu.device, std::vector<std::int32_t>{0, static_cast<std::int32_t>(rows)});
  const Loaded log_sum = cpu.zeros(rows * shape.heads);
  const Loaded out = cpu.zeros(rows * shape.q_width());
  cpu.device->run(Attention{out, log_sum, cpu.load(q), cpu.load(k), cpu.load(qkv), begins, 1, rows, shape});
  for (const std::size_t row : {0U, 63U, 64U, 149U}) {
    double sum = 0;
    double value = 0;
    for (std::size_t at = 0; at <= row; ++at) {
      double score = 0;
      for (std::size_t i = 0; i < shape.dim; ++i) score += static_cast<double>(q[row * shape.q_width() + shape.dim + i]) * static_cast<double>(k[at * shape.dim + i]);
      const double p = std::exp(score / 2);
      sum += p;
      value += p * static_cast<double>(qkv[at * shape.qkv_width() + shape.q_width() + shape.kv_width()]);
    }
    CAPTURE(row);
    CHECK(numbers_of(out)[row * shape.q_width() + shape.dim] == Approx(value / sum).margin(1e-5));
  }
}

TEST_CASE("SwiGLU and its gradients, in place too", "[gpu]") {
  const Cpu cpu;
  constexpr std::size_t rows = 17;
  constexpr std::size_t width = 19;
  const auto gate_up = random_numbers(rows * 2 * width, 1, 2);
  const auto d_out = random_numbers(rows * width, 2);
  const auto forward = [&](const std::vector<float>& now) {
    const Loaded out = cpu.zeros(rows * width);
    cpu.device->run(SwiGlu{out, cpu.load(now), width});
    return numbers_of(out);
  };
  CHECK(forward(gate_up)[3] == Approx(gate_up[3] / (1 + std::exp(-gate_up[3])) * gate_up[width + 3]));
  const Loaded both = cpu.load(gate_up);
  cpu.device->run(SwiGluBackward{both, cpu.load(d_out), both, width});
  check_close(numbers_of(both), slopes_of(gate_up, [&](const std::vector<float>& now) { return dot(forward(now), d_out); }), tolerance);
}

TEST_CASE("the sum of squares is added up", "[gpu]") {
  const Cpu cpu;
  const auto numbers = random_numbers(100'003, 1);
  const Loaded sum = cpu.load({2});
  cpu.device->add_square_sum(sum, cpu.load(numbers));
  CHECK(numbers_of(sum).front() == Approx(2 + dot(numbers, numbers)).epsilon(1e-5));
}

TEST_CASE("a head that teaches gives the losses of its logits", "[gpu]") {
  const Cpu cpu;
  constexpr std::size_t rows = 7;
  constexpr std::size_t width = 5;
  constexpr std::size_t teacher_width = 3;
  constexpr std::size_t vocabulary = 12;
  const auto x = random_numbers(rows * width, 1);
  const auto head = random_numbers(vocabulary * width, 2);
  const Loaded teacher_x = cpu.load(random_numbers(rows * teacher_width, 3));
  const Loaded teacher_head = cpu.load(random_numbers(vocabulary * teacher_width, 4));
  const Loaded targets(*cpu.device, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7});
  const auto weights = std::vector<float>{1, 2, 0.5F, 1, 1, 3, 0.25F};
  const Loaded loaded_weights = cpu.load(weights);
  const Loaded logits = cpu.zeros(3 * vocabulary);
  const Loaded teacher_logits = cpu.zeros(3 * vocabulary);
  HeadLoss loss;
  loss.targets = targets;
  loss.weights = loaded_weights;
  loss.logits = logits;
  loss.teacher_logits = teacher_logits;
  loss.width = width;
  loss.vocabulary = vocabulary;
  loss.tokens = 10;
  loss.chunk_rows = 3;
  loss.shape = {LossKind::reverse_kl, 2, 0, 0.25F};
  loss.teacher.x = teacher_x;
  loss.teacher.head = teacher_head;
  loss.teacher.width = teacher_width;
  const auto value = [&](const std::vector<float>& x_now, const std::vector<float>& head_now) {
    const Loaded losses = cpu.zeros(rows);
    const Loaded x_loaded = cpu.load(x_now);
    const Loaded head_loaded = cpu.load(head_now);
    HeadLoss now = loss;
    now.losses = losses;
    now.d_x = now.d_head = {};
    now.x = x_loaded;
    now.head = head_loaded;
    cpu.device->run(now);
    return dot(numbers_of(losses), weights);
  };
  const Loaded losses = cpu.zeros(rows);
  const Loaded x_loaded = cpu.load(x);
  const Loaded head_loaded = cpu.load(head);
  const Loaded d_x = cpu.zeros(x.size());
  const Loaded d_head = cpu.zeros(head.size());
  loss.losses = losses;
  loss.x = x_loaded;
  loss.head = head_loaded;
  loss.d_x = d_x;
  loss.d_head = d_head;
  cpu.device->run(loss);
  check_close(numbers_of(d_x), slopes_of(x, [&](const std::vector<float>& now) { return value(now, head); }), tolerance);
  check_close(numbers_of(d_head), slopes_of(head, [&](const std::vector<float>& now) { return value(x, now); }), tolerance);
}

}  // namespace
}  // namespace outlast::gpu::operations_test
