#include "http/server.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <charconv>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/address.hpp>

#include "core/check.hpp"
#include "core/log.hpp"
#include "http/server_connection.hpp"

namespace outlast::http {
namespace {

using Tcp = asio::ip::tcp;
using Acceptor = asio::basic_socket_acceptor<Tcp, Executor>;

// Connections over the limit that are being told so; more are closed without a word.
constexpr std::size_t refusing_connections_max = 64;
constexpr std::chrono::milliseconds accept_retry_after{100};

void set_option(int descriptor, int level, int option, int value) {
  ::setsockopt(descriptor, level, option, &value, sizeof(value));
}

// Accepted connections inherit these from the listening socket, which saves their system calls per
// connection.
void set_connection_options(int descriptor, const ServerLimits& limits) {
  constexpr int keepalive_idle_s = 60;
  constexpr int keepalive_interval_s = 15;
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, keepalive_idle_s);
  set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, keepalive_interval_s);
  // A net under our own deadline, which says why: the kernel must not come first.
  constexpr std::uint32_t user_timeout_extra_ms = 10'000;
  set_option(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT,
             static_cast<int>(limits.write_stall_timeout_ms + user_timeout_extra_ms));
}

Result<Tcp::endpoint> resolve(asio::io_context& context, std::string_view address) {
  const auto colon = address.rfind(':');
  const auto expected =
      "expected HOST:PORT, e.g. 127.0.0.1:8080 or [::1]:0, got \"" + std::string(address) + "\"";
  if (colon == std::string_view::npos) return fail(HttpError::listen_failed, expected);
  auto host = address.substr(0, colon);
  const auto port_text = address.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || error != std::errc{} || end != port_text.data() + port_text.size()) {
    return fail(HttpError::listen_failed, expected);
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos || host.empty()) {
    return fail(HttpError::listen_failed, expected);
  }
  boost::system::error_code not_an_address;
  const auto literal = asio::ip::make_address(std::string(host), not_an_address);
  if (!not_an_address) return Tcp::endpoint(literal, port);
  Tcp::resolver resolver(context);
  boost::system::error_code not_resolved;
  const auto found = resolver.resolve(std::string(host), std::string(port_text), not_resolved);
  if (not_resolved || found.empty()) {
    return fail(HttpError::listen_failed,
                "cannot resolve " + std::string(host) + ": " + not_resolved.message());
  }
  return found.begin()->endpoint();
}

}  // namespace

std::string_view Request::header(std::string_view name) const {
  for (const auto& field : headers) {
    if (equal_ignoring_case(field.name, name)) return field.value;
  }
  return {};
}

ServerState::ServerState(asio::io_context& io, ServerOptions server_options,
                         Handler request_handler)
    : context(io),
      options(std::move(server_options)),
      handler(std::move(request_handler)),
      sweep(std::make_shared<DeadlineSweep>(io)) {
  check(options.error_body != nullptr, "ServerOptions::error_body is required");
}

void ServerState::add(ServerConnection& connection) {
  connection.index_ = connections.size();
  connections.push_back(&connection);
  counters.connections_open = connections.size();
}

void ServerState::remove(ServerConnection& connection) {
  connections[connection.index_] = connections.back();
  connections[connection.index_]->index_ = connection.index_;
  connections.pop_back();
  counters.connections_open = connections.size();
}

// Accepts. Shared, because a pending accept outlives the Server.
class Server::Impl : public std::enable_shared_from_this<Server::Impl> {
 public:
  Impl(asio::io_context& context, ServerOptions options, Handler handler)
      : state(std::make_shared<ServerState>(context, std::move(options), std::move(handler))),
        acceptor(context.get_executor()),
        retry_timer(context) {}

  Result<std::uint16_t> listen(std::string_view address);
  void stop_accepting() {
    boost::system::error_code ignored;
    acceptor.close(ignored);
    retry_timer.cancel();
  }

  // Takes in what has connected already: closing the listener would reset it.
  void accept_backlog();

  const std::shared_ptr<ServerState> state;

 private:
  void accept();
  void accepted(const boost::system::error_code& error, Socket socket);
  void open_connection(Socket socket);

  Acceptor acceptor;
  asio::steady_timer retry_timer;
  Tcp::endpoint peer;
};

Result<std::uint16_t> Server::Impl::listen(std::string_view address) {
  if (state->options.tls != nullptr) {
    auto tls = make_server_tls(state->options.tls->certificate, state->options.tls->private_key);
    if (!tls) return fail(std::move(tls.error()));
    state->tls = std::move(*tls);
  }
  auto endpoint = resolve(state->context, address);
  if (!endpoint) return fail(std::move(endpoint.error()));
  boost::system::error_code error;
  acceptor.open(endpoint->protocol(), error);
  if (!error) {
    set_option(acceptor.native_handle(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (state->options.reuse_port)
      set_option(acceptor.native_handle(), SOL_SOCKET, SO_REUSEPORT, 1);
    set_connection_options(acceptor.native_handle(), state->options.limits);
    acceptor.bind(*endpoint, error);
  }
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    stop_accepting();
    return fail(HttpError::listen_failed,
                "cannot listen on " + std::string(address) + ": " + error.message());
  }
  accept();
  return acceptor.local_endpoint().port();
}

void Server::Impl::accept() {
  acceptor.async_accept(
      peer, [self = shared_from_this()](const boost::system::error_code& error, Socket socket) {
        self->accepted(error, std::move(socket));
      });
}

void Server::Impl::accepted(const boost::system::error_code& error, Socket socket) {
  if (!acceptor.is_open()) return;
  if (!error) {
    open_connection(std::move(socket));
    accept();
    return;
  }
  if (error == asio::error::connection_aborted) return accept();
  // Out of descriptors or memory: the connection waits in the backlog until some are given back.
  log::warning("http_accept_failed", {{"error", error.message()}});
  retry_timer.expires_after(accept_retry_after);
  retry_timer.async_wait([self = shared_from_this()](const boost::system::error_code& cancelled) {
    if (!cancelled && self->acceptor.is_open()) self->accept();
  });
}

void Server::Impl::accept_backlog() {
  boost::system::error_code error;
  acceptor.non_blocking(true, error);
  while (!error) {
    Socket socket(state->context.get_executor());
    acceptor.accept(socket, peer, error);
    if (!error) open_connection(std::move(socket));
  }
}

void Server::Impl::open_connection(Socket socket) {
  ++state->counters.connections_accepted;
  boost::system::error_code error;
  socket.native_non_blocking(true, error);
  if (error) return;
  const bool refused = state->connections.size() >= state->options.limits.connections_max;
  if (refused) {
    ++state->counters.connections_refused;
    if (state->connections.size() >=
        state->options.limits.connections_max + refusing_connections_max)
      return;
  }
  auto connection =
      std::make_shared<ServerConnection>(state, std::move(socket), peer.address().to_string());
  asio::co_spawn(state->context, ServerConnection::run(std::move(connection), refused),
                 [](const std::exception_ptr& thrown) {
                   if (thrown) log::error("http_connection_failed", {{"error", "out of memory"}});
                 });
}

Server::Server(asio::io_context& context, ServerOptions options, Handler handler)
    : impl_(std::make_shared<Impl>(context, std::move(options), std::move(handler))) {}

Server::~Server() { close(); }

Result<std::uint16_t> Server::listen(std::string_view address) { return impl_->listen(address); }

void Server::drain() {
  impl_->accept_backlog();
  impl_->stop_accepting();
  impl_->state->draining = true;
  const auto connections = impl_->state->connections;
  for (ServerConnection* connection : connections) connection->drain();
}

void Server::close() {
  impl_->stop_accepting();
  const auto connections = impl_->state->connections;
  for (ServerConnection* connection : connections) connection->close();
}

const ServerCounters& Server::counters() const { return impl_->state->counters; }

}  // namespace outlast::http
