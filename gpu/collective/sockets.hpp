// What a rendezvous and a collective need of TCP.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/result.hpp"

namespace outlast::gpu {

// A file descriptor, closed on destruction. One owner.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  [[nodiscard]] int number() const { return number_; }
  void reset();

 private:
  int number_;
};

struct Listener {
  Descriptor socket;  // does not block
  std::uint16_t port = 0;
};
// Numeric addresses. Errors: io.
Result<Listener> listen_at(const std::string& address, std::uint16_t port);
Result<Descriptor> connect_to(const std::string& address, std::uint16_t port);
// Does not block, nor does the socket: the first write waits for the connection.
Result<Descriptor> begin_connect(const std::string& address, std::uint16_t port);
bool is_loopback(const std::string& address);
// An event that a thread in poll() hears of.
Result<Descriptor> make_event();
void raise_event(const Descriptor& event);

}  // namespace outlast::gpu
