// WorkerApi: the admin calls of GPU workers, under /admin/v1/workers. On the control thread.
#pragma once

#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlastd/daemon.hpp"

namespace outlast::apps {

class WorkerApi {
 public:
  struct Reply {
    unsigned status = 200;
    std::string body;
    std::string_view type = "application/json";
  };

  WorkerApi(boost::asio::io_context& loop, Daemon& daemon) : loop_(loop), daemon_(daemon) {}

  // `name` is the path after /admin/v1/, and begins with "workers".
  boost::asio::awaitable<Reply> handle(std::string method, std::string name, std::string query, std::string body);

 private:
  [[nodiscard]] Reply list() const;
  // A frame of proto/work.capnp to a worker of any node, and its answer.
  boost::asio::awaitable<Reply> ask(std::string worker, std::uint16_t method, std::string body);

  boost::asio::io_context& loop_;
  Daemon& daemon_;
};

}  // namespace outlast::apps
