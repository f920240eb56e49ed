#include "gpu/collective/tcp_collective.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>

#include "core/check.hpp"
#include "core/crypto.hpp"
#include "core/random.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t segment_bytes = 256U << 10;  // half a core's second-level cache: what arrives is added while it is there
constexpr std::size_t strangers_max = 16;          // that may be let to say who they are at one time
constexpr std::string_view greeting = "outlast rank 1 ";
constexpr std::size_t secret_bytes = 32;
constexpr std::size_t hello_bytes = greeting.size() + 2 * secret_bytes;  // the secret in hexadecimal

Failure lost(std::string why) { return fail(GpuError::peer_lost, std::move(why)); }

std::string new_secret() {
  std::array<std::uint8_t, secret_bytes> bytes;
  secure_random(std::as_writable_bytes(std::span(bytes)));
  return to_hex(bytes);
}

// Before the bytes of every message.
struct Head {
  std::uint64_t number = 0;  // of the connection's messages
  std::uint64_t bytes = 0;
  bool operator==(const Head&) const = default;
};

// A message of which a part has gone, or come.
struct Message {
  Head head;
  std::span<std::byte> body;
  std::size_t done = 0;

  [[nodiscard]] std::size_t left() const { return body.empty() ? 0 : sizeof head + body.size() - done; }
  // What is left of the head, and of the body.
  std::array<iovec, 2> parts() {
    const std::size_t of_head = std::min(done, sizeof head);
    const std::size_t of_body = done - of_head;
    return {{{reinterpret_cast<std::byte*>(&head) + of_head, sizeof head - of_head}, {body.data() + of_body, body.size() - of_body}}};
  }
};

// `transfer`: ::sendmsg or ::recvmsg. False where nothing can go or come at the moment.
template <class Transfer>
Result<bool> move_some(Message& message, const Descriptor& socket, const Transfer& transfer) {
  if (message.left() == 0) return false;
  auto parts = message.parts();
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  const ssize_t size = transfer(socket.number(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (size <= 0) return lost(std::string("a connection broke: ") + (size == 0 ? "it was closed at the other end" : std::strerror(errno)));
  message.done += static_cast<std::size_t>(size);
  return true;
}

int milliseconds_until(SteadyClock::time_point when) {
  return static_cast<int>(std::max<std::int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(when - SteadyClock::now()).count()));
}

}  // namespace

// Accepts who comes, until the rank before has shown the secret that only ranks can read.
class TcpCollective::Arrivals {
 public:
  explicit Arrivals(Listener listener) : listener_(std::move(listener)), hello_(std::string(greeting) + new_secret()) {}

  [[nodiscard]] std::uint16_t port() const { return listener_.port; }
  [[nodiscard]] const std::string& hello() const { return hello_; }
  void watch(std::vector<pollfd>& watched) const {
    watched.push_back({listener_.socket.number(), POLLIN, 0});
    for (const Stranger& stranger : strangers_) watched.push_back({stranger.socket.number(), POLLIN, 0});
  }
  // The rank before, when it is there.
  std::optional<Descriptor> look() {
    for (Stranger& stranger : strangers_) {
      std::array<char, hello_bytes> bytes;
      const ssize_t size = ::recv(stranger.socket.number(), bytes.data(), hello_.size() - stranger.said.size(), MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (size > 0) stranger.said.append(bytes.data(), static_cast<std::size_t>(size));
      if (size > 0 && stranger.said.size() < hello_.size()) continue;
      if (size > 0 && constant_time_equal(stranger.said, hello_)) return std::move(stranger.socket);
      stranger.socket.reset();
    }
    std::erase_if(strangers_, [](const Stranger& stranger) { return stranger.socket.number() < 0; });
    Descriptor come(::accept4(listener_.socket.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (come.number() < 0) return std::nullopt;  // it may have gone again
    if (strangers_.size() == strangers_max) strangers_.erase(strangers_.begin());
    strangers_.push_back({std::move(come), {}});
    return std::nullopt;
  }

 private:
  struct Stranger {
    Descriptor socket;
    std::string said;
  };
  const Listener listener_;
  const std::string hello_;
  std::vector<Stranger> strangers_;
};

TcpCollective::TcpCollective(Rendezvous& rendezvous, const Generation& generation, const TcpCollectiveOptions& options, Descriptor given_up)
    : rendezvous_(rendezvous), generation_(generation), options_(options), given_up_(std::move(given_up)) {}

TcpCollective::~TcpCollective() { rendezvous_.unwatch(); }

Result<std::unique_ptr<Collective>> TcpCollective::make(Rendezvous& rendezvous, const Generation& generation, const TcpCollectiveOptions& options) {
  check(generation.rank < generation.ranks, "a rank is one of the ranks");
  auto given_up = make_event();
  if (!given_up) return fail(std::move(given_up.error()));
  std::unique_ptr<TcpCollective> collective(new TcpCollective(rendezvous, generation, options, std::move(*given_up)));
  if (Result<void> connected = collective->connect(); !connected) {
    connected.error().message = "the ranks of generation " + std::to_string(generation.number) + " did not connect: " + connected.error().message;
    return fail(std::move(connected.error()));
  }
  return collective;
}

Result<void> TcpCollective::connect() {
  const auto watch = [this] {
    rendezvous_.watch(generation_.number, [this] {
      ended_ = true;
      raise_event(given_up_);
    });
  };
  if (ranks() == 1) {
    watch();
    return {};
  }
  if (!options_.trusts_the_network && !is_loopback(options_.address)) {
    return fail(GpuError::invalid, options_.address + " is not loopback, and what ranks send is not encrypted: only a network that is trusted may carry it");
  }
  landing_.resize(segment_bytes);
  auto listener = listen_at(options_.address, 0);
  if (!listener) return fail(std::move(listener.error()));
  Arrivals arrivals(std::move(*listener));
  watch();
  const auto key = [](std::size_t of) { return "address of " + std::to_string(of); };
  const std::string own = options_.address + " " + std::to_string(arrivals.port()) + " " + arrivals.hello();
  if (auto put = rendezvous_.put(generation_.number, key(rank()), own); !put) return put;
  const Result<std::string> next = rendezvous_.get(generation_.number, key((rank() + 1) % ranks()), options_.connect_patience);
  if (!next) return fail(next.error());
  return connect_ring(arrivals, *next);
}

Result<void> TcpCollective::connect_ring(Arrivals& arrivals, const std::string& next) {
  std::istringstream words(next);
  std::string address;
  std::uint16_t port = 0;
  std::string hello;
  if (!(words >> address >> port) || !std::getline(words.ignore(1), hello) || hello.size() != hello_bytes) return lost("the next rank has an address of another kind");
  auto connecting = begin_connect(address, port);
  if (!connecting) return lost(connecting.error().message);
  next_ = std::move(*connecting);
  std::size_t said = 0;
  const auto deadline = SteadyClock::now() + options_.connect_patience;
  while (said < hello.size() || previous_.number() < 0) {
    std::vector<pollfd> watched{{given_up_.number(), POLLIN, 0}, {next_.number(), static_cast<short>(said < hello.size() ? POLLOUT : 0), 0}};
    if (previous_.number() < 0) arrivals.watch(watched);
    if (::poll(watched.data(), watched.size(), milliseconds_until(deadline)) < 0 && errno != EINTR) return fail(GpuError::io, std::strerror(errno));
    if (ended_) return lost("a rank is gone");
    if (SteadyClock::now() >= deadline) return lost("they were not there within " + std::to_string(options_.connect_patience.count()) + " ms");
    if (watched[1].revents != 0) {
      if (said == hello.size()) return lost("the next rank is gone");
      const ssize_t size = ::send(next_.number(), hello.data() + said, hello.size() - said, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (size < 0 && errno != EAGAIN && errno != EINTR) return lost(std::string("the next rank is not reached: ") + std::strerror(errno));
      said += static_cast<std::size_t>(std::max<ssize_t>(0, size));
    }
    if (previous_.number() < 0) {
      if (auto come = arrivals.look()) previous_ = std::move(*come);
    }
  }
  return {};
}

template <class Work>
Result<void> TcpCollective::guarded(const char* what, const Work& work) {
  Result<void> done;
  if (ended_) done = lost("a rank is gone");
  else if (ranks() > 1) done = work();
  if (done) return done;
  ended_ = true;
  next_.reset();
  previous_.reset();
  return lost(std::string(what) + " of generation " + std::to_string(generation_.number) + ": " + done.error().message);
}

Result<void> TcpCollective::exchange(Bytes out, Bytes in) {
  Message sending{{sent_, out.size()}, out};
  Message receiving{{}, in};
  const Head expected{received_, in.size()};
  sent_ += out.empty() ? 0 : 1;
  received_ += in.empty() ? 0 : 1;
  auto deadline = SteadyClock::now() + options_.patience;
  while (sending.left() > 0 || receiving.left() > 0) {
    if (ended_) return lost("a rank is gone");
    const auto went = move_some(sending, next_, ::sendmsg);
    if (!went) return fail(went.error());
    const auto came = move_some(receiving, previous_, ::recvmsg);
    if (!came) return fail(came.error());
    if (receiving.done >= sizeof(Head) && receiving.head != expected) return lost("the rank before is elsewhere in the run");
    if (*went || *came) {
      deadline = SteadyClock::now() + options_.patience;
      continue;
    }
    if (SteadyClock::now() >= deadline) return lost("nothing came or went for " + std::to_string(options_.patience.count()) + " ms");
    // A descriptor of -1 is passed over.
    std::array<pollfd, 3> watched{{{given_up_.number(), POLLIN, 0},
                                   {sending.left() > 0 ? next_.number() : -1, POLLOUT, 0},
                                   {receiving.left() > 0 ? previous_.number() : -1, POLLIN, 0}}};
    if (::poll(watched.data(), watched.size(), milliseconds_until(deadline)) < 0 && errno != EINTR) return fail(GpuError::io, std::strerror(errno));
  }
  return {};
}

// Each part goes once around, from the rank after its owner to its owner, and every rank adds its own numbers to it.
template <class T>
Result<void> TcpCollective::reduce_ring(const Array& numbers) {
  constexpr std::size_t segment = segment_bytes / sizeof(T);
  T* const all = static_cast<T*>(numbers.data);
  const auto bytes_of = [](T* from, std::size_t count) { return std::as_writable_bytes(std::span(from, count)); };
  for (std::size_t step = 1; step < ranks(); ++step) {
    const Part sent = part_of(numbers.count, rank_before(step), ranks());
    const Part taken = part_of(numbers.count, rank_before(step + 1), ranks());
    for (std::size_t begin = 0; begin < std::max(sent.count, taken.count); begin += segment) {
      const std::size_t out = begin < sent.count ? std::min(segment, sent.count - begin) : 0;
      const std::size_t in = begin < taken.count ? std::min(segment, taken.count - begin) : 0;
      T* const landed = reinterpret_cast<T*>(landing_.data());
      if (Result<void> done = exchange(bytes_of(all + sent.begin + begin, out), bytes_of(landed, in)); !done) return done;
      T* const own = all + taken.begin + begin;
      for (std::size_t at = 0; at < in; ++at) own[at] += landed[at];
    }
  }
  return {};
}

Result<void> TcpCollective::gather_ring(const Array& numbers) {
  const std::size_t size = size_of(numbers.dtype);
  const auto bytes_of = [&numbers, size](const Part& part) { return Bytes(static_cast<std::byte*>(numbers.data) + part.begin * size, part.count * size); };
  for (std::size_t step = 0; step + 1 < ranks(); ++step) {
    const Part sent = part_of(numbers.count, rank_before(step), ranks());
    const Part taken = part_of(numbers.count, rank_before(step + 1), ranks());
    if (Result<void> done = exchange(bytes_of(sent), bytes_of(taken)); !done) return done;
  }
  return {};
}

// Around the ring, segment after segment: each rank passes one on while the next one comes.
Result<void> TcpCollective::spread(Bytes bytes, std::size_t root) {
  const bool passes_on = (rank() + 1) % ranks() != root;
  const auto segment = [bytes](std::size_t number) {
    const std::size_t begin = std::min(bytes.size(), number * segment_bytes);
    return bytes.subspan(begin, std::min(segment_bytes, bytes.size() - begin));
  };
  const std::size_t segments = (bytes.size() + segment_bytes - 1) / segment_bytes;
  for (std::size_t number = 0; number <= segments; ++number) {
    const Bytes in = rank() == root ? Bytes() : segment(number);
    const Bytes out = rank() == root ? segment(number) : number > 0 && passes_on ? segment(number - 1) : Bytes();
    if (Result<void> done = exchange(out, in); !done) return done;
  }
  return {};
}

Result<void> TcpCollective::all_reduce_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32, "sums are of f32");
  return guarded("a sum", [this, &numbers] {
    Result<void> done = reduce_ring<float>(numbers);
    return done ? gather_ring(numbers) : done;
  });
}

Result<void> TcpCollective::reduce_scatter_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32, "gradients are f32");
  return guarded("a reduce-scatter", [this, &numbers] { return reduce_ring<float>(numbers); });
}

Result<void> TcpCollective::all_gather(const Array& numbers) {
  return guarded("an all-gather", [this, &numbers] { return gather_ring(numbers); });
}

Result<void> TcpCollective::broadcast(const Array& numbers, std::size_t root) {
  check(root < ranks(), "a root is one of the ranks");
  return guarded("a broadcast", [this, &numbers, root] { return spread({static_cast<std::byte*>(numbers.data), numbers.bytes()}, root); });
}

Result<void> TcpCollective::pass_on(const Array& to_next, const Array& from_previous) {
  return guarded("a copy to the next rank", [this, &to_next, &from_previous] {
    return exchange({static_cast<std::byte*>(to_next.data), to_next.bytes()}, {static_cast<std::byte*>(from_previous.data), from_previous.bytes()});
  });
}

Result<void> TcpCollective::sum(std::span<double> numbers) {
  return guarded("a sum", [this, numbers] {
    const Array array{numbers.data(), numbers.size(), Dtype::f64};
    Result<void> done = reduce_ring<double>(array);
    return done ? gather_ring(array) : done;
  });
}

}  // namespace outlast::gpu
