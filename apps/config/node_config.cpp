#include "apps/config/node_config.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "apps/config/sections.hpp"
#include "apps/config/spend_breaker_config.hpp"

namespace outlast::apps {
namespace {

constexpr std::uintmax_t file_bytes_max = 8 * 1024 * 1024;
constexpr std::uint64_t lanes_max = 1'024;
constexpr std::uint64_t timeout_ms_max = 3'600'000;
constexpr std::uint64_t bytes_max = 1ULL << 50;

constexpr std::string_view role_words[] = {"gateway", "ledger", "gpu"};
constexpr std::string_view usual_roles[] = {"gateway", "ledger"};
constexpr std::string_view later_roles[] = {"distill"};
constexpr std::string_view both_roles = R"(roles = ["gateway", "ledger"])";
constexpr std::string_view format_words[] = {"text", "json"};
constexpr log::Format formats[] = {log::Format::text, log::Format::json};
constexpr std::string_view level_words[] = {"debug", "info", "warning", "error"};
constexpr log::Level levels[] = {log::Level::debug, log::Level::info, log::Level::warning,
                                 log::Level::error};
constexpr std::string_view unpriced_words[] = {"serve", "refuse"};

template <class Words>
bool contains(const Words& words, std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

void read_roles(TableReader& reader, bool in_cluster, NodeConfig& config) {
  config.roles.assign(std::begin(usual_roles), std::end(usual_roles));
  if (!reader.texts("roles", config.roles)) return;
  bool all_known = true;
  for (const std::string& role : config.roles) {
    if (contains(role_words, role)) continue;
    all_known = false;
    if (contains(later_roles, role)) {
      reader.error("roles",
                   "'" + role + "' is not in this version; write " + std::string(both_roles));
    } else {
      reader.error("roles", "'" + role + "' is not known; write " + std::string(both_roles));
    }
  }
  const bool gateway = contains(config.roles, "gateway");
  const bool ledger = contains(config.roles, "ledger");
  if (all_known && !(in_cluster ? gateway || ledger : gateway && ledger)) {
    reader.error("roles",
                 in_cluster ? "has neither gateway nor ledger; write " + std::string(both_roles) + ", or one of them"
                            : "a node without [cluster] is gateway and ledger together; write " +
                                  std::string(both_roles));
  }
  if (all_known && std::set<std::string>(config.roles.begin(), config.roles.end()).size() != config.roles.size())
    reader.error("roles", "names a role twice; write " + std::string(both_roles));
}

void read_node(TableReader reader, bool in_cluster, NodeConfig& config) {
  if (reader.required_text("name", config.name, R"(name = "n1" under [node])") &&
      !is_node_name(config.name)) {
    reader.error("name", "is not a node's name; write 1 to " +
                             std::to_string(node_name_length_max) + " of A-Z a-z 0-9 . _ -");
  }
  reader.required_text("data", config.data, R"(data = "var/n1" under [node])");
  read_roles(reader, in_cluster, config);
  reader.refuse_unknown_keys();
}

void read_tls(TableReader& reader, const std::string& folder, NodeConfig& config) {
  const bool cert = reader.text("tls_cert", config.tls_cert);
  const bool key = reader.text("tls_key", config.tls_key);
  if (reader.has("tls_cert") != reader.has("tls_key")) {
    const bool lone_cert = reader.has("tls_cert");
    reader.error(lone_cert ? "tls_cert" : "tls_key", std::string("stands without ") +
                                                         (lone_cert ? "tls_key" : "tls_cert") +
                                                         "; give both as PEM files, or neither");
  }
  const std::pair<std::string_view, std::string*> files[] = {{"tls_cert", &config.tls_cert},
                                                             {"tls_key", &config.tls_key}};
  for (const auto& [name, path] : files) {
    if (!(name == "tls_cert" ? cert : key)) continue;
    *path = resolve_path(folder, *path);
    if (const auto content = read_small_file(*path); !content) {
      reader.error(
          name, "'" + *path + "' cannot be read: " + content.error().message + "; name a PEM file");
    }
  }
}

// Reads an address and refuses one that would show keys to the network.
void read_listener(TableReader& reader, std::string_view key, bool plaintext_allowed,
                   std::string& into) {
  reader.text(key, into);
  const auto address = parse_listen_address(into);
  if (!address) {
    reader.error(key,
                 "'" + into +
                     "' is not an address; write HOST:PORT, e.g. 127.0.0.1:8080, [::1]:8080 or, " +
                     "for every interface, 0.0.0.0:8080");
    return;
  }
  if (plaintext_allowed || address->loopback()) return;
  reader.error(
      key, "'" + into +
               "' can be reached from other machines, and without TLS they could read keys; " +
               "set tls_cert and tls_key, or accept that with allow_plaintext = true under [http]");
}

void read_http(TableReader reader, const std::string& folder, NodeConfig& config) {
  read_tls(reader, folder, config);
  reader.boolean("allow_plaintext", config.allow_plaintext);
  const bool plaintext_allowed =
      config.allow_plaintext || reader.has("tls_cert") || reader.has("tls_key");
  read_listener(reader, "listen", plaintext_allowed, config.http_listen);
  read_listener(reader, "admin_listen", plaintext_allowed, config.admin_listen);
  const auto listen = parse_listen_address(config.http_listen);
  if (listen && listen->port != 0 && config.http_listen == config.admin_listen) {
    reader.error("admin_listen",
                 "is the same address as listen; give the admin interface a port of its own");
  }
  reader.integer("lanes", config.lanes, 0, lanes_max);
  reader.refuse_unknown_keys();
}

void read_zmq(TableReader reader, NodeConfig& config) {
  constexpr std::string_view scheme = "tcp://";
  std::string listen;
  if (reader.text("listen", listen)) {
    if (!listen.starts_with(scheme) ||
        !parse_listen_address(std::string_view(listen).substr(scheme.size()))) {
      reader.error("listen", "'" + listen +
                                 "' is not a ZeroMQ address; write tcp://HOST:PORT, e.g. " +
                                 "tcp://127.0.0.1:8082");
    } else {
      config.zmq_listen = listen;
    }
  }
  reader.refuse_unknown_keys();
}

void read_limits(TableReader reader, LimitsConfig& limits) {
  reader.integer("head_bytes_max", limits.http.head_bytes_max, 1'024, 1'024 * 1'024);
  reader.integer("body_bytes_max", limits.http.body_bytes_max, 1'024, 1'024 * 1'024 * 1'024);
  reader.integer("connections_max", limits.http.connections_max, 1, 1'000'000);
  reader.integer("head_timeout_ms", limits.http.head_timeout_ms, 1, timeout_ms_max);
  reader.integer("body_timeout_ms", limits.http.body_timeout_ms, 1, timeout_ms_max);
  reader.integer("idle_timeout_ms", limits.http.idle_timeout_ms, 1, timeout_ms_max);
  reader.integer("write_stall_timeout_ms", limits.http.write_stall_timeout_ms, 1, timeout_ms_max);
  reader.integer("drain_timeout_ms", limits.drain_timeout_ms, 0, timeout_ms_max);
  reader.integer("default_output_tokens_max", limits.default_output_tokens_max, 1, 10'000'000);
  reader.integer("disk_free_bytes_min", limits.disk_free_bytes_min, 0, bytes_max);
  reader.integer("ballast_bytes", limits.ballast_bytes, 0, bytes_max);
  reader.refuse_unknown_keys();
}

void read_ledger(TableReader reader, LedgerConfig& ledger) {
  constexpr std::uint64_t days_max = 36'500;
  reader.integer("archive_after_days", ledger.archive_after_days, 0, days_max);
  std::uint64_t entries = 0;
  if (reader.integer("accept_cut", entries, 0, 1ULL << 62)) ledger.accept_cut = entries;
  reader.refuse_unknown_keys();
}

void read_log(TableReader reader, NodeConfig& config) {
  if (const auto index = reader.choice("format", format_words)) config.log_format = formats[*index];
  if (const auto index = reader.choice("level", level_words)) config.log_level = levels[*index];
  reader.refuse_unknown_keys();
}

// Returns the errors of the price book itself, which name its own file and lines.
std::string read_prices(TableReader reader, const std::string& folder, NodeConfig& config) {
  std::string book_errors;
  std::string file;
  if (reader.text("file", file)) {
    config.prices_file = resolve_path(folder, file);
    if (auto toml = read_small_file(config.prices_file); !toml) {
      reader.error("file", "'" + config.prices_file + "' cannot be read: " + toml.error().message +
                               "; name a price book, seen from this file's folder");
    } else if (auto book = parse_price_book(*toml, config.prices_file); !book) {
      book_errors = book.error().message;
    } else {
      config.prices_toml = std::move(*toml);
      config.prices = std::move(*book);
    }
  }
  if (const auto index = reader.choice("unpriced", unpriced_words)) {
    config.refuse_unpriced = unpriced_words[*index] == "refuse";
    if (config.refuse_unpriced && !reader.has("file")) {
      reader.error(
          "unpriced",
          "'refuse' without a price book would refuse every request; add file = \"prices.toml\"");
    }
  }
  reader.refuse_unknown_keys();
  return book_errors;
}

}  // namespace

bool is_node_name(std::string_view name) {
  return !name.empty() && name.size() <= node_name_length_max &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

std::string resolve_path(const std::string& folder, const std::string& path) {
  return (std::filesystem::path(folder) / path).lexically_normal().string();
}

Result<std::string> read_small_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    return fail(ConfigError::unreadable, "it is a folder");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return fail(ConfigError::unreadable, std::strerror(errno));
  std::string content;
  char block[65'536];
  while (stream.read(block, sizeof(block)) || stream.gcount() > 0) {
    content.append(block, static_cast<std::size_t>(stream.gcount()));
    if (content.size() > file_bytes_max) {
      return fail(ConfigError::unreadable,
                  "it is larger than " + std::to_string(file_bytes_max) + " bytes");
    }
  }
  if (stream.bad()) return fail(ConfigError::unreadable, std::strerror(errno));
  return content;
}

bool ListenAddress::loopback() const {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

std::optional<ListenAddress> parse_listen_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view digits = text.substr(colon + 1);
  ListenAddress address;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (digits.empty() || parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size())
    return std::nullopt;
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    address.host = host.substr(1, host.size() - 2);
    in6_addr v6{};
    if (inet_pton(AF_INET6, address.host.c_str(), &v6) != 1) return std::nullopt;
    return address;
  }
  address.host = host;
  const bool named = std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-';
  });
  // Digits and dots alone are meant as an IPv4 address, so they have to be one.
  const bool numeric = host.find_first_not_of("0123456789.") == std::string_view::npos;
  in_addr v4{};
  if (!named || (numeric && inet_pton(AF_INET, address.host.c_str(), &v4) != 1))
    return std::nullopt;
  return address;
}

Result<NodeConfig> load_node_config(const std::string& file) {
  NodeConfig config;
  config.file = file;
  auto toml = read_small_file(file);
  if (!toml) {
    return fail(ConfigError::unreadable, file + ": cannot be read: " + toml.error().message +
                                             "; name a readable TOML file (configs/ has examples)");
  }
  const std::string folder = std::filesystem::path(file).parent_path().string();
  ConfigErrors errors(file);
  toml::table document;
  try {
    document = toml::parse(std::string_view(*toml), std::string_view(file));
  } catch (const toml::parse_error& error) {
    return fail(ConfigError::syntax, syntax_error_text(file, error));
  }
  TableReader root(document, "", 1, errors);
  read_node(root.table("node"), root.has("cluster"), config);
  read_http(root.table("http"), folder, config);
  read_zmq(root.table("zmq"), config);
  read_cluster(root, folder, config.cluster);
  read_limits(root.table("limits"), config.limits);
  read_ledger(root.table("ledger"), config.ledger);
  read_log(root.table("log"), config);
  read_routing(root, folder, config);
  read_spend_breakers(root, folder, config);
  read_rate_limits(root, config);
  const std::string book_errors = read_prices(root.table("prices"), folder, config);
  root.refuse_unknown_keys();

  std::string message = errors.text();
  if (!message.empty() && !book_errors.empty()) message += '\n';
  message += book_errors;
  if (!message.empty()) return fail(ConfigError::invalid, std::move(message));
  return config;
}

}  // namespace outlast::apps
