// What strangers and hostile nodes say to a node: nothing gets in, nothing falls over, everything is counted.
#include <catch2/catch.hpp>

#include <functional>
#include <memory>
#include <vector>

#include "tests/cluster/raw_peer.hpp"
#include "tests/cluster/test_peer.hpp"

namespace peer_intruder_test {

using namespace outlast;
using namespace outlast::test;
using cluster::Channel;
using cluster::LinkError;

namespace {

// Two honest nodes, and a place for a hostile one on alpha's list.
struct Cluster {
  Cluster() : alpha("alpha"), beta("beta") {
    alpha.start();
    beta.start();
    introduce({&alpha, &beta});
  }
  bool up() { return alpha.wait_ups(1) && beta.wait_ups(1); }
  void enrol(RawPeer& hostile) { alpha.links().set_peers({beta.address(), hostile.address()}); }
  // The honest nodes still hear each other.
  bool lives() {
    const std::size_t before = beta.texts("alpha", Channel::control).size();
    return alpha.send("beta", Channel::control, "ping").has_value() &&
           beta.wait_frames("alpha", Channel::control, before + 1) && alpha.downs_of("beta") == 0;
  }

  TestPeer alpha;
  TestPeer beta;
};

peer::Data one_frame(std::string_view text, std::uint64_t first = 1) {
  peer::Data data;
  data.first = first;
  data.frames.push_back(frame_of_text(text));
  return data;
}

// An enrolled node that comes up and then does something: alpha must cut it off.
void expect_cut_off(const std::function<void(RawPeer&)>& crime) {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer hostile("hostile");
  cluster.enrol(hostile);
  hostile.connect(cluster.alpha);
  REQUIRE(hostile.greet());
  REQUIRE(cluster.alpha.wait_ups(2));
  hostile.send({hostile.session, hostile.theirs(), one_frame("honest yet")});
  REQUIRE(cluster.alpha.wait_frames("hostile", Channel::control, 1));

  crime(hostile);
  REQUIRE(cluster.alpha.wait_downs(1));
  CHECK(cluster.alpha.downs()[0].first.node == "hostile");
  CHECK(cluster.alpha.wait_counters([](const auto& c) { return c.malformed == 1; }));
  hostile.send({hostile.session, hostile.theirs(), one_frame("more", 2)});
  CHECK(cluster.lives());
  CHECK(cluster.alpha.texts("hostile", Channel::control).size() == 1);
  CHECK(is(cluster.alpha.send("hostile", Channel::control, "x").error(), LinkError::not_connected));
  const auto goodbye = hostile.receive<peer::Goodbye>();
  REQUIRE(goodbye);
  CHECK(goodbye->second.reason.find("cut off") != std::string::npos);
}

}  // namespace

TEST_CASE("a stranger's key gets nothing and is counted", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  const auto before = cluster.alpha.links().counters().strangers_refused;
  RawPeer stranger("beta");  // the name of a node, but not its key
  stranger.connect(cluster.alpha);
  stranger.send({1, 0, stranger.hello()});
  CHECK(cluster.alpha.wait_counters([before](const auto& c) { return c.strangers_refused > before; }));
  CHECK(cluster.lives());
  CHECK(cluster.alpha.links().counters().hellos_refused == 0);
  CHECK(cluster.alpha.links().up().size() == 1);
}

TEST_CASE("peers without CURVE get nothing and are counted", "[peer]") {
  for (const auto security : {RawPeer::Security::none, RawPeer::Security::plain}) {
    Cluster cluster;
    REQUIRE(cluster.up());
    const auto before = cluster.alpha.links().counters().strangers_refused;
    RawPeer stranger("beta", security);
    stranger.connect(cluster.alpha);
    stranger.send({1, 0, stranger.hello()});
    CHECK(cluster.alpha.wait_counters([before](const auto& c) { return c.strangers_refused > before; }));
    CHECK(cluster.lives());
    CHECK(cluster.alpha.links().up().size() == 1);
  }
}

TEST_CASE("a node that does not have the key of its name is not linked to", "[peer]") {
  TestPeer alpha("alpha");
  TestPeer beta("beta");
  alpha.start();
  beta.start();
  beta.links().set_peers({alpha.address()});
  auto address = beta.address();
  address.public_key = cluster::make_curve_keys().public_key;  // whom alpha expects there
  alpha.links().set_peers({address});
  CHECK(alpha.wait_counters([](const auto& c) { return c.strangers_refused > 0; }));
  CHECK(alpha.ups().empty());
  CHECK(beta.ups().empty());
}

TEST_CASE("an enrolled node that says to be another is refused and told why", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer hostile("hostile");
  cluster.enrol(hostile);
  hostile.connect(cluster.alpha);
  auto hello = hostile.hello();
  hello.node = "beta";
  hostile.send({hostile.session, 0, hello});
  CHECK(cluster.alpha.wait_counters([](const auto& c) { return c.hellos_refused == 1; }));
  const auto goodbye = hostile.receive<peer::Goodbye>();
  REQUIRE(goodbye);
  CHECK(goodbye->second.reason == "the key belongs to hostile and not to beta");
  CHECK(cluster.lives());
  CHECK(cluster.alpha.ups().size() == 1);
}

TEST_CASE("nodes of another cluster or without a common version do not link", "[peer]") {
  const auto refused = [](const std::function<void(cluster::PeerLinkOptions&)>& change) {
    TestPeer alpha("alpha");
    TestPeer beta("beta");
    change(beta.options);
    alpha.start();
    beta.start();
    introduce({&alpha, &beta});
    const auto counted = [](const auto& c) { return c.hellos_refused > 0; };
    CHECK(alpha.wait_counters(counted));
    CHECK(beta.wait_counters(counted));
    CHECK(alpha.ups().empty());
    CHECK(beta.ups().empty());
  };
  refused([](auto& options) { options.cluster = "other"; });
  refused([](auto& options) { options.version_min = options.version_max = cluster::link_version_max + 1; });
}

TEST_CASE("nodes of neighbouring versions link with the one that both speak", "[peer]") {
  TestPeer alpha("alpha");
  TestPeer beta("beta");
  beta.options.version_max = cluster::link_version_max + 1;
  alpha.start();
  beta.start();
  introduce({&alpha, &beta});
  REQUIRE(alpha.wait_ups(1));
  REQUIRE(beta.wait_ups(1));
  CHECK(alpha.ups()[0].version == cluster::link_version_max);
  CHECK(beta.ups()[0].version == cluster::link_version_max);
}

TEST_CASE("a node that was removed is dropped at once, refused from then on, and may come back", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  cluster.alpha.links().set_peers({});
  REQUIRE(cluster.alpha.wait_downs(1));
  REQUIRE(cluster.beta.wait_downs(1));
  CHECK(cluster.beta.downs()[0].second == "the node was removed from the cluster");
  CHECK(is(cluster.alpha.send("beta", Channel::control, "x").error(), LinkError::not_connected));
  CHECK(cluster.alpha.links().up().empty());
  cluster.beta.stop();  // and its next process has to pass the gate
  cluster.beta.start();
  cluster.beta.links().set_peers({cluster.alpha.address()});
  const auto before = cluster.alpha.links().counters().strangers_refused;
  CHECK(cluster.alpha.wait_counters([before](const auto& c) { return c.strangers_refused > before; }));
  CHECK(cluster.beta.ups().size() == 1);
  introduce({&cluster.alpha, &cluster.beta});
  CHECK(cluster.alpha.wait_ups(2));
  CHECK(cluster.beta.wait_ups(2));
}

TEST_CASE("what a removed node still says over its open connection is ignored", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer removed("removed");
  cluster.enrol(removed);
  removed.connect(cluster.alpha);
  REQUIRE(removed.greet());
  REQUIRE(cluster.alpha.wait_ups(2));
  cluster.alpha.links().set_peers({cluster.beta.address()});
  REQUIRE(cluster.alpha.wait_downs(1));
  for (std::uint64_t i = 1; i <= 100; ++i) {
    removed.send({removed.session, removed.theirs(), one_frame("still here", i)});
    removed.send({removed.session + i, 0, removed.hello()});
  }
  CHECK(cluster.lives());
  CHECK(cluster.alpha.wait_counters([](const auto& c) { return c.ignored >= 200; }));
  CHECK(cluster.alpha.texts("removed", Channel::control).empty());
  CHECK(cluster.alpha.ups().size() == 2);
}

TEST_CASE("a node whose key changed is linked to with the new key only", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  TestPeer renewed("beta");
  renewed.start();
  renewed.links().set_peers({cluster.alpha.address()});
  cluster.alpha.links().set_peers({renewed.address()});
  REQUIRE(cluster.alpha.wait_downs(1));
  CHECK(cluster.alpha.downs()[0].first.incarnation == cluster.beta.options.incarnation);
  REQUIRE(cluster.beta.wait_downs(1));
  REQUIRE(cluster.alpha.wait_ups(2));
  CHECK(cluster.alpha.ups()[1].incarnation == renewed.options.incarnation);
  REQUIRE(cluster.alpha.send("beta", Channel::control, "to the new one"));
  CHECK(renewed.wait_frames("alpha", Channel::control, 1));
  CHECK(cluster.beta.texts("alpha", Channel::control).empty());
}

TEST_CASE("an allow-list with names or keys that are no good links to the rest", "[peer]") {
  Cluster cluster;
  auto nameless = cluster::PeerAddress{"", cluster::make_curve_keys().public_key, "tcp://127.0.0.1:1"};
  auto keyless = cluster::PeerAddress{"gamma", "no key", "tcp://127.0.0.1:1"};
  auto addressless = cluster::PeerAddress{"delta", cluster::make_curve_keys().public_key, "nowhere"};
  auto twin = cluster.beta.address();
  twin.node = "epsilon";
  cluster.alpha.links().set_peers(
      {nameless, keyless, addressless, cluster.alpha.address(), cluster.beta.address(), twin});
  REQUIRE(cluster.up());
  CHECK(cluster.lives());
  CHECK(cluster.alpha.links().up().size() == 1);
}

TEST_CASE("frames that lie cut their sender off and nobody else", "[peer]") {
  expect_cut_off([](RawPeer& hostile) { hostile.send_bytes(std::as_bytes(std::span("not a message at all"))); });
  expect_cut_off([](RawPeer& hostile) { hostile.send_bytes({}); });
  expect_cut_off([](RawPeer& hostile) {  // a length that is not there
    const auto good = *peer::encode({hostile.session, hostile.theirs(), one_frame(std::string(1'000, 'x'), 2)});
    hostile.send_bytes(good->bytes().first(good->size() - 512));
  });
  expect_cut_off([](RawPeer& hostile) {
    hostile.send_bytes(std::as_bytes(std::span("two")), zmq::send_flags::sndmore);
    hostile.send_bytes(std::as_bytes(std::span("parts")));
  });
  expect_cut_off([](RawPeer& hostile) {  // acknowledges what was never sent
    auto data = one_frame("x", 2);
    data.acks[1].received = 1'000'000;
    hostile.send({hostile.session, hostile.theirs(), data});
  });
  expect_cut_off([](RawPeer& hostile) {
    hostile.send({hostile.session, hostile.theirs(), one_frame("far ahead", 1ULL << 40)});
  });
}

TEST_CASE("a peer that was cut off may come back when its time is over", "[peer]") {
  auto limits = TestPeer::quick_limits();
  limits.cut_off_ms = 100;
  TestPeer alpha("alpha", limits);
  alpha.start();
  RawPeer hostile("hostile");
  alpha.links().set_peers({hostile.address()});
  hostile.connect(alpha);
  REQUIRE(hostile.greet());
  REQUIRE(alpha.wait_ups(1));
  hostile.send_bytes(std::as_bytes(std::span("not a message at all")));
  REQUIRE(alpha.wait_downs(1));
  REQUIRE(hostile.receive<peer::Goodbye>());
  hostile.session += 1;
  REQUIRE(hostile.greet());
  CHECK(alpha.wait_ups(2));
}

TEST_CASE("a message over the limit of size ends its connection and nothing else", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer hostile("hostile");
  cluster.enrol(hostile);
  hostile.connect(cluster.alpha);
  const std::vector<std::byte> huge(cluster.alpha.options.limits.frame_bytes_max + (1U << 20));
  hostile.send_bytes(huge);
  hostile.send({hostile.session, 0, hostile.hello()});  // over the next connection
  CHECK(hostile.receive<peer::Welcome>());
  CHECK(cluster.lives());
  CHECK(cluster.alpha.links().counters().malformed == 0);
}

TEST_CASE("channels of a newer peer are ignored", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer newer("newer");
  cluster.enrol(newer);
  newer.connect(cluster.alpha);
  REQUIRE(newer.greet());
  REQUIRE(cluster.alpha.wait_ups(2));
  newer.send({newer.session, newer.theirs(), peer::Welcome{1, 7}});
  newer.send({newer.session, newer.theirs(), one_frame("known")});
  CHECK(cluster.alpha.wait_frames("newer", Channel::control, 1));
  CHECK(cluster.alpha.links().counters().malformed == 0);
}

TEST_CASE("a flood of hellos is refused and counted while other links go on", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  RawPeer hostile("hostile");
  cluster.enrol(hostile);
  hostile.connect(cluster.alpha);
  for (std::uint64_t i = 0; i < 20'000; ++i) hostile.send({hostile.session + i, 0, hostile.hello()});
  CHECK(cluster.alpha.wait_counters([](const auto& c) { return c.hellos_refused > 5'000; }));
  CHECK(cluster.lives());
}

TEST_CASE("a flood of strangers is refused and counted while other links go on", "[peer]") {
  Cluster cluster;
  REQUIRE(cluster.up());
  const auto before = cluster.alpha.links().counters().strangers_refused;
  std::vector<std::unique_ptr<RawPeer>> strangers;
  for (int i = 0; i < 20; ++i) {
    strangers.push_back(std::make_unique<RawPeer>("stranger"));
    strangers.back()->connect(cluster.alpha);
  }
  for (int i = 0; i < 100; ++i) REQUIRE(cluster.lives());
  CHECK(cluster.alpha.wait_counters([before](const auto& c) { return c.strangers_refused >= before + 20; }));
  CHECK(cluster.alpha.links().up().size() == 1);
}

}  // namespace peer_intruder_test
