#include <algorithm>

#include "http/client_connection.hpp"

namespace outlast::http {
namespace {

std::string host_field_of(const Origin& origin) {
  const bool ipv6 = origin.host.find(':') != std::string::npos;
  std::string text = ipv6 ? "[" + origin.host + "]" : origin.host;
  const std::uint16_t default_port = origin.tls ? 443 : 80;
  if (origin.port != default_port) text += ":" + std::to_string(origin.port);
  return text;
}

}  // namespace

ClientPool::ClientPool(asio::io_context& io, ClientOptions client_options)
    : context(io), options(std::move(client_options)), sweep(std::make_shared<DeadlineSweep>(io)) {}

// A lane speaks to tens of upstreams, so that a walk is as quick as a hash.
OriginPool& ClientPool::origin(const Origin& wanted) {
  for (const auto& known : origins_) {
    if (known->port == wanted.port && known->tls == wanted.tls && known->host == wanted.host)
      return *known;
  }
  auto added = std::make_unique<OriginPool>();
  added->tls = wanted.tls;
  added->host = wanted.host;
  added->port = wanted.port;
  added->host_field = host_field_of(wanted);
  origins_.push_back(std::move(added));
  return *origins_.back();
}

std::shared_ptr<ClientConnection> ClientPool::take(OriginPool& origin) {
  if (origin.idle.empty()) return nullptr;
  auto connection = std::move(origin.idle.back());
  origin.idle.pop_back();
  --idle_count_;
  connection->clear_deadline();
  return connection;
}

void ClientPool::give_back(std::shared_ptr<ClientConnection> connection) {
  auto& idle = connection->origin().idle;
  if (closed_ || idle.size() >= options.idle_connections_per_origin_max) {
    connection->phase_ = ClientConnection::Phase::closed;
    connection->clear_deadline();
    connection->stream_.close();
    return;
  }
  ++idle_count_;
  idle.push_back(std::move(connection));
  idle.back()->prepare_idle();
}

void ClientPool::drop(ClientConnection& connection) {
  connection.phase_ = ClientConnection::Phase::closed;
  connection.clear_deadline();
  connection.stream_.close();
  auto& idle = connection.origin().idle;
  const auto found = std::find_if(idle.begin(), idle.end(), [&connection](const auto& candidate) {
    return candidate.get() == &connection;
  });
  if (found == idle.end()) return;
  const auto dropped = std::move(*found);
  idle.erase(found);
  --idle_count_;
}

void ClientPool::close() {
  closed_ = true;
  for (const auto& origin : origins_) {
    const auto idle = std::move(origin->idle);
    origin->idle.clear();
    for (const auto& connection : idle) drop(*connection);
  }
  idle_count_ = 0;
}

Result<SSL_CTX*> ClientPool::tls() {
  if (!tls_) tls_.emplace(make_client_tls(options.ca_file, options.certificate_file, options.key_file));
  if (!*tls_) return fail(tls_->error());
  return (*tls_)->get();
}

}  // namespace outlast::http
