// ServerConnection: one caller's connection. One coroutine reads a request, runs the handler, and
// goes on with the next; reads are callbacks that wake it, so that the caller's leaving is seen
// while the handler works.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "http/byte_buffer.hpp"
#include "http/chunked.hpp"
#include "http/deadlines.hpp"
#include "http/head_parser.hpp"
#include "http/response_head.hpp"
#include "http/server.hpp"
#include "http/stream.hpp"
#include "http/wakeup.hpp"

namespace outlast::http {

class ServerConnection;

// What the connections of a server share; outlives the Server while connections end. Owned by one
// lane.
struct ServerState {
  ServerState(asio::io_context& io, ServerOptions server_options, Handler request_handler);

  void add(ServerConnection& connection);
  void remove(ServerConnection& connection);

  asio::io_context& context;
  ServerOptions options;
  Handler handler;
  ServerCounters counters;
  std::shared_ptr<DeadlineSweep> sweep;
  std::vector<ServerConnection*> connections;
  SslContext tls;
  DateText date;
  bool draining = false;
};

class ServerConnection final : public Response,
                               public DeadlineOwner,
                               public std::enable_shared_from_this<ServerConnection> {
 public:
  ServerConnection(std::shared_ptr<ServerState> state, Socket socket, std::string peer);
  ~ServerConnection() override;

  // Serves until the connection ends. `refused`: answers 503 to whatever comes.
  static asio::awaitable<void> run(std::shared_ptr<ServerConnection> self, bool refused);
  // Closes at once when no request is under way.
  void drain();
  void close();
  // The io_context is destroyed with an operation of this connection pending.
  void abandon() { wakeup_.abandon(); }

  asio::awaitable<Result<void>> send(unsigned status, std::span<const HeaderField> headers,
                                     std::string_view body) override;
  asio::awaitable<Result<void>> start(unsigned status,
                                      std::span<const HeaderField> headers) override;
  asio::awaitable<Result<void>> write(std::string_view bytes) override;
  asio::awaitable<Result<void>> finish(std::string_view last_bytes) override;
  void cut() override;
  [[nodiscard]] bool started() const override { return answer_ != Answer::none; }
  void on_disconnect(std::function<void()> callback) override;

 private:
  friend struct ServerState;
  enum class Phase { handshake, idle, head, body, handling, lingering, closed };
  enum class Answer { none, streaming, complete, cut };
  enum class Step { need_input, ready, refused, closed };
  enum class BodyPlace { in_place, separate, chunked };
  struct ReadDone;
  struct SocketReady {
    PendingOperation<ServerConnection> operation;
    void operator()(const boost::system::error_code&) {
      const auto connection = operation.take();
      connection->waiting_ready_ = false;
      connection->wakeup_.notify();
    }
  };

  asio::awaitable<bool> handshake();
  asio::awaitable<void> serve();
  asio::awaitable<void> refuse();
  asio::awaitable<void> linger();
  asio::awaitable<Result<void>> write_rest(iovec* pieces, std::size_t count);
  bool write_now(iovec*& pieces, std::size_t& count);

  Step advance();
  Step advance_head();
  Step begin_body();
  Step advance_body();
  Step advance_chunked(std::string_view raw);
  Step end_of_input();
  Step refuse_with(const Refusal& refusal);
  void grow_body(std::size_t size);
  void place_request_views();
  void finish_request();
  bool may_keep_alive() const;

  void start_read();
  void on_read(IoResult result);
  void on_deadline() override;
  void caller_left();
  ResponseHeadParts begin_answer(unsigned status, std::span<const HeaderField> headers);
  void append_head(ResponseHeadParts& parts);

  const std::shared_ptr<ServerState> state_;
  Stream stream_;
  const std::string peer_;
  std::size_t index_ = 0;  // in ServerState::connections

  ByteBuffer input_;
  HeadScanner scanner_;
  RequestHead head_;
  std::vector<HeaderField> fields_;
  Request request_;
  std::size_t head_bytes_ = 0;     // of the present request, at the front of input_
  std::size_t request_bytes_ = 0;  // the same with what of its body lies in input_
  std::unique_ptr<char[]> body_;   // a body that does not fit into input_, or was chunked
  std::size_t body_bytes_ = 0;     // received or decoded so far
  std::size_t body_capacity_ = 0;
  std::size_t decoded_bytes_ = 0;  // of the chunked bytes behind the head: already in body_
  ChunkDecoder decoder_;

  std::string output_;  // the head, and the framing of the chunk that goes with it
  Wakeup wakeup_;
  std::function<void()> disconnect_callback_;
  Refusal refusal_;

  Phase phase_ = Phase::idle;
  Answer answer_ = Answer::none;
  BodyPlace body_place_ = BodyPlace::in_place;
  ResponseFraming framing_ = ResponseFraming::length;
  bool reading_ = false;
  bool reading_body_ = false;   // the read goes to body_
  bool waiting_ready_ = false;  // for the socket, in a write or a handshake
  bool input_ended_ = false;    // no more bytes come: closed, reset or closed by us
  bool expired_ = false;        // the deadline of the present phase passed
  bool asked_once_ = false;     // a request has come
  bool write_stalled_ = false;
  bool close_after_ = false;  // the answer says "Connection: close"
  bool is_head_method_ = false;
};

}  // namespace outlast::http
