#include "apps/outlast/node_access.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <nlohmann/json.hpp>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

constexpr std::string_view default_admin = "http://127.0.0.1:8081";
constexpr std::string_view default_front = "http://127.0.0.1:8080";
constexpr std::size_t secret_bytes_max = 4'096;
constexpr std::uint32_t connect_ms = 5'000;
constexpr std::uint32_t answer_ms = 600'000;  // a verification reads the whole ledger

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The first line of a small file; nothing when there is no such file.
Result<std::optional<std::string>> read_secret(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    return fail(CliError::failed, file + " cannot be read: " + std::strerror(errno));
  }
  std::string line;
  std::getline(stream, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  const bool clean =
      line.size() <= secret_bytes_max && line.find_first_of(" \t") == std::string::npos;
  if (line.empty() || !clean)
    return fail(CliError::failed, file + " does not hold one secret on one line");
  return line;
}

// What the running daemon wrote into its data folder; empty when it wrote nothing.
std::string address_in_data(const GlobalOptions& options, const char* member) {
  if (options.data.empty()) return {};
  std::ifstream stream(options.data + "/node.json");
  if (!stream) return {};
  const auto json = nlohmann::json::parse(stream, nullptr, false);
  if (!json.is_object() || !json.contains(member) || !json[member].is_string()) return {};
  const auto address = json[member].get<std::string>();
  return address.find("://") == std::string::npos ? "http://" + address : address;
}

Result<http::Origin> parse_url(const std::string& url, const std::string& where) {
  if (url.find('@') != std::string::npos) {
    return fail(CliError::usage,
                where + ": a URL may not hold credentials; write http://HOST:PORT");
  }
  auto origin = http::Origin::parse(url);
  if (!origin) {
    return fail(CliError::usage, where + ": '" + printable(url) + "' is not a URL: " +
                                     origin.error().message + "; write http://HOST:PORT");
  }
  return std::move(*origin);
}

Result<http::Origin> find_origin(const std::string& option, const std::string& option_name,
                                 const std::string& in_data, const char* variable,
                                 std::string_view fallback) {
  if (!option.empty()) return parse_url(option, option_name);
  if (!in_data.empty()) return parse_url(in_data, "node.json");
  if (const std::string url = environment(variable); !url.empty()) return parse_url(url, variable);
  return parse_url(std::string(fallback), "default");
}

}  // namespace

Result<http::Origin> find_admin_origin(const GlobalOptions& options) {
  return find_origin(options.admin, "--admin", address_in_data(options, "admin"), "OUTLAST_ADMIN",
                     default_admin);
}

Result<http::Origin> find_front_origin(const GlobalOptions& options, const std::string& url) {
  auto origin =
      find_origin(url, "--url", address_in_data(options, "http"), "OUTLAST_URL", default_front);
  if (origin && origin->path_prefix.ends_with("/v1")) {
    origin->path_prefix.resize(origin->path_prefix.size() -
                               3);  // as SDKs want it in their base URL
  }
  return origin;
}

Result<std::string> find_admin_token(const GlobalOptions& options) {
  if (!options.data.empty()) {
    auto token = read_secret(options.data + "/admin.token");
    if (!token) return fail(token.error());
    if (*token) return std::move(**token);
  }
  return environment("OUTLAST_ADMIN_TOKEN");
}

Result<std::string> find_virtual_key(const std::string& key_file) {
  constexpr std::string_view advice = "make one with 'outlast key create --tenant ORG/TEAM/USER'";
  if (!key_file.empty()) {
    auto key = read_secret(key_file);
    if (!key) return fail(key.error());
    if (!*key)
      return fail(CliError::failed, key_file + ": there is no such file; " + std::string(advice));
    return std::move(**key);
  }
  std::string key = environment("OUTLAST_KEY");
  if (key.empty()) {
    return fail(CliError::failed, "no virtual key; set OUTLAST_KEY or give --key-file FILE, or " +
                                      std::string(advice));
  }
  return key;
}

std::string url_of(const http::Origin& origin) {
  const bool v6 = origin.host.find(':') != std::string::npos;
  return std::string(origin.tls ? "https://" : "http://") +
         (v6 ? "[" + origin.host + "]" : origin.host) + ":" + std::to_string(origin.port) +
         origin.path_prefix;
}

std::string url_encoded(std::string_view text) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain) {
      encoded += c;
      continue;
    }
    encoded += '%';
    encoded += digits[static_cast<unsigned char>(c) >> 4];
    encoded += digits[static_cast<unsigned char>(c) & 15];
  }
  return encoded;
}

Error unreachable(const http::Origin& origin, const std::string& what, const Error& cause) {
  return fail(CliError::unreachable,
              "cannot reach " + what + " at " + url_of(origin) + " (" + printable(cause.message) +
                  "); is outlastd running? start it with 'outlastd --config FILE'")
      .value();
}

std::string message_of(const HttpAnswer& answer) {
  const auto json = nlohmann::json::parse(answer.body, nullptr, false);
  if (json.is_object() && json.contains("error")) {
    const auto& error = json["error"];
    if (error.is_object() && error.contains("message") && error["message"].is_string()) {
      return printable(error["message"].get<std::string>());
    }
  }
  return "the node answered with status " + std::to_string(answer.status);
}

AdminApi::AdminApi(http::Origin origin, std::string token, const std::string& ca_file)
    : origin_(std::move(origin)),
      token_(std::move(token)),
      caller_(std::make_unique<HttpCaller>(ca_file)) {}

Result<AdminApi> AdminApi::find(const GlobalOptions& options) {
  auto origin = find_admin_origin(options);
  if (!origin) return fail(origin.error());
  auto token = find_admin_token(options);
  if (!token) return fail(token.error());
  return AdminApi(std::move(*origin), std::move(*token), options.ca_file);
}

Result<HttpAnswer> AdminApi::call(const std::string& method, const std::string& path,
                                  const std::string& body,
                                  const std::vector<std::string>& wanted_headers,
                                  const BodySink& sink) {
  HttpCall call;
  call.origin = origin_;
  call.method = method;
  call.path = "/admin/v1/" + path;
  if (!token_.empty()) call.headers.emplace_back("authorization", "Bearer " + token_);
  if (!body.empty()) call.headers.emplace_back("content-type", "application/json");
  call.body = body;
  call.wanted_headers = wanted_headers;
  call.timeouts = {connect_ms, answer_ms, answer_ms};
  auto answer = caller_->call(call, sink);
  if (!answer) return fail(unreachable(origin_, "the node's admin interface", answer.error()));
  if (answer->status / 100 == 2) return answer;
  if (answer->status == 401 || answer->status == 403) {
    return fail(CliError::failed,
                std::string("the node refused the admin token") +
                    (token_.empty() ? ", since none was given" : "") +
                    "; set OUTLAST_ADMIN_TOKEN, or give --data DIR to read DIR/admin.token");
  }
  return fail(answer->status == 404 ? CliError::not_found : CliError::failed, message_of(*answer));
}

}  // namespace outlast::apps
