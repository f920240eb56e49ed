// The decoders of what workers are asked and say: any bytes, any alignment. What decodes must encode to a frame that decodes to
// the same, but for figures that are no numbers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.hpp"
#include "proto/work_codec.hpp"

using namespace outlast;

namespace {

template <class Decode>
void round_trip(std::span<const std::byte> bytes, Decode decode) {
  const auto message = decode(bytes);
  if (!message) return;
  const auto frame = work::encode(*message);
  // A frame with shared or doubly used parts may say more than its size.
  if (!frame) return check(is(frame.error(), FrameError::too_large), "only size keeps it from leaving");
  const auto again = decode((*frame)->bytes());
  check(again.has_value(), "an encoded message decodes", again ? "" : again.error().message);
  const auto second = work::encode(*again);
  check(second.has_value() && std::ranges::equal((*frame)->bytes(), (*second)->bytes()), "a round trip changes nothing");
}

}  // namespace

// The first byte chooses the message and the alignment.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t offset = (data[0] >> 3) % 8;
  std::vector<std::byte> bytes(offset + size - 1);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), size - 1, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  const auto frame = std::span<const std::byte>(bytes).subspan(offset);
  switch (data[0] % 5) {
    case 0: round_trip(frame, work::decode_start); break;
    case 1: round_trip(frame, work::decode_job); break;
    case 2: round_trip(frame, work::decode_next); break;
    case 3: round_trip(frame, work::decode_events); break;
    default: round_trip(frame, work::decode_status);
  }
  return 0;
}
