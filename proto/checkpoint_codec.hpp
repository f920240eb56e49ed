// Messages of a checkpoint's transfer between structs and frames (checkpoint.capnp).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::checkpoint {

inline constexpr std::size_t chunk_bytes_max = 1U << 20;
inline constexpr std::size_t files_max = 65'536;
inline constexpr std::size_t file_name_bytes_max = 255;

struct Wanted {
  std::uint16_t shard = 0;
  bool operator==(const Wanted&) const = default;
};
struct File {
  std::string name;
  std::uint64_t bytes = 0;
  bool operator==(const File&) const = default;
};
struct Manifest {
  std::uint64_t next_index = 0;
  std::vector<File> files;
  bool operator==(const Manifest&) const = default;
};
struct Place {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  bool operator==(const Place&) const = default;
};
struct Chunk {
  Place place;
  std::string data;
  bool operator==(const Chunk&) const = default;
};
struct Ended {
  bool operator==(const Ended&) const = default;
};
struct Failed {
  std::string why;
  bool operator==(const Failed&) const = default;
};
struct Message {
  std::uint64_t transfer = 0;
  std::variant<Wanted, Manifest, Place, Chunk, Ended, Failed> body;
  bool operator==(const Message&) const = default;
};

FramePtr encode(const Message& message);
// Any bytes give a message or an error: FrameError. Names are such as a store has (safe_file_name), data fits its sum.
Result<Message> decode(std::span<const std::byte> bytes);
// A relative path that stays in its folder: letters, digits, '.', '_', '-', and one '/' at most.
bool safe_file_name(std::string_view name);

}  // namespace outlast::checkpoint
