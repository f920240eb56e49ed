// Stream: a TCP connection, plain or TLS, for one lane. Calls that do not block come first, because
// most reads and writes need not wait; waiting is Asio's. OpenSSL works straight on the socket,
// without buffers of ours between.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>

#include "core/result.hpp"
#include "http/types.hpp"

using SSL = struct ssl_st;
using SSL_CTX = struct ssl_ctx_st;

namespace outlast::http {

namespace asio = boost::asio;

using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;

enum class IoStatus {
  done,         // `bytes` were moved
  wants_read,   // nothing moved; try again when the socket is readable
  wants_write,  // the same, writable
  end,          // the peer has closed its side cleanly
  failed,
};
struct IoResult {
  IoStatus status = IoStatus::failed;
  std::size_t bytes = 0;
};

struct SslFree {
  void operator()(SSL* ssl) const;
};
struct SslContextFree {
  void operator()(SSL_CTX* context) const;
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextFree>;

// TLS 1.2 and up, ALPN "http/1.1", buffers given back while idle.
[[nodiscard]] Result<SslContext> make_server_tls(const std::string& certificate_file,
                                                 const std::string& key_file);
// Verifies peers against `ca_file`, or against the system's authorities when it is empty; shows the
// certificate, if one is named, to peers that ask for it.
[[nodiscard]] Result<SslContext> make_client_tls(const std::string& ca_file,
                                                 const std::string& certificate_file = {},
                                                 const std::string& key_file = {});

// Owned by one connection.
class Stream {
 public:
  explicit Stream(Socket socket) : socket_(std::move(socket)) {}

  [[nodiscard]] Socket& socket() { return socket_; }
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }
  [[nodiscard]] bool is_tls() const { return ssl_ != nullptr; }

  // The socket must be connected and non-blocking. `host` is checked against the peer's
  // certificate.
  void begin_tls_as_server(SSL_CTX& context);
  void begin_tls_as_client(SSL_CTX& context, const std::string& host);
  [[nodiscard]] IoResult try_handshake();
  // Why the handshake failed, for a person.
  [[nodiscard]] std::string tls_error() const;
  // What TLS itself said when it ended an established connection, such as the alert of a peer that
  // does not accept our certificate: TLS 1.3 tells it behind the handshake only. Empty when there
  // was none. Static storage.
  [[nodiscard]] std::string_view tls_alert() const;

  [[nodiscard]] IoResult try_read(char* to, std::size_t bytes_max);
  // Writes all pieces in one call where the kernel takes them, and moves `pieces` behind what was
  // written.
  [[nodiscard]] IoResult try_write(iovec*& pieces, std::size_t& count);

  // Calls handler(IoResult) from the io_context once bytes, the end or an error are there; never
  // wants_*.
  template <class Handler>
  void async_read(char* to, std::size_t bytes_max, Handler handler);
  // Calls handler(error_code).
  template <class Handler>
  void async_wait(IoStatus wanted, Handler handler) {
    socket_.async_wait(wanted == IoStatus::wants_write ? Socket::wait_write : Socket::wait_read,
                       std::move(handler));
  }

  // Tells the peer that no more bytes come.
  void shut_down_send();
  void close();
  // Closes so that the peer sees an error and not an end.
  void reset();

 private:
  template <class Handler>
  struct TlsRead;

  [[nodiscard]] IoResult tls_result(int returned) const;
  [[nodiscard]] IoResult write_once(const iovec* pieces, std::size_t count);

  Socket socket_;
  std::unique_ptr<SSL, SslFree> ssl_;
  mutable unsigned long tls_failure_ = 0;  // OpenSSL's code of the first one that is not of the socket
};

template <class Handler>
struct Stream::TlsRead {
  Stream* stream;
  char* to;
  std::size_t bytes_max;
  Handler handler;

  void operator()(const boost::system::error_code& error) {
    if (error) return handler(IoResult{IoStatus::failed, 0});
    const IoResult result = stream->try_read(to, bytes_max);
    if (result.status == IoStatus::wants_read || result.status == IoStatus::wants_write) {
      Stream& again = *stream;
      again.async_wait(result.status, std::move(*this));
      return;
    }
    handler(result);
  }
};

template <class Handler>
void Stream::async_read(char* to, std::size_t bytes_max, Handler handler) {
  if (!is_tls()) {
    socket_.async_read_some(asio::buffer(to, bytes_max), [handler = std::move(handler)](
                                                             const boost::system::error_code& error,
                                                             std::size_t bytes) mutable {
      if (!error) return handler(IoResult{IoStatus::done, bytes});
      handler(IoResult{error == asio::error::eof ? IoStatus::end : IoStatus::failed, 0});
    });
    return;
  }
  // Decrypted bytes may wait inside OpenSSL, of which the socket's readiness tells nothing.
  const IoResult result = try_read(to, bytes_max);
  if (result.status == IoStatus::wants_read || result.status == IoStatus::wants_write) {
    async_wait(result.status, TlsRead<Handler>{this, to, bytes_max, std::move(handler)});
    return;
  }
  asio::post(socket_.get_executor(),
             [result, handler = std::move(handler)]() mutable { handler(result); });
}

}  // namespace outlast::http
