#include "http/server_connection.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::http {
namespace {

constexpr std::size_t input_bytes_initial = 16 * 1024;
// Room behind the head for chunked bytes and for what the caller sends while its answer is pending.
constexpr std::size_t input_bytes_spare = 1024;
constexpr std::uint32_t watch_after_ms = 100;
constexpr std::uint32_t first_request_ms_when_draining = 500;

}  // namespace

struct ServerConnection::ReadDone {
  PendingOperation<ServerConnection> operation;
  void operator()(IoResult result) {
    const auto connection = operation.take();
    connection->on_read(result);
  }
};

ServerConnection::ServerConnection(std::shared_ptr<ServerState> state, Socket socket,
                                   std::string peer)
    : state_(std::move(state)), stream_(std::move(socket)), peer_(std::move(peer)) {
  state_->add(*this);
  state_->sweep->add(*this);
}

ServerConnection::~ServerConnection() { state_->remove(*this); }

asio::awaitable<void> ServerConnection::run(std::shared_ptr<ServerConnection> self, bool refused) {
  if (self->state_->tls) {
    const bool secured = co_await self->handshake();
    if (!secured) {
      self->close();
      co_return;
    }
  }
  if (refused) {
    self->refusal_ = {503, HttpError::overloaded,
                      "too many connections; try again later or raise the connection limit"};
    co_await self->refuse();
  } else {
    co_await self->serve();
  }
  if (self->phase_ == Phase::lingering) co_await self->linger();
  if (self->answer_ != Answer::cut && self->stream_.is_tls()) self->stream_.shut_down_send();
  self->close();
}

asio::awaitable<bool> ServerConnection::handshake() {
  phase_ = Phase::handshake;
  stream_.begin_tls_as_server(*state_->tls);
  set_deadline(state_->options.limits.head_timeout_ms);
  while (true) {
    const IoResult result = stream_.try_handshake();
    if (result.status == IoStatus::done) break;
    if (result.status != IoStatus::wants_read && result.status != IoStatus::wants_write) {
      ++state_->counters.protocol_errors;
      log::debug("http_tls_handshake_failed", {{"peer", peer_}, {"error", stream_.tls_error()}});
      co_return false;
    }
    waiting_ready_ = true;
    stream_.async_wait(result.status,
                       SocketReady{PendingOperation<ServerConnection>(shared_from_this())});
    while (waiting_ready_) co_await wakeup_.wait();
  }
  phase_ = Phase::idle;
  co_return true;
}

asio::awaitable<void> ServerConnection::serve() {
  while (true) {
    Step step = Step::need_input;
    phase_ = Phase::idle;
    is_head_method_ = false;
    set_deadline(state_->options.limits.idle_timeout_ms);
    while ((step = advance()) == Step::need_input) {
      start_read();
      co_await wakeup_.wait();
    }
    if (step == Step::closed) co_return;
    if (step == Step::refused) {
      co_await refuse();
      co_return;
    }
    ++state_->counters.requests;
    asked_once_ = true;
    phase_ = Phase::handling;
    set_deadline(watch_after_ms);
    bool thrown = false;
    try {
      co_await state_->handler(request_, *this);
    } catch (const std::exception& error) {
      thrown = true;
      log::error("http_handler_failed", {{"target", request_.path()}, {"error", error.what()}});
    } catch (...) {
      thrown = true;
      log::error("http_handler_failed", {{"target", request_.path()}});
    }
    if (answer_ == Answer::none && !input_ended_) {
      if (!thrown) log::error("http_handler_gave_no_answer", {{"target", request_.path()}});
      refusal_ = {500, HttpError::handler_failed, "the server failed to answer; try again"};
      co_await refuse();
      co_return;
    }
    if (answer_ == Answer::streaming) {
      if (!thrown) log::error("http_handler_left_answer_unfinished", {{"target", request_.path()}});
      cut();
    }
    finish_request();
    if (!may_keep_alive()) co_return;
  }
}

bool ServerConnection::may_keep_alive() const {
  return answer_ == Answer::complete && !close_after_ && stream_.is_open() &&
         !(input_ended_ && input_.empty());
}

void ServerConnection::finish_request() {
  disconnect_callback_ = nullptr;
  body_.reset();
  body_capacity_ = body_bytes_ = 0;
  input_.consume(request_bytes_);
  scanner_.reset();
  expired_ = false;
  constexpr std::size_t output_bytes_kept = 4 * 1024;
  if (output_.capacity() > output_bytes_kept) std::string().swap(output_);
  const bool unread_input = !input_.empty() || reading_;
  if (close_after_ && answer_ == Answer::complete && unread_input && !input_ended_)
    phase_ = Phase::lingering;
}

ServerConnection::Step ServerConnection::advance() {
  return phase_ == Phase::body ? advance_body() : advance_head();
}

ServerConnection::Step ServerConnection::refuse_with(const Refusal& refusal) {
  refusal_ = refusal;
  return Step::refused;
}

ServerConnection::Step ServerConnection::end_of_input() {
  if (expired_) {
    return refuse_with({408, HttpError::timed_out,
                        phase_ == Phase::body ? "the request's body did not arrive in time"
                                              : "the request's head did not arrive in time"});
  }
  return input_ended_ ? Step::closed : Step::need_input;
}

ServerConnection::Step ServerConnection::advance_head() {
  const auto& limits = state_->options.limits;
  const ScanStatus scanned = scanner_.scan(input_.view());
  if (scanned == ScanStatus::refused) return refuse_with(scanner_.refusal());
  const auto head_bytes = scanned == ScanStatus::complete ? scanner_.end() : input_.size();
  if (head_bytes > limits.head_bytes_max) {
    return refuse_with(
        {431, HttpError::head_too_large, "the request's head is larger than this server accepts"});
  }
  if (scanned == ScanStatus::incomplete) {
    if (phase_ == Phase::idle && !input_.empty()) {
      phase_ = Phase::head;
      set_deadline(limits.head_timeout_ms);
    }
    return end_of_input();
  }
  head_bytes_ = scanner_.end();
  if (!reading_) input_.make_room(head_bytes_ + input_bytes_spare);
  const auto head = input_.view().substr(scanner_.start(), head_bytes_ - scanner_.start());
  is_head_method_ = head.starts_with("HEAD ");
  if (const auto refusal = parse_request_head(head, head_, fields_)) return refuse_with(*refusal);
  place_request_views();
  return begin_body();
}

void ServerConnection::place_request_views() {
  request_.method = head_.method;
  request_.target = head_.target;
  request_.peer = peer_;
  request_.headers = fields_;
}

ServerConnection::Step ServerConnection::begin_body() {
  const auto& limits = state_->options.limits;
  constexpr std::string_view continue_answer = "HTTP/1.1 100 Continue\r\n\r\n";
  if (head_.content_length > limits.body_bytes_max) {
    return refuse_with(
        {413, HttpError::body_too_large, "the request's body is larger than this server accepts"});
  }
  answer_ = Answer::none;
  close_after_ = false;
  body_bytes_ = 0;
  const auto length = static_cast<std::size_t>(head_.content_length);
  const auto arrived = input_.view().substr(head_bytes_);
  if (head_.chunked) {
    body_place_ = BodyPlace::chunked;
    decoder_ = ChunkDecoder();
    decoded_bytes_ = 0;
    request_bytes_ = head_bytes_;
  } else if (head_bytes_ + length <= input_.room()) {
    body_place_ = BodyPlace::in_place;
    request_bytes_ = head_bytes_ + length;
  } else {
    body_place_ = BodyPlace::separate;
    grow_body(length);
    body_bytes_ = std::min(arrived.size(), length);
    std::memcpy(body_.get(), arrived.data(), body_bytes_);
    request_bytes_ = head_bytes_ + body_bytes_;
  }
  const bool body_is_wanted = head_.chunked || length > 0;
  if (head_.expects_continue && body_is_wanted && arrived.empty()) {
    iovec pieces{const_cast<char*>(continue_answer.data()), continue_answer.size()};
    iovec* rest = &pieces;
    std::size_t count = 1;
    // The send buffer of a connection that waits for this is empty: a write that blocks is a dead
    // connection.
    if (stream_.try_write(rest, count).status != IoStatus::done) return Step::closed;
  }
  phase_ = Phase::body;
  const Step step = advance_body();
  if (step == Step::need_input) set_deadline(limits.body_timeout_ms);
  return step;
}

ServerConnection::Step ServerConnection::advance_body() {
  const auto raw = input_.view().substr(head_bytes_);
  switch (body_place_) {
    case BodyPlace::chunked: return advance_chunked(raw);
    case BodyPlace::in_place:
      if (input_.size() < request_bytes_) return end_of_input();
      request_.body = raw.substr(0, request_bytes_ - head_bytes_);
      return Step::ready;
    case BodyPlace::separate:
      if (body_bytes_ < head_.content_length) return end_of_input();
      request_.body = {body_.get(), body_bytes_};
      return Step::ready;
  }
  return Step::closed;
}

ServerConnection::Step ServerConnection::advance_chunked(std::string_view raw) {
  auto rest = raw.substr(decoded_bytes_);
  while (true) {
    std::string_view decoded;
    switch (decoder_.next(rest, decoded)) {
      case ChunkStatus::data:
        if (decoded.size() > state_->options.limits.body_bytes_max - body_bytes_) {
          return refuse_with({413, HttpError::body_too_large,
                              "the request's body is larger than this server accepts"});
        }
        grow_body(body_bytes_ + decoded.size());
        std::memcpy(body_.get() + body_bytes_, decoded.data(), decoded.size());
        body_bytes_ += decoded.size();
        break;
      case ChunkStatus::need_more:
        // All of it is decoded: the next bytes may overwrite it, behind the head that the request's
        // views point to.
        if (!reading_) input_.truncate(head_bytes_);
        decoded_bytes_ = input_.size() - head_bytes_;
        return end_of_input();
      case ChunkStatus::malformed:
        return refuse_with({400, HttpError::malformed, "the chunked body is malformed"});
      case ChunkStatus::end:
        request_bytes_ = head_bytes_ + raw.size() - rest.size();
        grow_body(body_bytes_);
        request_.body = {body_.get(), body_bytes_};
        return Step::ready;
    }
  }
}

// Makes body_ hold `size` bytes and the padding behind them.
void ServerConnection::grow_body(std::size_t size) {
  if (body_ && size <= body_capacity_) return;
  const auto capacity =
      std::max(size, std::min(2 * body_capacity_, state_->options.limits.body_bytes_max));
  auto larger = std::make_unique_for_overwrite<char[]>(capacity + body_padding_bytes);
  if (body_bytes_ > 0) std::memcpy(larger.get(), body_.get(), body_bytes_);
  body_ = std::move(larger);
  body_capacity_ = capacity;
}

void ServerConnection::start_read() {
  if (reading_ || input_ended_) return;
  reading_body_ = phase_ == Phase::body && body_place_ == BodyPlace::separate;
  char* to = nullptr;
  std::size_t bytes_max = 0;
  if (reading_body_) {
    to = body_.get() + body_bytes_;
    bytes_max = static_cast<std::size_t>(head_.content_length) - body_bytes_;
  } else {
    if (phase_ == Phase::idle || phase_ == Phase::head || phase_ == Phase::lingering) {
      if (input_.empty()) input_.clear();
      const auto wanted = std::max(input_bytes_initial, 2 * input_.size());
      if (input_.free_bytes() < input_bytes_initial / 2) input_.make_room(wanted);
    } else if (phase_ == Phase::body && input_.free_bytes() == 0) {
      // Only after a head that came together with the answer before: its views follow the bytes.
      input_.make_room(input_.size() + input_bytes_spare);
      const auto head = input_.view().substr(scanner_.start(), head_bytes_ - scanner_.start());
      const auto refusal = parse_request_head(head, head_, fields_);
      check(!refusal, "a head that was accepted is accepted again");
      place_request_views();
    }
    to = input_.free_begin();
    bytes_max = input_.free_bytes();
  }
  if (bytes_max == 0) return;
  reading_ = true;
  stream_.async_read(to, bytes_max,
                     ReadDone{PendingOperation<ServerConnection>(shared_from_this())});
}

void ServerConnection::on_read(IoResult result) {
  reading_ = false;
  if (result.status != IoStatus::done) {
    input_ended_ = true;
    if (phase_ == Phase::handling) caller_left();
  } else if (reading_body_) {
    body_bytes_ += result.bytes;
  } else {
    input_.commit(result.bytes);
    if (phase_ == Phase::handling) start_read();
  }
  wakeup_.notify();
}

void ServerConnection::caller_left() {
  if (answer_ == Answer::complete || answer_ == Answer::cut || !disconnect_callback_) return;
  const auto callback = std::exchange(disconnect_callback_, nullptr);
  callback();
}

void ServerConnection::on_disconnect(std::function<void()> callback) {
  disconnect_callback_ = std::move(callback);
  if (input_ended_) caller_left();
}

void ServerConnection::on_deadline() {
  const auto self = shared_from_this();
  switch (phase_) {
    case Phase::head:
    case Phase::body:
      expired_ = true;
      wakeup_.notify();
      return;
    case Phase::handling:
      // The answer takes long enough to look whether the caller still waits for it.
      if (!waiting_ready_) return start_read();
      write_stalled_ = true;
      break;
    case Phase::handshake:
    case Phase::idle:
    case Phase::lingering:
    case Phase::closed: break;
  }
  stream_.close();
}

void ServerConnection::drain() {
  if (phase_ != Phase::idle || !input_.empty()) return;
  // A request that is already here is still answered.
  char first = 0;
  if (::recv(stream_.socket().native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0) return;
  // So is the first one of a caller that has just connected: its bytes are on their way, and a close would be an error.
  if (!asked_once_) return set_deadline(first_request_ms_when_draining);
  close();
}

void ServerConnection::close() {
  if (phase_ == Phase::handling && stream_.is_open()) {
    input_ended_ = true;
    asio::post(state_->context, [self = shared_from_this()] { self->caller_left(); });
  } else if (phase_ != Phase::handling) {
    phase_ = Phase::closed;
  }
  clear_deadline();
  stream_.close();
}

}  // namespace outlast::http
