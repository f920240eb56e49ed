#include <algorithm>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/row_loss.hpp"

namespace outlast::gpu {

void CpuDevice::run(const HeadLoss& operation) {
  const std::size_t rows = operation.losses.count;
  const std::size_t width = operation.width;
  const std::size_t vocabulary = operation.vocabulary;
  const bool gradient = !operation.d_x.empty();
  const Teacher& teacher = operation.teacher;
  float* const logits = operation.logits.as<float>();
  std::vector<RowLossScratch> scratch(threads_.count());
  for (std::size_t from = 0; from < rows; from += operation.chunk_rows) {
    const std::size_t size = std::min(operation.chunk_rows, rows - from);
    const ConstMatrix x{operation.x.as<float>() + from * width, width};
    product_bt({logits, vocabulary}, x, {operation.head.as<float>(), width}, size, vocabulary, width, 0);
    if (teacher.width > 0) {
      product_bt({operation.teacher_logits.as<float>(), vocabulary}, {teacher.x.as<float>() + from * teacher.width, teacher.width},
                 {teacher.head.as<float>(), teacher.width}, size, operation.tokens, teacher.width, 0);
    }
    threads_.for_each(size, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t row = from + i;
        if (!operation.best.empty()) {
          const float* const first = logits + i * vocabulary;
          operation.best.as<std::int32_t>()[row] = static_cast<std::int32_t>(std::max_element(first, first + operation.tokens) - first);
        }
        RowTeacher of_row;
        // A row whose teacher said nothing learns from its target alone.
        if (teacher.top_k > 0 && teacher.top_tokens.as<std::int32_t>()[row * teacher.top_k] >= 0) of_row = {teacher.top_tokens.as<std::int32_t>() + row * teacher.top_k, teacher.top_log_p.as<float>() + row * teacher.top_k, teacher.top_k, nullptr};
        if (teacher.width > 0) of_row.logits = operation.teacher_logits.as<float>() + i * vocabulary;
        operation.losses.as<float>()[row] = row_loss(logits + i * vocabulary, operation.tokens, vocabulary, operation.targets.as<std::int32_t>()[row],
                                                     operation.weights.as<float>()[row], gradient, operation.shape, of_row, scratch[thread]);
      }
    });
    if (!gradient) continue;
    product({operation.d_x.as<float>() + from * width, width}, {logits, vocabulary}, {operation.head.as<float>(), width}, size, width, vocabulary, 0);
    if (!operation.d_head.empty()) product_at({operation.d_head.as<float>(), width}, {logits, vocabulary}, x, vocabulary, width, size, 1);
  }
}

}  // namespace outlast::gpu
