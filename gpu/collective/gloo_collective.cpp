#include "gpu/collective/gloo_collective.hpp"

#include <signal.h>
#include <time.h>

#include <algorithm>
#include <exception>
#include <span>

#include <gloo/transport/address.h>
#include <gloo/transport/context.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

// While one segment of a part is added the next one is on its way.
constexpr std::size_t segment_bytes = 1U << 20;

struct Stopped {};  // thrown, and caught where Gloo's own exceptions are
constexpr const char* gone = "a rank is gone";

// Gloo writes to connections that may be broken without saying that a signal is unwanted. While one of these lives SIGPIPE is blocked in
// this thread, and in those that it starts; one that came is taken back.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    sigset_t pending;
    ::sigpending(&pending);
    was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoPipeSignal() {
    const timespec at_once{};
    if (!was_pending_) ::sigtimedwait(&pipe_, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

std::size_t segments_of(std::size_t count, std::size_t number_bytes) { return (count * number_bytes + segment_bytes - 1) / segment_bytes; }

}  // namespace

// Known to the collective while it lives, so that waiting for it can be ended.
class GlooCollective::Transfer {
 public:
  Transfer(GlooCollective& owner, void* data, std::size_t bytes) : owner_(owner), buffer_(owner.context_->createUnboundBuffer(data, bytes)) {
    const std::lock_guard lock(owner_.mutex_);
    if (owner_.given_up_) throw Stopped();
    owner_.waiting_.push_back(buffer_.get());
  }
  ~Transfer() {
    const std::lock_guard lock(owner_.mutex_);
    std::erase(owner_.waiting_, buffer_.get());
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  void send(std::size_t to, std::uint64_t slot, std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    buffer_->send(static_cast<int>(to), slot, offset, bytes);
    ++sends_;
  }
  void receive(std::size_t from, std::uint64_t slot, std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    buffer_->recv(static_cast<int>(from), slot, offset, bytes);
    ++receives_;
  }
  void wait_received() {
    for (; receives_ > 0; --receives_) {
      if (!buffer_->waitRecv(owner_.options_.patience)) throw Stopped();
    }
  }
  void wait_sent() {
    for (; sends_ > 0; --sends_) {
      if (!buffer_->waitSend(owner_.options_.patience)) throw Stopped();
    }
  }

 private:
  GlooCollective& owner_;
  std::unique_ptr<gloo::transport::UnboundBuffer> buffer_;
  std::size_t sends_ = 0;
  std::size_t receives_ = 0;
};

GlooCollective::GlooCollective(Rendezvous& rendezvous, const Generation& generation, const GlooOptions& options)
    : rendezvous_(rendezvous), generation_(generation), options_(options) {}

GlooCollective::~GlooCollective() {
  rendezvous_.unwatch();
  close_pairs();
}

Result<std::unique_ptr<Collective>> GlooCollective::make(Rendezvous& rendezvous, const Generation& generation, const GlooOptions& options) {
  check(generation.rank < generation.ranks, "a rank is one of the ranks");
  std::unique_ptr<GlooCollective> collective(new GlooCollective(rendezvous, generation, options));
  if (Result<void> connected = collective->connect(); !connected) return fail(std::move(connected.error()));
  return collective;
}

Result<void> GlooCollective::connect() {
  const auto watch = [this] { rendezvous_.watch(generation_.number, [this] { give_up(); }); };
  if (ranks() == 1) {
    watch();
    return {};
  }
  landing_.resize(2 * segment_bytes);
  std::string cause;
  const NoPipeSignal no_signal;
  try {
    gloo::transport::tcp::attr where;
    where.hostname = options_.address;
    context_ = gloo::transport::tcp::CreateDevice(where)->createContext(static_cast<int>(rank()), static_cast<int>(ranks()));
    context_->setTimeout(options_.connect_patience / 5);  // Gloo waits five times as long for a connection
    const std::string addresses = make_pairs();
    connecting_ = true;  // before another thread can look
    watch();
    connect_pairs(addresses);
    const std::lock_guard lock(mutex_);
    connecting_ = false;
    if (!given_up_) return {};
    cause = gone;
  } catch (const Stopped&) {
    cause = gone;
  } catch (const std::exception& error) {
    cause = error.what();
  }
  return fail(GpuError::peer_lost, "the ranks of generation " + std::to_string(generation_.number) + " did not connect: " + cause);
}

// Where this rank waits for each of the others: one address after the other, all as long.
std::string GlooCollective::make_pairs() {
  std::string addresses;
  for (std::size_t other = 0; other < ranks(); ++other) {
    if (other == rank()) continue;
    const std::vector<char> address = context_->createPair(static_cast<int>(other))->address().bytes();
    addresses.resize(ranks() * address.size());
    std::copy(address.begin(), address.end(), addresses.begin() + static_cast<std::ptrdiff_t>(other * address.size()));
  }
  return addresses;
}

void GlooCollective::connect_pairs(const std::string& addresses) {
  const std::size_t size = addresses.size() / ranks();
  const auto key = [](std::size_t of) { return "addresses of " + std::to_string(of); };
  if (const auto put = rendezvous_.put(generation_.number, key(rank()), addresses); !put) throw std::runtime_error(put.error().message);
  for (std::size_t other = 0; other < ranks(); ++other) {
    if (other == rank()) continue;
    const Result<std::string> all = rendezvous_.get(generation_.number, key(other), options_.connect_patience);
    if (!all) throw std::runtime_error(all.error().message);
    if (all->size() != addresses.size()) throw std::runtime_error("rank " + std::to_string(other) + " has addresses of another kind");
    {
      const std::lock_guard lock(mutex_);
      if (given_up_) throw Stopped();
    }
    const auto own = all->begin() + static_cast<std::ptrdiff_t>(rank() * size);
    context_->getPair(static_cast<int>(other))->connect({own, own + static_cast<std::ptrdiff_t>(size)});
  }
}

void GlooCollective::close_pairs() {
  for (std::size_t other = 0; context_ && other < ranks(); ++other) {
    if (auto& pair = context_->getPair(static_cast<int>(other)); pair) pair->close();
  }
}

void GlooCollective::give_up() {
  const std::lock_guard lock(mutex_);
  given_up_ = true;
  for (gloo::transport::UnboundBuffer* const buffer : waiting_) {
    buffer->abortWaitRecv();
    buffer->abortWaitSend();
  }
  // Nothing else ends the wait for a connection; those that carry numbers are closed by whoever waits for them.
  if (connecting_) close_pairs();
}

template <class Work>
Result<void> GlooCollective::guarded(const char* what, const Work& work) {
  const NoPipeSignal no_signal;
  std::string cause;
  {
    const std::lock_guard lock(mutex_);
    if (given_up_) cause = gone;
  }
  if (cause.empty() && ranks() == 1) return {};
  if (cause.empty()) {
    try {
      work();
      return {};
    } catch (const Stopped&) {
      cause = gone;
    } catch (const std::exception& error) {
      cause = error.what();
    }
  }
  {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
  }
  close_pairs();  // so that those who wait for this rank hear of it
  return fail(GpuError::peer_lost, std::string(what) + " of generation " + std::to_string(generation_.number) + ": " + cause);
}

std::uint64_t GlooCollective::take_slots(std::size_t count) {
  const std::uint64_t first = next_slot_;
  next_slot_ += count;
  return first;
}

// Each part goes once around, from the rank after its owner to its owner, and every rank adds its own numbers to it.
template <class T>
void GlooCollective::reduce_ring(const Array& numbers) {
  const std::size_t segment = segment_bytes / sizeof(T);
  const std::size_t next = (rank() + 1) % ranks();
  const std::size_t segments_max = segments_of(part_of(numbers.count, 0, ranks()).count, sizeof(T));
  T* const landing[2] = {reinterpret_cast<T*>(landing_.data()), reinterpret_cast<T*>(landing_.data()) + segment};
  Transfer out(*this, numbers.data, numbers.bytes());
  Transfer first(*this, landing[0], segment_bytes);
  Transfer second(*this, landing[1], segment_bytes);
  Transfer* const in[2] = {&first, &second};
  for (std::size_t step = 1; step < ranks(); ++step) {
    const std::uint64_t slot = take_slots(segments_max);
    const Part sent = part_of(numbers.count, rank_before(step), ranks());
    const Part taken = part_of(numbers.count, rank_before(step + 1), ranks());
    const auto size_of_segment = [segment](const Part& part, std::size_t number) { return std::min(segment, part.count - number * segment); };
    for (std::size_t i = 0; i < segments_of(sent.count, sizeof(T)); ++i) {
      out.send(next, slot + i, (sent.begin + i * segment) * sizeof(T), size_of_segment(sent, i) * sizeof(T));
    }
    const std::size_t segments = segments_of(taken.count, sizeof(T));
    const auto ask_for = [&](std::size_t i) { in[i % 2]->receive(rank_before(1), slot + i, 0, size_of_segment(taken, i) * sizeof(T)); };
    if (segments > 0) ask_for(0);
    for (std::size_t i = 0; i < segments; ++i) {
      if (i + 1 < segments) ask_for(i + 1);
      in[i % 2]->wait_received();
      T* const own = static_cast<T*>(numbers.data) + taken.begin + i * segment;
      for (std::size_t at = 0; at < size_of_segment(taken, i); ++at) own[at] += landing[i % 2][at];
    }
  }
  out.wait_sent();
}

void GlooCollective::gather_ring(const Array& numbers) {
  const std::size_t size = size_of(numbers.dtype);
  Transfer all(*this, numbers.data, numbers.bytes());
  const std::uint64_t slot = take_slots(ranks());
  for (std::size_t step = 0; step + 1 < ranks(); ++step) {
    const Part sent = part_of(numbers.count, rank_before(step), ranks());
    const Part taken = part_of(numbers.count, rank_before(step + 1), ranks());
    all.send((rank() + 1) % ranks(), slot + step, sent.begin * size, sent.count * size);
    all.receive(rank_before(1), slot + step, taken.begin * size, taken.count * size);
    all.wait_received();
  }
  all.wait_sent();
}

Result<void> GlooCollective::all_reduce_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32, "sums are of f32");
  return guarded("a sum", [this, &numbers] {
    reduce_ring<float>(numbers);
    gather_ring(numbers);
  });
}

Result<void> GlooCollective::reduce_scatter_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32, "gradients are f32");
  return guarded("a reduce-scatter", [this, &numbers] { reduce_ring<float>(numbers); });
}

Result<void> GlooCollective::all_gather(const Array& numbers) {
  return guarded("an all-gather", [this, &numbers] { gather_ring(numbers); });
}

Result<void> GlooCollective::broadcast(const Array& numbers, std::size_t root) {
  check(root < ranks(), "a root is one of the ranks");
  return guarded("a broadcast", [this, &numbers, root] {
    Transfer all(*this, numbers.data, numbers.bytes());
    const std::uint64_t slot = take_slots(1);
    for (std::size_t other = 0; rank() == root && other < ranks(); ++other) {
      if (other != root) all.send(other, slot, 0, numbers.bytes());
    }
    if (rank() != root) all.receive(root, slot, 0, numbers.bytes());
    all.wait_received();
    all.wait_sent();
  });
}

Result<void> GlooCollective::pass_on(const Array& to_next, const Array& from_previous) {
  return guarded("a copy to the next rank", [this, &to_next, &from_previous] {
    Transfer out(*this, to_next.data, to_next.bytes());
    Transfer in(*this, from_previous.data, from_previous.bytes());
    const std::uint64_t slot = take_slots(1);
    out.send((rank() + 1) % ranks(), slot, 0, to_next.bytes());
    in.receive(rank_before(1), slot, 0, from_previous.bytes());
    in.wait_received();
    out.wait_sent();
  });
}

Result<void> GlooCollective::sum(std::span<double> numbers) {
  return guarded("a sum", [this, numbers] {
    const Array array{numbers.data(), numbers.size(), Dtype::f64};
    reduce_ring<double>(array);
    gather_ring(array);
  });
}

}  // namespace outlast::gpu
