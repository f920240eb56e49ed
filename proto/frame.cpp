#include "proto/frame.hpp"

#include <cstring>

#include "core/check.hpp"

namespace outlast {
namespace {

constexpr std::size_t word_bytes = sizeof(std::uint64_t);

std::unique_ptr<std::uint64_t[]> words_for(std::size_t size_bytes) {
  return std::unique_ptr<std::uint64_t[]>(new std::uint64_t[(size_bytes + word_bytes - 1) / word_bytes]);
}

}  // namespace

Frame::Frame(std::size_t size_bytes) : words_(words_for(size_bytes)), size_bytes_(size_bytes) {
  check(size_bytes <= frame_bytes_max, "frame size is within the limit");
}

std::shared_ptr<const Frame> Frame::copy_of(std::span<const std::byte> bytes) {
  auto frame = std::make_shared<Frame>(bytes.size());
  if (!bytes.empty()) std::memcpy(frame->writable().data(), bytes.data(), bytes.size());
  return frame;
}

AlignedBytes::AlignedBytes(std::span<const std::byte> bytes)
    : data_(bytes.data()), word_count_(bytes.size() / word_bytes) {
  if (word_count_ == 0 || reinterpret_cast<std::uintptr_t>(data_) % word_bytes == 0) return;
  copy_ = words_for(word_count_ * word_bytes);
  std::memcpy(copy_.get(), bytes.data(), word_count_ * word_bytes);
  data_ = reinterpret_cast<const std::byte*>(copy_.get());
}

}  // namespace outlast
