// HttpCaller: one HTTP request at a time, waiting for its answer. For a command line, which has
// nothing else to do.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/client.hpp"

namespace outlast::apps {

struct HttpCall {
  http::Origin origin;
  std::string method = "GET";
  std::string path;  // after the origin's prefix, with its query
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::vector<std::string> wanted_headers;  // of the answer
  http::ClientTimeouts timeouts;
};

struct HttpAnswer {
  unsigned status = 0;
  std::vector<std::string> headers;  // one per wanted header; empty where absent
  std::string body;                  // empty where a sink took it
};

// Takes bytes of a body as they arrive; false ends the call without an error.
using BodySink = std::function<bool(std::string_view bytes)>;

// One owner.
class HttpCaller {
 public:
  // `ca_file`: PEM of the authorities to trust; empty for the system's.
  explicit HttpCaller(const std::string& ca_file);

  // `sink` takes the body of an answer of status 200; every other body is collected, up to a limit.
  Result<HttpAnswer> call(const HttpCall& call, const BodySink& sink = nullptr);

 private:
  http::asio::io_context context_;
  http::Client client_;
};

}  // namespace outlast::apps
