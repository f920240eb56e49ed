// RendezvousServer: the place of a run where its ranks meet, on a TCP port of its own; whoever starts the ranks runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "core/result.hpp"
#include "gpu/collective/roll.hpp"

namespace outlast::gpu {

// Serves from a thread of its own until it is destroyed.
class RendezvousServer {
 public:
  // `address`: of this machine, numeric; port 0: any. Errors: io, invalid.
  static Result<std::unique_ptr<RendezvousServer>> make(const std::string& address, std::uint16_t port, RollOptions options);
  ~RendezvousServer();
  RendezvousServer(const RendezvousServer&) = delete;
  RendezvousServer& operator=(const RendezvousServer&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  // How many there have been: 0 until all ranks have come. Any thread.
  [[nodiscard]] std::uint64_t generation() const;

 private:
  class Server;
  RendezvousServer(std::unique_ptr<Server> server, std::uint16_t port);

  std::unique_ptr<Server> server_;
  const std::uint16_t port_;
  std::thread thread_;
};

}  // namespace outlast::gpu
