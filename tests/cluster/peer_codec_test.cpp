#include "proto/peer_codec.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

namespace peer_codec_test {

using namespace outlast;

namespace {

FramePtr frame_of(std::string_view text) { return Frame::copy_of(std::as_bytes(std::span(text))); }

peer::Acks some_acks() { return {peer::Ack{5, 0}, peer::Ack{1, 0}, peer::Ack{900, 3}}; }

peer::Message round_trip(const peer::Message& message) {
  const auto frame = peer::encode(message);
  REQUIRE(frame);
  auto decoded = peer::decode((*frame)->bytes());
  REQUIRE(decoded);
  CHECK(decoded->from == message.from);
  CHECK(decoded->to == message.to);
  return std::move(*decoded);
}

// A message of version 1 as it was first written: after a byte for the fuzzer and the message's size.
peer::Message golden(const std::string& name) {
  std::ifstream file(OUTLAST_SOURCE_DIR "/tests/fuzz/corpus/peer_frame/" + name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  constexpr std::size_t head_bytes = 3;
  REQUIRE(text.size() > head_bytes);
  auto decoded = peer::decode(std::as_bytes(std::span(text)).subspan(head_bytes));
  REQUIRE(decoded);
  return std::move(*decoded);
}

}  // namespace

TEST_CASE("messages of version 1 still decode", "[peer]") {
  const auto hello = golden("hello");
  CHECK(hello.from == 5);
  CHECK(hello.to == 0);
  CHECK(std::get<peer::Hello>(hello.body) == peer::Hello{"c", "peer", {}, 1, 1, 0, 1 << 20});
  CHECK(std::get<peer::Welcome>(golden("welcome").body) == peer::Welcome{1, 2});
  CHECK(std::get<peer::Heartbeat>(golden("heartbeat").body) == peer::Heartbeat{0, 1, 1, {}});
  CHECK(std::get<peer::Goodbye>(golden("goodbye").body) == peer::Goodbye{"stops"});
  const auto data = std::get<peer::Data>(golden("data").body);
  CHECK(data.channel == 1);
  CHECK(data.ack_wanted);
  REQUIRE(data.frames.size() == 3);
  CHECK(std::ranges::equal(data.frames[1]->bytes(), frame_of("two, which is longer than a word")->bytes()));
}

TEST_CASE("every kind of a link's own messages survives the wire", "[peer]") {
  const Incarnation id = *Uuid::parse("0190a0b0-c0d0-7123-8456-789abcdef012");
  const peer::Hello hello{"home", "n1", id, 1, 4, 2, 8U << 20};
  CHECK(std::get<peer::Hello>(round_trip({7, 0, hello}).body) == hello);
  const peer::Welcome welcome{3, 1};
  CHECK(std::get<peer::Welcome>(round_trip({7, 8, welcome}).body) == welcome);
  const peer::Heartbeat heartbeat{1, 2, 77, some_acks()};
  CHECK(std::get<peer::Heartbeat>(round_trip({7, 8, heartbeat}).body) == heartbeat);
  const peer::Goodbye goodbye{"stops"};
  CHECK(std::get<peer::Goodbye>(round_trip({7, 8, goodbye}).body) == goodbye);

  peer::Data data;
  data.channel = 1;
  data.round = 4;
  data.first = 1000;
  data.ack_wanted = true;
  data.acks = some_acks();
  for (const std::string& text : {std::string("one"), std::string(), std::string(70'000, 'x')}) {
    data.frames.push_back(frame_of(text));
  }
  const auto back = std::get<peer::Data>(round_trip({7, 8, data}).body);
  CHECK(back.channel == 1);
  CHECK(back.round == 4);
  CHECK(back.first == 1000);
  CHECK(back.ack_wanted);
  CHECK(back.acks == some_acks());
  REQUIRE(back.frames.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::ranges::equal(back.frames[i]->bytes(), data.frames[i]->bytes()));
}

TEST_CASE("a message's overhead beyond its frames is bounded", "[peer]") {
  peer::Data data;
  for (std::size_t i = 0; i < peer::frames_max; ++i) data.frames.push_back(frame_of("x"));
  const auto frame = peer::encode({1, 2, data});
  REQUIRE(frame);
  CHECK((*frame)->size() <= peer::frames_max * 8 + peer::overhead_bytes_max);
  data.frames.push_back(frame_of("x"));
  CHECK(is(peer::encode({1, 2, data}).error(), FrameError::too_large));
  CHECK(is(peer::encode({1, 0, peer::Hello{std::string(300, 'c'), "n", {}, 1, 1, 0, 0}}).error(),
           FrameError::too_large));
}

TEST_CASE("messages that lie are refused, channels of newer peers are not understood", "[peer]") {
  const auto refused = [](const peer::Message& message) { return peer::decode((*peer::encode(message))->bytes()).error(); };
  peer::Data data;
  CHECK(is(refused({1, 2, data}), FrameError::malformed));  // no frames
  data.frames.push_back(frame_of("x"));
  data.first = 0;
  CHECK(is(refused({1, 2, data}), FrameError::malformed));
  data.first = ~std::uint64_t{0};
  CHECK(is(refused({1, 2, data}), FrameError::malformed));  // wraps around
  data.first = 1;
  data.round = 0;
  CHECK(is(refused({1, 2, data}), FrameError::malformed));
  data.round = 1;
  data.channel = 3;
  CHECK(is(refused({1, 2, data}), FrameError::unknown_kind));
  CHECK(is(refused({1, 2, peer::Heartbeat{0, 0, 1, {}}}), FrameError::malformed));
  CHECK(is(refused({1, 2, peer::Heartbeat{0, 1, 1, {peer::Ack{0, 0}}}}), FrameError::malformed));
}

TEST_CASE("any prefix and any flipped byte of a message decodes or is refused", "[peer]") {
  peer::Data data;
  for (int i = 0; i < 5; ++i) data.frames.push_back(frame_of(std::string(static_cast<std::size_t>(i) * 7, 'a')));
  const auto frame = peer::encode({1, 2, data});
  REQUIRE(frame);
  const auto good = (*frame)->bytes();
  std::vector<std::byte> bytes(good.begin(), good.end());
  std::size_t refused = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    refused += peer::decode(std::span(bytes).first(size)) ? 0 : 1;
  }
  CHECK(refused == bytes.size());
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{0xff};
    const auto decoded = peer::decode(bytes);
    if (decoded) CHECK(peer::encode(*decoded));
    if (!decoded && is(decoded.error(), FrameError::unknown_kind)) ++unknown;
    bytes[i] ^= std::byte{0xff};
  }
  CHECK(unknown >= 3);  // both bytes of the kind, and the channel
  // Off by one: misaligned bytes are copied.
  bytes.insert(bytes.begin(), std::byte{0});
  CHECK(peer::decode(std::span(bytes).subspan(1)));
}

}  // namespace peer_codec_test
