// Frame: one encoded message as immutable bytes that Cap'n Proto can read in place.
// Shared as FramePtr, so that a queue, a retry and a log hold the same bytes and never a copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/result.hpp"

namespace outlast {

// No frame of any kind is larger; sockets and decoders refuse what is.
inline constexpr std::size_t frame_bytes_max = 32u << 20;

// Append-only.
enum class FrameError : std::uint16_t {
  malformed = 1,     // not a frame, or one that lies about its inside
  too_large = 2,     // over frame_bytes_max or over a limit of its kind
  unknown_kind = 3,  // well-formed, from a newer peer: to be ignored
};
template <>
inline constexpr std::string_view error_module<FrameError> = "frame";

// Immutable after construction: any thread.
class Frame {
 public:
  // `size_bytes` uninitialised bytes, to be filled through writable() before anybody shares the frame.
  explicit Frame(std::size_t size_bytes);
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  [[nodiscard]] std::span<std::byte> writable() {
    return {reinterpret_cast<std::byte*>(words_.get()), size_bytes_};
  }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(words_.get()), size_bytes_};
  }
  [[nodiscard]] std::size_t size() const { return size_bytes_; }

  [[nodiscard]] static std::shared_ptr<const Frame> copy_of(std::span<const std::byte> bytes);

 private:
  std::unique_ptr<std::uint64_t[]> words_;  // 8-byte aligned
  std::size_t size_bytes_;
};

using FramePtr = std::shared_ptr<const Frame>;

// Bytes from a socket as words: the same memory where it is 8-byte aligned and of whole words, else a copy that lives
// as long as this object. One owner.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::span<const std::byte> bytes);
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;

  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t word_count() const { return word_count_; }
  [[nodiscard]] bool copied() const { return copy_ != nullptr; }

 private:
  std::unique_ptr<std::uint64_t[]> copy_;
  const std::byte* data_;
  std::size_t word_count_;  // a last part of a word is left out: no frame has one
};

}  // namespace outlast
