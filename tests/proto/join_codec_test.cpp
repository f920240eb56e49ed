#include <catch2/catch.hpp>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/random.hpp"
#include "proto/join_codec.hpp"

namespace outlast::join::join_codec_test {
namespace {

Request sample_request() {
  Request request{1, 3, "jt_abc", {}, "n2", "tcp://10.0.0.2:8083", {"gateway", "ledger"}, "outlast 1.2.3"};
  for (std::size_t i = 0; i < request.secret.size(); ++i) request.secret[i] = static_cast<std::uint8_t>(i * 7);
  return request;
}

Welcome sample_welcome() {
  return {1,
          "river",
          std::string(64, 'f'),
          {{"n1", std::string(40, 'k'), "tcp://10.0.0.1:8083"}, {"n3", std::string(40, 'l'), "tcp://10.0.0.3:8083"}},
          {{"shards", "16"}}};
}

// A frame that version 1 wrote.
std::vector<std::byte> golden(const std::string& name) {
  std::string hex;
  std::ifstream(OUTLAST_SOURCE_DIR "/tests/proto/golden/join-1-" + name + ".hex") >> hex;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

TEST_CASE("frames of version 1 still read as they were meant", "[join]") {
  CHECK(decode_request(golden("request")) == sample_request());
  CHECK(decode_answer(golden("welcome")) == Answer(sample_welcome()));
  CHECK(decode_answer(golden("refused")) == Answer(Refused{RefusalKind::taken, "another node has it"}));
}

TEST_CASE("messages of the join protocol read back as they were", "[join]") {
  const auto request = encode(sample_request());
  REQUIRE(request);
  CHECK(decode_request((*request)->bytes()) == sample_request());
  for (const Answer& answer : {Answer(sample_welcome()), Answer(Refused{RefusalKind::taken, "another node has it"})}) {
    const auto frame = encode(answer);
    REQUIRE(frame);
    CHECK(decode_answer((*frame)->bytes()) == answer);
    // At every alignment.
    for (std::size_t offset = 1; offset < 8; ++offset) {
      std::vector<std::byte> moved(offset + (*frame)->size());
      std::memcpy(moved.data() + offset, (*frame)->bytes().data(), (*frame)->size());
      CHECK(decode_answer(std::span(moved).subspan(offset)) == answer);
    }
  }
}

TEST_CASE("what is over its limit does not leave, and does not come in", "[join]") {
  Request request = sample_request();
  request.roles.assign(roles_max + 1, "x");
  CHECK_FALSE(encode(request));
  request = sample_request();
  request.name.assign(text_bytes_max + 1, 'x');
  CHECK_FALSE(encode(request));
  Welcome welcome = sample_welcome();
  welcome.settings["routes"].assign(setting_bytes_max + 1, 'x');
  CHECK_FALSE(encode(Answer(welcome)));
  welcome = sample_welcome();
  welcome.nodes.assign(nodes_max + 1, {"n", "k", "e"});
  CHECK_FALSE(encode(Answer(welcome)));
  const auto cut = encode(Answer(Refused{RefusalKind::busy, std::string(5'000, 'x')}));
  REQUIRE(cut);
  CHECK(std::get<Refused>(*decode_answer((*cut)->bytes())).message.size() == text_bytes_max);
  const std::vector<std::byte> large(request_bytes_max + 8);
  CHECK(is(decode_request(large).error(), FrameError::too_large));
}

TEST_CASE("by seeds: damaged frames give an error or a message, never more", "[join]") {
  const auto request = *encode(sample_request());
  const auto answer = *encode(Answer(sample_welcome()));
  Random random(11);
  for (int i = 0; i < 20'000; ++i) {
    const auto& frame = i % 2 == 0 ? request : answer;
    std::vector<std::byte> bytes(frame->bytes().begin(), frame->bytes().end());
    for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
      bytes[random.below(bytes.size())] = static_cast<std::byte>(random.below(256));
    }
    if (random.below(4) == 0) bytes.resize(random.below(bytes.size() + 1));
    if (const auto decoded = decode_request(bytes)) REQUIRE(encode(*decoded));
    if (const auto decoded = decode_answer(bytes)) REQUIRE(encode(*decoded));
  }
}

}  // namespace outlast::join::join_codec_test
