// Front: what the HTTP listener answers. It checks the key, reads the request's head, and hands chats to an exchange.
// One per lane, on its thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/awaitable.hpp>

#include "gateway/exchange.hpp"
#include "gateway/snapshot.hpp"
#include "http/server.hpp"

namespace outlast::gateway {

class Front {
 public:
  // `ready` is what monitors and load balancers are told: not while draining. What comes all the same is answered: it was
  // on its way, and the server closes the connection after it.
  Front(LaneServices& lane, SnapshotReader& snapshots, std::function<bool()> ready)
      : lane_(lane), snapshots_(snapshots), ready_(std::move(ready)) {}

  asio::awaitable<void> handle(http::Request& request, http::Response& response);

 private:
  asio::awaitable<void> chat_completions(http::Request& request, http::Response& response);
  asio::awaitable<void> models(http::Request& request, http::Response& response);
  // Null, with 401 counted, when the request brings no valid key.
  std::shared_ptr<const VirtualKey> authenticate(const http::Request& request);

  LaneServices& lane_;
  SnapshotReader& snapshots_;
  std::function<bool()> ready_;
  ChatScanner scanner_;
};

// For http::ServerOptions: protocol errors in OpenAI's error shape.
std::string protocol_error_body(unsigned status, http::HttpError code, std::string_view message);

}  // namespace outlast::gateway
