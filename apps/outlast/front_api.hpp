// The node's HTTP front, as any OpenAI SDK sees it: models and chat.
#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/node_access.hpp"

namespace outlast::apps {

// --url and --key-file.
void add_front_options(CLI::App& command, std::string& url, std::string& key_file);

// One owner.
class FrontApi {
 public:
  static Result<FrontApi> find(const GlobalOptions& options, const std::string& url,
                               const std::string& key_file);

  // The answer of status 200. Errors say what to do: unreachable, not_found, failed.
  Result<HttpAnswer> call(const std::string& method, const std::string& path,
                          const std::string& body = {},
                          const std::vector<std::string>& wanted_headers = {},
                          const BodySink& sink = nullptr);
  // The answer of GET /v1/models: {"data": [{"id": …}]}.
  Result<Json> models();

 private:
  FrontApi(http::Origin origin, std::string key, const std::string& ca_file);

  http::Origin origin_;
  std::string key_;
  std::unique_ptr<HttpCaller> caller_;
};

}  // namespace outlast::apps
