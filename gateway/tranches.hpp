// Tranches: how a long stream under a hard budget is reserved piece by piece, so that a large max_tokens neither locks
// up a budget that it will not use nor is refused where little is left. Pure; owned by one exchange.
#pragma once

#include <algorithm>
#include <cstdint>

namespace outlast::gateway {

class Tranches {
 public:
  // Short answers are reserved whole: an extension costs an entry.
  static constexpr std::uint64_t tokens_min = 2'048;
  static constexpr std::uint64_t tokens_max = 16'384;
  static constexpr std::uint64_t headroom_tokens = tokens_min / 2;

  Tranches() = default;
  // `bound` is the most output tokens that the request can have, which the provider is told.
  explicit Tranches(std::uint64_t bound) : bound_(bound), reserved_(std::min(bound, tokens_min)) {}

  [[nodiscard]] std::uint64_t reserved() const { return reserved_; }
  // Whether the stream is about to use up what is reserved. A token has at least one byte, so bytes bound the tokens
  // from above: the reservation stays ahead of what is billed for content.
  [[nodiscard]] bool due(std::uint64_t content_bytes) const {
    return reserved_ < bound_ && content_bytes + headroom_tokens >= reserved_;
  }
  // How much more to ask for: as much again, so that long streams need few entries; or, where that is refused, little.
  [[nodiscard]] std::uint64_t next_tokens() const { return std::min(bound_ - reserved_, std::min(reserved_, tokens_max)); }
  [[nodiscard]] std::uint64_t least_tokens() const { return std::min(bound_ - reserved_, tokens_min); }
  void extend(std::uint64_t tokens) { reserved_ += tokens; }

 private:
  std::uint64_t bound_ = 0;
  std::uint64_t reserved_ = 0;
};

}  // namespace outlast::gateway
