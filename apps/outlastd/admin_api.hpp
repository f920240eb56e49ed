// AdminApi: what the admin listener answers: health and metrics to anyone who reaches it, everything under /admin/v1
// to who brings the node's token. On the control thread; long reads run on threads of their own.
#pragma once

#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlastd/daemon.hpp"
#include "http/server.hpp"

namespace outlast::apps {

class AdminApi {
 public:
  AdminApi(boost::asio::io_context& loop, Daemon& daemon) : loop_(loop), daemon_(daemon) {}

  boost::asio::awaitable<void> handle(http::Request& request, http::Response& response);

 private:
  // What is sent back.
  struct Answer {
    unsigned status = 200;
    std::string body;
    std::string_view type = "application/json";
    std::string next_index;  // of ledger/entries
  };

  [[nodiscard]] bool authorised(const http::Request& request) const;
  boost::asio::awaitable<Answer> route(const http::Request& request);
  boost::asio::awaitable<Answer> metrics();
  boost::asio::awaitable<Answer> status();
  boost::asio::awaitable<Answer> deployments();
  boost::asio::awaitable<Answer> list_keys();
  boost::asio::awaitable<Answer> create_key(std::string_view body);
  boost::asio::awaitable<Answer> revoke_key(std::string id);
  boost::asio::awaitable<Answer> usage(std::string_view query);
  boost::asio::awaitable<Answer> entries(std::string_view query);
  boost::asio::awaitable<Answer> verify();
  boost::asio::awaitable<Answer> reload();
  // admin_ledger.cpp
  Answer ledger_heads() const;
  boost::asio::awaitable<Answer> backup(std::string_view body);
  boost::asio::awaitable<Result<actors::Children>> children();
  boost::asio::awaitable<Result<actors::DeploymentList>> deployment_list();

  boost::asio::io_context& loop_;
  Daemon& daemon_;
};

// The HTTP status that an error means here.
unsigned admin_status_of(const Error& error);
std::string admin_error_body(std::string_view message, std::string_view code);

}  // namespace outlast::apps
