// The same arrays on a CPU and on a CUDA device, for tests that have both do the same and compare what came of it.
//
// How close they are: inputs are rounded to bf16 before either gets them, so only what the CUDA device rounds itself makes a difference.
// A bf16 number has 8 bits: one rounding is off by at most 2^-9 = 0.2 % of the number. An output that was rounded once is within 0.5 %
// of the largest there is (`rounded_once`); where numbers in between were rounded too, as probabilities and their gradients are in
// attention, within 2 % (`rounded_within`); fp32 outputs of bf16 inputs differ by the order of sums (`of_sums`).
#pragma once

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "gpu/cuda/cuda.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/finite_differences.hpp"

namespace outlast::gpu {

inline constexpr double rounded_once = 5e-3;
inline constexpr double rounded_within = 2e-2;
inline constexpr double of_sums = 2e-4;

inline std::vector<float> as_bf16(std::vector<float> numbers) {
  for (float& number : numbers) number = from_bf16(to_bf16(number));
  return numbers;
}
inline std::vector<float> noise_in_bf16(std::size_t count, std::uint64_t seed, float deviation = 1) { return as_bf16(random_numbers(count, seed, deviation)); }

// One array on each; or none on either.
struct Twin {
  std::shared_ptr<Loaded> cpu;
  std::shared_ptr<Loaded> cuda;
};

class Twins {
 public:
  // Null, and said, where there is no CUDA device; a failure where the environment has OUTLAST_NEEDS_CUDA.
  static Twins* find() {
    static const std::unique_ptr<Twins> twins = make();
    return twins.get();
  }

  // In the compute type: f32 and bf16.
  [[nodiscard]] Twin numbers(const std::vector<float>& numbers) {
    std::vector<std::uint16_t> bits;
    for (const float number : numbers) bits.push_back(to_bf16(number));
    return {std::make_shared<Loaded>(*cpu_, numbers), std::make_shared<Loaded>(*cuda_, bits)};
  }
  [[nodiscard]] Twin noise(std::size_t count, std::uint64_t seed, float deviation = 1) { return numbers(noise_in_bf16(count, seed, deviation)); }
  [[nodiscard]] Twin zeros(std::size_t count) { return numbers(std::vector<float>(count)); }
  // In f32, or i32, on both.
  template <class T>
  [[nodiscard]] Twin same(const std::vector<T>& numbers) {
    return {std::make_shared<Loaded>(*cpu_, numbers), std::make_shared<Loaded>(*cuda_, numbers)};
  }

  // Calls work(device, at) for each; at(twin) is its array on that device.
  template <class Work>
  void run(const Work& work) {
    work(static_cast<Device&>(*cpu_), [](const Twin& twin) { return twin.cpu ? twin.cpu->array() : Array{}; });
    work(*cuda_, [](const Twin& twin) { return twin.cuda ? twin.cuda->array() : Array{}; });
    const Result<void> done = cuda_->synchronize();
    INFO((done ? std::string() : done.error().message));
    REQUIRE(done.has_value());
  }

  [[nodiscard]] std::vector<float> on_cpu(const Twin& twin) const { return need(gpu::numbers_of<float>(*cpu_, twin.cpu->array())); }
  [[nodiscard]] std::vector<float> on_cuda(const Twin& twin) const {
    if (twin.cuda->array().dtype == Dtype::f32) return need(gpu::numbers_of<float>(*cuda_, twin.cuda->array()));
    std::vector<float> numbers;
    for (const std::uint16_t bits : need(gpu::numbers_of<std::uint16_t>(*cuda_, twin.cuda->array()))) numbers.push_back(from_bf16(bits));
    return numbers;
  }
  // All numbers, in rows of `width` (0: all are one row): the largest difference in a row as a share of the row's largest number, or of
  // a tenth of the typical one of all rows, or of `floor`, where that is more.
  [[nodiscard]] double difference(const Twin& twin, std::size_t width = 0, double floor = 1e-12) const {
    const std::vector<float> expected = on_cpu(twin);
    const std::vector<float> got = on_cuda(twin);
    REQUIRE(got.size() == expected.size());
    double squares = 0;
    for (const float number : expected) squares += static_cast<double>(number) * static_cast<double>(number);
    const double typical = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(1, expected.size())));
    const double least = std::max(0.1 * typical, floor);
    const std::size_t step = width == 0 ? std::max<std::size_t>(1, expected.size()) : width;
    double most = 0;
    for (std::size_t row = 0; row < expected.size(); row += step) {
      double size = least;
      double apart = 0;
      for (std::size_t i = row; i < std::min(row + step, expected.size()); ++i) {
        if (!std::isfinite(got[i])) return INFINITY;
        size = std::max(size, std::abs(static_cast<double>(expected[i])));
        apart = std::max(apart, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
      }
      most = std::max(most, apart / size);
    }
    return most;
  }

  [[nodiscard]] CpuDevice& cpu() { return *cpu_; }
  [[nodiscard]] Device& cuda() { return *cuda_; }
  // An emulated device is right and slow.
  [[nodiscard]] bool emulated() const { return cuda_->name().find("(emulated)") != std::string::npos; }

 private:
  explicit Twins(std::unique_ptr<Device> cuda) : cpu_(need(CpuDevice::make(0))), cuda_(std::move(cuda)) {}
  static std::unique_ptr<Twins> make() {
    auto cuda = make_cuda_device(0);
    if (cuda) return std::unique_ptr<Twins>(new Twins(std::move(*cuda)));
    if (std::getenv("OUTLAST_NEEDS_CUDA") != nullptr) FAIL(cuda.error().message);
    std::cerr << "skipped: " << cuda.error().message << '\n';
    return nullptr;
  }

  std::unique_ptr<CpuDevice> cpu_;
  std::unique_ptr<Device> cuda_;
};

}  // namespace outlast::gpu
