#include "gpu/device.hpp"

namespace outlast::gpu {

Array Arena::take(std::size_t count, Dtype dtype) {
  const std::size_t bytes = bytes_of(count, dtype);
  check(taken_ + bytes <= whole_.count, "an arena has room for what was planned");
  const Array array{static_cast<std::byte*>(whole_.data) + taken_, count, dtype};
  taken_ += bytes;
  return array;
}

namespace {

class CalledRepeats final : public Repeats {
 public:
  Array run(std::uint64_t /*key*/, const std::function<Array()>& work) override { return work(); }
};

}  // namespace

std::unique_ptr<Repeats> Device::make_repeats() { return std::make_unique<CalledRepeats>(); }

}  // namespace outlast::gpu
