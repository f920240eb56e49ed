#include "gpu/collective/rendezvous_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::chrono::milliseconds beat_interval{100};
constexpr timeval send_patience{2, 0};

Failure ended(std::uint64_t generation) {
  return fail(GpuError::peer_lost, "generation " + std::to_string(generation) + " has ended: one of its ranks is gone");
}

}  // namespace

Result<std::unique_ptr<RendezvousClient>> RendezvousClient::make(const std::string& address, std::uint16_t port, std::string run) {
  if (run.size() > rendezvous_key_bytes_max) return fail(GpuError::invalid, "a run's key has at most " + std::to_string(rendezvous_key_bytes_max) + " bytes");
  auto socket = connect_to(address, port);
  if (!socket) return fail(std::move(socket.error()));
  auto stop = make_event();
  if (!stop) return fail(std::move(stop.error()));
  ::setsockopt(socket->number(), SOL_SOCKET, SO_SNDTIMEO, &send_patience, sizeof send_patience);
  return std::unique_ptr<RendezvousClient>(new RendezvousClient(std::move(*socket), std::move(*stop), std::move(run)));
}

RendezvousClient::RendezvousClient(Descriptor socket, Descriptor stop, std::string run)
    : run_(std::move(run)), socket_(std::move(socket)), stop_(std::move(stop)), thread_([this] { serve(); }) {}

RendezvousClient::~RendezvousClient() {
  raise_event(stop_);
  thread_.join();
}

void RendezvousClient::serve() {
  RendezvousReader reader;
  auto next_beat = std::chrono::steady_clock::now();
  Result<void> good;
  while (good) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_beat) {
      next_beat = now + beat_interval;
      good = say({RendezvousKind::beat});
      continue;
    }
    std::array<pollfd, 2> watched{{{stop_.number(), POLLIN, 0}, {socket_.number(), POLLIN, 0}}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_beat - now);
    ::poll(watched.data(), watched.size(), static_cast<int>(left.count()) + 1);
    if (watched[0].revents != 0) return;
    if (watched[1].revents != 0) good = read(reader);
  }
  const std::lock_guard lock(mutex_);
  if (!broken_) broken_ = good.error();
  heard_.notify_all();
}

Result<void> RendezvousClient::read(RendezvousReader& reader) {
  std::array<char, 16'384> bytes;
  const ssize_t size = ::recv(socket_.number(), bytes.data(), bytes.size(), 0);
  if (size < 0 && errno == EINTR) return {};
  if (size <= 0) return fail(GpuError::io, "the rendezvous of the run is gone");
  reader.append({bytes.data(), static_cast<std::size_t>(size)});
  for (;;) {
    auto message = reader.next();
    if (!message) return fail(std::move(message.error()));
    if (!*message) return {};
    const std::lock_guard lock(mutex_);
    hear(**message);
    heard_.notify_all();
  }
}

void RendezvousClient::hear(const RendezvousMessage& message) {
  switch (message.kind) {
    case RendezvousKind::formed:
      current_ = {message.generation, message.rank, message.ranks};
      ended_ = false;
      may_leave_ = false;
      values_.clear();
      break;
    case RendezvousKind::value:
      if (message.generation == current_.number) values_[message.key] = message.value;
      break;
    case RendezvousKind::ended:
      if (message.generation == current_.number) end_generation();
      break;
    case RendezvousKind::may_leave:
      may_leave_ = message.generation == current_.number;
      break;
    case RendezvousKind::refused:
      broken_ = Error{error_module<GpuError>, static_cast<std::uint16_t>(GpuError::invalid), "the rendezvous refused this rank: " + message.value};
      break;
    case RendezvousKind::lost:
      broken_ = Error{error_module<GpuError>, static_cast<std::uint16_t>(GpuError::peer_lost), "the rendezvous took this rank for lost: " + message.value};
      end_generation();
      break;
    default:
      break;
  }
}

void RendezvousClient::end_generation() {
  ended_ = true;
  if (watcher_ && watched_ == current_.number) std::exchange(watcher_, nullptr)();
}

Result<void> RendezvousClient::say(const RendezvousMessage& message) {
  const std::string bytes = encode(message);
  const std::lock_guard lock(sending_);
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t size = ::send(socket_.number(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail(GpuError::io, std::string("the rendezvous of the run is gone: ") + std::strerror(errno));
    sent += static_cast<std::size_t>(size);
  }
  return {};
}

template <class Condition>
Result<void> RendezvousClient::wait(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds patience, const char* what, const Condition& condition) {
  const bool done = heard_.wait_for(lock, patience, [this, &condition] { return broken_ || condition(); });
  if (broken_) return fail(*broken_);
  if (!done) return fail(GpuError::peer_lost, std::string(what) + " within " + std::to_string(patience.count()) + " ms");
  return {};
}

Result<Generation> RendezvousClient::join(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (broken_) return fail(*broken_);
  const std::uint64_t before = current_.number;
  lock.unlock();
  // A refusal that came before says more than that nothing can be sent any more.
  const Result<void> said = say({RendezvousKind::join, before, 0, 0, run_});
  lock.lock();
  if (Result<void> come = wait(lock, said ? patience : beat_interval, "the ranks of the next generation did not come", [this, before] { return current_.number > before; }); !come)
    return fail(std::move(come.error()));
  return current_;
}

Result<void> RendezvousClient::put(std::uint64_t generation, const std::string& key, const std::string& value) {
  {
    const std::lock_guard lock(mutex_);
    if (broken_) return fail(*broken_);
    if (!is_current(generation)) return ended(generation);
  }
  return say({RendezvousKind::put, generation, 0, 0, key, value});
}

Result<std::string> RendezvousClient::get(std::uint64_t generation, const std::string& key, std::chrono::milliseconds patience) {
  if (Result<void> said = say({RendezvousKind::get, generation, 0, 0, key}); !said) return fail(std::move(said.error()));
  std::unique_lock lock(mutex_);
  const std::string what = "nobody said '" + key + "'";
  if (Result<void> come = wait(lock, patience, what.c_str(), [this, generation, &key] { return !is_current(generation) || values_.contains(key); }); !come)
    return fail(std::move(come.error()));
  if (!is_current(generation)) return ended(generation);
  return values_.at(key);
}

Result<void> RendezvousClient::leave(std::uint64_t generation, std::chrono::milliseconds patience) {
  if (Result<void> said = say({RendezvousKind::leave, generation}); !said) return said;
  std::unique_lock lock(mutex_);
  if (Result<void> come = wait(lock, patience, "the other ranks did not finish", [this, generation] { return !is_current(generation) || may_leave_; }); !come)
    return come;
  if (!may_leave_) return ended(generation);
  return {};
}

void RendezvousClient::watch(std::uint64_t generation, std::function<void()> ended) {
  const std::lock_guard lock(mutex_);
  if (!is_current(generation)) return ended();
  watched_ = generation;
  watcher_ = std::move(ended);
}

void RendezvousClient::unwatch() {
  const std::lock_guard lock(mutex_);
  watcher_ = nullptr;
}

}  // namespace outlast::gpu
