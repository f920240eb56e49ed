// Attention over pages against attention over whole sequences.
#include <numeric>

#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/finite_differences.hpp"

namespace outlast::gpu::paged_attention_test {
namespace {

struct Whole {
  HeadShape shape{4, 2, 6};
  std::vector<std::size_t> sizes;  // of the sequences
  std::vector<float> q;            // [rows, heads, dim]
  std::vector<float> k;            // [rows, kv_heads, dim]
  std::vector<float> qkv;          // [rows, qkv_width]
  std::vector<float> out;          // [rows, heads, dim]: as Attention has it

  Whole(CpuDevice& device, std::vector<std::size_t> of) : sizes(std::move(of)) {
    std::vector<std::int32_t> begins{0};
    for (const std::size_t size : sizes) begins.push_back(begins.back() + static_cast<std::int32_t>(size));
    const auto rows = static_cast<std::size_t>(begins.back());
    q = random_numbers(rows * shape.q_width(), 1);
    k = random_numbers(rows * shape.kv_width(), 2);
    qkv = random_numbers(rows * shape.qkv_width(), 3);
    const Loaded result(device, std::vector<float>(rows * shape.q_width()));
    const Loaded log_sum(device, std::vector<float>(rows * shape.heads));
    const Loaded begins_on(device, begins);
    const Loaded q_on(device, q);
    const Loaded k_on(device, k);
    const Loaded qkv_on(device, qkv);
    device.run(Attention{result, log_sum, q_on, k_on, qkv_on, begins_on, sizes.size(), *std::max_element(sizes.begin(), sizes.end()), shape});
    out = numbers_of(result);
  }
  [[nodiscard]] std::size_t first_row(std::size_t sequence) const { return std::accumulate(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(sequence), std::size_t{0}); }
};

// Rows [from, from + size) of one sequence.
struct Part {
  std::size_t sequence;
  std::size_t from;
  std::size_t size;
};

std::vector<float> rows_of(const std::vector<float>& all, std::size_t row, std::size_t count, std::size_t width) {
  return {all.begin() + static_cast<std::ptrdiff_t>(row * width), all.begin() + static_cast<std::ptrdiff_t>((row + count) * width)};
}

void append(std::vector<float>& to, const std::vector<float>& from) { to.insert(to.end(), from.begin(), from.end()); }

void check_batch(CpuDevice& device, const Whole& whole, const std::vector<Part>& parts, const Loaded& keys, const Loaded& values, const std::vector<std::vector<std::int32_t>>& tables,
                 std::size_t page_rows) {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> qkv;
  std::vector<float> expected;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> begins{0};
  std::vector<std::int32_t> table;
  std::size_t longest = 0;
  for (const Part& part : parts) {
    const std::size_t row = whole.first_row(part.sequence) + part.from;
    append(q, rows_of(whole.q, row, part.size, whole.shape.q_width()));
    append(k, rows_of(whole.k, row, part.size, whole.shape.kv_width()));
    append(qkv, rows_of(whole.qkv, row, part.size, whole.shape.qkv_width()));
    append(expected, rows_of(whole.out, row, part.size, whole.shape.q_width()));
    for (std::size_t i = 0; i < part.size; ++i) positions.push_back(static_cast<std::int32_t>(part.from + i));
    begins.push_back(static_cast<std::int32_t>(positions.size()));
    table.insert(table.end(), tables[part.sequence].begin(), tables[part.sequence].end());
    longest = std::max(longest, part.from + part.size);
  }
  const Loaded out(device, std::vector<float>(expected.size(), NAN));
  const Loaded q_on(device, q);
  const Loaded k_on(device, k);
  const Loaded qkv_on(device, qkv);
  const Loaded positions_on(device, positions);
  const Loaded begins_on(device, begins);
  const Loaded table_on(device, table);
  PagedAttention paged{out, keys, values, q_on, k_on, qkv_on, positions_on, begins_on, table_on, parts.size(), tables.front().size(), page_rows, longest, whole.shape};
  device.run(paged);
  CHECK(relative_difference(numbers_of(out), expected) < 1e-5);
}

TEST_CASE("attention over pages is attention, in chunks, token by token and in mixed batches", "[gpu][decode]") {
  const std::size_t threads = GENERATE(1U, 2U, 3U);
  const std::size_t page_rows = GENERATE(1U, 4U, 16U);
  CAPTURE(threads, page_rows);
  const auto device = need(CpuDevice::make(threads));
  const Whole whole(*device, {150, 3, 37});
  // Pages of the sequences lie in each other's midst, the last first.
  const std::size_t width = (150 + page_rows - 1) / page_rows;
  std::vector<std::vector<std::int32_t>> tables(3, std::vector<std::int32_t>(width));
  for (std::size_t sequence = 0; sequence < 3; ++sequence) {
    for (std::size_t page = 0; page < width; ++page) tables[sequence][page] = static_cast<std::int32_t>((width - 1 - page) * 3 + sequence);
  }
  const std::size_t numbers = 3 * width * page_rows * whole.shape.kv_width();
  const Loaded keys(*device, std::vector<float>(numbers, NAN));
  const Loaded values(*device, std::vector<float>(numbers, NAN));
  const auto batch = [&](const std::vector<Part>& parts) { check_batch(*device, whole, parts, keys, values, tables, page_rows); };
  batch({{0, 0, 10}, {1, 0, 2}});
  batch({{1, 2, 1}, {0, 10, 1}, {2, 0, 30}});
  batch({{0, 11, 90}});
  batch({{0, 101, 3}, {2, 30, 1}});
  for (std::size_t i = 0; i < 6; ++i) batch({{2, 31 + i, 1}, {0, 104 + i, 1}});
  batch({{0, 110, 40}});
}

}  // namespace
}  // namespace outlast::gpu::paged_attention_test
