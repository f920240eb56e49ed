// The decoders of the control channel between nodes: any bytes, any alignment. What decodes must encode to a frame that
// decodes to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.hpp"
#include "proto/ask_codec.hpp"

using namespace outlast;

namespace {

template <class Decode, class Encode>
void round_trip(std::span<const std::byte> bytes, Decode decode, Encode encode) {
  const auto message = decode(bytes);
  if (!message) return;
  const auto first = encode(*message);
  check(first.has_value(), "what came in a frame fits a frame", first ? "" : first.error().message);
  const auto again = decode((*first)->bytes());
  check(again.has_value(), "an encoded message decodes", again ? "" : again.error().message);
  const auto second = encode(*again);
  check(second && std::ranges::equal((*first)->bytes(), (*second)->bytes()), "a round trip changes nothing");
}

}  // namespace

// The first byte chooses the kind and the alignment.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t offset = (data[0] >> 2) % 8;
  std::vector<std::byte> bytes(offset + size - 1);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), size - 1, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  const auto frame = std::span<const std::byte>(bytes).subspan(offset);
  const auto body = [](const auto& value) { return ask::encode_body(value); };
  switch (data[0] & 3) {
    case 0: round_trip(frame, ask::decode, [](const ask::Message& message) { return ask::encode(message); }); break;
    case 1: round_trip(frame, ask::decode_node_report, body); break;
    case 2: round_trip(frame, ask::decode_worker, body); break;
    default: round_trip(frame, ask::decode_worker_body, body);
  }
  return 0;
}
