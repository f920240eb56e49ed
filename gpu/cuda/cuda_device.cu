#include "gpu/cuda/cuda_device.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "gpu/cuda/cuda.hpp"
#include "gpu/cuda/kernel.cuh"
#include "gpu/cuda/management.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr int least_capability = 8;  // bf16 in tensor cores
constexpr std::size_t staging_bytes = 4U << 20;  // a multiple of the next
constexpr std::size_t staging_alignment = 64;
constexpr unsigned threads = 256;
constexpr unsigned blocks_per_processor = 8;  // of `threads`
constexpr unsigned column_lanes = 32;
constexpr unsigned column_parts = 16;

class CudaMemory final : public Memory {
 public:
  CudaMemory(int device, void* data, std::size_t count, Dtype dtype) : device_(device), array_{data, count, dtype} {}
  // Waits for what still uses it.
  ~CudaMemory() override {
    (void)cudaSetDevice(device_);
    (void)cudaDeviceSynchronize();
    (void)cudaFree(array_.data);
  }
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;
  [[nodiscard]] Array array() const override { return array_; }

 private:
  const int device_;
  const Array array_;
};

std::string text_of(cudaError_t status) { return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status); }

__device__ void assign(bf16& to, float from) { to = __float2bfloat16_rn(from); }
__device__ void assign(float& to, bf16 from) { to = __bfloat162float(from); }

template <class To, class From>
__global__ void convert(To* to, const From* from, std::size_t count) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) assign(to[i], from[i]);
}

__device__ float wide(float number) { return number; }
__device__ float wide(bf16 number) { return __bfloat162float(number); }

// A block has column_lanes columns, each of which column_parts threads add up.
template <class T>
__global__ void sum_columns(float* sums, const T* numbers, std::size_t rows, std::size_t columns, std::size_t stride) {
  __shared__ float parts[column_parts][column_lanes];
  const std::size_t column = std::size_t{blockIdx.x} * column_lanes + threadIdx.x;
  float sum = 0;
  if (column < columns) {
    for (std::size_t row = threadIdx.y; row < rows; row += column_parts) sum += wide(numbers[row * stride + column]);
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float whole = 0;
  for (unsigned part = 0; part < column_parts; ++part) whole += parts[part][threadIdx.x];
  sums[column] += whole;
}

std::string bus_of(int number) {
  char bus[32] = {};
  return cudaDeviceGetPCIBusId(bus, sizeof bus, number) == cudaSuccess ? bus : "";
}

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(int number) {
  auto device = CudaDevice::make(number);
  if (!device) return fail(std::move(device.error()));
  return std::unique_ptr<Device>(std::move(*device));
}

CudaDevice::CudaDevice(int number, const cudaDeviceProp& properties)
    : number_(number), model_(properties.name), bus_(bus_of(number)), processors_(static_cast<unsigned>(properties.multiProcessorCount)) {}

Result<std::unique_ptr<CudaDevice>> CudaDevice::make(int number) {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    (void)cudaGetLastError();
    return fail(GpuError::device, "this machine has no CUDA device (" + text_of(status) + "); `nvidia-smi` shows what its driver sees");
  }
  if (number < 0 || number >= count)
    return fail(GpuError::device, "there is no cuda:" + std::to_string(number) + "; this machine has " + std::to_string(count) + " CUDA devices, from cuda:0");
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, number); status != cudaSuccess)
    return fail(GpuError::device, "cuda:" + std::to_string(number) + " does not answer: " + text_of(status));
  if (properties.major < least_capability) {
    return fail(GpuError::device, "cuda:" + std::to_string(number) + " (" + properties.name + ") has compute capability " + std::to_string(properties.major) + "." +
                                      std::to_string(properties.minor) + "; 8.0 (A100) is the least that this build runs on");
  }
  std::unique_ptr<CudaDevice> device(new CudaDevice(number, properties));
  if (Result<void> started = device->start(); !started) return fail(std::move(started.error()));
  return device;
}

Result<void> CudaDevice::start() {
  keep(cudaSetDevice(number_), "choosing the device");
  keep(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making its stream");
  if (!failure_.empty()) return kept();
  keep(cudaMalloc(&workspace_, MatrixProducts::workspace_bytes), "allocating its workspace");
  void* staging = nullptr;
  keep(cudaMallocHost(&staging, staging_bytes), "allocating locked memory");
  staging_ = static_cast<std::byte*>(staging);
  keep(products_.start(workspace_), "starting cuBLASLt");
  // A build for other devices has no kernel that runs here: better said now.
  cudaFuncAttributes attributes{};
  keep(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&sum_columns<float>)), "finding this build's kernels for the device");
  return kept();
}

CudaDevice::~CudaDevice() {
  (void)cudaSetDevice(number_);
  if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
  (void)cudaFree(scratch_);
  (void)cudaFree(workspace_);
  (void)cudaFreeHost(staging_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

std::string CudaDevice::name() const { return "cuda:" + std::to_string(number_) + " (" + model_ + ")"; }

DeviceMemory CudaDevice::memory() const {
  std::size_t free = 0;
  std::size_t total = 0;
  if (cudaSetDevice(number_) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
  return {total, free};
}

double CudaDevice::peak_flops() { return cuda_peak(model_).value_or(CudaPeak()).flops; }

std::optional<float> CudaDevice::temperature_c() const { return cuda_temperature_c(bus_); }

cudaStream_t CudaDevice::stream() {
  keep(cudaSetDevice(number_), "choosing the device");
  return stream_;
}

void CudaDevice::keep(cudaError_t status, const char* what) {
  if (status != cudaSuccess) keep(what, text_of(status));
}

void CudaDevice::keep(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) keep(what, std::string("cuBLASLt: ") + cublasLtGetStatusName(status));
}

void CudaDevice::keep(const char* what, std::string message) {
  if (failure_.empty()) failure_ = name() + ": " + what + ": " + message;
}

Result<void> CudaDevice::kept() {
  if (failure_.empty()) return {};
  std::string failure;
  failure.swap(failure_);
  return fail(GpuError::device, std::move(failure));
}

Result<void> CudaDevice::synchronize() {
  keep(cudaStreamSynchronize(stream()), "waiting for operations");
  staged_ = 0;
  return kept();
}

Result<std::unique_ptr<Memory>> CudaDevice::allocate(std::size_t count, Dtype dtype) {
  const cudaStream_t at = stream();
  void* data = nullptr;
  cudaError_t status = cudaErrorMemoryAllocation;
  if (count <= std::numeric_limits<std::size_t>::max() / size_of(dtype)) status = cudaMalloc(&data, std::max<std::size_t>(count * size_of(dtype), 1));
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    if (status != cudaErrorMemoryAllocation) return fail(GpuError::device, name() + ": allocating: " + text_of(status));
    return fail(GpuError::too_large, std::to_string((count * size_of(dtype)) >> 20) + " MiB of memory are needed and " + name() + " has " +
                                         std::to_string(memory().free_bytes >> 20) + " MiB free");
  }
  if (count > 0) keep(cudaMemsetAsync(data, 0, count * size_of(dtype), at), "clearing memory");
  return std::unique_ptr<Memory>(new CudaMemory(number_, data, count, dtype));
}

// The host's memory may be used again at once: what is small is copied first, and for the rest this waits.
void CudaDevice::upload(const Array& to, std::span<const std::byte> from) {
  check(to.bytes() == from.size(), "an upload fills its array");
  if (from.empty()) return;
  const cudaStream_t at = stream();
  const bool stages = from.size() <= staging_bytes;
  if (!stages || staged_ + from.size() > staging_bytes) {
    keep(cudaStreamSynchronize(at), "waiting for uploads");
    staged_ = 0;
  }
  const std::byte* source = from.data();
  if (stages) {
    std::memcpy(staging_ + staged_, source, from.size());
    source = staging_ + staged_;
    staged_ += divided_up(from.size(), staging_alignment) * staging_alignment;
  }
  keep(cudaMemcpyAsync(to.data, source, from.size(), cudaMemcpyHostToDevice, at), "an upload");
  if (!stages) keep(cudaStreamSynchronize(at), "an upload");
}

Result<void> CudaDevice::download(std::span<std::byte> to, const Array& from) {
  check(from.bytes() == to.size(), "a download takes the whole array");
  if (!to.empty()) keep(cudaMemcpyAsync(to.data(), from.data, to.size(), cudaMemcpyDeviceToHost, stream()), "a download");
  return synchronize();
}

void CudaDevice::copy(const Array& to, const Array& from) {
  check(to.count == from.count, "a copy is of the same size");
  if (to.empty() || to.data == from.data) return;
  if (to.dtype == from.dtype) return keep(cudaMemcpyAsync(to.data, from.data, to.bytes(), cudaMemcpyDeviceToDevice, stream()), "a copy");
  const unsigned blocks = blocks_for(divided_up<std::size_t>(to.count, threads));
  if (to.dtype == Dtype::bf16) convert<<<blocks, threads, 0, stream()>>>(bf16_of(to), from.as<float>(), to.count);
  else convert<<<blocks, threads, 0, stream()>>>(to.as<float>(), bf16_of(from), to.count);
  launched("a copy");
}

void CudaDevice::fill_zero(const Array& array) {
  if (!array.empty()) keep(cudaMemsetAsync(array.data, 0, array.bytes(), stream()), "clearing memory");
}

float* CudaDevice::scratch(std::size_t count) {
  if (count <= scratch_count_) return scratch_;
  keep(cudaStreamSynchronize(stream()), "growing scratch memory");
  keep(cudaFree(scratch_), "growing scratch memory");
  scratch_ = nullptr;
  scratch_count_ = 0;
  void* data = nullptr;
  if (const cudaError_t status = cudaMalloc(&data, count * sizeof(float)); status != cudaSuccess) {
    (void)cudaGetLastError();
    keep(status, "allocating scratch memory");
    return nullptr;
  }
  scratch_ = static_cast<float*>(data);
  scratch_count_ = count;
  return scratch_;
}

void CudaDevice::add_columns(float* sums, const void* numbers, Dtype dtype, std::size_t rows, std::size_t columns, std::size_t stride) {
  const auto blocks = static_cast<unsigned>(divided_up<std::size_t>(columns, column_lanes));
  const dim3 shape(column_lanes, column_parts);
  if (dtype == Dtype::f32) sum_columns<<<blocks, shape, 0, stream()>>>(sums, static_cast<const float*>(numbers), rows, columns, stride);
  else sum_columns<<<blocks, shape, 0, stream()>>>(sums, static_cast<const bf16*>(numbers), rows, columns, stride);
  launched("sums of columns");
}

bool CudaDevice::let_share(const void* kernel, std::size_t bytes, const char* what) {
  constexpr std::size_t without_asking = 48U << 10;
  if (bytes <= without_asking) return true;
  (void)stream();
  int most = 0;
  keep(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, number_), what);
  if (bytes > static_cast<std::size_t>(most)) {
    keep(what, std::to_string(bytes) + " bytes of shared memory are needed, and a block has " + std::to_string(most));
    return false;
  }
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  keep(status, what);
  return status == cudaSuccess;
}

unsigned CudaDevice::blocks_for(std::size_t items) const {
  return static_cast<unsigned>(std::clamp<std::size_t>(items, 1, std::size_t{processors_} * blocks_per_processor));
}

}  // namespace outlast::gpu
