// The loss of the head on a CUDA device against the CPU's. Inputs are such that all logits are whole numbers of eighths which bf16 holds
// exactly: what remains is the arithmetic of losses.
#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_head_loss_test {
namespace {

enum class Teaches { nothing, top, all };

struct Sizes {
  std::size_t rows;
  std::size_t width;
  std::size_t vocabulary;
  std::size_t tokens;
  std::size_t chunk_rows;
};

// Multiples of 1 / steps from −1 to 1.
std::vector<float> steps(std::size_t count, std::uint64_t seed, int of) {
  std::vector<float> numbers;
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = static_cast<int>(noise(seed, i) % static_cast<std::uint64_t>(2 * of + 1)) - of;
    numbers.push_back(static_cast<float>(number) / static_cast<float>(of));
  }
  return numbers;
}

struct Case {
  Twin x, head, teacher_x, teacher_head, top_tokens, top_log_p, targets, weights, logits, teacher_logits, losses, best, d_x, d_head;

  // `sure`: the teacher gives nearly everything to its top tokens, and so does the student.
  Case(Twins& twins, const Sizes& sizes, std::size_t top_k, std::size_t teacher_width) {
    x = twins.numbers(steps(sizes.rows * sizes.width, 1, 2));
    head = twins.numbers(steps(sizes.vocabulary * sizes.width, 2, 4));
    teacher_x = twins.numbers(steps(sizes.rows * teacher_width, 3, 2));
    teacher_head = twins.numbers(steps(sizes.vocabulary * teacher_width, 4, 4));
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> wanted;
    std::vector<float> log_p;
    for (std::size_t row = 0; row < sizes.rows; ++row) {
      wanted.push_back(static_cast<std::int32_t>(noise(5, row) % sizes.tokens));
      const bool says_nothing = row % 5 == 4;
      for (std::size_t i = 0; i < top_k; ++i) {
        const bool is_there = !says_nothing && (i == 0 || row % 3 != 1 || i + 1 < top_k);
        tokens.push_back(is_there ? static_cast<std::int32_t>((noise(6, row) + i * 3) % sizes.tokens) : -1);
        log_p.push_back(is_there ? std::log(0.5F / static_cast<float>(i + 2) / static_cast<float>(i + 1)) : 0.0F);
      }
    }
    top_tokens = twins.same(tokens);
    top_log_p = twins.same(log_p);
    targets = twins.same(wanted);
    std::vector<float> shares = random_numbers(sizes.rows, 7);
    for (float& share : shares) share = std::abs(share);
    weights = twins.same(shares);
    logits = twins.zeros(sizes.chunk_rows * sizes.vocabulary);
    teacher_logits = twins.zeros(sizes.chunk_rows * sizes.vocabulary);
    losses = twins.same(std::vector<float>(sizes.rows, 7));
    best = twins.same(std::vector<std::int32_t>(sizes.rows, 7));
    d_x = twins.numbers(std::vector<float>(sizes.rows * sizes.width, 7));
    d_head = twins.same(random_numbers(sizes.vocabulary * sizes.width, 8));
  }
};

void check_loss(Twins& twins, const Sizes& sizes, const LossShape& shape, Teaches teaches, bool gradient) {
  CAPTURE(sizes.rows, sizes.width, sizes.vocabulary, sizes.tokens, static_cast<int>(shape.kind), shape.mix, static_cast<int>(teaches), gradient);
  const std::size_t top_k = teaches == Teaches::top ? 3 : 0;
  const std::size_t teacher_width = teaches == Teaches::all ? 8 : 0;
  const Case of(twins, sizes, top_k, teacher_width);
  const Twin none;
  twins.run([&](Device& device, const auto& at) {
    HeadLoss loss;
    loss.losses = at(of.losses);
    loss.best = at(of.best);
    loss.d_x = at(gradient ? of.d_x : none);
    loss.d_head = at(gradient ? of.d_head : none);
    loss.x = at(of.x);
    loss.head = at(of.head);
    loss.targets = at(of.targets);
    loss.weights = at(of.weights);
    loss.logits = at(of.logits);
    loss.teacher_logits = at(of.teacher_logits);
    loss.width = sizes.width;
    loss.vocabulary = sizes.vocabulary;
    loss.tokens = sizes.tokens;
    loss.chunk_rows = sizes.chunk_rows;
    loss.shape = shape;
    if (top_k > 0) {
      loss.teacher.top_tokens = at(of.top_tokens);
      loss.teacher.top_log_p = at(of.top_log_p);
      loss.teacher.top_k = top_k;
    }
    if (teacher_width > 0) {
      loss.teacher.x = at(of.teacher_x);
      loss.teacher.head = at(of.teacher_head);
      loss.teacher.width = teacher_width;
    }
    device.run(loss);
  });
  CHECK(twins.difference(of.losses) < 1e-3);
  CHECK(need(numbers_of<std::int32_t>(twins.cuda(), of.best.cuda->array())) == need(numbers_of<std::int32_t>(twins.cpu(), of.best.cpu->array())));
  CHECK(twins.difference(of.d_x, sizes.width) < rounded_within);  // gradients of logits are rounded, and sums of them
  CHECK(twins.difference(of.d_head) < rounded_within);
}

TEST_CASE("CUDA: losses of the head and their gradients are the CPU's, of every kind and teacher", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const auto shape = GENERATE(LossShape{}, LossShape{LossKind::forward_kl, 2, 0, 0.25F}, LossShape{LossKind::reverse_kl, 1, 0, 0}, LossShape{LossKind::jsd, 2, 0.3F, 0.5F},
                              LossShape{LossKind::jsd, 1, 0, 0}, LossShape{LossKind::jsd, 1, 1, 0}, LossShape{LossKind::skew_kl, 1.5F, 0.1F, 0});
  const auto teaches = GENERATE(Teaches::nothing, Teaches::top, Teaches::all);
  const bool gradient = GENERATE(true, false);
  check_loss(*twins, {7, 16, 12, 10, 3}, shape, teaches, gradient);
  check_loss(*twins, {1, 16, 1'003, 1'001, 4}, shape, teaches, gradient);
  check_loss(*twins, {21, 24, 5'008, 5'003, 8}, shape, teaches, gradient);
}

TEST_CASE("CUDA: a student that is sure of what its teacher says has the CPU's loss", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  // One token is far above the others, so nearly nothing is left for the rest.
  constexpr std::size_t tokens = 200;
  constexpr std::size_t rows = 3;
  constexpr std::size_t width = 8;
  std::vector<float> head = steps(tokens * width, 2, 4);
  for (std::size_t i = 0; i < width; ++i) head[5 * width + i] = 1.5F;
  const Twin x = twins->numbers(std::vector<float>(rows * width, 1));
  const Twin head_on = twins->numbers(head);
  const Twin targets = twins->same(std::vector<std::int32_t>(rows, 5));
  const Twin weights = twins->same(std::vector<float>(rows, 1));
  const Twin top_tokens = twins->same(std::vector<std::int32_t>{5, 7, 5, 9, 5, -1});
  const Twin top_log_p = twins->same(std::vector<float>{-0.01F, -5, -0.1F, -3, -0.001F, 0});
  const Twin logits = twins->zeros(rows * tokens);
  const Twin losses = twins->same(std::vector<float>(rows));
  const Twin d_x = twins->zeros(rows * width);
  twins->run([&](Device& device, const auto& at) {
    HeadLoss loss;
    loss.losses = at(losses);
    loss.d_x = at(d_x);
    loss.x = at(x);
    loss.head = at(head_on);
    loss.targets = at(targets);
    loss.weights = at(weights);
    loss.logits = at(logits);
    loss.width = width;
    loss.vocabulary = loss.tokens = tokens;
    loss.chunk_rows = rows;
    loss.shape = {LossKind::forward_kl, 1, 0, 0.1F};
    loss.teacher.top_tokens = at(top_tokens);
    loss.teacher.top_log_p = at(top_log_p);
    loss.teacher.top_k = 2;
    device.run(loss);
  });
  CHECK(twins->difference(losses, 1) < 1e-3);
  CHECK(twins->difference(d_x, width) < rounded_within);
}

TEST_CASE("CUDA: a vocabulary of Qwen3's size has its losses", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  check_loss(*twins, {5, 16, 151'936, 151'669, 3}, {}, Teaches::nothing, true);
}

}  // namespace
}  // namespace outlast::gpu::cuda_head_loss_test
