#include "gpu/collective/rendezvous_server.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <map>

#include "core/clock.hpp"
#include "gpu/collective/sockets.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr int look_at_deadlines_ms = 50;
constexpr std::size_t connections_max = 4'096;
constexpr std::size_t unsent_bytes_max = 4U << 20;  // of one rank, which then is lost

}  // namespace

class RendezvousServer::Server {
 public:
  Server(Listener listener, Descriptor stop, RollOptions options)
      : listener_(std::move(listener)), stop_(std::move(stop)), roll_(std::move(options)) {}

  void serve();
  void stop() { raise_event(stop_); }
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

 private:
  struct Rank {
    Descriptor socket;
    RendezvousReader reader;
    std::string unsent;
    bool last_word_said = false;
  };
  void accept();
  bool read(Roll::Connection connection, Rank& rank);  // false: the connection is of no more use
  static bool write(Rank& rank);
  void deliver(const Roll::Words& words);
  void close_finished();
  [[nodiscard]] std::int64_t now_ms() const { return clock_.monotonic_ns() / 1'000'000; }

  const SystemClock clock_;
  Listener listener_;
  Descriptor stop_;
  Roll roll_;
  std::atomic<std::uint64_t> generation_{0};  // the roll's, for other threads
  std::map<Roll::Connection, Rank> ranks_;
  Roll::Connection next_ = 1;
};

void RendezvousServer::Server::serve() {
  std::vector<pollfd> watched;
  std::vector<Roll::Connection> order;
  for (;;) {
    watched.assign({{stop_.number(), POLLIN, 0}, {listener_.socket.number(), POLLIN, 0}});
    order.clear();
    for (const auto& [connection, rank] : ranks_) {
      watched.push_back({rank.socket.number(), static_cast<short>(rank.unsent.empty() ? POLLIN : POLLIN | POLLOUT), 0});
      order.push_back(connection);
    }
    ::poll(watched.data(), watched.size(), look_at_deadlines_ms);
    if (watched[0].revents != 0) return;
    if (watched[1].revents != 0) accept();
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (watched[i + 2].revents == 0) continue;
      Rank& rank = ranks_.at(order[i]);
      if (read(order[i], rank) && write(rank)) continue;
      ranks_.erase(order[i]);
      deliver(roll_.closed(order[i], now_ms()));
    }
    // After all that was said: whoever was heard only late, because this process stood still, is not silent.
    deliver(roll_.passed(now_ms()));
    close_finished();
  }
}

void RendezvousServer::Server::accept() {
  for (;;) {
    Descriptor socket(::accept4(listener_.socket.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.number() < 0) return;
    if (ranks_.size() < connections_max) ranks_[next_++].socket = std::move(socket);
  }
}

bool RendezvousServer::Server::read(Roll::Connection connection, Rank& rank) {
  std::array<char, 16'384> bytes;
  for (;;) {
    const ssize_t size = ::recv(rank.socket.number(), bytes.data(), bytes.size(), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (size <= 0) return false;
    if (rank.last_word_said) continue;
    rank.reader.append({bytes.data(), static_cast<std::size_t>(size)});
    for (;;) {
      const auto message = rank.reader.next();
      if (!message) return false;
      if (!*message) break;
      deliver(roll_.received(connection, **message, now_ms()));
    }
  }
}

bool RendezvousServer::Server::write(Rank& rank) {
  while (!rank.unsent.empty()) {
    const ssize_t size = ::send(rank.socket.number(), rank.unsent.data(), rank.unsent.size(), MSG_NOSIGNAL);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    rank.unsent.erase(0, static_cast<std::size_t>(size));
  }
  return true;
}

void RendezvousServer::Server::deliver(const Roll::Words& words) {
  generation_ = roll_.generation();  // before anyone hears of it
  for (const Roll::Word& word : words) {
    const auto at = ranks_.find(word.to);
    if (at == ranks_.end() || at->second.last_word_said) continue;
    at->second.unsent += encode(word.message);
    at->second.last_word_said = word.last || at->second.unsent.size() > unsent_bytes_max;
    // What cannot be sent now goes when poll() says so; a broken connection shows when it is read.
    write(at->second);
  }
}

void RendezvousServer::Server::close_finished() {
  std::vector<Roll::Connection> finished;
  for (const auto& [connection, rank] : ranks_) {
    if (rank.last_word_said && (rank.unsent.empty() || rank.unsent.size() > unsent_bytes_max)) finished.push_back(connection);
  }
  for (const Roll::Connection connection : finished) {
    ranks_.erase(connection);
    deliver(roll_.closed(connection, now_ms()));
  }
}

RendezvousServer::RendezvousServer(std::unique_ptr<Server> server, std::uint16_t port)
    : server_(std::move(server)), port_(port), thread_([this] { server_->serve(); }) {}

std::uint64_t RendezvousServer::generation() const { return server_->generation(); }

RendezvousServer::~RendezvousServer() {
  server_->stop();
  thread_.join();
}

Result<std::unique_ptr<RendezvousServer>> RendezvousServer::make(const std::string& address, std::uint16_t port, RollOptions options) {
  if (options.ranks == 0 || options.ranks > ranks_max) return fail(GpuError::invalid, "a run has from 1 to " + std::to_string(ranks_max) + " ranks");
  auto listener = listen_at(address, port);
  if (!listener) return fail(std::move(listener.error()));
  auto stop = make_event();
  if (!stop) return fail(std::move(stop.error()));
  const std::uint16_t bound = listener->port;
  auto server = std::make_unique<Server>(std::move(*listener), std::move(*stop), std::move(options));
  return std::unique_ptr<RendezvousServer>(new RendezvousServer(std::move(server), bound));
}

}  // namespace outlast::gpu
