#include <catch2/catch.hpp>

#include "apps/outlast-gpu-worker/job.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::worker::job_sizes_test {
namespace {

struct Silent final : JobContext {
  void emit(work::Event) override {}
  [[nodiscard]] bool stopping() const override { return false; }
  void end(Result<void>) override {}
  std::optional<Joined> join(const std::string&) override { return std::nullopt; }
};

}  // namespace

TEST_CASE("sizes that no run has are refused before anything is read", "[worker]") {
  const auto device = std::move(*gpu::CpuDevice::make(1));
  Silent context;
  const ConnectRanks alone;
  const auto refused = [&](std::uint32_t batch_samples, std::uint32_t rows, std::uint32_t positions) {
    work::Train train;
    train.data = "/nowhere";
    train.batch_samples = batch_samples;
    train.rows = rows;
    train.positions = positions;
    const auto done = worker::train(train, *device, context, alone);
    REQUIRE_FALSE(done);
    return is(done.error(), gpu::GpuError::invalid);
  };
  CHECK_FALSE(refused(32, 4'096, 1'024));  // it is the file that is not there
  CHECK(refused(0, 4'096, 1'024));
  CHECK(refused(4'000'000'000U, 4'096, 1'024));
  CHECK(refused(32, 0, 1'024));
  CHECK(refused(32, 4'000'000'000U, 1'024));
  CHECK(refused(32, 4'096, 4'000'000'000U));
  const auto refused_lora = [&](std::uint32_t rank, double alpha, std::vector<std::string> targets, const std::string& model) {
    work::Train train;
    train.data = "/nowhere";
    train.batch_samples = 32;
    train.rows = 4'096;
    train.positions = 1'024;
    train.model = model;
    train.lora_rank = rank;
    train.lora_alpha = alpha;
    train.lora_targets = std::move(targets);
    const auto done = worker::train(train, *device, context, alone);
    REQUIRE_FALSE(done);
    return is(done.error(), gpu::GpuError::invalid) ? done.error().message : "";
  };
  CHECK(refused_lora(8, 0, {}, "/nowhere").empty());  // it is the model that is not there
  CHECK(refused_lora(8, 0, {}, "").find("give the one to begin from") != std::string::npos);
  CHECK(refused_lora(0, 16, {}, "/nowhere").find("go with a rank") != std::string::npos);
  CHECK(refused_lora(0, 0, {"q_proj"}, "/nowhere").find("go with a rank") != std::string::npos);
  CHECK(refused_lora(8, 0, {"q_proj", "lm_head"}, "/nowhere").find("no target 'lm_head'") != std::string::npos);
  const auto evaluated = worker::evaluate({"/nowhere", "/nowhere", 4'000'000'000U, 1}, *device, context);
  REQUIRE_FALSE(evaluated);
  CHECK(is(evaluated.error(), gpu::GpuError::invalid));
}

}  // namespace outlast::worker::job_sizes_test
