// EtcdHttp: one request to one endpoint of etcd, and what its failures mean. Of an EtcdClient.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "cluster/etcd_client.hpp"
#include "core/result.hpp"
#include "http/client.hpp"

namespace outlast::cluster {

struct EtcdAnswer {
  // A body, with simdjson's padding behind it.
  Result<std::string> result = fail(AgreementError::unavailable, "etcd did not answer in time");
  bool sent = false;         // the request may have reached etcd
  bool try_another = false;  // another endpoint may do better
};

// Owned by the client's thread.
class EtcdHttp {
 public:
  EtcdHttp(boost::asio::io_context& io, const EtcdOptions& options);

  Result<void> parse_endpoints();
  // At most `limit_ms` in all. `path` and `body` outlive the call.
  boost::asio::awaitable<EtcdAnswer> ask(std::size_t endpoint, std::string_view path, std::string_view body, bool once,
                                         std::uint32_t limit_ms);
  // The endpoint to ask, until it is avoided.
  [[nodiscard]] std::size_t preferred() const { return preferred_; }
  void avoid(std::size_t endpoint) {
    if (endpoint == preferred_) preferred_ = (preferred_ + 1) % origins_.size();
  }
  // For answers that go on.
  [[nodiscard]] http::Client& client() { return client_; }
  [[nodiscard]] const http::Origin& origin(std::size_t endpoint) const { return origins_[endpoint]; }
  [[nodiscard]] const EtcdOptions& options() const { return options_; }

 private:
  [[nodiscard]] EtcdAnswer failed(std::size_t endpoint, const Error& error, bool once) const;

  boost::asio::io_context& io_;
  const EtcdOptions& options_;
  http::Client client_;
  std::vector<http::Origin> origins_;
  std::size_t preferred_ = 0;
};

}  // namespace outlast::cluster
