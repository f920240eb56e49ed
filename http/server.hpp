// Server: HTTP/1.1 connections of one lane (one thread, one io_context). Keep-alive, chunked bodies
// both ways, Expect: 100-continue, limits on head, body, time and connections. Ambiguous framing is
// refused and the connection closed: both Content-Length and Transfer-Encoding, repeated or signed
// lengths, bare LF, obs-fold, HTTP/1.0 with Transfer-Encoding, a missing or repeated Host, codings
// other than "chunked".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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

struct ServerLimits {
  std::size_t head_bytes_max = 16 * 1024;
  std::size_t body_bytes_max = 32 * 1024 * 1024;
  std::size_t connections_max = 16'384;  // of this lane; one more is answered 503 and closed
  std::uint32_t head_timeout_ms = 10'000;         // from a request's first byte to its head's end
  std::uint32_t body_timeout_ms = 60'000;         // from the end of the head to the end of the body
  std::uint32_t idle_timeout_ms = 75'000;         // between requests
  std::uint32_t write_stall_timeout_ms = 30'000;  // the caller takes none of our bytes for so long
};

struct TlsServerFiles {
  std::string certificate;  // PEM chain
  std::string private_key;  // PEM
};

// One request, whole. Views are valid until the handler ends.
class Request {
 public:
  std::string_view method;
  std::string_view target;  // path and query, as sent
  std::string_view body;    // body_padding_bytes behind its end are readable
  std::string_view peer;    // address of the other side
  std::span<const HeaderField> headers;

  [[nodiscard]] std::string_view path() const { return target.substr(0, target.find('?')); }
  [[nodiscard]] std::string_view query() const {
    const auto mark = target.find('?');
    return mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
  }
  // Empty when absent; the first when repeated. Any case.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

// The answer to one request. Exactly one of send(), or start() … finish(), or cut(). A handler that
// returns without an answer is a bug; the server then answers 500. An error of a write means that
// the caller is gone.
class Response {
 public:
  virtual ~Response() = default;
  // A whole answer in one write. Content-Length, Connection and Date are added.
  virtual asio::awaitable<Result<void>> send(unsigned status, std::span<const HeaderField> headers,
                                             std::string_view body) = 0;
  // The head of a streamed answer (chunked); it may be held back and written together with the
  // first bytes.
  virtual asio::awaitable<Result<void>> start(unsigned status,
                                              std::span<const HeaderField> headers) = 0;
  // One chunk, given to the kernel before this returns. Empty bytes are no chunk, but send a head
  // that was held back.
  virtual asio::awaitable<Result<void>> write(std::string_view bytes) = 0;
  // The last bytes (may be empty) and the last chunk, in one write.
  virtual asio::awaitable<Result<void>> finish(std::string_view last_bytes) = 0;
  // Closes without a last chunk, so that the caller sees a cut and not a clean end.
  virtual void cut() = 0;
  [[nodiscard]] virtual bool started() const = 0;
  // Called at most once, on the lane, when the caller closes or resets while the answer is pending.
  // Cleared when the handler ends. A caller that closes its sending side only counts as gone. Seen
  // within about 200 ms; answers that take less are not watched.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

using Handler = std::function<asio::awaitable<void>(Request& request, Response& response)>;

// A protocol error becomes an answer in the caller's error shape: fills the JSON body for a status
// and message.
using ErrorBody =
    std::function<std::string(unsigned status, HttpError code, std::string_view message)>;

struct ServerOptions {
  ServerLimits limits;
  ErrorBody error_body;                 // required
  const TlsServerFiles* tls = nullptr;  // null: plain TCP; read during listen()
  bool reuse_port = true;               // several lanes share one port
};

struct ServerCounters {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;
  std::uint64_t connections_refused = 0;
  std::uint64_t requests = 0;
  std::uint64_t protocol_errors = 0;
};

// Owned by one lane; every call on its thread.
class Server {
 public:
  Server(asio::io_context& context, ServerOptions options, Handler handler);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds, listens and starts to accept. `address` is "HOST:PORT" ("[::1]:0" for IPv6); port 0
  // takes a free one. Returns the bound port.
  Result<std::uint16_t> listen(std::string_view address);
  // Stops accepting, closes idle connections, and lets every other close after its present answer
  // (with "Connection: close").
  void drain();
  // Closes every connection now.
  void close();
  [[nodiscard]] const ServerCounters& counters() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace outlast::http
