#include "apps/outlast/http_call.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

namespace outlast::apps {
namespace {

constexpr std::size_t body_bytes_max = 64 * 1024 * 1024;

struct Outcome {
  bool done = false;
  Result<HttpAnswer> answer;
};

http::asio::awaitable<Result<HttpAnswer>> perform(http::Client& client, const HttpCall& call,
                                                  const BodySink& sink) {
  std::vector<http::HeaderField> headers;
  for (const auto& [name, value] : call.headers) headers.push_back({name, value});
  auto response = co_await client.request(call.origin, call.method, call.path, headers, call.body,
                                          call.timeouts, nullptr);
  if (!response) co_return fail(response.error());
  http::ClientResponse& arrived = **response;
  HttpAnswer answer;
  answer.status = arrived.status();
  for (const std::string& name : call.wanted_headers)
    answer.headers.emplace_back(arrived.header(name));
  const bool streamed = sink && answer.status == 200;
  while (true) {
    const auto bytes = co_await arrived.read();
    if (!bytes) co_return fail(bytes.error());
    if (bytes->empty()) co_return answer;
    if (streamed) {
      if (!sink(*bytes)) co_return answer;
      continue;
    }
    if (answer.body.size() + bytes->size() > body_bytes_max) {
      co_return fail(http::HttpError::body_too_large,
                     "the answer is larger than " + std::to_string(body_bytes_max) + " bytes");
    }
    answer.body.append(*bytes);
  }
}

http::asio::awaitable<void> perform_into(http::Client& client, const HttpCall& call,
                                         const BodySink& sink, Outcome& outcome) {
  outcome.answer = co_await perform(client, call, sink);
  outcome.done = true;
}

http::ClientOptions options_with(const std::string& ca_file) {
  http::ClientOptions options;
  options.ca_file = ca_file;
  return options;
}

}  // namespace

HttpCaller::HttpCaller(const std::string& ca_file)
    : context_(1), client_(context_, options_with(ca_file)) {}

Result<HttpAnswer> HttpCaller::call(const HttpCall& call, const BodySink& sink) {
  Outcome outcome{false, HttpAnswer{}};
  http::asio::co_spawn(context_, perform_into(client_, call, sink, outcome), http::asio::detached);
  context_.restart();
  // The pool's timers keep the context busy for longer than the call.
  while (!outcome.done && context_.run_one() > 0) {
  }
  return std::move(outcome.answer);
}

}  // namespace outlast::apps
