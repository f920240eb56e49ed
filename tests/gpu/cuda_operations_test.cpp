// Operations on a CUDA device against the CPU's; attention and the loss of the head have files of their own.
#include "gpu/gpu_error.hpp"
#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_operations_test {
namespace {

struct Sizes {
  std::size_t rows;
  std::size_t width;
};

TEST_CASE("CUDA: numbers come back as they went, and become each other", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  Device& cuda = twins->cuda();
  CHECK(cuda.compute_dtype() == Dtype::bf16);
  CHECK(cuda.name().starts_with("cuda:0 ("));
  CHECK(cuda.memory().total_bytes >= cuda.memory().free_bytes);
  const std::size_t count = GENERATE(1U, 7U, 100'003U);
  const std::vector<float> numbers = random_numbers(count, 1);
  const Loaded wide(cuda, numbers);
  CHECK(need(numbers_of<float>(cuda, wide)) == numbers);
  const auto narrow = need(cuda.allocate(count, Dtype::bf16));
  CHECK(need(numbers_of<std::uint16_t>(cuda, narrow->array())) == std::vector<std::uint16_t>(count));
  cuda.copy(narrow->array(), wide);
  std::vector<std::uint16_t> bits;
  for (const float number : numbers) bits.push_back(to_bf16(number));
  CHECK(need(numbers_of<std::uint16_t>(cuda, narrow->array())) == bits);
  cuda.copy(wide, narrow->array());
  CHECK(need(numbers_of<float>(cuda, wide)) == as_bf16(numbers));
  cuda.fill_zero(wide);
  CHECK(need(numbers_of<float>(cuda, wide)) == std::vector<float>(count));
  CHECK(cuda.synchronize().has_value());
}

TEST_CASE("CUDA: what does not fit is refused with what is free, and the device goes on", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto memory = twins->cuda().allocate(std::size_t{1} << 44, Dtype::f32);
  REQUIRE_FALSE(memory.has_value());
  CHECK(is(memory.error(), GpuError::too_large));
  CHECK(memory.error().message.find("MiB free") != std::string::npos);
  CHECK(twins->cuda().synchronize().has_value());
  const auto none = make_cuda_device(10'000);
  REQUIRE_FALSE(none.has_value());
  CHECK(is(none.error(), GpuError::device));
}

TEST_CASE("CUDA: operations on no rows do nothing", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const Twin weight = twins->noise(64, 1);
  const Twin wide = twins->same(std::vector<float>(64));
  const Array none;
  const Array no_numbers{nullptr, 0, Dtype::i32};
  Device& cuda = twins->cuda();
  const Array at = weight.cuda->array();
  const Array empty = at.part(0, 0);
  cuda.run(Embedding{empty, at, no_numbers, 8});
  cuda.run(EmbeddingBackward{wide.cuda->array(), empty, no_numbers, 8});
  cuda.run(Gather{empty, at, no_numbers, 8});
  cuda.run(Scatter{at, empty, no_numbers, 8});
  cuda.run(RmsNorm{empty, none, empty, {}, {}, at.part(0, 8), 8, 1e-6F});
  cuda.run(RmsNormBackward{empty, wide.cuda->array().part(0, 8), empty, empty, none, at.part(0, 8), 8});
  cuda.run(Linear{empty, empty, at, {}, 8, 8});
  cuda.run(LinearBackward{empty, wide.cuda->array(), {}, empty, empty, at, 8, 8});
  cuda.run(SwiGlu{empty, empty, 8});
  cuda.run(SwiGluBackward{empty, empty, empty, 8});
  cuda.run(AdamW{});
  cuda.add_square_sum(wide.cuda->array().part(0, 1), none);
  CHECK(cuda.synchronize().has_value());
  CHECK(twins->on_cuda(wide) == std::vector<float>(64));
}

TEST_CASE("CUDA: rows are looked up, gathered and scattered as on a CPU", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto [rows, width] = GENERATE(Sizes{1, 1}, Sizes{5, 7}, Sizes{300, 64}, Sizes{700, 1'000});
  CAPTURE(rows, width);
  constexpr std::size_t vocabulary = 40;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> different;
  for (std::size_t i = 0; i < rows; ++i) {
    tokens.push_back(static_cast<std::int32_t>(noise(1, i) % vocabulary));
    different.push_back(static_cast<std::int32_t>((i * 2 + 1) % (2 * rows)));
  }
  const Twin table = twins->noise(vocabulary * width, 1);
  const Twin tokens_on = twins->same(tokens);
  const Twin out = twins->zeros(rows * width);
  const Twin d_table = twins->same(random_numbers(vocabulary * width, 2));
  const Twin wide = twins->noise(2 * rows * width, 3);
  const Twin rows_on = twins->same(different);
  const Twin gathered = twins->zeros(rows * width);
  twins->run([&](Device& device, const auto& at) {
    device.run(Embedding{at(out), at(table), at(tokens_on), width});
    device.run(EmbeddingBackward{at(d_table), at(out), at(tokens_on), width});
    device.run(Gather{at(gathered), at(wide), at(rows_on), width});
    device.run(Scatter{at(wide), at(out), at(rows_on), width});
  });
  CHECK(twins->on_cuda(out) == twins->on_cpu(out));
  CHECK(twins->on_cuda(gathered) == twins->on_cpu(gathered));
  CHECK(twins->difference(d_table, width) < of_sums);
  CHECK(twins->difference(wide, width) < rounded_once);
}

TEST_CASE("CUDA: RMSNorm and its gradients are the CPU's", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto [rows, width] = GENERATE(Sizes{1, 8}, Sizes{33, 7}, Sizes{1, 1'024}, Sizes{700, 2'560}, Sizes{2'100, 320});
  const int adds = GENERATE(0, 1, 2);  // nothing; to an array of its own; in place
  CAPTURE(rows, width, adds);
  const Twin x = twins->noise(rows * width, 1);
  const Twin delta = twins->noise(rows * width, 2);
  const Twin weight = twins->noise(width, 3);
  const Twin out = twins->zeros(rows * width);
  const Twin scale = twins->same(std::vector<float>(rows));
  const Twin sum = adds == 2 ? x : twins->zeros(rows * width);
  twins->run([&](Device& device, const auto& at) {
    device.run(RmsNorm{at(out), at(scale), at(x), adds == 0 ? Array{} : at(delta), adds == 0 ? Array{} : at(sum), at(weight), width, 1e-6F});
  });
  CHECK(twins->difference(out, width) < 2 * rounded_once);  // the sum is rounded, and what it is made to
  CHECK(twins->difference(scale, 1) < rounded_once);
  CHECK(twins->difference(sum, width) < rounded_once);

  const Twin x_now = twins->noise(rows * width, 4);
  const Twin scales = twins->same(random_numbers(rows, 5));
  const Twin d_out = twins->noise(rows * width, 6);
  const Twin d_x = twins->noise(rows * width, 7);
  const Twin d_weight = twins->same(random_numbers(width, 8));
  const Twin no_weight;
  const bool frozen = adds == 2;
  twins->run([&](Device& device, const auto& at) {
    device.run(RmsNormBackward{at(d_x), at(frozen ? no_weight : d_weight), at(d_out), at(x_now), at(scales), at(weight), width});
  });
  CHECK(twins->difference(d_x, width) < rounded_once);
  CHECK(twins->difference(d_weight) < of_sums);
}

struct LinearSizes {
  std::size_t rows;
  std::size_t inputs;
  std::size_t outputs;
};

TEST_CASE("CUDA: linear maps and their gradients are the CPU's, of any size", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto [rows, inputs, outputs] = GENERATE(LinearSizes{1, 9, 37}, LinearSizes{1, 1'024, 2'048}, LinearSizes{5, 64, 40}, LinearSizes{70, 33, 151}, LinearSizes{257, 1'024, 768},
                                                LinearSizes{16, 16, 16}, LinearSizes{3, 1, 1});
  const bool has_bias = GENERATE(true, false);
  CAPTURE(rows, inputs, outputs, has_bias);
  const Twin x = twins->noise(rows * inputs, 1);
  const Twin weight = twins->noise(outputs * inputs, 2);
  const Twin bias = twins->noise(outputs, 3);
  const Twin out = twins->numbers(std::vector<float>(rows * outputs, 7));  // what was there is gone
  const Twin d_out = twins->noise(rows * outputs, 4);
  const Twin d_x = twins->numbers(std::vector<float>(rows * inputs, 7));
  const Twin d_weight = twins->same(random_numbers(outputs * inputs, 5));
  const Twin d_bias = twins->same(random_numbers(outputs, 6));
  const Twin none;
  twins->run([&](Device& device, const auto& at) {
    device.run(Linear{at(out), at(x), at(weight), at(has_bias ? bias : none), inputs, outputs});
    device.run(LinearBackward{at(d_x), at(d_weight), at(has_bias ? d_bias : none), at(d_out), at(x), at(weight), inputs, outputs});
  });
  CHECK(twins->difference(out) < rounded_once);
  CHECK(twins->difference(d_x) < rounded_once);
  CHECK(twins->difference(d_weight) < of_sums);
  CHECK(twins->difference(d_bias) < of_sums);
}

TEST_CASE("CUDA: weights that are frozen get no gradients", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const Twin x = twins->noise(6 * 8, 1);
  const Twin weight = twins->noise(4 * 8, 2);
  const Twin d_out = twins->noise(6 * 4, 3);
  const Twin d_x = twins->zeros(6 * 8);
  twins->run([&](Device& device, const auto& at) { device.run(LinearBackward{at(d_x), {}, {}, at(d_out), at(x), at(weight), 8, 4}); });
  CHECK(twins->difference(d_x) < rounded_once);
}

TEST_CASE("CUDA: queries and keys are normed and turned as on a CPU, and so are their gradients", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const HeadShape shape = GENERATE(HeadShape{4, 2, 6}, HeadShape{2, 2, 64}, HeadShape{16, 8, 128}, HeadShape{8, 1, 128});
  const std::size_t rows = GENERATE(1U, 9U, 700U);
  const bool norms = GENERATE(true, false);
  CAPTURE(shape.heads, shape.kv_heads, shape.dim, rows, norms);
  constexpr std::size_t positions = 50;
  std::vector<float> cosines;
  std::vector<float> sines;
  for (std::size_t i = 0; i < positions * shape.dim / 2; ++i) {
    cosines.push_back(std::cos(0.3F * static_cast<float>(i)));
    sines.push_back(std::sin(0.3F * static_cast<float>(i)));
  }
  std::vector<std::int32_t> places;
  for (std::size_t i = 0; i < rows; ++i) places.push_back(static_cast<std::int32_t>(noise(3, i) % positions));
  const Twin none;
  const Twin qkv = twins->noise(rows * shape.qkv_width(), 1);
  const Twin q_weight = twins->noise(shape.dim, 2);
  const Twin k_weight = twins->noise(shape.dim, 3);
  const Twin q = twins->zeros(rows * shape.q_width());
  const Twin k = twins->zeros(rows * shape.kv_width());
  const Twin scale = twins->same(std::vector<float>(rows * (shape.heads + shape.kv_heads)));
  const Twin places_on = twins->same(places);
  const Twin cosines_on = twins->same(cosines);
  const Twin sines_on = twins->same(sines);
  const Twin d_q = twins->noise(rows * shape.q_width(), 4);
  const Twin d_k = twins->noise(rows * shape.kv_width(), 5);
  const Twin d_qkv = twins->numbers(std::vector<float>(rows * shape.qkv_width(), 7));
  const Twin d_q_weight = twins->same(random_numbers(shape.dim, 6));
  const Twin d_k_weight = twins->same(random_numbers(shape.dim, 7));
  twins->run([&](Device& device, const auto& at) {
    const auto normed = [&](const Twin& twin) { return at(norms ? twin : none); };
    device.run(QkRope{at(q), at(k), normed(scale), at(qkv), normed(q_weight), normed(k_weight), at(places_on), at(cosines_on), at(sines_on), shape, 1e-6F});
    device.run(QkRopeBackward{at(d_qkv), normed(d_q_weight), normed(d_k_weight), at(d_q), at(d_k), normed(scale), at(qkv), normed(q_weight), normed(k_weight), at(places_on),
                              at(cosines_on), at(sines_on), shape});
  });
  CHECK(twins->difference(q, shape.dim) < rounded_once);
  CHECK(twins->difference(k, shape.dim) < rounded_once);
  CHECK(twins->difference(scale, 1) < of_sums);
  CHECK(twins->difference(d_qkv, shape.dim) < rounded_once);  // the values' part is 7 on both
  CHECK(twins->difference(d_q_weight) < of_sums);
  CHECK(twins->difference(d_k_weight) < of_sums);
}

TEST_CASE("CUDA: SwiGLU and its gradients are the CPU's, in place too", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto [rows, width] = GENERATE(Sizes{1, 1}, Sizes{17, 19}, Sizes{1, 3'072}, Sizes{513, 1'024});
  CAPTURE(rows, width);
  const Twin gate_up = twins->noise(rows * 2 * width, 1, 3);
  const Twin d_out = twins->noise(rows * width, 2);
  const Twin out = twins->zeros(rows * width);
  const Twin d_gate_up = twins->zeros(rows * 2 * width);
  twins->run([&](Device& device, const auto& at) {
    device.run(SwiGlu{at(out), at(gate_up), width});
    device.run(SwiGluBackward{at(d_gate_up), at(d_out), at(gate_up), width});
    device.run(SwiGluBackward{at(gate_up), at(d_out), at(gate_up), width});
  });
  CHECK(twins->difference(out, width) < rounded_once);
  CHECK(twins->difference(d_gate_up, width) < rounded_once);
  CHECK(twins->on_cuda(gate_up) == twins->on_cuda(d_gate_up));
}

TEST_CASE("CUDA: the likeliest tokens of rows are the CPU's, and rows that are no numbers are told", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto [rows, width] = GENERATE(Sizes{1, 1}, Sizes{3, 40}, Sizes{2, 511}, Sizes{5, 1'337}, Sizes{3, 8'192});
  CAPTURE(rows, width);
  auto logits = noise_in_bf16(rows * width, 1, 4);
  if (width > 2) {
    logits[width - 1] = logits[width / 3] = 30;  // of equal ones the first
    logits[(rows - 1) * width] = 31;             // the first of all
  }
  if (rows > 2) logits[width + width / 2] = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity());
  const Twin of = twins->numbers(logits);
  const Twin tokens = twins->same(std::vector<std::int32_t>(rows, 7));
  const Twin log_p = twins->same(std::vector<float>(rows, 7));
  twins->run([&](Device& device, const auto& at) { device.run(Likeliest{at(tokens), at(log_p), at(of), width}); });
  CHECK(need(numbers_of<std::int32_t>(twins->cuda(), tokens.cuda->array())) == need(numbers_of<std::int32_t>(twins->cpu(), tokens.cpu->array())));
  const auto expected = twins->on_cpu(log_p);
  const auto found = twins->on_cuda(log_p);
  for (std::size_t row = 0; row < rows; ++row) {
    if (rows > 2 && row == 1) {
      CHECK(std::isnan(expected[row]));
      CHECK(std::isnan(found[row]));
    } else {
      CHECK(found[row] == Approx(expected[row]).margin(1e-4));
    }
  }
}

TEST_CASE("CUDA: AdamW steps as on a CPU, and leaves the working copy rounded", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const std::size_t count = GENERATE(1U, 1'000U, 1'000'003U);
  CAPTURE(count);
  const Twin weights = twins->same(random_numbers(count, 1));
  const Twin gradient = twins->same(random_numbers(count, 2));
  const Twin first = twins->same(std::vector<float>(count));
  const Twin second = twins->same(std::vector<float>(count));
  const auto working = need(twins->cuda().allocate(count, Dtype::bf16));
  for (std::uint64_t step = 1; step <= 3; ++step) {
    twins->run([&](Device& device, const auto& at) {
      AdamW one{at(weights), {}, at(gradient), at(first), at(second)};
      if (&device == &twins->cuda()) one.working = working->array();
      one.rate = 1e-2F;
      one.decay = 0.1F;
      one.gradient_scale = 0.5F;
      one.step = step;
      device.run(one);
    });
  }
  for (const Twin* const twin : {&weights, &first, &second}) CHECK(twins->difference(*twin) < 1e-5);
  std::vector<std::uint16_t> bits;
  for (const float weight : twins->on_cuda(weights)) bits.push_back(to_bf16(weight));
  CHECK(need(numbers_of<std::uint16_t>(twins->cuda(), working->array())) == bits);

  const Twin sum = twins->same(std::vector<float>{2});
  twins->run([&](Device& device, const auto& at) { device.add_square_sum(at(sum), at(gradient)); });
  CHECK(twins->difference(sum) < 1e-5);
}

}  // namespace
}  // namespace outlast::gpu::cuda_operations_test
