// TcpCollective: the collective of CPUs. Ranks stand in a ring, and each has two connections: it sends to the next one and receives
// from the one before. What travels is neither encrypted nor signed; a rank lets only one in that knows a secret of the rendezvous.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpu/collective/collective.hpp"
#include "gpu/collective/rendezvous.hpp"
#include "gpu/collective/sockets.hpp"

namespace outlast::gpu {

struct TcpCollectiveOptions {
  std::string address = "127.0.0.1";  // of this machine, where the others reach it
  // Whoever is on a network that the ranks use can read and change a student's numbers. Without this only loopback is used.
  bool trusts_the_network = false;
  std::chrono::milliseconds connect_patience{5'000};
  // How long an operation waits for a rank that lives, as the rendezvous knows, and does not come: the longest that ranks are
  // apart in their work.
  std::chrono::milliseconds patience{60'000};
};

class TcpCollective final : public Collective {
 public:
  // Connects the ranks of a generation. `rendezvous` outlives it, and is watched. Errors: peer_lost, io, invalid.
  static Result<std::unique_ptr<Collective>> make(Rendezvous& rendezvous, const Generation& generation, const TcpCollectiveOptions& options);
  ~TcpCollective() override;

  [[nodiscard]] std::uint64_t generation() const override { return generation_.number; }
  [[nodiscard]] std::size_t rank() const override { return generation_.rank; }
  [[nodiscard]] std::size_t ranks() const override { return generation_.ranks; }
  Result<void> all_reduce_sum(const Array& numbers) override;
  Result<void> reduce_scatter_sum(const Array& numbers) override;
  Result<void> all_gather(const Array& numbers) override;
  Result<void> broadcast(const Array& numbers, std::size_t root) override;
  Result<void> pass_on(const Array& to_next, const Array& from_previous) override;
  Result<void> sum(std::span<double> numbers) override;

 private:
  using Bytes = std::span<std::byte>;
  class Arrivals;  // connections that have not shown yet that they are the rank before

  TcpCollective(Rendezvous& rendezvous, const Generation& generation, const TcpCollectiveOptions& options, Descriptor given_up);
  Result<void> connect();
  Result<void> connect_ring(Arrivals& arrivals, const std::string& next);
  // `work` with what it is for; where it fails the connections are closed, so that those who wait for this rank hear of it.
  template <class Work>
  Result<void> guarded(const char* what, const Work& work);
  template <class T>
  Result<void> reduce_ring(const Array& numbers);
  Result<void> gather_ring(const Array& numbers);
  Result<void> spread(Bytes bytes, std::size_t root);
  // `out` goes to the next rank while `in` comes from the one before; either may be empty.
  Result<void> exchange(Bytes out, Bytes in);
  [[nodiscard]] std::size_t rank_before(std::size_t steps) const { return (ranks() + rank() - steps % ranks()) % ranks(); }

  Rendezvous& rendezvous_;
  const Generation generation_;
  const TcpCollectiveOptions options_;
  const Descriptor given_up_;       // raised from the rendezvous's thread: ends all waiting, for good
  std::atomic<bool> ended_{false};
  Descriptor next_;
  Descriptor previous_;
  std::uint64_t sent_ = 0;          // messages: a rank that is elsewhere in the run is noticed
  std::uint64_t received_ = 0;
  std::vector<std::byte> landing_;  // what arrives, before it is added
};

}  // namespace outlast::gpu
