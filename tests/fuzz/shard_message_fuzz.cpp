// The decoder of messages between holders and owners of shards: any bytes, of any alignment, give a message or an error.
// What decodes encodes again to an equal message.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.hpp"
#include "proto/shard_codec.hpp"

// The first byte chooses the alignment.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outlast;
  if (size == 0) return 0;
  const std::size_t offset = data[0] % 8;
  std::vector<std::byte> bytes(offset + size - 1);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), size - 1, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  const Result<shard::Message> message = shard::decode(std::span<const std::byte>(bytes).subspan(offset));
  if (!message) return 0;
  const Result<shard::Message> again = shard::decode(shard::encode(*message)->bytes());
  check(again && *again == *message, "a round trip changes nothing");
  return 0;
}
