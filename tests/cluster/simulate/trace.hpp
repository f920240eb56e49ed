// What happened in a run: the last events in words, and a digest of all of them, by which two runs are compared.
#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <string_view>

namespace outlast::cluster::simulation {

class Trace {
 public:
  static constexpr std::size_t kept = 40;

  void at(std::uint64_t step, std::int64_t now_ms) {
    step_ = step;
    now_ms_ = now_ms;
  }
  void note(std::string what) {
    mix(what);
    std::string line = "step " + std::to_string(step_) + ", " + std::to_string(now_ms_) + " ms: " + std::move(what);
    if (verbose) std::fprintf(stderr, "  %s\n", line.c_str());
    last_.push_back(std::move(line));
    if (last_.size() > kept) last_.pop_front();
  }
  void mix(std::uint64_t value) {
    digest_ = (digest_ ^ value) * 0x9e3779b97f4a7c15ULL;
    digest_ ^= digest_ >> 29;
  }
  void mix(std::string_view text) {
    for (const char letter : text) digest_ = (digest_ ^ static_cast<unsigned char>(letter)) * 0x100000001b3ULL;
  }
  [[nodiscard]] std::uint64_t digest() const { return digest_; }
  [[nodiscard]] std::uint64_t step() const { return step_; }
  [[nodiscard]] const std::deque<std::string>& last() const { return last_; }
  bool verbose = false;

 private:
  std::uint64_t digest_ = 0xcbf29ce484222325ULL;
  std::uint64_t step_ = 0;
  std::int64_t now_ms_ = 0;
  std::deque<std::string> last_;
};

}  // namespace outlast::cluster::simulation
