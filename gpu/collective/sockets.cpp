#include "gpu/collective/sockets.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr int waiting_max = 1'024;

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Addresses> resolve(const std::string& address, std::uint16_t port) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int wrong = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (wrong != 0) return fail(GpuError::invalid, "'" + address + "' is not an address: " + ::gai_strerror(wrong));
  return Addresses(found, &::freeaddrinfo);
}

Failure cannot(const std::string& what, const std::string& address, std::uint16_t port) {
  return fail(GpuError::io, "cannot " + what + " " + address + " port " + std::to_string(port) + ": " + std::strerror(errno));
}

Result<Descriptor> open_connection(const std::string& address, std::uint16_t port, int flags) {
  const auto where = resolve(address, port);
  if (!where) return fail(where.error());
  Descriptor socket(::socket((*where)->ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  const int yes = 1;
  ::setsockopt(socket.number(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (::connect(socket.number(), (*where)->ai_addr, (*where)->ai_addrlen) != 0 && errno != EINPROGRESS) return cannot("connect to", address, port);
  return socket;
}

}  // namespace

void Descriptor::reset() {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

Result<Listener> listen_at(const std::string& address, std::uint16_t port) {
  const auto where = resolve(address, port);
  if (!where) return fail(where.error());
  Listener listener{Descriptor(::socket((*where)->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))};
  const int yes = 1;
  ::setsockopt(listener.socket.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::bind(listener.socket.number(), (*where)->ai_addr, (*where)->ai_addrlen) != 0 || ::listen(listener.socket.number(), waiting_max) != 0 ||
      ::getsockname(listener.socket.number(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return cannot("listen at", address, port);
  }
  const bool is_v6 = bound.ss_family == AF_INET6;
  listener.port = ntohs(is_v6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return listener;
}

Result<Descriptor> connect_to(const std::string& address, std::uint16_t port) { return open_connection(address, port, 0); }

Result<Descriptor> begin_connect(const std::string& address, std::uint16_t port) { return open_connection(address, port, SOCK_NONBLOCK); }

bool is_loopback(const std::string& address) {
  const auto where = resolve(address, 0);
  if (!where) return false;
  if ((*where)->ai_family == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>((*where)->ai_addr)->sin6_addr);
  return ntohl(reinterpret_cast<const sockaddr_in*>((*where)->ai_addr)->sin_addr.s_addr) >> 24U == IN_LOOPBACKNET;
}

Result<Descriptor> make_event() {
  Descriptor event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (event.number() < 0) return fail(GpuError::io, std::string("no event descriptor: ") + std::strerror(errno));
  return event;
}

void raise_event(const Descriptor& event) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event.number(), &one, sizeof one);
}

}  // namespace outlast::gpu
