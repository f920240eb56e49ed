// A trainer, of tiny() (train_fixture.hpp) or another model, with all that it needs, for tests of what its steps do.
#pragma once

#include <memory>
#include <vector>

#include "gpu/cpu/cpu_device.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/train_fixture.hpp"

namespace outlast::gpu {

inline std::vector<float> weights_of(const ModelConfig& config) { return random_weights(config, ParameterLayout(config), 5); }

struct TrainRun {
  explicit TrainRun(const TrainOptions& options = quick(), std::size_t threads = 1, const std::vector<float>& weights = weights_of(tiny()),
                    const ModelConfig& config = tiny(), const std::vector<float>& teacher = {})
      : device(need(CpuDevice::make(threads))), trainer(need(Trainer::make(*device, config, weights, samples, options, nullptr, teacher))) {}
  std::vector<double> go(int steps) {
    std::vector<double> losses;
    for (int i = 0; i < steps; ++i) losses.push_back(need(trainer->step()).loss);
    return losses;
  }
  std::unique_ptr<CpuDevice> device;
  std::vector<Sample> samples = counting(50);
  std::unique_ptr<Trainer> trainer;
};

}  // namespace outlast::gpu
