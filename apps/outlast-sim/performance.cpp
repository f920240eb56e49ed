#include "apps/outlast-sim/performance.hpp"

#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace outlast::sim {
namespace {

constexpr http::HeaderField stream_type{"content-type", "text/event-stream; charset=utf-8"};
constexpr http::HeaderField no_cache{"cache-control", "no-cache"};

// Waiting that ends when the caller goes. Lives in the frame of the request's coroutine.
class Wait {
 public:
  explicit Wait(asio::io_context& context)
      : timer_(context), start_(std::chrono::steady_clock::now()) {}
  void watch(http::Response& response) {
    response.on_disconnect([this] {
      gone_ = true;
      timer_.cancel();
    });
  }
  // Since the request's start. False when the caller has gone.
  asio::awaitable<bool> until(std::chrono::nanoseconds delay) {
    const auto due = start_ + delay;
    if (!gone_ && due > std::chrono::steady_clock::now()) {
      timer_.expires_at(due);
      boost::system::error_code ignored;
      co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_return !gone_;
  }
  // Shifts everything after a stall.
  void delay_by(std::chrono::nanoseconds shift) { start_ += shift; }
  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::steady_clock::now() - start_;
  }

 private:
  asio::steady_timer timer_;
  std::chrono::steady_clock::time_point start_;
  bool gone_ = false;
};

asio::awaitable<bool> perform_whole(const Performance& performance, http::Response& response,
                                    Wait& wait) {
  const std::string& whole = performance.rendered->whole;
  if (performance.waits()) {
    auto delay = performance.delay_of(performance.rendered->tokens);
    if (performance.stall) delay += std::chrono::milliseconds(performance.stall_ms);
    const bool here = co_await wait.until(delay);
    if (!here) co_return false;
  }
  const std::string request_id = "req_" + hex16(performance.id);
  const http::HeaderField headers[] = {
      json_type,
      {performance.dialect == Dialect::openai ? "x-request-id" : "request-id", request_id}};
  if (performance.cut_after) {
    const auto started = co_await response.start(200, headers);
    if (started) co_await response.write(std::string_view(whole).substr(0, whole.size() / 2));
    co_return false;
  }
  const auto sent = co_await response.send(200, headers, whole);
  co_return sent.has_value();
}

asio::awaitable<bool> perform_stream(const Performance& performance, http::Response& response,
                                     Wait& wait) {
  const std::vector<StreamPiece>& pieces = performance.rendered->pieces;
  const auto stall = std::chrono::milliseconds(performance.stall_ms);
  bool stalled = !performance.stall;
  if (performance.stall && !performance.stall_after) {
    const bool here = co_await wait.until(stall);
    if (!here) co_return false;
    stalled = true;
  }
  const std::string request_id = "req_" + hex16(performance.id);
  const http::HeaderField headers[] = {
      stream_type,
      no_cache,
      {performance.dialect == Dialect::openai ? "x-request-id" : "request-id", request_id}};
  const auto started = co_await response.start(200, headers);
  if (!started) co_return false;
  // What follows the last content goes out with the end of the answer.
  auto tail = pieces.end();
  while (tail != pieces.begin() && !(tail - 1)->content) --tail;
  for (auto piece = pieces.begin(); piece != tail; ++piece) {
    if (performance.cut_after && piece->content && piece->tokens_before >= *performance.cut_after)
      co_return false;
    if (!stalled && piece->content && piece->tokens_before >= *performance.stall_after) {
      const auto until = wait.elapsed() + stall;
      const bool here = co_await wait.until(until);
      if (!here) co_return false;
      wait.delay_by(stall);
      stalled = true;
    }
    const auto delay = performance.delay_of(piece->tokens_before);
    if (delay.count() != 0) {
      const bool here = co_await wait.until(delay);
      if (!here) co_return false;
    }
    const auto written = co_await response.write(piece->bytes);
    if (!written) co_return false;
  }
  if (performance.cut_after) co_return false;
  std::string end;
  for (; tail != pieces.end(); ++tail) end += tail->bytes;
  const auto finished = co_await response.finish(end);
  co_return finished.has_value();
}

}  // namespace

asio::awaitable<bool> perform(asio::io_context& context, const Performance& performance,
                              http::Response& response) {
  Wait wait(context);
  if (performance.waits()) wait.watch(response);
  bool completed = false;
  if (performance.stream) {
    completed = co_await perform_stream(performance, response, wait);
  } else {
    completed = co_await perform_whole(performance, response, wait);
  }
  co_return completed;
}

}  // namespace outlast::sim
