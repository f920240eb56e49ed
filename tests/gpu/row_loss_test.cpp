#include <numeric>

#include "gpu/cpu/row_loss.hpp"
#include "tests/gpu/finite_differences.hpp"

namespace outlast::gpu::row_loss_test {
namespace {

constexpr std::size_t tokens = 11;
constexpr std::size_t vocabulary = 13;  // two are padding

struct Row {
  LossShape shape;
  RowTeacher teacher;
  std::int32_t target = 3;

  double loss(std::vector<float> logits) const {
    RowLossScratch scratch;
    return static_cast<double>(row_loss(logits.data(), tokens, vocabulary, target, 1, false, shape, teacher, scratch));
  }
  std::vector<float> gradient(std::vector<float> logits, float weight) const {
    RowLossScratch scratch;
    row_loss(logits.data(), tokens, vocabulary, target, weight, true, shape, teacher, scratch);
    return logits;
  }
};

std::vector<double> distribution(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  for (std::size_t i = 0; i < tokens; ++i) p.push_back(std::exp(static_cast<double>(logits[i]) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& one : p) one /= sum;
  return p;
}

double divergence(const std::vector<double>& p, const std::vector<double>& q) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * std::log(p[i] / q[i]);
  return sum;
}

std::vector<double> mixed_of(const std::vector<double>& p, const std::vector<double>& q, double share) {
  std::vector<double> m;
  for (std::size_t i = 0; i < p.size(); ++i) m.push_back(share * p[i] + (1 - share) * q[i]);
  return m;
}

TEST_CASE("losses are what their formulas say", "[gpu]") {
  const auto student = random_numbers(vocabulary, 1);
  const auto teacher = random_numbers(vocabulary, 2);
  const double t = 2;
  const auto p = distribution(teacher, t);
  const auto q = distribution(student, t);
  Row row;
  row.teacher.logits = teacher.data();
  row.shape.temperature = static_cast<float>(t);
  const auto loss = [&](LossKind kind, float mix = 0) {
    row.shape.kind = kind;
    row.shape.mix = mix;
    return row.loss(student);
  };
  CHECK(loss(LossKind::forward_kl) == Approx(t * t * divergence(p, q)).epsilon(1e-5));
  CHECK(loss(LossKind::reverse_kl) == Approx(t * t * divergence(q, p)).epsilon(1e-5));
  const auto m = mixed_of(p, q, 0.3);
  CHECK(loss(LossKind::jsd, 0.3F) == Approx(t * t * (0.3 * divergence(p, m) + 0.7 * divergence(q, m))).epsilon(1e-5));
  CHECK(loss(LossKind::jsd, 0) == Approx(loss(LossKind::forward_kl)));
  CHECK(loss(LossKind::jsd, 1) == Approx(loss(LossKind::reverse_kl)));
  CHECK(loss(LossKind::skew_kl, 0.1F) == Approx(t * t * divergence(p, mixed_of(p, q, 0.1))).epsilon(1e-5));
  const double cross = -std::log(distribution(student, 1)[3]);
  CHECK(loss(LossKind::cross_entropy) == Approx(cross).epsilon(1e-5));
  row.shape.cross_entropy = 0.25F;
  CHECK(loss(LossKind::forward_kl) == Approx(0.75 * t * t * divergence(p, q) + 0.25 * cross).epsilon(1e-5));
}

TEST_CASE("a teacher's top tokens and the rest of its mass are a distribution of their own", "[gpu]") {
  const auto student = random_numbers(vocabulary, 1);
  const auto q = distribution(student, 1);
  const std::vector<std::int32_t> top{5, 2, -1};
  const std::vector<float> log_p{std::log(0.6F), std::log(0.3F), 0};
  Row row;
  row.teacher = {top.data(), log_p.data(), top.size(), nullptr};
  row.shape.kind = LossKind::forward_kl;
  const double q_rest = 1 - q[5] - q[2];
  const double expected = 0.6 * std::log(0.6 / q[5]) + 0.3 * std::log(0.3 / q[2]) + 0.1 * std::log(0.1 / q_rest);
  CHECK(row.loss(student) == Approx(expected).epsilon(1e-4));
}

TEST_CASE("gradients of losses are their slopes", "[gpu]") {
  const auto student = random_numbers(vocabulary, 1);
  const auto teacher = random_numbers(vocabulary, 2);
  const std::vector<std::int32_t> top{5, 2, 7};
  const std::vector<float> log_p{std::log(0.5F), std::log(0.3F), std::log(0.1F)};
  Row row;
  row.shape.kind = GENERATE(LossKind::cross_entropy, LossKind::forward_kl, LossKind::reverse_kl, LossKind::jsd, LossKind::skew_kl);
  row.shape.temperature = GENERATE(1.0F, 2.0F);
  row.shape.mix = GENERATE(0.1F, 0.5F);
  row.shape.cross_entropy = GENERATE(0.0F, 0.5F);
  if (GENERATE(true, false)) row.teacher.logits = teacher.data();
  else row.teacher = {top.data(), log_p.data(), top.size(), nullptr};
  CAPTURE(static_cast<int>(row.shape.kind), row.shape.temperature, row.shape.mix, row.shape.cross_entropy, row.teacher.top_k);
  auto expected = slopes_of(student, [&row](const std::vector<float>& logits) { return row.loss(logits); });
  for (float& slope : expected) slope *= 0.5F;
  check_close(row.gradient(student, 0.5F), expected, 2e-3);
}

TEST_CASE("a student that is certain, and a teacher that is, give finite losses and gradients", "[gpu]") {
  std::vector<float> certain(vocabulary, -200);
  certain[4] = 200;
  const std::vector<std::int32_t> top{4};
  const std::vector<float> log_p{0};
  Row row;
  row.shape.kind = GENERATE(LossKind::cross_entropy, LossKind::forward_kl, LossKind::reverse_kl, LossKind::jsd, LossKind::skew_kl);
  row.shape.mix = 0.1F;
  row.shape.cross_entropy = 0.5F;
  if (GENERATE(true, false)) row.teacher.logits = certain.data();
  else row.teacher = {top.data(), log_p.data(), 1, nullptr};
  for (const auto& student : {certain, random_numbers(vocabulary, 1), std::vector<float>(vocabulary, 0)}) {
    CHECK(std::isfinite(row.loss(student)));
    for (const float one : row.gradient(student, 1)) CHECK(std::isfinite(one));
  }
}

TEST_CASE("a student that gives nothing to what its teacher says is pulled there", "[gpu]") {
  std::vector<float> student(vocabulary, -100);
  student[0] = 100;
  std::vector<float> teacher(vocabulary, -100);
  teacher[4] = 100;
  const std::vector<std::int32_t> top{4};
  const std::vector<float> log_p{0};
  Row row;
  row.shape.kind = GENERATE(LossKind::cross_entropy, LossKind::forward_kl, LossKind::jsd, LossKind::skew_kl);
  row.target = 4;
  if (GENERATE(true, false)) row.teacher.logits = teacher.data();
  else row.teacher = {top.data(), log_p.data(), 1, nullptr};
  const auto gradient = row.gradient(student, 1);
  CHECK(gradient[4] == Approx(-1));
  CHECK(gradient[0] == Approx(1));
}

}  // namespace
}  // namespace outlast::gpu::row_loss_test
