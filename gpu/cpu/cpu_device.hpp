// CpuDevice: the reference device, in fp32; an operation has run when its call returns. Each operation stands in a file of its
// own beside this one.
#pragma once

#include <memory>
#include <vector>

#include "gpu/cpu/blas.hpp"
#include "gpu/cpu/threads.hpp"
#include "gpu/device.hpp"

namespace outlast::gpu {

class CpuDevice final : public Device {
 public:
  // `threads` 0: as many as the process may run on. Errors: device.
  static Result<std::unique_ptr<CpuDevice>> make(std::size_t threads);

  [[nodiscard]] std::string name() const override { return "cpu"; }
  [[nodiscard]] Dtype compute_dtype() const override { return Dtype::f32; }
  [[nodiscard]] DeviceMemory memory() const override;
  [[nodiscard]] double peak_flops() override;
  [[nodiscard]] std::optional<float> temperature_c() const override;
  Result<std::unique_ptr<Memory>> allocate(std::size_t count, Dtype dtype) override;
  void upload(const Array& to, std::span<const std::byte> from) override;
  Result<void> download(std::span<std::byte> to, const Array& from) override;
  void copy(const Array& to, const Array& from) override;
  void fill_zero(const Array& array) override;
  Result<void> synchronize() override { return {}; }

  void run(const Embedding& operation) override;
  void run(const EmbeddingBackward& operation) override;
  void run(const RmsNorm& operation) override;
  void run(const RmsNormBackward& operation) override;
  void run(const Linear& operation) override;
  void run(const LinearBackward& operation) override;
  void run(const QkRope& operation) override;
  void run(const QkRopeBackward& operation) override;
  void run(const Attention& operation) override;
  void run(const AttentionBackward& operation) override;
  void run(const PagedAttention& operation) override;
  void run(const SwiGlu& operation) override;
  void run(const SwiGluBackward& operation) override;
  void run(const HeadLoss& operation) override;
  void run(const Likeliest& operation) override;
  void run(const Gather& operation) override;
  void run(const Scatter& operation) override;
  void run(const AdamW& operation) override;
  void add_square_sum(const Array& sum, const Array& numbers) override;

 private:
  CpuDevice(std::size_t threads, const Blas& blas) : threads_(threads), blas_(blas), scratch_(threads_.count()) {}

  struct Range {
    std::size_t from = 0;
    std::size_t size = 0;
  };
  template <class Part>
  void cut(std::size_t m, std::size_t n, std::size_t k, const Part& part);
  // Matrix products (blas.hpp) on all threads.
  void product(Matrix out, ConstMatrix a, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep);
  void product_bt(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep);
  void product_at(Matrix out, ConstMatrix a_t, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep);

  // A thread's own memory of at least `count` numbers, which grows to the largest that was asked for and stays.
  float* scratch_of(std::size_t thread, std::size_t count);

  double peak_flops_ = 0;  // 0: not measured yet
  Threads threads_;
  const Blas& blas_;
  std::vector<std::vector<float>> scratch_;
};

}  // namespace outlast::gpu
