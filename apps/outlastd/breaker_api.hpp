// BreakerApi: the admin calls of spend breakers, under /admin/v1/breakers and /admin/v1/breaker-rules. On the control
// thread.
#pragma once

#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlastd/daemon.hpp"

namespace outlast::apps {

class BreakerApi {
 public:
  struct Reply {
    unsigned status = 200;
    std::string body;
  };

  BreakerApi(boost::asio::io_context& loop, Daemon& daemon) : loop_(loop), daemon_(daemon) {}

  // `name` is the path after /admin/v1/.
  boost::asio::awaitable<Reply> handle(std::string method, std::string name, std::string body);

 private:
  boost::asio::awaitable<Result<actors::BreakerReport>> report();
  template <class Message>
  boost::asio::awaitable<Reply> change(Message message, std::string done);
  boost::asio::awaitable<Reply> list();
  boost::asio::awaitable<Reply> show(std::string id);
  boost::asio::awaitable<Reply> reset(std::string id, std::string body);
  boost::asio::awaitable<Reply> rules();
  boost::asio::awaitable<Reply> add_rule(std::string body);
  boost::asio::awaitable<Reply> remove_rule(std::string name, std::string body);

  boost::asio::io_context& loop_;
  Daemon& daemon_;
};

}  // namespace outlast::apps
