// Performance: how one answer is given: at which pace, and where it stalls or breaks.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlast-sim/chat_request.hpp"
#include "apps/outlast-sim/render.hpp"
#include "http/server.hpp"

namespace outlast::sim {

namespace asio = boost::asio;

inline constexpr http::HeaderField json_type{"content-type", "application/json"};

struct Performance {
  const Rendered* rendered = nullptr;
  Dialect dialect = Dialect::openai;
  bool stream = false;
  std::uint64_t id = 0;
  std::uint64_t first_token_ms = 0;
  std::uint64_t tokens_per_s = 0;
  std::optional<std::uint64_t> cut_after;  // tokens
  bool stall = false;
  std::optional<std::uint64_t> stall_after;  // tokens; none for before the head
  std::uint64_t stall_ms = 0;

  [[nodiscard]] bool waits() const { return first_token_ms != 0 || tokens_per_s != 0 || stall; }
  [[nodiscard]] std::chrono::nanoseconds delay_of(std::uint64_t tokens_before) const {
    const auto first = std::chrono::milliseconds(first_token_ms);
    if (tokens_per_s == 0) return first;
    return first + std::chrono::nanoseconds(tokens_before * 1'000'000'000 / tokens_per_s);
  }
};

// Gives the answer. True when the caller has it to its clean end; otherwise it went away, or the
// performance was to be cut, and the response is still to be cut. `performance` outlives the call.
asio::awaitable<bool> perform(asio::io_context& context, const Performance& performance,
                              http::Response& response);

}  // namespace outlast::sim
