// GlooCollective: the collective of CPUs, over TCP. Gloo connects the ranks and moves bytes; the rings are our own, because Gloo
// has no reduce-scatter of any size, and because its operations cannot be stopped when a rank is known to be gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gpu/collective/collective.hpp"
#include "gpu/collective/rendezvous.hpp"

namespace gloo::transport {
class Context;
class UnboundBuffer;
}  // namespace gloo::transport

namespace outlast::gpu {

struct GlooOptions {
  std::string address = "127.0.0.1";  // of this machine, where the others reach it
  std::chrono::milliseconds connect_patience{5'000};
  // How long an operation waits for a rank that lives, as the rendezvous knows, and does not come: the longest that ranks are
  // apart in their work.
  std::chrono::milliseconds patience{60'000};
};

class GlooCollective final : public Collective {
 public:
  // Connects the ranks of a generation. `rendezvous` outlives it, and is watched. Errors: peer_lost, io.
  static Result<std::unique_ptr<Collective>> make(Rendezvous& rendezvous, const Generation& generation, const GlooOptions& options);
  ~GlooCollective() override;

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
  class Transfer;  // memory that an operation sends from or receives into

  GlooCollective(Rendezvous& rendezvous, const Generation& generation, const GlooOptions& options);
  Result<void> connect();
  std::string make_pairs();
  void connect_pairs(const std::string& addresses);
  void give_up();  // from the rendezvous's thread: wakes what waits
  void close_pairs();
  template <class Work>
  Result<void> guarded(const char* what, const Work& work);  // where Gloo's exceptions end
  template <class T>
  void reduce_ring(const Array& numbers);
  void gather_ring(const Array& numbers);
  [[nodiscard]] std::uint64_t take_slots(std::size_t count);
  [[nodiscard]] std::size_t rank_before(std::size_t steps) const { return (ranks() + rank() - steps % ranks()) % ranks(); }

  Rendezvous& rendezvous_;
  const Generation generation_;
  const GlooOptions options_;
  std::shared_ptr<gloo::transport::Context> context_;
  std::uint64_t next_slot_ = 0;  // tells messages apart; the same on all ranks
  std::vector<std::byte> landing_;  // two segments: what arrives, before it is added
  std::mutex mutex_;             // for what follows
  std::vector<gloo::transport::UnboundBuffer*> waiting_;
  bool given_up_ = false;
  bool connecting_ = false;
};

}  // namespace outlast::gpu
