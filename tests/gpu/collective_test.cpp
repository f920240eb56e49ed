#include <sys/socket.h>

#include <array>
#include <barrier>
#include <sstream>

#include "gpu/gpu_error.hpp"
#include "tests/gpu/rank_threads.hpp"

namespace outlast::gpu::collective_test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("collectives agree with a serial sum on odd sizes", "[gpu][collective]") {
  const std::size_t ranks = GENERATE(1U, 2U, 3U, 4U);
  const std::vector<std::size_t> sizes{0, 1, 63, 64, 65, 1'001, 300'007, 1'300'001};
  const auto wrong = on_ranks(ranks, [&sizes](Collective& collective) {
    std::vector<std::string> wrong;
    const std::size_t rank = collective.rank();
    const auto expect = [&](bool good, const std::string& what) {
      if (!good) wrong.push_back("rank " + std::to_string(rank) + ": " + what);
    };
    for (const std::size_t size : sizes) {
      const std::string of = " of " + std::to_string(size);
      const auto sum = serial_sum(collective.ranks(), size);
      auto numbers = numbers_of_rank(rank, size);
      expect(collective.all_reduce_sum(floats(numbers)).has_value() && numbers == sum, "sum" + of);
      numbers = numbers_of_rank(rank, size);
      expect(collective.reduce_scatter_sum(floats(numbers)).has_value(), "reduce-scatter" + of);
      const Part own = part_of(size, rank, collective.ranks());
      const auto begin = static_cast<std::ptrdiff_t>(own.begin);
      const auto end = static_cast<std::ptrdiff_t>(own.begin + own.count);
      expect(std::equal(sum.begin() + begin, sum.begin() + end, numbers.begin() + begin), "part" + of);
      expect(collective.all_gather(floats(numbers)).has_value() && numbers == sum, "all-gather" + of);
      numbers = numbers_of_rank(rank, size);
      const std::size_t root = size % collective.ranks();
      expect(collective.broadcast(floats(numbers), root).has_value() && numbers == numbers_of_rank(root, size), "broadcast" + of);
      if (collective.ranks() == 1) continue;
      const std::size_t before = (rank + collective.ranks() - 1) % collective.ranks();
      auto own_numbers = numbers_of_rank(rank, size + rank);
      std::vector<float> passed(size + before);
      expect(collective.pass_on(floats(own_numbers), floats(passed)).has_value() && passed == numbers_of_rank(before, size + before), "copy" + of);
    }
    std::vector<double> few{1, static_cast<double>(rank)};
    expect(collective.sum(few).has_value(), "sum of the host's");
    const auto all = static_cast<double>(collective.ranks());
    expect(few[0] == all && few[1] == all * (all - 1) / 2, "sum of the host's numbers");
    return wrong;
  });
  for (const auto& of_rank : wrong) CHECK(of_rank == std::vector<std::string>{});
}

TEST_CASE("parts follow each other and cover all", "[gpu][collective]") {
  for (const std::size_t count : {0U, 1U, 64U, 65U, 4'097U}) {
    for (const std::size_t ranks : {1U, 2U, 3U, 7U}) {
      std::size_t end = 0;
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        const Part part = part_of(count, rank, ranks);
        CHECK((part.begin == end || part.count == 0));
        end = part.begin + part.count;
      }
      CHECK(end == count);
    }
  }
}

TEST_CASE("a rank that does not come is waited for no longer than was said", "[gpu][collective]") {
  TcpCollectiveOptions options;
  options.patience = 300ms;
  std::barrier<> noticed(3);
  const auto errors = on_ranks(
      3,
      [&noticed](Collective& collective) -> std::string {
        std::string error = "none";
        std::vector<float> numbers(1'000);
        if (collective.rank() != 1) {
          const auto done = collective.all_reduce_sum(floats(numbers));
          if (!done && is(done.error(), GpuError::peer_lost)) error = "peer_lost";
        }
        noticed.arrive_and_wait();
        const auto after = collective.all_reduce_sum(floats(numbers));
        return error + (after ? ", works" : ", and no more use");
      },
      options);
  CHECK(std::count(errors.begin(), errors.end(), "peer_lost, and no more use") == 2);
  CHECK(std::count(errors.begin(), errors.end(), "none, and no more use") == 1);
}

// Before others hear where this rank listens, strangers are there: more than may be let to say who they are at one time, most of whom
// say nothing, some what a rank would with another secret.
class BesetRendezvous final : public Rendezvous {
 public:
  explicit BesetRendezvous(Rendezvous& inner) : inner_(inner) {}
  Result<Generation> join(std::chrono::milliseconds patience) override { return inner_.join(patience); }
  Result<void> put(std::uint64_t generation, const std::string& key, const std::string& value) override {
    std::istringstream words(value);
    std::string address;
    std::uint16_t port = 0;
    words >> address >> port;
    std::string hello = value.substr(value.find("outlast rank"));
    hello.back() = hello.back() == '0' ? '1' : '0';
    for (int i = 0; i < 40; ++i) {
      auto stranger = connect_to(address, port);
      if (!stranger) return fail(stranger.error());
      if (i % 4 == 0) [[maybe_unused]] const auto sent = ::send(stranger->number(), hello.data(), hello.size() - (i % 8 == 0 ? 0 : 1), MSG_NOSIGNAL);
      strangers_.push_back(std::move(*stranger));
    }
    return inner_.put(generation, key, value);
  }
  Result<std::string> get(std::uint64_t generation, const std::string& key, std::chrono::milliseconds patience) override { return inner_.get(generation, key, patience); }
  Result<void> leave(std::uint64_t generation, std::chrono::milliseconds patience) override { return inner_.leave(generation, patience); }
  void watch(std::uint64_t generation, std::function<void()> ended) override { inner_.watch(generation, std::move(ended)); }
  void unwatch() override { inner_.unwatch(); }

 private:
  Rendezvous& inner_;
  std::vector<Descriptor> strangers_;
};

TEST_CASE("strangers who connect to a rank are not let in, and keep no rank out", "[gpu][collective]") {
  std::array<std::unique_ptr<BesetRendezvous>, 3> beset;
  const auto connect = [&beset](Rendezvous& rendezvous, const Generation& generation) {
    beset[generation.rank] = std::make_unique<BesetRendezvous>(rendezvous);
    return TcpCollective::make(*beset[generation.rank], generation, {});
  };
  const auto sums = on_ranks_by(connect, beset.size(), [](Collective& collective) {
    std::vector<float> numbers{static_cast<float>(collective.rank()), 1};
    return collective.all_reduce_sum(floats(numbers)) ? numbers : std::vector<float>();
  });
  for (const auto& of_rank : sums) CHECK(of_rank == std::vector<float>{3, 3});
}

TEST_CASE("ranks that do not do the same hear of it", "[gpu][collective]") {
  const auto errors = on_ranks(2, [](Collective& collective) {
    std::vector<float> own(1'000 + collective.rank());
    std::vector<float> taken(1'000);  // of the first rank's message, as long as it is; of the second one's it is not
    const auto done = collective.pass_on(floats(own), floats(taken));
    return done ? std::string("none") : done.error().message;
  });
  CHECK(std::count_if(errors.begin(), errors.end(), [](const std::string& error) { return error.find("elsewhere in the run") != std::string::npos; }) == 1);
}

TEST_CASE("ranks do not send over a network unless that is wanted", "[gpu][collective]") {
  const auto server = need(RendezvousServer::make("127.0.0.1", 0, roll_of(2)));
  const auto client = need(RendezvousClient::make("127.0.0.1", server->port(), run_of_tests));
  for (const std::string address : {"0.0.0.0", "10.1.2.3", "::", "fd00::1"}) {
    INFO(address);
    TcpCollectiveOptions options;
    options.address = address;
    const auto made = TcpCollective::make(*client, {1, 0, 2}, options);
    REQUIRE_FALSE(made);
    CHECK(is(made.error(), GpuError::invalid));
    CHECK(made.error().message.find("not encrypted") != std::string::npos);
  }
}

}  // namespace
}  // namespace outlast::gpu::collective_test
