// The answering half of ServerConnection: heads, chunks, refusals, and how a connection ends.
#include <array>

#include "core/check.hpp"
#include "http/server_connection.hpp"

namespace outlast::http {
namespace {

constexpr std::uint32_t linger_ms = 5'000;
// A caller that was refused may still be sending its body; so much beyond the largest one is read
// and dropped.
constexpr std::size_t linger_extra_bytes_max = 1024 * 1024;

iovec piece(std::string_view bytes) { return {const_cast<char*>(bytes.data()), bytes.size()}; }

bool has_no_body(unsigned status) { return status < 200 || status == 204 || status == 304; }

}  // namespace

ResponseHeadParts ServerConnection::begin_answer(unsigned status,
                                                 std::span<const HeaderField> headers) {
  check(answer_ == Answer::none, "a request is answered once");
  answer_ = Answer::streaming;
  close_after_ = !head_.keep_alive || state_->draining;
  output_.clear();
  ResponseHeadParts parts;
  parts.status = status;
  parts.headers = headers;
  parts.date = state_->date.now();
  return parts;
}

void ServerConnection::append_head(ResponseHeadParts& parts) {
  parts.close = close_after_;
  parts.keep_alive = !close_after_ && !head_.http_1_1;
  framing_ = parts.framing;
  append_response_head(output_, parts);
}

asio::awaitable<Result<void>> ServerConnection::send(unsigned status,
                                                     std::span<const HeaderField> headers,
                                                     std::string_view body) {
  ResponseHeadParts parts = begin_answer(status, headers);
  parts.framing = has_no_body(status) ? ResponseFraming::none : ResponseFraming::length;
  parts.content_length = body.size();
  append_head(parts);
  if (is_head_method_ || parts.framing == ResponseFraming::none) body = {};
  std::array pieces{piece(output_), piece(body)};
  iovec* rest = pieces.data();
  std::size_t count = pieces.size();
  if (!write_now(rest, count)) {
    Result<void> written = co_await write_rest(rest, count);
    if (!written) co_return written;
  }
  answer_ = Answer::complete;
  co_return Result<void>{};
}

asio::awaitable<Result<void>> ServerConnection::start(unsigned status,
                                                      std::span<const HeaderField> headers) {
  ResponseHeadParts parts = begin_answer(status, headers);
  if (has_no_body(status)) {
    parts.framing = ResponseFraming::none;
  } else if (head_.http_1_1) {
    parts.framing = ResponseFraming::chunked;
  } else {
    parts.framing = ResponseFraming::until_close;
    close_after_ = true;
  }
  append_head(parts);
  if (is_head_method_) framing_ = ResponseFraming::none;
  // The head goes out with the first bytes.
  co_return Result<void>{};
}

asio::awaitable<Result<void>> ServerConnection::write(std::string_view bytes) {
  check(answer_ == Answer::streaming || answer_ == Answer::cut,
        "write() comes between start() and finish()");
  if (framing_ == ResponseFraming::none) bytes = {};
  const bool as_chunk = framing_ == ResponseFraming::chunked && !bytes.empty();
  if (as_chunk) append_chunk_size(output_, bytes.size());
  std::array pieces{piece(output_), piece(bytes), piece(as_chunk ? "\r\n" : "")};
  iovec* rest = pieces.data();
  std::size_t count = pieces.size();
  if (!write_now(rest, count)) {
    Result<void> written = co_await write_rest(rest, count);
    if (!written) co_return written;
  }
  output_.clear();
  co_return Result<void>{};
}

asio::awaitable<Result<void>> ServerConnection::finish(std::string_view last_bytes) {
  check(answer_ == Answer::streaming || answer_ == Answer::cut,
        "finish() comes once, after start()");
  if (framing_ == ResponseFraming::none) last_bytes = {};
  std::string_view end;
  if (framing_ == ResponseFraming::chunked) {
    if (!last_bytes.empty()) append_chunk_size(output_, last_bytes.size());
    end = last_bytes.empty() ? "0\r\n\r\n" : "\r\n0\r\n\r\n";
  }
  std::array pieces{piece(output_), piece(last_bytes), piece(end)};
  iovec* rest = pieces.data();
  std::size_t count = pieces.size();
  if (!write_now(rest, count)) {
    Result<void> written = co_await write_rest(rest, count);
    if (!written) co_return written;
  }
  answer_ = Answer::complete;
  co_return Result<void>{};
}

// True when the kernel took everything at once, which is the rule.
bool ServerConnection::write_now(iovec*& pieces, std::size_t& count) {
  // A caller that closed its side counts as gone, even if it would still read.
  if (input_ended_ || answer_ == Answer::cut) return false;
  const IoResult result = stream_.try_write(pieces, count);
  if (result.status == IoStatus::failed || result.status == IoStatus::end) {
    input_ended_ = true;
    return false;
  }
  return result.status == IoStatus::done;
}

asio::awaitable<Result<void>> ServerConnection::write_rest(iovec* pieces, std::size_t count) {
  bool written = false;
  start_read();
  while (!written && !input_ended_ && answer_ != Answer::cut) {
    set_deadline(state_->options.limits.write_stall_timeout_ms);
    waiting_ready_ = true;
    stream_.async_wait(IoStatus::wants_write,
                       SocketReady{PendingOperation<ServerConnection>(shared_from_this())});
    while (waiting_ready_) {
      co_await wakeup_.wait();
      if (input_ended_) stream_.close();
    }
    written = write_now(pieces, count);
  }
  clear_deadline();
  if (written) co_return Result<void>{};
  if (!write_stalled_) caller_left();
  answer_ = Answer::cut;
  stream_.close();
  if (write_stalled_)
    co_return fail(HttpError::write_stalled, "the caller took no bytes of the answer in time");
  co_return fail(HttpError::closed,
                 "the caller closed the connection before the answer was complete");
}

void ServerConnection::cut() {
  if (answer_ == Answer::complete || answer_ == Answer::cut) return;
  // Where the end of the connection is the end of the body, only an error tells the caller of the
  // cut.
  const bool needs_error = answer_ == Answer::streaming && framing_ == ResponseFraming::until_close;
  answer_ = Answer::cut;
  if (needs_error) {
    stream_.reset();
  } else {
    stream_.close();
  }
}

asio::awaitable<void> ServerConnection::refuse() {
  if (refusal_.status < 500 || refusal_.status == 505) ++state_->counters.protocol_errors;
  const std::string body =
      state_->options.error_body(refusal_.status, refusal_.code, refusal_.message);
  const HeaderField content_type{"Content-Type", "application/json"};
  answer_ = Answer::none;
  head_.keep_alive = false;
  // A refused caller that has closed its side after a complete, bad request may still read the
  // answer.
  phase_ = Phase::handling;
  Result<void> sent = co_await send(refusal_.status, std::span(&content_type, 1), body);
  phase_ = sent && !input_ended_ ? Phase::lingering : Phase::closed;
}

// Reads and drops what still comes, so that closing does not destroy the answer on its way to the
// caller.
asio::awaitable<void> ServerConnection::linger() {
  stream_.shut_down_send();
  set_deadline(linger_ms);
  std::size_t left = state_->options.limits.body_bytes_max + linger_extra_bytes_max;
  while (!input_ended_) {
    if (!reading_) {
      if (input_.size() >= left) co_return;
      left -= input_.size();
      input_.clear();
    }
    start_read();
    co_await wakeup_.wait();
  }
}

}  // namespace outlast::http
