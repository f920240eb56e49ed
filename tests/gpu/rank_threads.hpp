// Ranks as threads of one process.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "core/random.hpp"
#include "gpu/collective/tcp_collective.hpp"
#include "gpu/collective/rendezvous_client.hpp"
#include "gpu/collective/rendezvous_server.hpp"
#include "tests/gpu/decoder_fixture.hpp"

namespace outlast::gpu {

inline constexpr std::chrono::seconds rank_patience{20};
inline const std::string run_of_tests = "a run of tests";

inline RollOptions roll_of(std::size_t ranks) {
  RollOptions options;
  options.run = run_of_tests;
  options.ranks = ranks;
  options.silence_ms_max = 20'000;  // threads of one busy process: none is lost
  return options;
}

inline Array floats(std::vector<float>& numbers) { return {numbers.data(), numbers.size(), Dtype::f32}; }

// What a rank begins with, so that sums are exact; and the sum of all.
inline std::vector<float> numbers_of_rank(std::size_t rank, std::size_t count) {
  Random random(17 * rank + count);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(random.below(2'000)) - 1'000;
  return numbers;
}

inline std::vector<float> serial_sum(std::size_t ranks, std::size_t count) {
  std::vector<float> sum(count, 0);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto numbers = numbers_of_rank(rank, count);
    for (std::size_t i = 0; i < count; ++i) sum[i] += numbers[i];
  }
  return sum;
}

using Connecting = std::function<Result<std::unique_ptr<Collective>>(Rendezvous&, const Generation&)>;

// What a rank finds out, it returns: Catch's checks are for one thread.
template <class Work>
auto on_ranks_by(const Connecting& connect, std::size_t ranks, const Work& work) {
  const auto server = need(RendezvousServer::make("127.0.0.1", 0, roll_of(ranks)));
  using Found = decltype(work(std::declval<Collective&>()));
  std::vector<std::future<Result<Found>>> running;
  for (std::size_t i = 0; i < ranks; ++i) {
    running.push_back(std::async(std::launch::async, [&server, &connect, &work]() -> Result<Found> {
      const auto client = RendezvousClient::make("127.0.0.1", server->port(), run_of_tests);
      if (!client) return fail(client.error());
      const auto generation = (*client)->join(rank_patience);
      if (!generation) return fail(generation.error());
      const auto collective = connect(**client, *generation);
      if (!collective) return fail(collective.error());
      Found found = work(**collective);
      if (Result<void> left = (*client)->leave(generation->number, rank_patience); !left) return fail(left.error());
      return found;
    }));
  }
  std::vector<Found> found;
  for (auto& one : running) found.push_back(need(one.get()));
  return found;
}

template <class Work>
auto on_ranks(std::size_t ranks, const Work& work, const TcpCollectiveOptions& options = {}) {
  return on_ranks_by([&options](Rendezvous& rendezvous, const Generation& generation) { return TcpCollective::make(rendezvous, generation, options); }, ranks, work);
}

}  // namespace outlast::gpu
