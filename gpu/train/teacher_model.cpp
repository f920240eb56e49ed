#include "gpu/train/teacher_model.hpp"

#include <algorithm>
#include <string>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

DecoderLimits limits_of_teacher(std::size_t rows, std::size_t positions) {
  DecoderLimits limits;
  limits.rows = rows;
  limits.loss_rows = rows;
  limits.chunk_rows = 1;  // it makes no logits itself
  limits.positions = positions;
  limits.trains = false;
  return limits;
}

std::string quoted_token(const Tokenizer& tokenizer, TokenId id) {
  return tokenizer.bytes_of(id).empty() ? "none" : "'" + tokenizer.decode(std::span(&id, 1), true) + "'";
}

}  // namespace

std::uint64_t TeacherModel::bytes_of(const ModelConfig& config, std::size_t rows, std::size_t positions, Dtype compute) {
  return ParameterLayout(config).count() * size_of(compute) + Decoder::bytes_of(config, limits_of_teacher(rows, positions), compute);
}

Result<std::unique_ptr<TeacherModel>> TeacherModel::make(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t rows,
                                                         std::size_t positions) {
  const ParameterLayout layout(config);
  check(weights.size() == layout.count(), "weights are of the teacher's layout");
  std::unique_ptr<TeacherModel> teacher(new TeacherModel(config));
  auto placed = upload_weights(device, weights);
  if (!placed) return fail(std::move(placed.error()));
  teacher->weights_ = std::move(*placed);
  teacher->views_ = view_weights(config, layout, teacher->weights_->array());
  auto decoder = Decoder::make(device, config, limits_of_teacher(rows, positions));
  if (!decoder) return fail(std::move(decoder.error()));
  teacher->decoder_ = std::move(*decoder);
  return teacher;
}

Teacher TeacherModel::look_at(const DecoderBatch& batch, const Array& rows) {
  Teacher teacher;
  teacher.x = decoder_->states(views_, batch, rows);
  teacher.head = views_.head;
  teacher.width = config_.hidden;
  return teacher;
}

double TeacherModel::flops(double rows, double attended) const {
  return 2.0 * static_cast<double>(config_.matmul_parameters()) * rows + 4.0 * config_.layers * config_.q_width() * attended;
}

Result<void> check_same_tokens(const Tokenizer& teacher, const Tokenizer& student) {
  const std::size_t size = std::max(teacher.size(), student.size());
  for (TokenId id = 0; id < size; ++id) {
    if (teacher.bytes_of(id) == student.bytes_of(id)) continue;
    return fail(GpuError::invalid, "teacher and student need the same tokenizer: token " + std::to_string(id) + " is " + quoted_token(teacher, id) +
                                       " to the teacher and " + quoted_token(student, id) + " to the student");
  }
  return {};
}

}  // namespace outlast::gpu
