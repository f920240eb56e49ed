// ClusterApi: the admin calls of a cluster's nodes, join tokens and settings, under /admin/v1/cluster. On the control
// thread. What changes is durable in the control log when the answer leaves.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "core/clock.hpp"
#include "core/member_records.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::apps {

// What a node of a cluster tells this API.
struct ClusterPort {
  std::string cluster;
  std::string join_endpoint;  // where machines that want to join reach this node; empty: none can join here
  std::string public_key;     // the node's, CURVE, Z85
  std::function<std::string()> status_json;  // the answer of GET /admin/v1/cluster (docs/admin-api.md); must not block
};

class ClusterApi {
 public:
  struct Reply {
    unsigned status = 200;
    std::string body;
  };

  // All outlive this. `port` is null for a node on its own, which answers every call by saying so.
  ClusterApi(boost::asio::io_context& loop, storage::LedgerStore& ledger, const Clock& clock, const ClusterPort* port)
      : loop_(loop), ledger_(ledger), clock_(clock), port_(port) {}

  // `name` is the path after /admin/v1/, and begins with "cluster".
  boost::asio::awaitable<Reply> handle(std::string method, std::string name, std::string body);

 private:
  [[nodiscard]] Reply nodes() const;
  [[nodiscard]] Reply tokens() const;
  [[nodiscard]] Reply settings() const;
  [[nodiscard]] Reply setting(const std::string& name) const;
  boost::asio::awaitable<Reply> make_token(std::string body);
  boost::asio::awaitable<Reply> withdraw_token(std::string id);
  [[nodiscard]] bool knows_token(const std::string& id) const;
  boost::asio::awaitable<Reply> change_node(std::string name, NodeState state, std::string body);
  boost::asio::awaitable<Reply> set_setting(std::string name, std::string body);
  // As record(); but the reply may also come from what this node's copy of the control log says.
  boost::asio::awaitable<Reply> record_leave(NodeChanged operation, std::string done);
  [[nodiscard]] bool is_in_state(const std::string& name, NodeState state) const;
  // Writes the operation down; the reply is `done` or says why not.
  boost::asio::awaitable<Reply> record(MemberOperation operation, std::string done);

  boost::asio::io_context& loop_;
  storage::LedgerStore& ledger_;
  const Clock& clock_;
  const ClusterPort* port_;
};

}  // namespace outlast::apps
