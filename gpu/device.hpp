// Device: where arrays live and operations run; a CPU or a CUDA device. Operations on one device happen in the order in which
// they are called, and may still be running when the call returns: synchronize() waits, and tells what went wrong since.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/result.hpp"
#include "gpu/array.hpp"
#include "gpu/operations.hpp"

namespace outlast::gpu {

struct DeviceMemory {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};

// Owns what an Array shows. Freed on destruction.
class Memory {
 public:
  virtual ~Memory() = default;
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[nodiscard]] virtual Array array() const = 0;
};

// Operations that are run over and over, such as those of a step of decoding. One owner, the device's thread; the device outlives it.
class Repeats {
 public:
  virtual ~Repeats() = default;
  Repeats() = default;
  Repeats(const Repeats&) = delete;
  Repeats& operator=(const Repeats&) = delete;
  // What `work` returns, which calls operations and no upload, download or allocation. Under the same key it is always the same
  // operations, on the same arrays of the same sizes; only numbers in them differ. So a device may keep what it launched, and launch
  // that at once the next time, without calling `work`.
  virtual Array run(std::uint64_t key, const std::function<Array()>& work) = 0;
};

// One owner, one thread at a time.
class Device : public Operations {
 public:
  [[nodiscard]] virtual std::string name() const = 0;  // "cpu", or "cuda:0 (NVIDIA H200)"
  // Of weights in use and of activations: f32 on a CPU, bf16 on CUDA. Statistics, losses and optimizer state are f32.
  [[nodiscard]] virtual Dtype compute_dtype() const = 0;
  [[nodiscard]] virtual DeviceMemory memory() const = 0;
  // Multiplications and additions a second of its matrix products in the compute type, at best: what MFU is a share of. Measured by a
  // CPU when it is first asked, for some ten milliseconds; by the data sheet of a GPU. 0: not known.
  [[nodiscard]] virtual double peak_flops() = 0;
  // Of the hottest of its chips, by their own sensors. Any thread.
  [[nodiscard]] virtual std::optional<float> temperature_c() const = 0;

  // All zero. Errors: too_large, with what is free.
  virtual Result<std::unique_ptr<Memory>> allocate(std::size_t count, Dtype dtype) = 0;
  // Bytes to the device and back, in the order of operations. The host's memory may be used again at once, and after
  // download() holds the numbers.
  virtual void upload(const Array& to, std::span<const std::byte> from) = 0;
  virtual Result<void> download(std::span<std::byte> to, const Array& from) = 0;
  virtual void copy(const Array& to, const Array& from) = 0;  // same count; f32 and the compute type become each other
  virtual void fill_zero(const Array& array) = 0;

  // Errors: device, once, of any operation since the last call.
  virtual Result<void> synchronize() = 0;

  // For a device that gains nothing by it, one that calls the work each time.
  virtual std::unique_ptr<Repeats> make_repeats();
};

// All numbers of an array, on the host. Errors: device.
template <class T>
Result<std::vector<T>> numbers_of(Device& device, const Array& array) {
  std::vector<T> numbers(array.count);
  if (Result<void> done = device.download(std::as_writable_bytes(std::span(numbers)), array); !done) return fail(std::move(done.error()));
  return numbers;
}

// Cuts one Memory into arrays, so that a step allocates nothing. One owner.
class Arena {
 public:
  explicit Arena(Array whole) : whole_(whole) {}
  // Bytes that count, with the alignment that take() keeps.
  [[nodiscard]] static std::size_t bytes_of(std::size_t count, Dtype dtype) {
    return (count * size_of(dtype) + alignment - 1) / alignment * alignment;
  }
  Array take(std::size_t count, Dtype dtype);

 private:
  static constexpr std::size_t alignment = 256;
  Array whole_;  // u8
  std::size_t taken_ = 0;
};

}  // namespace outlast::gpu
