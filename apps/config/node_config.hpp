// NodeConfig: the daemon's TOML file, read and validated. Every error names file, line, key, what
// is wrong and what would be right; unknown keys are errors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/config/cluster_config.hpp"
#include "core/log.hpp"
#include "core/price_book.hpp"
#include "core/result.hpp"
#include "gateway/rate_limit.hpp"
#include "gateway/routing_table.hpp"
#include "gateway/spend_config.hpp"
#include "http/server.hpp"

namespace outlast::apps {

// Append-only.
enum class ConfigError : std::uint16_t { unreadable = 1, syntax = 2, invalid = 3 };

struct LimitsConfig {
  http::ServerLimits http;
  std::uint32_t drain_timeout_ms = 30'000;
  // Reserved, and forced upstream, when the caller gives no bound.
  std::uint64_t default_output_tokens_max = 4'096;
  std::uint64_t disk_free_bytes_min = 2ULL << 30;
  std::uint64_t ballast_bytes = 0;
};

struct LedgerConfig {
  std::uint32_t archive_after_days = 0;  // older entries move to compressed segments; 0: never
  // The number of entries at which a person knows that the ledger was cut.
  std::optional<std::uint64_t> accept_cut;
};

struct NodeConfig {
  std::string file;  // where it came from
  std::string name;
  std::string data;  // folder; relative to the working directory
  std::vector<std::string> roles;

  std::string http_listen = "127.0.0.1:8080";
  std::string admin_listen = "127.0.0.1:8081";
  std::uint32_t lanes = 0;  // 0: one per core
  std::string tls_cert;  // both or neither, for both listeners; resolved as prices_file is
  std::string tls_key;
  bool allow_plaintext = false;  // permits a listener that is not loopback without TLS

  std::string zmq_listen;  // empty: no client actors

  ClusterConfig cluster;
  LimitsConfig limits;
  LedgerConfig ledger;
  log::Format log_format = log::Format::text;
  log::Level log_level = log::Level::info;

  std::vector<gateway::Provider> providers;  // api_key read from env or file
  std::vector<gateway::Deployment> deployments;
  std::vector<gateway::Route> routes;
  std::vector<gateway::RateLimitRule> rate_limits;

  std::string prices_file;  // resolved against the configuration file's folder; empty for none
  std::string prices_toml;  // its text
  PriceBook prices;
  bool refuse_unpriced = false;  // [prices] unpriced = "serve" | "refuse"

  gateway::SpendConfig breakers;  // [breakers] and [[breaker]]; without the node's name
};

// All errors found, not only the first, one per line in the message:
//   FILE:LINE: key 'provider.base_url': what is wrong; what would be right
// Reads the environment and the files that it names. No message holds a secret.
Result<NodeConfig> load_node_config(const std::string& file);

// A price book, as docs/prices.md describes it: version = "2026-11-01" and [[price]] provider (or
// "*" for every other), model, and per bucket a decimal string of US dollars per million tokens; at
// most 6 decimals, so that pico-USD per token is whole. `file` is for messages. Errors as above.
Result<PriceBook> parse_price_book(std::string_view toml, const std::string& file);

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::ConfigError> = "config";
}  // namespace outlast
