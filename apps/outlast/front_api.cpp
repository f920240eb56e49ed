#include "apps/outlast/front_api.hpp"

#include "apps/outlast/cli_error.hpp"

namespace outlast::apps {
namespace {

constexpr http::ClientTimeouts front_timeouts{5'000, 600'000, 300'000};

}  // namespace

void add_front_options(CLI::App& command, std::string& url, std::string& key_file) {
  command.add_option("--url", url, "the node's HTTP front, http://HOST:PORT [env OUTLAST_URL]")
      ->type_name("URL");
  command
      .add_option("--key-file", key_file,
                  "file with the virtual key [env OUTLAST_KEY holds the key itself]")
      ->type_name("FILE");
}

FrontApi::FrontApi(http::Origin origin, std::string key, const std::string& ca_file)
    : origin_(std::move(origin)),
      key_(std::move(key)),
      caller_(std::make_unique<HttpCaller>(ca_file)) {}

Result<FrontApi> FrontApi::find(const GlobalOptions& options, const std::string& url,
                                const std::string& key_file) {
  auto origin = find_front_origin(options, url);
  if (!origin) return fail(origin.error());
  auto key = find_virtual_key(key_file);
  if (!key) return fail(key.error());
  return FrontApi(std::move(*origin), std::move(*key), options.ca_file);
}

Result<HttpAnswer> FrontApi::call(const std::string& method, const std::string& path,
                                  const std::string& body,
                                  const std::vector<std::string>& wanted_headers,
                                  const BodySink& sink) {
  HttpCall call;
  call.origin = origin_;
  call.method = method;
  call.path = path;
  call.headers.emplace_back("authorization", "Bearer " + key_);
  if (!body.empty()) call.headers.emplace_back("content-type", "application/json");
  call.body = body;
  call.wanted_headers = wanted_headers;
  call.timeouts = front_timeouts;
  auto answer = caller_->call(call, sink);
  if (!answer) return fail(unreachable(origin_, "the node's HTTP front", answer.error()));
  if (answer->status == 200) return answer;
  if (answer->status == 401) {
    return fail(CliError::failed,
                "the node refused this virtual key; give a live one in OUTLAST_KEY or --key-file, "
                "or make one with "
                "'outlast key create --tenant ORG/TEAM/USER'");
  }
  return fail(answer->status == 404 ? CliError::not_found : CliError::failed, message_of(*answer));
}

Result<Json> FrontApi::models() {
  const auto answer = call("GET", "/v1/models");
  if (!answer) return fail(answer.error());
  return parse_object(answer->body, "the list of models");
}

}  // namespace outlast::apps
