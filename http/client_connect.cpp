// The connecting part of ClientConnection: resolve, connect, shake hands.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

#include "http/client_connection.hpp"

namespace outlast::http {
namespace {

void set_option(int descriptor, int level, int option, int value) {
  ::setsockopt(descriptor, level, option, &value, sizeof(value));
}

void set_connection_options(int descriptor) {
  constexpr int keepalive_idle_s = 60;
  constexpr int keepalive_interval_s = 15;
  constexpr int user_timeout_ms = 60'000;
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, keepalive_idle_s);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, keepalive_interval_s);
  set_option(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms);
}

}  // namespace

struct ClientConnection::Resolved {
  PendingOperation<ClientConnection> operation;
  void operator()(const boost::system::error_code& error,
                  const asio::ip::tcp::resolver::results_type& found) {
    const auto connection = operation.take();
    connection->connect_error_ = error;
    for (const auto& entry : found) connection->endpoints_.push_back(entry.endpoint());
    connection->waiting_connect_ = false;
    connection->wakeup_.notify();
  }
};

struct ClientConnection::Connected {
  PendingOperation<ClientConnection> operation;
  void operator()(const boost::system::error_code& error) {
    const auto connection = operation.take();
    connection->connect_error_ = error;
    connection->waiting_connect_ = false;
    connection->wakeup_.notify();
  }
};

Result<void> ClientConnection::connect_failure(HttpError code, std::string message) const {
  if (cancelled_)
    return fail(HttpError::cancelled, "the request was cancelled (" + origin_.host_field + ")");
  if (timed_out_) {
    return fail(HttpError::connect_timed_out,
                "the connection to " + origin_.host_field + " was not made in time");
  }
  return fail(code, std::move(message));
}

asio::awaitable<Result<void>> ClientConnection::connect(std::uint32_t timeout_ms) {
  set_deadline(timeout_ms);
  started_ms_ = coarse_now_ms();
  boost::system::error_code not_an_address;
  const auto literal = asio::ip::make_address(origin_.host, not_an_address);
  if (!not_an_address) {
    endpoints_.emplace_back(literal, origin_.port);
  } else {
    resolver_.emplace(pool_->context.get_executor());
    waiting_connect_ = true;
    resolver_->async_resolve(origin_.host, std::to_string(origin_.port),
                             asio::ip::resolver_base::numeric_service,
                             Resolved{PendingOperation<ClientConnection>(shared_from_this())});
    while (waiting_connect_ && !stopped()) co_await wakeup_.wait();
    if (stopped() || connect_error_) {
      co_return connect_failure(HttpError::connect_failed,
                                "cannot resolve " + origin_.host + ": " + connect_error_.message());
    }
  }
  co_await connect_to_any(timeout_ms);
  endpoints_ = {};
  if (stopped() || connect_error_) {
    co_return connect_failure(HttpError::connect_failed, "cannot connect to " + origin_.host_field +
                                                             ": " + connect_error_.message());
  }
  if (origin_.tls) {
    Result<void> secured = co_await shake_hands();
    if (!secured) co_return secured;
  }
  clear_deadline();
  co_return Result<void>{};
}

// Tries the addresses in turn, each with its share of the time that is left.
asio::awaitable<void> ClientConnection::connect_to_any(std::uint32_t timeout_ms) {
  const auto until_ms = started_ms_ + timeout_ms;
  endpoints_left_ = endpoints_.size();
  for (const auto& endpoint : endpoints_) {
    const auto left_ms = std::max<std::int64_t>(until_ms - coarse_now_ms(), 1);
    set_deadline(static_cast<std::uint32_t>(left_ms / static_cast<std::int64_t>(endpoints_left_)));
    --endpoints_left_;
    stream_.close();
    stream_.socket().open(endpoint.protocol(), connect_error_);
    if (!connect_error_) stream_.socket().native_non_blocking(true, connect_error_);
    if (!connect_error_) {
      set_connection_options(stream_.socket().native_handle());
      waiting_connect_ = true;
      stream_.socket().async_connect(
          endpoint, Connected{PendingOperation<ClientConnection>(shared_from_this())});
      while (waiting_connect_) co_await wakeup_.wait();
    }
    if (stopped() || !connect_error_) break;
  }
  endpoints_left_ = 0;
  set_deadline(static_cast<std::uint32_t>(std::max<std::int64_t>(until_ms - coarse_now_ms(), 1)));
}

asio::awaitable<Result<void>> ClientConnection::shake_hands() {
  auto tls = pool_->tls();
  if (!tls) co_return fail(tls.error());
  stream_.begin_tls_as_client(**tls, origin_.host);
  while (!stopped()) {
    const IoResult result = stream_.try_handshake();
    if (result.status == IoStatus::done) co_return Result<void>{};
    if (result.status != IoStatus::wants_read && result.status != IoStatus::wants_write) break;
    waiting_connect_ = true;
    stream_.async_wait(result.status,
                       Connected{PendingOperation<ClientConnection>(shared_from_this())});
    while (waiting_connect_) co_await wakeup_.wait();
  }
  co_return connect_failure(HttpError::tls_failed, "TLS handshake with " + origin_.host_field +
                                                       " failed: " + stream_.tls_error());
}

}  // namespace outlast::http
