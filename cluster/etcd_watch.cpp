#include "cluster/etcd_watch.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace outlast::cluster {

namespace asio = boost::asio;

EtcdWatch::EtcdWatch(asio::io_context& io, EtcdHttp& http, std::string request, EtcdWatcher watcher,
                     std::function<void()> ended)
    : io_(io), http_(http), request_(std::move(request)), watcher_(std::move(watcher)), ended_(std::move(ended)),
      pause_(io) {}

void EtcdWatch::start() { asio::co_spawn(io_, run(this), asio::detached); }

void EtcdWatch::stop() {
  stopping_ = true;
  pause_.cancel();
  if (cancellation_) cancellation_->cancel();
}

asio::awaitable<void> EtcdWatch::run(EtcdWatch* self) {
  std::uint32_t pause_ms = pause_ms_min;
  // Each round at the next member: one that is cut off from the others answers, but sees nothing happen.
  for (std::size_t round = 0; !self->stopping_; ++round) {
    const std::size_t endpoint = (self->http_.preferred() + round) % self->http_.options().endpoints.size();
    co_await self->watch_once(endpoint);
    if (self->stopping_) break;
    pause_ms = self->began_ ? pause_ms_min : std::min(2 * pause_ms, pause_ms_max);
    self->pause_.expires_after(std::chrono::milliseconds(pause_ms));
    boost::system::error_code ignored;
    auto token = asio::redirect_error(asio::use_awaitable, ignored);
    co_await self->pause_.async_wait(token);
  }
  self->stopped_ = true;
  self->ended_();
}

asio::awaitable<void> EtcdWatch::watch_once(std::size_t endpoint) {
  began_ = false;
  lines_.clear();
  cancellation_ = std::make_unique<http::Cancellation>();
  const std::uint32_t limit_ms = http_.options().call_timeout_ms;
  const http::HeaderField headers[] = {{"Content-Type", "application/json"}};
  const http::BodyPieces pieces(request_);
  const http::ClientTimeouts timeouts{limit_ms, limit_ms, limit_ms};
  const http::Origin& origin = http_.origin(endpoint);
  Result<std::unique_ptr<http::ClientResponse>> response =
      co_await http_.client().request(origin, "POST", "/v3/watch", headers, pieces, timeouts, cancellation_.get());
  if (!response || (*response)->status() != 200) co_return;
  while (!stopping_) {
    if (began_) (*response)->limit_wait(quiet_ms);
    Result<std::string_view> piece = co_await (*response)->read();
    if (!piece || piece->empty() || lines_.size() + piece->size() > line_bytes_max) co_return;
    lines_.append(*piece);
    if (!take_lines()) co_return;
  }
}

bool EtcdWatch::take_lines() {
  for (std::size_t end = lines_.find('\n'); end != std::string::npos; end = lines_.find('\n')) {
    lines_.reserve(lines_.size() + http::body_padding_bytes);
    const Result<EtcdWatchAnswer> answer = parse_watch_answer(std::string_view(lines_).substr(0, end));
    if (!answer || answer->ended) return false;
    lines_.erase(0, end + 1);
    if (answer->created) {
      began_ = true;
      watcher_.began();
    }
    for (const std::string& key : answer->keys) watcher_.changed(key);
  }
  return true;
}

}  // namespace outlast::cluster
