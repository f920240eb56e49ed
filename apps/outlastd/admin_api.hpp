// AdminApi: what the admin listener answers: health and metrics to anyone who reaches it, everything under /admin/v1
// to who brings the node's token. On the control thread; long reads run on threads of their own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "apps/outlastd/breaker_api.hpp"
#include "apps/outlastd/cluster_api.hpp"
#include "apps/outlastd/daemon.hpp"
#include "apps/outlastd/report_thread.hpp"
#include "apps/outlastd/worker_api.hpp"
#include "http/server.hpp"

namespace outlast::apps {

class AdminApi {
 public:
  AdminApi(boost::asio::io_context& loop, Daemon& daemon)
      : loop_(loop),
        daemon_(daemon),
        breakers_(loop, daemon),
        cluster_(loop, daemon.ledger(), daemon.clock(), daemon.cluster() != nullptr ? &daemon.cluster()->port() : nullptr),
        workers_(loop, daemon) {}

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
  boost::asio::awaitable<Answer> prices();
  boost::asio::awaitable<Answer> deployments();
  boost::asio::awaitable<Answer> list_keys();
  boost::asio::awaitable<Answer> create_key(std::string_view body);
  boost::asio::awaitable<Answer> revoke_key(std::string id);
  boost::asio::awaitable<Answer> usage(std::string_view query);      // this and the next two:
  boost::asio::awaitable<Answer> reconcile(std::string_view query,    // admin_reports.cpp
                                           std::string csv);
  boost::asio::awaitable<Answer> reprice(std::string_view query, std::string toml);
  boost::asio::awaitable<Answer> reload();
  boost::asio::awaitable<Answer> breakers(const http::Request& request, std::string_view name);
  boost::asio::awaitable<Answer> cluster(const http::Request& request, std::string_view name);
  boost::asio::awaitable<Answer> workers(const http::Request& request, std::string_view name);
  // Everything under budgets and commitments (admin_money.cpp).
  boost::asio::awaitable<Answer> money(const http::Request& request, std::string_view name);
  boost::asio::awaitable<Answer> list_budgets();
  boost::asio::awaitable<Answer> set_budget(std::string_view body);
  boost::asio::awaitable<Answer> list_commitments();
  boost::asio::awaitable<Answer> add_commitment(std::string_view body);
  boost::asio::awaitable<Answer> end_money(std::string id, const http::Request& request, bool budget);
  template <class Reply, class Message>
  boost::asio::awaitable<Result<Reply>> ask_accountant(Message message);
  static Answer error_answer(const Error& error);
  boost::asio::awaitable<Answer> rate_limits();
  // admin_ledger.cpp
  boost::asio::awaitable<Answer> entries(std::string_view query);
  boost::asio::awaitable<Answer> verify(std::string_view query);
  boost::asio::awaitable<Result<storage::VerifyReport>> verify_ledger(std::optional<cluster::ShardId> shard);
  // Which of the cluster's ledgers is meant. Nothing where `shard` is absent. Error: invalid, for a shard that there is
  // not, and for any on a node on its own.
  [[nodiscard]] Result<std::optional<cluster::ShardId>> read_shard(const std::optional<std::string>& shard) const;
  Answer ledger_heads() const;
  boost::asio::awaitable<Answer> backup(std::string_view body);
  boost::asio::awaitable<Result<actors::Children>> children();
  boost::asio::awaitable<Result<actors::DeploymentList>> deployment_list();

  boost::asio::io_context& loop_;
  Daemon& daemon_;
  BreakerApi breakers_;
  ClusterApi cluster_;
  WorkerApi workers_;
  ReportThread reports_;
};

// The HTTP status that an error means here.
unsigned admin_status_of(const Error& error);
std::string admin_error_body(std::string_view message, std::string_view code);

}  // namespace outlast::apps
