// Client: HTTP/1.1 requests to upstreams over pooled keep-alive connections. Owned by one lane.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "core/result.hpp"
#include "http/types.hpp"

namespace outlast::http {

namespace asio = boost::asio;

// "http://HOST[:PORT][/prefix]" or "https://…", in parts.
struct Origin {
  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string path_prefix;  // "" or "/v1"; never ends in '/'

  bool operator==(const Origin&) const = default;
  // Refuses other schemes, credentials in the URL, fragments and queries.
  [[nodiscard]] static Result<Origin> parse(std::string_view url);
};

struct ClientTimeouts {
  std::uint32_t connect_ms = 5'000;      // resolve, connect and TLS handshake together
  std::uint32_t first_byte_ms = 60'000;  // from the request's last byte to the answer's head
  std::uint32_t idle_ms = 60'000;        // between two reads of the body
};

struct ClientOptions {
  std::size_t idle_connections_per_origin_max = 256;
  std::uint32_t idle_timeout_ms = 30'000;
  std::size_t head_bytes_max = 32 * 1024;
  std::string ca_file;  // PEM; empty for the system's
  // What this side shows to upstreams that ask for it (mutual TLS): a PEM chain and its key; both or neither.
  std::string certificate_file;
  std::string key_file;
};

// The answer of one request. Must not outlive its Client. Destroying it returns the connection to
// the pool when the body was read to its clean end, and closes it otherwise (that is how a request
// is cancelled).
class ClientResponse {
 public:
  virtual ~ClientResponse() = default;
  [[nodiscard]] virtual unsigned status() const = 0;
  // Empty when absent. Any case. Valid as long as this object.
  [[nodiscard]] virtual std::string_view header(std::string_view name) const = 0;
  // The next piece of the body without its chunked framing, as it arrived; empty at the clean end.
  // The view is valid until the next call. A cut or a time-out is an error, never a clean end.
  virtual asio::awaitable<Result<std::string_view>> read() = 0;
  // Already received bytes may remain: true when the next read() completes without waiting.
  [[nodiscard]] virtual bool read_ready() const = 0;
  // How long each following read() waits at most, instead of idle_ms.
  virtual void limit_wait(std::uint32_t ms) = 0;
  // Closes the connection: a pending read() returns HttpError::cancelled. On the lane.
  virtual void cancel() = 0;
};

class ClientConnection;

// Cancels a request wherever it stands (connect, send, head, body), until its ClientResponse is
// destroyed. One per request; on the lane. May be destroyed before or after the response.
class Cancellation {
 public:
  Cancellation() = default;
  ~Cancellation();
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  void cancel();
  [[nodiscard]] bool cancelled() const { return cancelled_; }

 private:
  friend class ClientConnection;
  bool cancelled_ = false;
  ClientConnection* connection_ = nullptr;  // in use for the request
};

class Client {
 public:
  Client(asio::io_context& context, ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Sends `method` to `origin.path_prefix + path` and waits for the answer's head. Host,
  // Content-Length and Connection are added. A kept connection that proves closed before any byte
  // of the answer is replaced by a new one, once. 1xx answers are skipped. `headers`, `path` and
  // what `body` views must outlive the call.
  asio::awaitable<Result<std::unique_ptr<ClientResponse>>> request(
      const Origin& origin, std::string_view method, std::string_view path,
      std::span<const HeaderField> headers, BodyPieces body, const ClientTimeouts& timeouts,
      Cancellation* cancellation = nullptr);
  [[nodiscard]] std::size_t idle_connections() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace outlast::http
