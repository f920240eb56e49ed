#include "gpu/collective/rendezvous_message.hpp"

#include <cstring>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::string_view magic = "OR";
constexpr std::uint8_t version = 1;
constexpr std::size_t length_bytes = 4;
constexpr std::size_t fixed_bytes = 2 + 1 + 1 + 8 + 4 + 4 + 2;  // of a body, before the key

template <class T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i)));
}

template <class T>
T take(std::string_view& from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(from[i])) << (8 * i);
  from.remove_prefix(sizeof(T));
  return static_cast<T>(value);
}

}  // namespace

std::string encode(const RendezvousMessage& message) {
  const std::size_t size = fixed_bytes + message.key.size() + message.value.size();
  check(message.key.size() <= rendezvous_key_bytes_max && size <= rendezvous_message_bytes_max, "a rendezvous message is within its limits");
  std::string out;
  put(out, static_cast<std::uint32_t>(size));
  out += magic;
  put(out, version);
  put(out, static_cast<std::uint8_t>(message.kind));
  put(out, message.generation);
  put(out, message.rank);
  put(out, message.ranks);
  put(out, static_cast<std::uint16_t>(message.key.size()));
  out += message.key;
  out += message.value;
  return out;
}

Result<std::optional<RendezvousMessage>> RendezvousReader::next() {
  if (bytes_.size() < length_bytes) return std::nullopt;
  std::string_view rest = bytes_;
  const std::size_t size = take<std::uint32_t>(rest);
  if (size < fixed_bytes || size > rendezvous_message_bytes_max) return fail(GpuError::malformed, "not a rendezvous message: its length is " + std::to_string(size));
  if (rest.size() < size) return std::nullopt;
  rest = rest.substr(0, size);
  if (!rest.starts_with(magic)) return fail(GpuError::malformed, "not a rendezvous message");
  rest.remove_prefix(magic.size());
  if (const auto spoken = take<std::uint8_t>(rest); spoken != version)
    return fail(GpuError::malformed, "a rendezvous message of version " + std::to_string(spoken) + ", and this is " + std::to_string(version));
  RendezvousMessage message;
  const auto kind = take<std::uint8_t>(rest);
  if (kind == 0 || kind > static_cast<std::uint8_t>(last_rendezvous_kind)) return fail(GpuError::malformed, "a rendezvous message of no known kind");
  message.kind = static_cast<RendezvousKind>(kind);
  message.generation = take<std::uint64_t>(rest);
  message.rank = take<std::uint32_t>(rest);
  message.ranks = take<std::uint32_t>(rest);
  const std::size_t key_bytes = take<std::uint16_t>(rest);
  if (key_bytes > rendezvous_key_bytes_max || key_bytes > rest.size()) return fail(GpuError::malformed, "a rendezvous message whose key is too long");
  message.key = rest.substr(0, key_bytes);
  message.value = rest.substr(key_bytes);
  bytes_.erase(0, length_bytes + size);
  return message;
}

}  // namespace outlast::gpu
