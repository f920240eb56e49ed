// ResponseBuilder: the whole answer out of its events.
#pragma once

#include <cstddef>
#include <span>

#include "core/chat.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

inline constexpr std::size_t response_bytes_max = frame_bytes_max;

// One owner.
class ResponseBuilder {
 public:
  // False when the answer is larger than response_bytes_max; it is of no use then.
  [[nodiscard]] bool add(std::span<const chat::Event> events);
  [[nodiscard]] chat::Response take() { return std::move(response_); }

 private:
  void add(const chat::Event& event);

  chat::Response response_;
  std::size_t bytes_ = 0;
};

}  // namespace outlast::cluster
