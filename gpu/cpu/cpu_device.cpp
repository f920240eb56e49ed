#include "gpu/cpu/cpu_device.hpp"

#include <sys/sysinfo.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "gpu/cpu/processor.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t cache_line = 64;

class CpuMemory final : public Memory {
 public:
  CpuMemory(void* data, std::size_t count, Dtype dtype) : array_{data, count, dtype} {}
  ~CpuMemory() override { std::free(array_.data); }
  CpuMemory(const CpuMemory&) = delete;
  CpuMemory& operator=(const CpuMemory&) = delete;
  [[nodiscard]] Array array() const override { return array_; }

 private:
  const Array array_;
};

std::uint64_t number_in(const char* path, std::uint64_t otherwise) {
  std::uint64_t number = 0;
  return std::ifstream(path) >> number ? number : otherwise;
}

// What the kernel thinks can be had without swapping, within the limit of the group that the process runs in.
std::uint64_t available_bytes() {
  constexpr std::uint64_t no_limit = ~std::uint64_t{0};
  const std::uint64_t limit = number_in("/sys/fs/cgroup/memory.max", no_limit);
  const std::uint64_t left = limit == no_limit ? no_limit : limit - std::min(limit, number_in("/sys/fs/cgroup/memory.current", 0));
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::uint64_t kib = 0;
  std::string rest;
  while (file >> name >> kib && std::getline(file, rest)) {
    if (name == "MemAvailable:") return std::min(kib << 10, left);
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<CpuDevice>> CpuDevice::make(std::size_t threads) {
  const auto blas = Blas::load();
  if (!blas) return fail(blas.error());
  return std::unique_ptr<CpuDevice>(new CpuDevice(threads, **blas));
}

DeviceMemory CpuDevice::memory() const {
  struct sysinfo info {};
  ::sysinfo(&info);
  return {std::uint64_t{info.totalram} * info.mem_unit, available_bytes()};
}

double CpuDevice::peak_flops() {
  if (peak_flops_ > 0) return peak_flops_;
  constexpr std::size_t size = 1'024;
  constexpr int runs = 4;  // the best counts, and the first one warms up
  const std::vector<float> a(size * size, 1.0F);
  std::vector<float> out(size * size);
  for (int run = 0; run < runs; ++run) {
    const auto began = std::chrono::steady_clock::now();
    product_bt({out.data(), size}, {a.data(), size}, {a.data(), size}, size, size, size, 0);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
    peak_flops_ = std::max(peak_flops_, 2.0 * size * size * size / taken.count());
  }
  return peak_flops_;
}

std::optional<float> CpuDevice::temperature_c() const { return processor_temperature_c("/sys/class/hwmon"); }

Result<std::unique_ptr<Memory>> CpuDevice::allocate(std::size_t count, Dtype dtype) {
  const std::size_t bytes = (count * size_of(dtype) + cache_line - 1) / cache_line * cache_line;
  const std::uint64_t free = memory().free_bytes;
  void* const data = bytes <= free ? std::aligned_alloc(cache_line, std::max(bytes, cache_line)) : nullptr;
  if (data == nullptr) return fail(GpuError::too_large, std::to_string(bytes >> 20) + " MiB of memory are needed and " + std::to_string(free >> 20) + " MiB are free");
  std::memset(data, 0, bytes);
  return std::unique_ptr<Memory>(new CpuMemory(data, count, dtype));
}

void CpuDevice::upload(const Array& to, std::span<const std::byte> from) {
  check(to.bytes() == from.size(), "an upload fills its array");
  if (!from.empty()) std::memcpy(to.data, from.data(), from.size());
}

Result<void> CpuDevice::download(std::span<std::byte> to, const Array& from) {
  check(from.bytes() == to.size(), "a download takes the whole array");
  if (!to.empty()) std::memcpy(to.data(), from.data, to.size());
  return {};
}

void CpuDevice::copy(const Array& to, const Array& from) {
  check(to.count == from.count && to.dtype == from.dtype, "a copy is of the same size and type");
  if (!to.empty() && to.data != from.data) std::memmove(to.data, from.data, to.bytes());
}

void CpuDevice::fill_zero(const Array& array) {
  if (!array.empty()) std::memset(array.data, 0, array.bytes());
}

float* CpuDevice::scratch_of(std::size_t thread, std::size_t count) {
  std::vector<float>& memory = scratch_[thread];
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

}  // namespace outlast::gpu
