// EtcdClient: etcd's JSON gateway (/v3/…) over HTTP, on a thread of its own; calls block. One connection per call in
// flight, kept alive; another endpoint when one fails. The listener of etcd should be private and ask for certificates:
// its passwords do not guard leases and compaction.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/etcd_messages.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

struct EtcdOptions {
  std::vector<std::string> endpoints;  // http://HOST:PORT or https://HOST:PORT
  // Mutual TLS, with https: PEM files.
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  // Of a whole call, with all tries. EtcdCoordination's start_lease() and claim() may take two: so a sixth of the
  // leases' TTL at most.
  std::uint32_t call_timeout_ms = 1'500;
};

// What a request that is sent twice does.
enum class EtcdEffect : std::uint8_t {
  idempotent,  // nothing more: sent again, to another endpoint, while time is left
  once,        // what may have happened is reported as `unknown`
};

// Hints for watchers, on the client's thread: must not block, nor call the client.
struct EtcdWatcher {
  // The watch stands, for the first time or again: anything may have changed.
  std::function<void()> began;
  std::function<void(std::string_view key)> changed;
};

// Any thread. Errors of all calls: unavailable, unknown (of what happens once), refused, too_large, lease_lost,
// corrupt.
class EtcdClient {
 public:
  static constexpr std::size_t answer_bytes_max = 32U << 20;
  static constexpr std::size_t endpoints_max = 16;
  static constexpr std::size_t request_bytes_max = 2U << 20;  // as JSON; etcd takes 1.5 MiB of what it says

  // Errors: refused (an endpoint that is no URL, certificate files that cannot be read).
  static Result<std::unique_ptr<EtcdClient>> start(EtcdOptions options);
  ~EtcdClient();
  EtcdClient(const EtcdClient&) = delete;
  EtcdClient& operator=(const EtcdClient&) = delete;

  Result<EtcdTxnAnswer> txn(const EtcdTxn& txn, EtcdEffect effect);
  // A transaction that only reads.
  Result<EtcdTxnAnswer> read(std::vector<EtcdOperation> ranges);
  Result<std::uint64_t> grant_lease(std::uint32_t ttl_s);
  // Error: lease_lost.
  Result<void> keep_alive(std::uint64_t lease);
  // Success also when there is none.
  Result<void> revoke_lease(std::uint64_t lease);
  // Forgets revisions older than `revision`. Success also when they are forgotten.
  Result<void> compact(std::uint64_t revision);
  // Of all endpoints at once, in their order.
  std::vector<Result<EtcdStatus>> statuses();
  [[nodiscard]] const std::vector<std::string>& endpoints() const;
  // Watches keys from `key` to before `end` until the client ends, connecting again by itself. Once.
  void watch(std::string key, std::string end, EtcdWatcher watcher);

 private:
  class Impl;
  explicit EtcdClient(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace outlast::cluster
