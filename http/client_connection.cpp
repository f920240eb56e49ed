#include "http/client_connection.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

#include "core/check.hpp"
#include "http/response_head.hpp"

namespace outlast::http {
namespace {

constexpr std::size_t input_bytes_initial = 16 * 1024;
// Room behind the head for the body's pieces.
constexpr std::size_t body_window_bytes_min = 8 * 1024;

iovec piece_of(std::string_view bytes) { return {const_cast<char*>(bytes.data()), bytes.size()}; }

}  // namespace

struct ClientConnection::ReadDone {
  PendingOperation<ClientConnection> operation;
  void operator()(IoResult result) {
    const auto connection = operation.take();
    connection->on_read(result);
  }
};

struct ClientConnection::SocketReady {
  PendingOperation<ClientConnection> operation;
  void operator()(const boost::system::error_code&) {
    const auto connection = operation.take();
    connection->waiting_writable_ = false;
    connection->wakeup_.notify();
  }
};

ClientConnection::ClientConnection(std::shared_ptr<ClientPool> pool, OriginPool& origin)
    : pool_(std::move(pool)), origin_(origin), stream_(Socket(pool_->context.get_executor())) {
  pool_->sweep->add(*this);
}

ClientConnection::~ClientConnection() { detach(); }

void ClientConnection::attach(Cancellation* cancellation) {
  cancellation_ = cancellation;
  if (cancellation_ != nullptr) cancellation_->connection_ = this;
}

void ClientConnection::detach() {
  if (cancellation_ != nullptr) cancellation_->connection_ = nullptr;
  cancellation_ = nullptr;
}

bool ClientConnection::send_now(std::string_view method, std::string_view path_prefix,
                                std::string_view path, std::span<const HeaderField> headers,
                                const BodyPieces& body) {
  phase_ = Phase::sending;
  is_head_method_ = method == "HEAD";
  scanner_.reset();
  answer_begun_ = body_done_ = send_failed_ = false;
  output_.clear();
  output_.append(method).append(" ").append(path_prefix).append(path).append(" HTTP/1.1\r\n");
  append_field(output_, "Host", origin_.host_field);
  for (const auto& field : headers) append_field(output_, field.name, field.value);
  const bool may_have_body = method != "GET" && method != "HEAD";
  if (may_have_body || !body.empty()) {
    char digits[24];
    const auto* end = std::to_chars(digits, digits + sizeof(digits), body.size()).ptr;
    append_field(output_, "Content-Length",
                 std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }
  output_.append("\r\n");
  unsent_ = pieces_.data();
  unsent_count_ = 0;
  pieces_[unsent_count_++] = piece_of(output_);
  for (const std::string_view piece : body.pieces()) pieces_[unsent_count_++] = piece_of(piece);
  const IoResult result = stream_.try_write(unsent_, unsent_count_);
  if (result.status == IoStatus::failed || result.status == IoStatus::end) send_failed_ = true;
  return result.status == IoStatus::done || send_failed_;
}

asio::awaitable<void> ClientConnection::send_rest(std::uint32_t stall_ms) {
  // An upstream that refuses a large body answers before it has read it, and may then not read on.
  start_read();
  while (!input_ended_ && !stopped() && input_.empty()) {
    set_deadline(stall_ms);
    if (!waiting_writable_) {
      waiting_writable_ = true;
      stream_.async_wait(IoStatus::wants_write,
                         SocketReady{PendingOperation<ClientConnection>(shared_from_this())});
    }
    co_await wakeup_.wait();
    if (waiting_writable_) continue;
    const IoResult result = stream_.try_write(unsent_, unsent_count_);
    if (result.status == IoStatus::done) co_return;
    if (result.status == IoStatus::failed || result.status == IoStatus::end) break;
  }
  // Whether there is an answer all the same is seen by reading on.
  send_failed_ = true;
}

void ClientConnection::start_read() {
  if (reading_ || input_ended_) return;
  if (phase_ != Phase::body) {
    if (input_.empty()) input_.clear();
    if (input_.free_bytes() < input_bytes_initial / 2) {
      input_.make_room(std::max(input_bytes_initial, 2 * input_.size()));
    }
  } else if (taken_bytes_ == input_.size()) {
    // The pieces were used: the next ones go to the same place, behind the head that header() looks
    // into.
    input_.truncate(head_bytes_);
    taken_bytes_ = head_bytes_;
  }
  reading_ = true;
  stream_.async_read(input_.free_begin(), input_.free_bytes(),
                     ReadDone{PendingOperation<ClientConnection>(shared_from_this())});
}

void ClientConnection::on_read(IoResult result) {
  reading_ = false;
  if (result.status == IoStatus::done) {
    input_.commit(result.bytes);
    answer_begun_ = true;
  } else {
    input_ended_ = true;
    clean_end_ = result.status == IoStatus::end;
  }
  // An idle connection is not spoken to: whatever came, it cannot be used again.
  if (phase_ == Phase::idle) return pool_->drop(*this);
  wakeup_.notify();
}

ClientConnection::Step ClientConnection::fail_with(HttpError code, std::string_view message) {
  failure_code_ = code;
  failure_message_ = message;
  return Step::failed;
}

ClientConnection::Step ClientConnection::end_of_input() {
  if (!input_ended_ && !stopped()) return Step::need_input;
  if (cancelled_) return fail_with(HttpError::cancelled, "the request was cancelled");
  if (timed_out_) {
    if (send_failed_)
      return fail_with(HttpError::write_stalled, "the upstream did not take the request in time");
    return fail_with(HttpError::timed_out, phase_ == Phase::body
                                               ? "the upstream sent no bytes of the body in time"
                                               : "the upstream did not begin its answer in time");
  }
  if (!answer_begun_ && !stream_.tls_alert().empty())
    return fail_with(HttpError::tls_failed, stream_.tls_alert());
  return fail_with(HttpError::closed, phase_ == Phase::body
                                          ? "the upstream closed the connection inside of the body"
                                          : "the upstream closed the connection without an answer");
}

ClientConnection::Step ClientConnection::advance_head() {
  phase_ = Phase::head;
  while (true) {
    const ScanStatus scanned = scanner_.scan(input_.view());
    if (scanned == ScanStatus::refused)
      return fail_with(HttpError::malformed, scanner_.refusal().message);
    const auto head_bytes = scanned == ScanStatus::complete ? scanner_.end() : input_.size();
    if (head_bytes > pool_->options.head_bytes_max) {
      return fail_with(HttpError::head_too_large, "the upstream's head is larger than accepted");
    }
    if (scanned == ScanStatus::incomplete) return end_of_input();
    head_bytes_ = scanner_.end();
    check(!reading_, "a head arrives by a read that has ended");
    input_.make_room(head_bytes_ + body_window_bytes_min);
    const auto head = input_.view().substr(scanner_.start(), head_bytes_ - scanner_.start());
    if (const auto refusal = parse_response_head(head, head_, fields_)) {
      return fail_with(refusal->code, refusal->message);
    }
    if (head_.status == 101)
      return fail_with(HttpError::malformed, "the upstream switched protocols unasked");
    if (head_.status >= 200) break;
    input_.consume(head_bytes_);
    scanner_.reset();
  }
  begin_body();
  return Step::ready;
}

void ClientConnection::begin_body() {
  phase_ = Phase::body;
  taken_bytes_ = head_bytes_;
  body_left_ = 0;
  if (is_head_method_ || head_.status == 204 || head_.status == 304) {
    body_kind_ = BodyKind::none;
  } else if (head_.chunked) {
    body_kind_ = BodyKind::chunked;
    decoder_ = ChunkDecoder();
  } else if (head_.content_length) {
    body_left_ = *head_.content_length;
    body_kind_ = body_left_ == 0 ? BodyKind::none : BodyKind::length;
  } else {
    body_kind_ = BodyKind::until_close;
  }
  body_done_ = body_kind_ == BodyKind::none;
}

ClientConnection::Step ClientConnection::advance_body(std::string_view& piece) {
  piece = {};
  if (body_done_) return Step::ready;
  if (stopped()) return end_of_input();
  auto rest = input_.view().substr(taken_bytes_);
  switch (body_kind_) {
    case BodyKind::none: return Step::ready;
    case BodyKind::length:
      piece = rest.substr(
          0, static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, rest.size())));
      body_left_ -= piece.size();
      taken_bytes_ += piece.size();
      body_done_ = body_left_ == 0;
      break;
    case BodyKind::until_close:
      piece = rest;
      taken_bytes_ += piece.size();
      if (piece.empty() && input_ended_ && clean_end_) {
        body_done_ = true;
        return Step::ready;
      }
      break;
    case BodyKind::chunked: {
      const ChunkStatus decoded = decoder_.next(rest, piece);
      taken_bytes_ = input_.size() - rest.size();
      if (decoded == ChunkStatus::malformed) {
        return fail_with(HttpError::malformed, "the upstream's chunked body is malformed");
      }
      if (decoded == ChunkStatus::end) {
        body_done_ = true;
        return Step::ready;
      }
      break;
    }
  }
  return piece.empty() ? end_of_input() : Step::ready;
}

bool ClientConnection::body_ready() const {
  if (body_done_ || stopped() || input_ended_) return true;
  auto rest = input_.view().substr(taken_bytes_);
  if (body_kind_ != BodyKind::chunked) return !rest.empty();
  ChunkDecoder ahead = decoder_;
  std::string_view piece;
  return ahead.next(rest, piece) != ChunkStatus::need_more;
}

Error ClientConnection::failure() const {
  const std::string_view before =
      failure_code_ == HttpError::tls_failed ? "the upstream ended the TLS connection: " : "";
  return Error{error_module<HttpError>, static_cast<std::uint16_t>(failure_code_),
               std::string(before).append(failure_message_) + " (" + origin_.host_field + ")"};
}

bool ClientConnection::proved_stale() const {
  return reused_ && !answer_begun_ && input_ended_ && !stopped();
}

void ClientConnection::cancel() {
  if (phase_ == Phase::idle || phase_ == Phase::closed) return;
  cancelled_ = true;
  close();
}

void ClientConnection::on_deadline() {
  const auto self = shared_from_this();
  if (phase_ == Phase::idle) return pool_->drop(*this);
  // One address that does not answer leaves time for the others.
  if (phase_ == Phase::connecting && endpoints_left_ > 0) return stream_.close();
  timed_out_ = true;
  close();
}

// The waiter is woken by the io_context and not from here: the caller may hold references into what
// it would end.
void ClientConnection::close() {
  if (resolver_) resolver_->cancel();
  stream_.close();
  asio::post(pool_->context, [self = shared_from_this()] { self->wakeup_.notify(); });
}

bool ClientConnection::reusable() const {
  return body_done_ && head_.keep_alive && !stopped() && !send_failed_ && !input_ended_ &&
         !waiting_writable_ && taken_bytes_ == input_.size() &&
         body_kind_ != BodyKind::until_close && stream_.is_open();
}

void ClientConnection::release() {
  detach();
  // The last chunk often comes together with the last bytes, which a caller may not read beyond.
  if (phase_ == Phase::body && body_kind_ == BodyKind::chunked && !body_done_) {
    auto rest = input_.view().substr(taken_bytes_);
    std::string_view piece;
    body_done_ = decoder_.next(rest, piece) == ChunkStatus::end;
    taken_bytes_ = input_.size() - rest.size();
  }
  if (phase_ == Phase::body && reusable()) {
    pool_->give_back(shared_from_this());
    return;
  }
  phase_ = Phase::closed;
  clear_deadline();
  stream_.close();
}

void ClientConnection::prepare_idle() {
  phase_ = Phase::idle;
  reused_ = true;
  if (!reading_) input_.clear();
  constexpr std::size_t kept_bytes = 32 * 1024;
  if (!reading_ && input_.capacity() > kept_bytes) input_.release();
  if (output_.capacity() > kept_bytes) std::string().swap(output_);
  set_deadline(pool_->options.idle_timeout_ms);
  start_read();
}

}  // namespace outlast::http
