#include "cluster/peer_links.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "cluster/send_rate.hpp"
#include "tests/cluster/cutting_proxy.hpp"
#include "tests/cluster/test_peer.hpp"

namespace peer_links_test {

using namespace outlast;
using namespace outlast::test;
using cluster::Channel;
using cluster::LinkError;

namespace {

constexpr Channel channels[] = {Channel::control, Channel::ledger, Channel::stream};

struct Two {
  explicit Two(cluster::PeerLimits limits = TestPeer::quick_limits()) : alpha("alpha", limits), beta("beta", limits) {
    alpha.start();
    beta.start();
    introduce({&alpha, &beta});
  }
  bool up() { return alpha.wait_ups(1) && beta.wait_ups(1); }

  TestPeer alpha;
  TestPeer beta;
};

}  // namespace

TEST_CASE("two nodes come up and frames pass both ways on all channels", "[peer]") {
  Two two;
  REQUIRE(two.up());
  CHECK(two.alpha.ups()[0].node == "beta");
  CHECK(two.alpha.ups()[0].incarnation == two.beta.options.incarnation);
  CHECK(two.alpha.ups()[0].version == cluster::link_version_max);
  CHECK(two.alpha.links().up().size() == 1);
  for (const Channel channel : channels) {
    for (int i = 0; i < 100; ++i) {
      REQUIRE(two.alpha.send("beta", channel, "to beta " + std::to_string(i)));
      REQUIRE(two.beta.send("alpha", channel, "to alpha " + std::to_string(i)));
    }
  }
  for (const Channel channel : channels) {
    REQUIRE(two.beta.wait_frames("alpha", channel, 100));
    REQUIRE(two.alpha.wait_frames("beta", channel, 100));
    for (std::size_t i = 0; i < 100; ++i) {
      CHECK(two.beta.texts("alpha", channel)[i] == "to beta " + std::to_string(i));
      CHECK(two.alpha.texts("beta", channel)[i] == "to alpha " + std::to_string(i));
    }
  }
  CHECK(two.alpha.wait_counters([](const auto& c) { return c.frames_sent == 300 && c.frames_received == 300; }));
  CHECK(two.alpha.links().counters().peers_up == 1);
}

TEST_CASE("empty frames and frames of the largest size pass, larger ones are refused", "[peer]") {
  Two two;
  REQUIRE(two.up());
  const std::size_t largest = two.alpha.options.limits.frame_bytes_max;
  REQUIRE(two.alpha.send("beta", Channel::stream, ""));
  REQUIRE(two.alpha.send("beta", Channel::stream, std::string(largest, 'x')));
  REQUIRE(two.alpha.send("beta", Channel::stream, "after"));
  CHECK(is(two.alpha.send("beta", Channel::stream, std::string(largest + 1, 'x')).error(), FrameError::too_large));
  REQUIRE(two.beta.wait_frames("alpha", Channel::stream, 3));
  const auto texts = two.beta.texts("alpha", Channel::stream);
  CHECK(texts[0].empty());
  CHECK(texts[1] == std::string(largest, 'x'));
  CHECK(texts[2] == "after");
}

TEST_CASE("three nodes link to each other, and one that stops is down at once", "[peer]") {
  TestPeer alpha("alpha");
  TestPeer beta("beta");
  TestPeer gamma("gamma");
  for (TestPeer* node : {&alpha, &beta, &gamma}) node->start();
  introduce({&alpha, &beta, &gamma});
  for (TestPeer* node : {&alpha, &beta, &gamma}) REQUIRE(node->wait_ups(2));
  gamma.stop();
  // By its goodbye: silence would take 10 s.
  for (TestPeer* node : {&alpha, &beta}) {
    REQUIRE(node->wait([node] { return node->downs_now() == 1; }, std::chrono::seconds(5)));
    CHECK(node->downs()[0].first.node == "gamma");
    CHECK(node->downs()[0].second == "the node stops");
  }
  CHECK(gamma.downs().size() == 2);
  CHECK(is(alpha.send("gamma", Channel::control, "x").error(), LinkError::not_connected));
  CHECK(is(alpha.send("delta", Channel::control, "x").error(), LinkError::not_connected));
  CHECK(alpha.send("beta", Channel::control, "x"));
  CHECK(beta.wait_frames("alpha", Channel::control, 1));
}

TEST_CASE("a node that starts again comes up as a new incarnation", "[peer]") {
  Two two;
  REQUIRE(two.up());
  const Incarnation first = two.beta.options.incarnation;
  two.beta.stop();
  REQUIRE(two.alpha.wait_downs(1));
  CHECK(two.alpha.downs()[0].first.incarnation == first);
  two.beta.start();
  two.beta.links().set_peers({two.alpha.address()});
  REQUIRE(two.alpha.wait_ups(2));
  REQUIRE(two.beta.wait_ups(2));
  CHECK(two.alpha.ups()[1].incarnation == two.beta.options.incarnation);
  CHECK(two.alpha.ups()[1].incarnation != first);
  REQUIRE(two.alpha.send("beta", Channel::ledger, "hello again"));
  CHECK(two.beta.wait_frames("alpha", Channel::ledger, 1));
}

TEST_CASE("frames of several threads, slow and quick, arrive once and in the order of each", "[peer]") {
  Two two;
  REQUIRE(two.up());
  two.beta.echo(Channel::control);
  constexpr std::size_t slow_frames = 300;
  constexpr std::size_t quick_frames = 2'000;
  std::vector<std::thread> threads;
  for (const char name : {'a', 'b', 'c'}) {
    threads.emplace_back([&two, name] {
      // Alone it waits for each answer, so that it finds the network thread asleep.
      const std::size_t count = name == 'a' ? slow_frames : quick_frames;
      for (std::size_t i = 0; i < count; ++i) {
        check(two.alpha.wait_sent("beta", Channel::control, name + std::to_string(i)), "a frame is sent");
        if (name == 'a') check(two.alpha.wait_frames("beta", Channel::control, i + 1), "an answer comes");
      }
    });
    if (name == 'a') threads.front().join();
  }
  for (std::thread& thread : threads) {
    if (thread.joinable()) thread.join();
  }
  REQUIRE(two.alpha.wait_frames("beta", Channel::control, slow_frames + 2 * quick_frames));
  std::map<char, std::size_t> next;
  for (const std::string& text : two.beta.texts("alpha", Channel::control)) {
    REQUIRE(text.substr(1) == std::to_string(next[text[0]]++));
  }
  CHECK(next == std::map<char, std::size_t>{{'a', slow_frames}, {'b', quick_frames}, {'c', quick_frames}});
}

TEST_CASE("many frames at once are told from few", "[peer]") {
  cluster::SendRate rate;
  std::int64_t now_ns = 1'000'000'000;
  for (int i = 0; i < 100; ++i) CHECK_FALSE(rate.note(now_ns += 100'000));
  CHECK(rate.note(now_ns += 1'000));  // a burst
  for (int i = 0; i < 100; ++i) (void)rate.note(now_ns += 2'000);
  CHECK(rate.note(now_ns += 500'000));  // after many
  CHECK(rate.note(now_ns += 1'000'000));
  CHECK_FALSE(rate.note(now_ns += 10'000'000));
}

TEST_CASE("a handler may send", "[peer]") {
  Two two;
  REQUIRE(two.up());
  two.beta.echo(Channel::ledger);
  for (int i = 0; i < 1'000; ++i) REQUIRE(two.alpha.send("beta", Channel::ledger, std::to_string(i)));
  REQUIRE(two.alpha.wait_frames("beta", Channel::ledger, 1'000));
  CHECK(two.alpha.texts("beta", Channel::ledger)[999] == "999");
}

TEST_CASE("a peer that takes nothing fills the queue, which says overloaded, and drains when it goes on", "[peer]") {
  auto limits = TestPeer::quick_limits();
  limits.queue_frames_max = 100;
  Two two(limits);
  REQUIRE(two.up());
  two.beta.hold();  // its network thread stands still in a handler
  REQUIRE(two.alpha.send("beta", Channel::control, "stand still"));
  REQUIRE(two.beta.wait_held());
  std::size_t sent = 0;
  while (two.alpha.send("beta", Channel::ledger, std::to_string(sent))) ++sent;
  CHECK(sent == 100);
  CHECK(is(two.alpha.send("beta", Channel::ledger, "x").error(), LinkError::overloaded));
  CHECK(two.alpha.send("beta", Channel::control, "x"));
  CHECK(two.alpha.links().counters().overloaded == 2);
  two.beta.go_on();
  REQUIRE(two.beta.wait_frames("alpha", Channel::ledger, 100));
  CHECK(two.alpha.wait_sent("beta", Channel::ledger, "more"));
  CHECK(two.beta.wait_frames("alpha", Channel::ledger, 101));
  CHECK(two.alpha.downs().empty());
}

TEST_CASE("a peer that is silent is down, and comes up again when it speaks", "[peer]") {
  auto limits = TestPeer::quick_limits();
  limits.silence_ms_max = 1'000;
  Two two(limits);
  REQUIRE(two.up());
  two.beta.hold();
  REQUIRE(two.alpha.send("beta", Channel::control, "stand still"));
  REQUIRE(two.beta.wait_held());
  REQUIRE(two.alpha.wait_downs(1));
  CHECK(two.alpha.downs()[0].second.find("nothing was heard") != std::string::npos);
  two.beta.go_on();
  CHECK(two.alpha.wait_ups(2));
  CHECK(two.beta.wait_ups(2));
}

TEST_CASE("ten thousand frames arrive once and in order although connections are cut", "[peer]") {
  TestPeer alpha("alpha");
  TestPeer beta("beta");
  alpha.start();
  beta.start();
  CuttingProxy to_alpha(alpha.address().endpoint);
  CuttingProxy to_beta(beta.address().endpoint);
  auto address = beta.address();
  address.endpoint = to_beta.endpoint();
  alpha.links().set_peers({address});
  address = alpha.address();
  address.endpoint = to_alpha.endpoint();
  beta.links().set_peers({address});
  REQUIRE(alpha.wait_ups(1));
  REQUIRE(beta.wait_ups(1));

  constexpr std::size_t count = 10'000;
  constexpr std::size_t cut_every = 1'000;
  for (std::size_t i = 0; i < count; ++i) {
    const Channel channel = channels[i % 3];
    REQUIRE(alpha.wait_sent("beta", channel, std::to_string(i)));
    REQUIRE(beta.wait_sent("alpha", channel, std::to_string(i)));
    if (i % cut_every == cut_every / 2) {
      to_beta.cut();
      to_alpha.cut();
    } else if (i % cut_every == cut_every - 1) {
      // Whole again before the next cut.
      REQUIRE(beta.wait_frames("alpha", channel, i / 3 + 1));
      REQUIRE(alpha.wait_frames("beta", channel, i / 3 + 1));
    }
  }
  for (std::size_t c = 0; c < 3; ++c) {
    const std::size_t expected = (count + 2 - c) / 3;
    REQUIRE(beta.wait_frames("alpha", channels[c], expected));
    REQUIRE(alpha.wait_frames("beta", channels[c], expected));
    const auto at_beta = beta.texts("alpha", channels[c]);
    const auto at_alpha = alpha.texts("beta", channels[c]);
    CHECK(at_beta.size() == expected);
    CHECK(at_alpha.size() == expected);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < expected; ++i) {
      const std::string text = std::to_string(3 * i + c);
      wrong += at_beta[i] == text && at_alpha[i] == text ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  CHECK(to_beta.cuts() >= 20);
  CHECK(alpha.downs().empty());
  CHECK(beta.downs().empty());
  CHECK(alpha.wait_counters([](const auto& c) { return c.reconnects > 0; }));
}

TEST_CASE("what was sent last before a cut arrives without anything sent after it", "[peer]") {
  TestPeer alpha("alpha");
  TestPeer beta("beta");
  alpha.start();
  beta.start();
  CuttingProxy to_beta(beta.address().endpoint);
  auto address = beta.address();
  address.endpoint = to_beta.endpoint();
  alpha.links().set_peers({address});
  beta.links().set_peers({alpha.address()});
  REQUIRE(alpha.wait_ups(1));
  REQUIRE(beta.wait_ups(1));
  for (std::size_t i = 1; i <= 10; ++i) {
    to_beta.swallow();  // takes what comes and passes nothing on
    REQUIRE(alpha.send("beta", Channel::ledger, std::string(2'000, 'x')));
    REQUIRE(to_beta.wait_swallowed(2'000));
    to_beta.cut();
    REQUIRE(beta.wait_frames("alpha", Channel::ledger, i));
  }
  CHECK(alpha.links().counters().frames_resent > 0);
}

TEST_CASE("options that make no sense are refused", "[peer]") {
  SystemClock clock;
  TestPeer node("alpha");
  const cluster::PeerHandlers handlers{[](const cluster::Peer&) {}, [](const cluster::Peer&, const std::string&) {},
                                       [](const cluster::Peer&, Channel, const FramePtr&) {}};
  const auto error = [&clock, &handlers](cluster::PeerLinkOptions options) {
    const auto started = cluster::PeerLinks::start(std::move(options), clock, handlers);
    return started ? Error{} : started.error();
  };
  auto options = node.options;
  options.secret_key = "short";
  CHECK(is(error(options), LinkError::bad_key));
  options = node.options;
  options.listen = "ipc:///tmp/x";
  CHECK(is(error(options), LinkError::bad_address));
  options.listen = "tcp://127.0.0.1:none";
  CHECK(is(error(options), LinkError::bad_address));
  options = node.options;
  options.limits.queue_bytes_max = 1;
  CHECK(is(error(options), LinkError::bad_options));
  options = node.options;
  options.limits.silence_ms_max = options.limits.heartbeat_ms;
  CHECK(is(error(options), LinkError::bad_options));
  options = node.options;
  options.cluster.clear();
  CHECK(is(error(options), LinkError::bad_options));
  const auto without_handlers = cluster::PeerLinks::start(node.options, clock, {});
  REQUIRE_FALSE(without_handlers);
  CHECK(is(without_handlers.error(), LinkError::bad_options));
}

}  // namespace peer_links_test
