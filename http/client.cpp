#include "http/client.hpp"

#include <algorithm>
#include <charconv>

#include "http/client_connection.hpp"

namespace outlast::http {
namespace {

Failure bad_url(std::string_view url, std::string_view why) {
  // A URL may hold credentials by mistake: only what comes before them is shown.
  const auto shown =
      url.substr(0, url.find('@') == std::string_view::npos ? url.size() : url.find("://"));
  return fail(HttpError::malformed, "\"" + std::string(shown) + "\" " + std::string(why) +
                                        "; expected http://HOST[:PORT][/prefix] or https://…");
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}

bool is_target(std::string_view path) {
  return std::none_of(path.begin(), path.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte <= ' ' || byte == 0x7f;
  });
}

class PooledResponse final : public ClientResponse {
 public:
  PooledResponse(std::shared_ptr<ClientConnection> connection, std::uint32_t wait_ms)
      : connection_(std::move(connection)), wait_ms_(wait_ms) {}
  ~PooledResponse() override { connection_->release(); }

  [[nodiscard]] unsigned status() const override { return connection_->status(); }
  [[nodiscard]] std::string_view header(std::string_view name) const override {
    return connection_->header(name);
  }
  [[nodiscard]] bool read_ready() const override { return connection_->body_ready(); }
  void limit_wait(std::uint32_t ms) override { wait_ms_ = ms; }
  void cancel() override { connection_->cancel(); }

  asio::awaitable<Result<std::string_view>> read() override {
    std::string_view piece;
    while (true) {
      const auto step = connection_->advance_body(piece);
      if (step == ClientConnection::Step::ready) co_return piece;
      if (step == ClientConnection::Step::failed) co_return fail(connection_->failure());
      connection_->set_deadline(wait_ms_);
      co_await connection_->wait_for_input();
      connection_->clear_deadline();
    }
  }

 private:
  const std::shared_ptr<ClientConnection> connection_;
  std::uint32_t wait_ms_;
};

// Gives the connection up when a request ends, however it ends, before it has an answer to hand on.
class InUse {
 public:
  InUse(std::shared_ptr<ClientConnection> connection, Cancellation* cancellation)
      : connection_(std::move(connection)) {
    connection_->attach(cancellation);
  }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;
  ~InUse() {
    if (connection_) connection_->release();
  }
  ClientConnection* operator->() const { return connection_.get(); }
  std::shared_ptr<ClientConnection> hand_on() { return std::move(connection_); }

 private:
  std::shared_ptr<ClientConnection> connection_;
};

}  // namespace

Result<Origin> Origin::parse(std::string_view url) {
  Origin origin;
  auto rest = url;
  if (rest.starts_with("https://")) {
    origin.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return bad_url(url, "has another scheme than http or https");
  }
  if (rest.find_first_of("?#") != std::string_view::npos)
    return bad_url(url, "has a query or a fragment");
  const auto slash = rest.find('/');
  auto authority = rest.substr(0, slash);
  auto prefix = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  for (const char c : prefix) {
    if (static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) >= 0x7f) {
      return bad_url(url, "has a path with an illegal character");
    }
  }
  origin.path_prefix = prefix;
  if (authority.find('@') != std::string_view::npos)
    return bad_url(url, "holds credentials, which belong into api_key");
  std::string_view port;
  bool has_port = false;
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return bad_url(url, "has an IPv6 address without ']'");
    origin.host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    boost::system::error_code error;
    asio::ip::make_address_v6(origin.host, error);
    if (error) return bad_url(url, "has an illegal IPv6 address");
    if (!authority.empty() && authority.front() != ':')
      return bad_url(url, "has text behind the IPv6 address");
    has_port = !authority.empty();
    if (has_port) port = authority.substr(1);
  } else {
    const auto colon = authority.find(':');
    has_port = colon != std::string_view::npos;
    origin.host = authority.substr(0, colon);
    if (has_port) port = authority.substr(colon + 1);
    for (const char c : origin.host) {
      if (!is_host_character(c)) return bad_url(url, "has a host with an illegal character");
    }
  }
  if (origin.host.empty()) return bad_url(url, "has no host");
  origin.port = origin.tls ? 443 : 80;
  if (has_port) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), origin.port);
    if (port.empty() || error != std::errc{} || end != port.data() + port.size() ||
        origin.port == 0) {
      return bad_url(url, "has a port that is not a number from 1 to 65535");
    }
  }
  return origin;
}

Cancellation::~Cancellation() {
  if (connection_ != nullptr) connection_->detach();
}

void Cancellation::cancel() {
  cancelled_ = true;
  if (connection_ != nullptr) connection_->cancel();
}

class Client::Impl : public ClientPool {
 public:
  using ClientPool::ClientPool;
};

Client::Client(asio::io_context& context, ClientOptions options)
    : impl_(std::make_shared<Impl>(context, std::move(options))) {}

Client::~Client() { impl_->close(); }

std::size_t Client::idle_connections() const { return impl_->idle_count(); }

asio::awaitable<Result<std::unique_ptr<ClientResponse>>> Client::request(
    const Origin& origin, std::string_view method, std::string_view path,
    std::span<const HeaderField> headers, BodyPieces body, const ClientTimeouts& timeouts,
    Cancellation* cancellation) {
  using Step = ClientConnection::Step;
  if (!is_target(path))
    co_return fail(HttpError::malformed, "the request's path holds a space or a control character");
  const std::shared_ptr<ClientPool> pool = impl_;
  OriginPool& origin_pool = pool->origin(origin);
  const auto limits = timeouts;
  const std::string_view prefix = origin.path_prefix;
  for (bool fresh = false;; fresh = true) {
    if (cancellation != nullptr && cancellation->cancelled()) {
      co_return fail(HttpError::cancelled, "the request was cancelled");
    }
    auto kept = fresh ? nullptr : pool->take(origin_pool);
    const bool connected = kept != nullptr;
    InUse connection(
        connected ? std::move(kept) : std::make_shared<ClientConnection>(pool, origin_pool),
        cancellation);
    if (!connected) {
      Result<void> made = co_await connection->connect(limits.connect_ms);
      if (!made) co_return fail(std::move(made.error()));
    }
    const bool sent = connection->send_now(method, prefix, path, headers, body);
    if (!sent) co_await connection->send_rest(limits.idle_ms);
    Step step = Step::need_input;
    connection->set_deadline(limits.first_byte_ms);
    while ((step = connection->advance_head()) == Step::need_input)
      co_await connection->wait_for_input();
    connection->clear_deadline();
    if (step == Step::ready)
      co_return std::make_unique<PooledResponse>(connection.hand_on(), limits.idle_ms);
    if (!connection->proved_stale()) co_return fail(connection->failure());
  }
}

}  // namespace outlast::http
