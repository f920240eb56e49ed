// ByteBuffer: the bytes that arrived and were not yet used, in one piece, with body_padding_bytes
// readable behind the last byte of its capacity. One owner.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "http/types.hpp"

namespace outlast::http {

class ByteBuffer {
 public:
  [[nodiscard]] std::string_view view() const { return {bytes_.get() + begin_, end_ - begin_}; }
  [[nodiscard]] std::size_t size() const { return end_ - begin_; }
  [[nodiscard]] bool empty() const { return begin_ == end_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  // Where the next bytes go, and for how many there is room without moving anything.
  [[nodiscard]] char* free_begin() { return bytes_.get() + end_; }
  [[nodiscard]] std::size_t free_bytes() const { return capacity_ - end_; }
  // Room from the first unused byte to the end of the capacity.
  [[nodiscard]] std::size_t room() const { return capacity_ - begin_; }

  void commit(std::size_t count) { end_ += count; }
  // The place for the next bytes stays where it is: a read into it may be under way.
  void consume(std::size_t count) { begin_ += count; }
  // Forgets everything behind the first `count` bytes.
  void truncate(std::size_t count) { end_ = begin_ + count; }
  void clear() { begin_ = end_ = 0; }

  // Makes room for `count` bytes in all, from the first unused one. Moves the bytes: no views may
  // be held, and no read may be under way.
  void make_room(std::size_t count) {
    if (room() >= count) return;
    if (capacity_ >= count) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, size());
    } else {
      auto larger = std::make_unique_for_overwrite<char[]>(count + body_padding_bytes);
      if (!empty()) std::memcpy(larger.get(), bytes_.get() + begin_, size());
      bytes_ = std::move(larger);
      capacity_ = count;
    }
    end_ -= begin_;
    begin_ = 0;
  }
  // Gives the memory back.
  void release() {
    bytes_.reset();
    capacity_ = begin_ = end_ = 0;
  }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace outlast::http
