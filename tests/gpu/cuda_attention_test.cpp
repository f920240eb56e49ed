// Attention on a CUDA device against the CPU's: over whole sequences with its gradients, and over pages.
#include <numeric>

#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_attention_test {
namespace {

std::vector<std::int32_t> begins_of(const std::vector<std::size_t>& sizes) {
  std::vector<std::int32_t> begins{0};
  for (const std::size_t size : sizes) begins.push_back(begins.back() + static_cast<std::int32_t>(size));
  return begins;
}

void check_whole(Twins& twins, const HeadShape& shape, const std::vector<std::size_t>& sizes) {
  CAPTURE(shape.heads, shape.kv_heads, shape.dim, sizes);
  const std::size_t rows = std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
  const std::size_t longest = *std::max_element(sizes.begin(), sizes.end());
  const Twin begins = twins.same(begins_of(sizes));
  const Twin q = twins.noise(rows * shape.q_width(), 1);
  const Twin k = twins.noise(rows * shape.kv_width(), 2);
  const Twin qkv = twins.noise(rows * shape.qkv_width(), 3);
  const Twin out = twins.numbers(std::vector<float>(rows * shape.q_width(), 7));
  const Twin log_sum = twins.same(std::vector<float>(rows * shape.heads, 7));
  twins.run([&](Device& device, const auto& at) {
    device.run(Attention{at(out), at(log_sum), at(q), at(k), at(qkv), at(begins), sizes.size(), longest, shape});
  });
  CHECK(twins.difference(out, shape.dim) < rounded_within);
  CHECK(twins.difference(log_sum) < of_sums);

  // Both go back from the same numbers.
  const Twin out_now = twins.numbers(as_bf16(twins.on_cpu(out)));
  const Twin log_sum_now = twins.same(twins.on_cpu(log_sum));
  const Twin d_out = twins.noise(rows * shape.q_width(), 4);
  const Twin d_q = twins.numbers(std::vector<float>(rows * shape.q_width(), 7));
  const Twin d_k = twins.numbers(std::vector<float>(rows * shape.kv_width(), 7));
  const Twin d_qkv = twins.numbers(std::vector<float>(rows * shape.qkv_width(), 7));
  twins.run([&](Device& device, const auto& at) {
    device.run(AttentionBackward{at(d_q), at(d_k), at(d_qkv), at(d_out), at(out_now), at(log_sum_now), at(q), at(k), at(qkv), at(begins), sizes.size(), longest, shape});
  });
  // With one key there is nothing to learn: both are 0 but for rounding.
  constexpr double nothing = 1e-3;
  CHECK(twins.difference(d_q, shape.dim, nothing) < rounded_within);
  CHECK(twins.difference(d_k, shape.dim, nothing) < rounded_within);
  CHECK(twins.difference(d_qkv, shape.dim) < rounded_within);  // queries' and keys' parts are 7 on both
  const auto again = [&](const Twin& twin) {
    const std::vector<float> before = twins.on_cuda(twin);
    twins.cuda().run(AttentionBackward{d_q.cuda->array(), d_k.cuda->array(), d_qkv.cuda->array(), d_out.cuda->array(), out_now.cuda->array(), log_sum_now.cuda->array(),
                                       q.cuda->array(), k.cuda->array(), qkv.cuda->array(), begins.cuda->array(), sizes.size(), longest, shape});
    return before == twins.on_cuda(twin);
  };
  CHECK(again(d_q));
  CHECK(again(d_k));
}

TEST_CASE("CUDA: attention and its gradients are the CPU's, for every sharing of heads", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const std::size_t dim = GENERATE(64U, 128U);
  const auto shape = GENERATE_COPY(HeadShape{2, 2, dim}, HeadShape{4, 2, dim}, HeadShape{8, 1, dim});
  check_whole(*twins, shape, {1});
  check_whole(*twins, shape, {64});
  check_whole(*twins, shape, {65, 1, 31, 130, 63});
}

TEST_CASE("CUDA: attention of odd heads, of many sequences and of long ones is the CPU's", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  check_whole(*twins, {4, 2, 6}, {5, 4, 70});
  check_whole(*twins, {2, 1, 8}, {129});
  check_whole(*twins, {2, 2, 80}, {100, 3});
  check_whole(*twins, {2, 1, 96}, {33});
  std::vector<std::size_t> many;
  for (std::size_t i = 0; i < 150; ++i) many.push_back(1 + i % 11);
  check_whole(*twins, {4, 2, 64}, many);
  check_whole(*twins, {2, 1, 128}, {1'500, 1, 40});
}

TEST_CASE("CUDA: scores of any size give numbers", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const HeadShape shape{2, 1, 64};
  constexpr std::size_t rows = 100;
  const Twin begins = twins->same(begins_of({rows}));
  const Twin q = twins->noise(rows * shape.q_width(), 1, 30);
  const Twin k = twins->noise(rows * shape.kv_width(), 2, 30);
  const Twin qkv = twins->noise(rows * shape.qkv_width(), 3);
  const Twin out = twins->zeros(rows * shape.q_width());
  const Twin log_sum = twins->same(std::vector<float>(rows * shape.heads));
  twins->run([&](Device& device, const auto& at) { device.run(Attention{at(out), at(log_sum), at(q), at(k), at(qkv), at(begins), 1, rows, shape}); });
  CHECK(twins->difference(out, shape.dim) < rounded_within);
  CHECK(twins->difference(log_sum, 1) < of_sums);
}

// Rows [from, from + size) of one sequence.
struct Part {
  std::size_t sequence;
  std::size_t from;
  std::size_t size;
};

// Sequences whose keys and values come to lie in pages, batch by batch.
struct Paged {
  Twins& twins;
  HeadShape shape;
  std::size_t page_rows;
  std::size_t width;  // of tables
  std::size_t sequences = 3;
  Twin keys;
  Twin values;
  std::uint64_t seed = 1;

  Paged(Twins& both, const HeadShape& heads, std::size_t rows_of_page, std::size_t positions)
      : twins(both), shape(heads), page_rows(rows_of_page), width((positions + rows_of_page - 1) / rows_of_page) {
    const std::vector<float> nothing(sequences * width * page_rows * shape.kv_width(), NAN);
    keys = twins.numbers(nothing);
    values = twins.numbers(nothing);
  }
  // Pages of the sequences lie in each other's midst, the last first.
  [[nodiscard]] std::int32_t page(std::size_t sequence, std::size_t number) const { return static_cast<std::int32_t>((width - 1 - number) * sequences + sequence); }

  void check(const std::vector<Part>& parts) {
    std::vector<std::size_t> sizes;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> tables;
    std::size_t longest = 0;
    for (const Part& part : parts) {
      sizes.push_back(part.size);
      for (std::size_t i = 0; i < part.size; ++i) positions.push_back(static_cast<std::int32_t>(part.from + i));
      for (std::size_t i = 0; i < width; ++i) tables.push_back(page(part.sequence, i));
      longest = std::max(longest, part.from + part.size);
    }
    const std::size_t rows = positions.size();
    const Twin begins = twins.same(begins_of(sizes));
    const Twin positions_on = twins.same(positions);
    const Twin tables_on = twins.same(tables);
    const Twin q = twins.noise(rows * shape.q_width(), ++seed);
    const Twin k = twins.noise(rows * shape.kv_width(), ++seed);
    const Twin qkv = twins.noise(rows * shape.qkv_width(), ++seed);
    const Twin out = twins.numbers(std::vector<float>(rows * shape.q_width(), NAN));
    twins.run([&](Device& device, const auto& at) {
      device.run(PagedAttention{at(out), at(keys), at(values), at(q), at(k), at(qkv), at(positions_on), at(begins), at(tables_on), parts.size(), width, page_rows, longest, shape});
    });
    CAPTURE(shape.heads, shape.kv_heads, shape.dim, page_rows, rows, longest);
    CHECK(twins.difference(out, shape.dim) < rounded_within);
  }
};

TEST_CASE("CUDA: attention over pages is the CPU's, in chunks, token by token and in mixed batches", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const HeadShape shape = GENERATE(HeadShape{4, 2, 6}, HeadShape{4, 4, 64}, HeadShape{4, 2, 128}, HeadShape{8, 1, 128}, HeadShape{2, 1, 96});
  const std::size_t page_rows = GENERATE(1U, 4U, 16U);
  Paged paged(*twins, shape, page_rows, 700);
  paged.check({{0, 0, 10}, {1, 0, 2}});
  paged.check({{1, 2, 1}, {0, 10, 1}, {2, 0, 30}});
  paged.check({{0, 11, 90}});
  paged.check({{0, 101, 3}, {2, 30, 1}});
  for (std::size_t i = 0; i < 4; ++i) paged.check({{2, 31 + i, 1}, {0, 104 + i, 1}});
  paged.check({{0, 108, 400}, {1, 3, 1}});
  for (std::size_t i = 0; i < 6; ++i) paged.check({{0, 508 + i, 1}, {1, 4 + i, 1}, {2, 35 + i, 1}});  // one, two and three pieces of keys
}

}  // namespace
}  // namespace outlast::gpu::cuda_attention_test
