// An upstream that says what the test tells it to, byte by byte.
#pragma once

#include "tests/http/http_fixture.hpp"

namespace outlast::http::test {

// An upstream of raw bytes and a client that asks it.
struct Upstream {
  Loop loop;
  RawListener listener{loop};
  Client client{loop.io, {}};

  // One request against an upstream that answers every request head with `answer`, and closes if
  // told to.
  Answer ask(std::string_view answer, bool close, ClientTimeouts timeouts = {},
             std::string method = "GET") {
    listener.on_accept = nullptr;
    const auto before = listener.accepted();
    std::optional<Answer> got;
    asio::co_spawn(loop.io, fetch(client, listener.origin(), std::move(method), "/", "", timeouts),
                   [&got](std::exception_ptr, Answer value) { got = std::move(value); });
    RawPeer& peer = listener.peer(before);
    REQUIRE(peer.wait_for("\r\n\r\n"));
    for (std::size_t i = 0; i < answer.size() && !peer.closed(); i += split) {
      peer.send(answer.substr(i, split));
      loop.io.restart();
      loop.io.poll();
    }
    if (close) peer.half_close();
    REQUIRE(loop.run_until([&got] { return got.has_value(); }));
    return *got;
  }
  std::size_t split = 1'000'000;
};

}  // namespace outlast::http::test
