// ClientConnection: one connection to an upstream, and the pool that keeps idle ones. A read is
// pending while a connection waits, idle or not: an idle one that the upstream closes leaves the
// pool at once, and the pending read of a reused one brings the answer.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "http/byte_buffer.hpp"
#include "http/chunked.hpp"
#include "http/client.hpp"
#include "http/deadlines.hpp"
#include "http/head_parser.hpp"
#include "http/stream.hpp"
#include "http/wakeup.hpp"

namespace outlast::http {

class ClientConnection;

// The idle connections to one upstream; the last returned is the first taken. Lives as long as its
// pool.
struct OriginPool {
  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string host_field;  // "HOST" or "HOST:PORT"
  std::vector<std::shared_ptr<ClientConnection>> idle;
};

// Shared by the connections of a Client, so that one in use outlives it. Owned by one lane.
class ClientPool : public std::enable_shared_from_this<ClientPool> {
 public:
  ClientPool(asio::io_context& io, ClientOptions client_options);

  OriginPool& origin(const Origin& origin);
  // Null when none is idle.
  std::shared_ptr<ClientConnection> take(OriginPool& origin);
  void give_back(std::shared_ptr<ClientConnection> connection);
  // An idle connection that can no longer be used.
  void drop(ClientConnection& connection);
  void close();
  Result<SSL_CTX*> tls();
  [[nodiscard]] std::size_t idle_count() const { return idle_count_; }

  asio::io_context& context;
  const ClientOptions options;
  const std::shared_ptr<DeadlineSweep> sweep;

 private:
  std::vector<std::unique_ptr<OriginPool>> origins_;
  std::size_t idle_count_ = 0;
  bool closed_ = false;
  std::optional<Result<SslContext>> tls_;
};

class ClientConnection final : public DeadlineOwner,
                               public std::enable_shared_from_this<ClientConnection> {
 public:
  enum class Step { need_input, ready, failed };

  ClientConnection(std::shared_ptr<ClientPool> pool, OriginPool& origin);
  ~ClientConnection() override;

  void attach(Cancellation* cancellation);
  void detach();
  // Resolves, connects and, for https, shakes hands.
  asio::awaitable<Result<void>> connect(std::uint32_t timeout_ms);
  // Starts a request; true when the kernel took all of it at once, else wait for send_rest().
  bool send_now(std::string_view method, std::string_view path_prefix, std::string_view path,
                std::span<const HeaderField> headers, const BodyPieces& body);
  asio::awaitable<void> send_rest(std::uint32_t stall_ms);
  // Looks for the answer's head in what has arrived.
  Step advance_head();
  // Takes the next piece of the body from what has arrived; empty at the clean end.
  Step advance_body(std::string_view& piece);
  [[nodiscard]] bool body_ready() const;
  // The deadline of what begins now: an expired one fails the next step. Cleared while the caller
  // works.
  using DeadlineOwner::clear_deadline;
  using DeadlineOwner::set_deadline;
  // Waits for bytes, the connection's end or the deadline; look again after it.
  asio::awaitable<void> wait_for_input() {
    start_read();
    return wakeup_.wait();
  }

  // Why the last step failed. Named after what was waited for.
  [[nodiscard]] Error failure() const;
  // The peer closed a kept connection before a byte of the answer: the request may go out on
  // another one.
  [[nodiscard]] bool proved_stale() const;
  void cancel();
  // The end of a request: keeps the connection when it can be used again.
  void release();
  void close();
  void abandon() { wakeup_.abandon(); }

  [[nodiscard]] unsigned status() const { return head_.status; }
  [[nodiscard]] std::string_view header(std::string_view name) const {
    return find_field(fields_, name);
  }
  [[nodiscard]] OriginPool& origin() const { return origin_; }

 private:
  friend class ClientPool;
  enum class Phase { connecting, sending, head, body, idle, closed };
  enum class BodyKind { none, length, chunked, until_close };
  struct ReadDone;
  struct Resolved;
  struct Connected;
  struct SocketReady;

  asio::awaitable<void> connect_to_any(std::uint32_t timeout_ms);
  asio::awaitable<Result<void>> shake_hands();
  Result<void> connect_failure(HttpError code, std::string message) const;
  void begin_body();
  Step fail_with(HttpError code, std::string_view message);
  Step end_of_input();
  void start_read();
  void on_read(IoResult result);
  void on_deadline() override;
  void prepare_idle();
  [[nodiscard]] bool stopped() const { return cancelled_ || timed_out_; }
  [[nodiscard]] bool reusable() const;

  const std::shared_ptr<ClientPool> pool_;
  OriginPool& origin_;
  Stream stream_;
  ByteBuffer input_;  // the answer's head, then what has arrived of the body and was not yet taken
  std::string output_;  // the request's head
  std::array<iovec, 1 + BodyPieces::pieces_max> pieces_{};
  iovec* unsent_ = nullptr;
  std::size_t unsent_count_ = 0;
  HeadScanner scanner_;
  ResponseHead head_;
  std::vector<HeaderField> fields_;
  std::size_t head_bytes_ = 0;
  std::size_t taken_bytes_ = 0;  // of input_: the head and what read() has given out
  ChunkDecoder decoder_;
  std::uint64_t body_left_ = 0;  // with BodyKind::length
  Wakeup wakeup_;
  Cancellation* cancellation_ = nullptr;
  std::optional<asio::ip::basic_resolver<asio::ip::tcp, Executor>> resolver_;
  std::vector<asio::ip::tcp::endpoint> endpoints_;
  boost::system::error_code connect_error_;
  std::int64_t started_ms_ = 0;     // of connect()
  std::size_t endpoints_left_ = 0;  // to try after the one that is being tried

  Phase phase_ = Phase::connecting;
  BodyKind body_kind_ = BodyKind::none;
  HttpError failure_code_ = HttpError::closed;
  std::string_view failure_message_;
  bool waiting_connect_ = false;  // a resolve, a connect or a wait for the socket is pending
  bool waiting_writable_ = false;
  bool reading_ = false;
  bool input_ended_ = false;
  bool clean_end_ = false;  // with input_ended_: by a FIN, or a close_notify
  bool send_failed_ = false;
  bool answer_begun_ = false;  // a byte of an answer to the present request has arrived
  bool reused_ = false;
  bool body_done_ = false;
  bool is_head_method_ = false;
  bool cancelled_ = false;
  bool timed_out_ = false;
};

}  // namespace outlast::http
