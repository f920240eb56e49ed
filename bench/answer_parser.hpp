// AnswerParser: reads HTTP/1.1 answers for the load generator, and counts the events of streams.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace outlast::bench {

// Reads one answer after another. Only what our own servers send; anything else is an error.
class AnswerParser {
 public:
  enum class State { more, complete, broken };

  State feed(std::string_view bytes) {
    while (true) {
      if (in_head_) {
        if (!take_head(bytes)) return broken_ ? State::broken : State::more;
      } else if (chunked_) {
        const State state = feed_chunked(bytes);
        if (state == State::complete) reset();
        return state;
      } else {
        const std::size_t taken = std::min<std::size_t>(remaining_, bytes.size());
        count_events(bytes.substr(0, taken));
        remaining_ -= taken;
        bytes.remove_prefix(taken);
        if (remaining_ != 0) return State::more;
        if (!bytes.empty()) return State::broken;  // an answer that nobody asked for
        reset();
        return State::complete;
      }
    }
  }

  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] bool closes() const { return closes_; }
  std::uint64_t take_events() { return std::exchange(events_, 0); }
  void start_over() {
    reset();
    head_.clear();
  }

 private:
  void reset() {
    in_head_ = true;
    chunked_ = false;
    remaining_ = 0;
    last_ = 0;
    chunk_state_ = ChunkState::size;
    size_line_.clear();
  }

  // True when the head is complete; `bytes` then holds what follows it.
  bool take_head(std::string_view& bytes) {
    const std::size_t before = head_.size();
    head_.append(bytes);
    const auto end = head_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end == std::string::npos) return false;
    bytes.remove_prefix(end + 4 - before);
    std::string lower = head_.substr(0, end + 2);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    head_.clear();
    status_ = lower.size() > 12 ? std::atoi(lower.c_str() + 9) : 0;
    closes_ = lower.find("\r\nconnection: close") != std::string::npos;
    chunked_ = lower.find("\r\ntransfer-encoding: chunked") != std::string::npos;
    const auto length = lower.find("\r\ncontent-length: ");
    if (!chunked_ && length == std::string::npos) broken_ = true;
    if (!chunked_ && !broken_) remaining_ = std::strtoull(lower.c_str() + length + 18, nullptr, 10);
    in_head_ = broken_;
    return !broken_;
  }

  State feed_chunked(std::string_view bytes) {
    while (!bytes.empty()) {
      if (chunk_state_ == ChunkState::data) {
        const std::size_t taken = std::min<std::size_t>(remaining_, bytes.size());
        count_events(bytes.substr(0, taken));
        remaining_ -= taken;
        bytes.remove_prefix(taken);
        if (remaining_ == 0) chunk_state_ = ChunkState::data_end;
        continue;
      }
      const auto end = bytes.find('\n');
      size_line_.append(bytes.substr(0, end));
      if (end == std::string_view::npos) return State::more;
      bytes.remove_prefix(end + 1);
      if (chunk_state_ == ChunkState::data_end) {
        chunk_state_ = ChunkState::size;
      } else if (chunk_state_ == ChunkState::size) {
        remaining_ = std::strtoull(size_line_.c_str(), nullptr, 16);
        chunk_state_ = remaining_ == 0 ? ChunkState::trailer : ChunkState::data;
      } else if (size_line_ == "\r") {
        return bytes.empty() ? State::complete : State::broken;
      }
      size_line_.clear();
    }
    return State::more;
  }

  // An event of a stream ends with an empty line.
  void count_events(std::string_view bytes) {
    for (const char c : bytes) {
      if (c == '\n' && last_ == '\n') ++events_;
      last_ = c;
    }
  }

  enum class ChunkState { size, data, data_end, trailer };
  bool in_head_ = true;
  bool broken_ = false;
  bool chunked_ = false;
  bool closes_ = false;
  int status_ = 0;
  char last_ = 0;
  ChunkState chunk_state_ = ChunkState::size;
  std::uint64_t remaining_ = 0;
  std::uint64_t events_ = 0;
  std::string head_;
  std::string size_line_;
};

}  // namespace outlast::bench
