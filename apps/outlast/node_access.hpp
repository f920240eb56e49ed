// Where the node is and what opens it: from options, the environment and the node's data folder.
#pragma once

#include <memory>
#include <string>

#include "apps/outlast/http_call.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// Options that every command takes.
struct GlobalOptions {
  std::string admin;    // --admin URL
  std::string data;     // --data DIR
  std::string ca_file;  // --ca-file PEM
  bool json = false;
};

// The admin interface: --admin, else DATA/node.json, else OUTLAST_ADMIN, else
// http://127.0.0.1:8081.
Result<http::Origin> find_admin_origin(const GlobalOptions& options);
// DATA/admin.token where --data is given and has it, else OUTLAST_ADMIN_TOKEN; empty where neither
// is there.
Result<std::string> find_admin_token(const GlobalOptions& options);
// The HTTP front: `url`, else DATA/node.json, else OUTLAST_URL, else http://127.0.0.1:8080. A
// trailing /v1 is dropped.
Result<http::Origin> find_front_origin(const GlobalOptions& options, const std::string& url);
// The virtual key: from `key_file`, else OUTLAST_KEY. Not having one is an error.
Result<std::string> find_virtual_key(const std::string& key_file);

// "http://127.0.0.1:8081".
std::string url_of(const http::Origin& origin);

// Percent-encodes a value for a query or a path.
std::string url_encoded(std::string_view text);

// An error of a call, as a person who runs a command wants it: who did not answer and what to do.
// `what` is "the node's admin interface".
Error unreachable(const http::Origin& origin, const std::string& what, const Error& cause);
// The message of an error body, {"error": {"message": …}} or else the status; without control
// characters.
std::string message_of(const HttpAnswer& answer);

// The admin interface under /admin/v1. One owner.
class AdminApi {
 public:
  static Result<AdminApi> find(const GlobalOptions& options);

  // The answer of status 2xx. Errors say what to do: unreachable, not_found, failed.
  Result<HttpAnswer> call(const std::string& method, const std::string& path,
                          const std::string& body = {},
                          const std::vector<std::string>& wanted_headers = {},
                          const BodySink& sink = nullptr);
  [[nodiscard]] const http::Origin& origin() const { return origin_; }

 private:
  AdminApi(http::Origin origin, std::string token, const std::string& ca_file);

  http::Origin origin_;
  std::string token_;
  std::unique_ptr<HttpCaller> caller_;
};

}  // namespace outlast::apps
