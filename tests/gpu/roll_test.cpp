#include <sys/socket.h>

#include <algorithm>

#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "gpu/collective/rendezvous_server.hpp"
#include "gpu/collective/rendezvous_client.hpp"
#include "gpu/collective/roll.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/decoder_fixture.hpp"

namespace outlast::gpu::roll_test {
namespace {

using namespace std::chrono_literals;
using Kind = RendezvousKind;

RollOptions three() {
  RollOptions options;
  options.run = "secret";
  options.ranks = 3;
  return options;
}

RendezvousMessage join_from(std::uint64_t generation, std::string run = "secret") { return {Kind::join, generation, 0, 0, std::move(run)}; }

// What the roll says, as "connection:kind".
std::vector<std::string> told(const Roll::Words& words) {
  std::vector<std::string> all;
  for (const Roll::Word& word : words) all.push_back(std::to_string(word.to) + ":" + std::to_string(static_cast<int>(word.message.kind)));
  return all;
}

struct Running {
  Running() {
    for (const Roll::Connection one : {1U, 2U, 3U}) formed = roll.received(one, join_from(0), 0);
  }
  Roll roll{three()};
  Roll::Words formed;
};

TEST_CASE("a generation forms when all ranks have come", "[gpu][collective]") {
  Roll roll(three());
  CHECK(roll.received(5, join_from(0), 0).empty());
  CHECK(roll.received(7, join_from(0), 0).empty());
  const auto words = roll.received(6, join_from(0), 0);
  REQUIRE(words.size() == 3);
  CHECK(words[1].to == 7);
  CHECK(words[1].message == RendezvousMessage{Kind::formed, 1, 1, 3});
  CHECK(roll.generation() == 1);
}

TEST_CASE("when a rank is gone the others hear of it, and are the next generation in their order", "[gpu][collective]") {
  Running run;
  CHECK(told(run.roll.closed(2, 10)) == std::vector<std::string>{"1:8", "3:8"});
  CHECK(run.roll.received(3, join_from(1), 20).empty());
  const auto words = run.roll.received(1, join_from(1), 30);
  REQUIRE(words.size() == 2);
  CHECK(words[0].to == 1);
  CHECK(words[0].message == RendezvousMessage{Kind::formed, 2, 0, 2});
  CHECK(words[1].message == RendezvousMessage{Kind::formed, 2, 1, 2});
}

TEST_CASE("a rank that is silent is lost, and one that speaks is not", "[gpu][collective]") {
  Running run;
  for (const Roll::Connection one : {1U, 3U}) run.roll.received(one, {Kind::beat}, 1'000);
  CHECK(run.roll.passed(1'300).empty());
  CHECK(told(run.roll.passed(1'301)) == std::vector<std::string>{"2:11", "1:8", "3:8"});
  CHECK(run.roll.ranks() == 2);
}

TEST_CASE("a rank that asks for a new generation ends the one it is in, and one that does not follow is left behind", "[gpu][collective]") {
  Running run;
  CHECK(told(run.roll.received(2, join_from(1), 10)) == std::vector<std::string>{"1:8", "2:8", "3:8"});
  run.roll.received(3, join_from(1), 20);
  for (const Roll::Connection one : {1U, 2U, 3U}) run.roll.received(one, {Kind::beat}, 60'000);
  CHECK(run.roll.passed(60'010).empty());
  const auto words = run.roll.passed(60'011);
  CHECK(told(words) == std::vector<std::string>{"1:11", "2:6", "3:6"});
  CHECK(words[1].message.ranks == 2);
}

TEST_CASE("joins of another run, of a wrong generation and of one too many are refused", "[gpu][collective]") {
  Running run;
  CHECK(told(run.roll.received(4, join_from(0, "guessed"), 1)) == std::vector<std::string>{"4:10"});
  CHECK(told(run.roll.received(4, join_from(0), 1)) == std::vector<std::string>{"4:10"});
  CHECK(told(run.roll.received(4, join_from(1), 1)) == std::vector<std::string>{"4:10"});
  CHECK(run.roll.ranks() == 3);
  // A member that does not know where it is cannot be trusted with its numbers.
  CHECK(told(run.roll.received(2, join_from(9), 1)) == std::vector<std::string>{"2:10", "1:8", "3:8"});
  Roll fresh(three());
  CHECK(told(fresh.received(1, join_from(4), 1)) == std::vector<std::string>{"1:10"});
}

TEST_CASE("values are of a generation, and are waited for", "[gpu][collective]") {
  Running run;
  CHECK(run.roll.received(1, {Kind::get, 1, 0, 0, "a"}, 1).empty());
  const auto words = run.roll.received(2, {Kind::put, 1, 0, 0, "a", "x"}, 1);
  REQUIRE(words.size() == 1);
  CHECK(words[0].to == 1);
  CHECK(words[0].message == RendezvousMessage{Kind::value, 1, 0, 0, "a", "x"});
  CHECK(told(run.roll.received(3, {Kind::get, 1, 0, 0, "a"}, 1)) == std::vector<std::string>{"3:7"});
  CHECK(told(run.roll.received(3, {Kind::get, 2, 0, 0, "a"}, 1)) == std::vector<std::string>{"3:8"});
  CHECK(told(run.roll.received(4, {Kind::get, 1, 0, 0, "a"}, 1)) == std::vector<std::string>{"4:10"});
}

TEST_CASE("a rank that puts without end is thrown out", "[gpu][collective]") {
  Running run;
  const RendezvousMessage large{Kind::put, 1, 0, 0, "a", std::string(60'000, 'x')};
  Roll::Words words;
  for (int i = 0; i < 300 && words.empty(); ++i) words = run.roll.received(2, large, 1);
  CHECK(told(words) == std::vector<std::string>{"2:10", "1:8", "3:8"});
}

TEST_CASE("no rank may go before all have finished", "[gpu][collective]") {
  Running run;
  CHECK(run.roll.received(1, {Kind::leave, 1}, 1).empty());
  CHECK(run.roll.received(2, {Kind::leave, 1}, 1).empty());
  SECTION("all finish") {
    CHECK(told(run.roll.received(3, {Kind::leave, 1}, 1)) == std::vector<std::string>{"1:9", "2:9", "3:9"});
    CHECK(run.roll.closed(1, 2).empty());
    CHECK(run.roll.is_over());
  }
  SECTION("the last one is lost, and its work is left to do") {
    CHECK(told(run.roll.closed(3, 2)) == std::vector<std::string>{"1:8", "2:8"});
    CHECK_FALSE(run.roll.is_over());
  }
}

TEST_CASE("rendezvous messages are read as they were written, in pieces too", "[gpu][collective]") {
  const RendezvousMessage message{Kind::put, 7, 1, 2, "key", std::string("v\0lue", 5)};
  const std::string bytes = encode(message) + encode({Kind::beat});
  RendezvousReader reader;
  std::vector<RendezvousMessage> read;
  for (const char byte : bytes) {
    reader.append({&byte, 1});
    const auto next = need(reader.next());
    if (next) read.push_back(*next);
  }
  CHECK(read == std::vector<RendezvousMessage>{message, {Kind::beat}});
}

TEST_CASE("garbage is no rendezvous message", "[gpu][collective]") {
  const auto is_refused = [](const std::string& bytes) {
    RendezvousReader reader;
    reader.append(bytes);
    const auto next = reader.next();
    return !next && is(next.error(), GpuError::malformed);
  };
  CHECK(is_refused("GET / HTTP/1.1\r\n\r\n"));
  CHECK(is_refused(std::string(64, '\0')));
  const std::string good = encode({Kind::join, 0, 0, 0, "secret"});
  for (const std::size_t at : {3U, 4U, 6U, 7U, 25U}) {
    std::string bad = good;
    bad[at] = '\x7f';
    CHECK(is_refused(bad));
  }
  Random random(3);
  for (int i = 0; i < 2'000; ++i) {
    std::string bad = good;
    for (int change = 0; change < 3; ++change) bad[random.below(bad.size())] = static_cast<char>(random.next());
    RendezvousReader reader;
    reader.append(bad);
    for (auto next = reader.next(); next && *next; next = reader.next()) CHECK((*next)->key.size() <= rendezvous_key_bytes_max);
  }
}

// Nothing of the run: what it says, and whether the server closes.
bool is_thrown_out(std::uint16_t port, const std::string& bytes) {
  const Descriptor socket = need(connect_to("127.0.0.1", port));
  ::send(socket.number(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  char answer[512];
  while (::recv(socket.number(), answer, sizeof answer, 0) > 0) {
  }
  return true;  // the test's own time limit otherwise
}

TEST_CASE("a server throws out who does not belong, and its ranks work on", "[gpu][collective]") {
  RollOptions options = three();
  options.ranks = ranks_max + 1;
  CHECK_FALSE(RendezvousServer::make("127.0.0.1", 0, options));
  CHECK_FALSE(RendezvousServer::make("localhost", 0, three()));
  options.ranks = 2;
  options.silence_ms_max = 20'000;
  const auto server = need(RendezvousServer::make("127.0.0.1", 0, options));
  const auto first = need(RendezvousClient::make("127.0.0.1", server->port(), "secret"));
  const auto second = need(RendezvousClient::make("127.0.0.1", server->port(), "secret"));
  std::thread other([&second] { (void)second->join(20s); });
  const auto generation = first->join(20s);
  other.join();
  REQUIRE(need(generation).ranks == 2);
  CHECK(is_thrown_out(server->port(), "GET / HTTP/1.1\r\n\r\n"));
  CHECK(is_thrown_out(server->port(), encode({Kind::formed, 1, 0, 1})));
  CHECK(is_thrown_out(server->port(), encode(join_from(1))));
  const auto stranger = need(RendezvousClient::make("127.0.0.1", server->port(), "guessed"));
  const auto refused = stranger->join(20s);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), GpuError::invalid));
  CHECK(refused.error().message.find("another run") != std::string::npos);
  const auto late = need(RendezvousClient::make("127.0.0.1", server->port(), "secret"))->join(20s);
  REQUIRE_FALSE(late);
  CHECK(late.error().message.find("takes in no more") != std::string::npos);
  REQUIRE(first->put(1, "key", "value"));
  CHECK(need(second->get(1, "key", 20s)) == "value");
  CHECK_FALSE(second->get(2, "key", 20s));
  const auto nobody = second->get(1, "other", 20ms);
  REQUIRE_FALSE(nobody);
  CHECK(is(nobody.error(), GpuError::peer_lost));
}

}  // namespace
}  // namespace outlast::gpu::roll_test
