// CudaDevice: one NVIDIA GPU, from compute capability 8.0 on, computing in bf16 with sums in fp32. Each operation stands in a file
// of its own beside this one, with its kernels; gpu/cpu/ is the reference. All of them run on one stream, so in the order of calls.
//
// No call throws or waits. What fails is kept, and synchronize() or download() tells the first of it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

#include "gpu/cuda/matrix_products.hpp"
#include "gpu/device.hpp"

namespace outlast::gpu {

class CudaDevice final : public Device {
 public:
  // Errors: device.
  static Result<std::unique_ptr<CudaDevice>> make(int number);
  ~CudaDevice() override;

  [[nodiscard]] std::string name() const override;
  [[nodiscard]] Dtype compute_dtype() const override { return Dtype::bf16; }
  [[nodiscard]] DeviceMemory memory() const override;
  [[nodiscard]] double peak_flops() override;
  [[nodiscard]] std::optional<float> temperature_c() const override;
  Result<std::unique_ptr<Memory>> allocate(std::size_t count, Dtype dtype) override;
  void upload(const Array& to, std::span<const std::byte> from) override;
  Result<void> download(std::span<std::byte> to, const Array& from) override;
  void copy(const Array& to, const Array& from) override;
  void fill_zero(const Array& array) override;
  Result<void> synchronize() override;

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

  // By CUDA graphs.
  std::unique_ptr<Repeats> make_repeats() override;

  [[nodiscard]] int number() const { return number_; }
  // Where operations run, for what has to wait for them.
  [[nodiscard]] cudaStream_t operations() const { return stream_; }

 private:
  friend class CudaRepeats;
  CudaDevice(int number, const cudaDeviceProp& properties);
  Result<void> start();

  // The stream, with the device made the calling thread's.
  cudaStream_t stream();
  // Keeps the first failure, with what was done then.
  void keep(cudaError_t status, const char* what);
  void keep(cublasStatus_t status, const char* what);
  void keep(const char* what, std::string message);
  void launched(const char* what) { keep(cudaGetLastError(), what); }
  Result<void> kept();

  // fp32 numbers for sums between two kernels of one operation: valid until the next call, null where there is no memory, which is
  // kept. It grows to the largest that was asked for and stays.
  float* scratch(std::size_t count);
  // sums[columns] += the columns' sums of numbers [rows, columns], `stride` numbers from one row to the next; in a fixed order.
  void add_columns(float* sums, const void* numbers, Dtype dtype, std::size_t rows, std::size_t columns, std::size_t stride);
  // Lets a kernel have so much shared memory; false, and kept, where the device has less.
  bool let_share(const void* kernel, std::size_t bytes, const char* what);
  // Blocks that keep the device busy, at most one for each of `items`.
  [[nodiscard]] unsigned blocks_for(std::size_t items) const;
  void write_pages(const PagedAttention& operation, std::size_t rows);
  void attend_pages_of_single_rows(const PagedAttention& operation, std::size_t rows);

  const int number_;
  const std::string model_;
  const std::string bus_;
  const unsigned processors_;
  cudaStream_t stream_ = nullptr;
  void* workspace_ = nullptr;     // of products_
  std::byte* staging_ = nullptr;  // locked memory of the host, through which small uploads go
  std::size_t staged_ = 0;        // of it, what may still be read
  MatrixProducts products_;
  float* scratch_ = nullptr;
  std::size_t scratch_count_ = 0;
  std::string failure_;  // of the first that failed since it was last told
};

}  // namespace outlast::gpu
