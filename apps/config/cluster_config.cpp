// [cluster]: names, addresses, and what keeps the agreement of all nodes from strangers.
#include "apps/config/cluster_config.hpp"

#include <algorithm>

#include "apps/config/sections.hpp"
#include "http/client.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t etcd_members_max = 16;
constexpr std::uint64_t shards_max = 1'024;
constexpr std::uint64_t replicas_max = 7;
constexpr std::uint64_t lease_ttl_s_min = 2;
constexpr std::uint64_t lease_ttl_s_max = 60;
constexpr std::uint64_t trim_keep_min = 16;
constexpr std::uint64_t trim_keep_max = 16U << 20;
constexpr std::string_view scheme = "tcp://";
constexpr std::string_view etcd_example = R"(etcd = ["https://10.0.0.1:2379", "https://10.0.0.2:2379"])";

bool any_interface(const std::string& host) { return host == "0.0.0.0" || host == "::" || host == "*"; }

std::optional<ListenAddress> parse_tcp(std::string_view text) {
  return text.starts_with(scheme) ? parse_listen_address(text.substr(scheme.size())) : std::nullopt;
}

// The address, or nothing when it is absent or was reported.
std::optional<ListenAddress> read_tcp(TableReader& reader, std::string_view key, std::string& into) {
  if (!reader.text(key, into)) return std::nullopt;
  const auto address = parse_tcp(into);
  if (!address) {
    reader.error(key, "'" + into + "' is not a ZeroMQ address; write tcp://HOST:PORT, e.g. tcp://10.0.0.1:8083");
  }
  return address;
}

void read_etcd_member(TableReader& reader, const std::string& url, bool plaintext_allowed) {
  if (url.find('@') != std::string::npos) {  // and do not repeat it: it may hold a password
    reader.error("etcd", "holds '@'; credentials do not stand in a URL, give etcd_cert and etcd_key");
    return;
  }
  const auto origin = http::Origin::parse(url);
  if (!origin || !origin->path_prefix.empty()) {
    reader.error("etcd", "'" + url + "' is not a member's client URL" +
                             (origin ? "" : ": " + origin.error().message) + "; write e.g. " + std::string(etcd_example));
    return;
  }
  if (origin->tls || plaintext_allowed || ListenAddress{origin->host, origin->port}.loopback()) return;
  reader.error("etcd", "'" + url + "' is spoken to without TLS, and whoever reaches it could write the ledger; write " +
                           "https:// with etcd_ca, etcd_cert and etcd_key, or accept that with " +
                           "allow_plaintext_etcd = true under [cluster]");
}

void read_etcd(TableReader& reader, ClusterConfig& config) {
  const bool plaintext = reader.boolean("allow_plaintext_etcd", config.allow_plaintext_etcd) && config.allow_plaintext_etcd;
  if (!reader.has("etcd")) {
    reader.ignore("etcd");
    return reader.error("etcd", "is missing; write e.g. " + std::string(etcd_example));
  }
  if (!reader.texts("etcd", config.etcd)) return;
  if (config.etcd.empty() || config.etcd.size() > etcd_members_max) {
    return reader.error("etcd", std::string(config.etcd.empty() ? "is empty" : "names too many members") + "; write 1 to " +
                                    std::to_string(etcd_members_max) + ", e.g. " + std::string(etcd_example));
  }
  for (auto url = config.etcd.begin(); url != config.etcd.end(); ++url) {
    read_etcd_member(reader, *url, plaintext);
    if (std::find(config.etcd.begin(), url, *url) != url)
      reader.error("etcd", "'" + *url + "' stands in the list twice; name each member once");
  }
}

void read_etcd_files(TableReader& reader, const std::string& folder, ClusterConfig& config) {
  if (reader.has("etcd_cert") != reader.has("etcd_key")) {
    const bool lone_cert = reader.has("etcd_cert");
    reader.error(lone_cert ? "etcd_cert" : "etcd_key", std::string("stands without ") +
                                                           (lone_cert ? "etcd_key" : "etcd_cert") +
                                                           "; give both as PEM files, or neither");
  }
  const std::pair<std::string_view, std::string*> files[] = {
      {"etcd_ca", &config.etcd_ca}, {"etcd_cert", &config.etcd_cert}, {"etcd_key", &config.etcd_key}};
  for (const auto& [name, path] : files) {
    if (!reader.text(name, *path)) continue;
    *path = resolve_path(folder, *path);
    if (const auto content = read_small_file(*path); !content) {
      reader.error(name, "'" + *path + "' cannot be read: " + content.error().message + "; name a PEM file");
    }
  }
}

void read_addresses(TableReader& reader, ClusterConfig& config) {
  if (!reader.has("listen")) {
    reader.ignore("listen");
    reader.error("listen", R"(is missing; write e.g. listen = "tcp://10.0.0.1:8083", where other nodes reach this one)");
  }
  const auto listen = read_tcp(reader, "listen", config.listen);
  const auto advertise = read_tcp(reader, "advertise", config.advertise);
  if (advertise && any_interface(advertise->host)) {
    reader.error("advertise", "'" + config.advertise + "' is no place to connect to; write the address by which other " +
                                  "nodes reach this one, e.g. tcp://10.0.0.1:8083");
  }
  if (listen && any_interface(listen->host) && !reader.has("advertise")) {
    reader.error("listen", "'" + config.listen + "' does not say how other nodes reach this one; add advertise = " +
                               R"("tcp://HOST:)" + std::to_string(listen->port) + "\"");
  }
  const auto join = read_tcp(reader, "join_listen", config.join_listen);
  if (join && join->port != 0 && config.join_listen == config.listen)
    reader.error("join_listen", "is the same address as listen; give it a port of its own");
}

}  // namespace

std::string reachable_endpoint(const ClusterConfig& config, const std::string& bound) {
  const auto address = parse_tcp(bound);
  const auto advertise = parse_tcp(config.advertise);
  if (!address || !advertise || !any_interface(address->host)) return bound;
  const bool v6 = advertise->host.find(':') != std::string::npos;
  return std::string(scheme) + (v6 ? "[" + advertise->host + "]" : advertise->host) + ":" + std::to_string(address->port);
}

void read_cluster(TableReader& root, const std::string& folder, ClusterConfig& config) {
  const bool given = root.has("cluster");
  TableReader reader = root.table("cluster");
  if (!given || !root.holds_table("cluster")) return;
  if (reader.required_text("name", config.name, R"(name = "river" under [cluster])") && !is_node_name(config.name)) {
    reader.error("name", "is not a cluster's name; write 1 to " + std::to_string(node_name_length_max) +
                             " of A-Z a-z 0-9 . _ -");
  }
  read_etcd(reader, config);
  read_etcd_files(reader, folder, config);
  read_addresses(reader, config);
  reader.integer("shards", config.shards, 1, shards_max);
  reader.integer("replicas", config.replicas, 1, replicas_max);
  reader.integer("lease_ttl_s", config.lease_ttl_s, lease_ttl_s_min, lease_ttl_s_max);
  reader.integer("trim_keep", config.trim_keep, trim_keep_min, trim_keep_max);
  reader.refuse_unknown_keys();
}

}  // namespace outlast::apps
