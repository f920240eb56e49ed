#include "proto/frame.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

namespace frame_test {

using namespace outlast;

TEST_CASE("a frame is aligned, keeps its bytes and may be empty", "[frame]") {
  const std::vector<std::byte> bytes(13, std::byte{7});
  const auto frame = Frame::copy_of(bytes);
  CHECK(frame->size() == 13);
  CHECK(reinterpret_cast<std::uintptr_t>(frame->bytes().data()) % 8 == 0);
  CHECK(std::equal(bytes.begin(), bytes.end(), frame->bytes().begin(), frame->bytes().end()));
  CHECK(Frame::copy_of({})->size() == 0);
}

TEST_CASE("bytes are read in place when they are aligned and copied when not", "[frame]") {
  alignas(8) std::byte memory[40];
  for (std::size_t i = 0; i < sizeof memory; ++i) memory[i] = static_cast<std::byte>(i);
  for (std::size_t offset = 0; offset <= 8; ++offset) {
    const AlignedBytes aligned(std::span(memory + offset, 24));
    CHECK(aligned.copied() == (offset % 8 != 0));
    CHECK(aligned.word_count() == 3);
    CHECK(reinterpret_cast<std::uintptr_t>(aligned.data()) % 8 == 0);
    CHECK(std::memcmp(aligned.data(), memory + offset, 24) == 0);
  }
  CHECK(AlignedBytes(std::span(memory, 15)).word_count() == 1);
  CHECK(AlignedBytes(std::span(memory + 1, 7)).word_count() == 0);
}

}  // namespace frame_test
