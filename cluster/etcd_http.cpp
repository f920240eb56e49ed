#include "cluster/etcd_http.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/asio/steady_timer.hpp>

namespace outlast::cluster {
namespace {

namespace asio = boost::asio;
using http::HttpError;

http::ClientOptions client_options(const EtcdOptions& options) {
  http::ClientOptions made;
  made.ca_file = options.ca_file;
  made.certificate_file = options.certificate_file;
  made.key_file = options.key_file;
  return made;
}

// Ends a request when its whole time is over, wherever it stands.
struct Limit {
  explicit Limit(asio::io_context& io) : timer(io) {}
  http::Cancellation cancellation;
  asio::steady_timer timer;
};

void begin(const std::shared_ptr<Limit>& limit, std::uint32_t limit_ms) {
  limit->timer.expires_after(std::chrono::milliseconds(limit_ms));
  limit->timer.async_wait([limit](const boost::system::error_code& error) {
    if (!error) limit->cancellation.cancel();
  });
}

// What a failed handshake or a strange answer is usually about.
std::string advice(const http::Origin& origin, const Error& error) {
  const auto says = [&error](std::string_view part) { return error.message.find(part) != std::string::npos; };
  if (is(error, HttpError::tls_failed)) {
    if (says("wrong version number") || says("closed the connection"))
      return "; if etcd speaks plain HTTP there, write the endpoint with http://";
    if (says("certificate is not accepted"))
      return "; check the CA file, and the names in etcd's server certificate";
    if (says("alert"))
      return "; etcd does not accept the client certificate: check its file, and etcd's trusted CA file";
    return {};
  }
  const bool cut = is(error, HttpError::malformed) || is(error, HttpError::closed);
  return cut && !origin.tls ? "; if etcd asks for TLS there, write the endpoint with https://" : "";
}

}  // namespace

EtcdHttp::EtcdHttp(asio::io_context& io, const EtcdOptions& options)
    : io_(io), options_(options), client_(io, client_options(options)) {}

Result<void> EtcdHttp::parse_endpoints() {
  if (options_.endpoints.empty() || options_.endpoints.size() > EtcdClient::endpoints_max) {
    return fail(AgreementError::refused, "etcd needs 1 to " + std::to_string(EtcdClient::endpoints_max) +
                                             " endpoints; " + std::to_string(options_.endpoints.size()) + " are given");
  }
  if (options_.certificate_file.empty() != options_.key_file.empty())
    return fail(AgreementError::refused, "a client certificate for etcd needs both its file and its key's");
  for (const std::string& endpoint : options_.endpoints) {
    Result<http::Origin> origin = http::Origin::parse(endpoint);
    if (!origin) return fail(AgreementError::refused, "etcd's endpoint " + origin.error().message);
    origins_.push_back(std::move(*origin));
  }
  return {};
}

EtcdAnswer EtcdHttp::failed(std::size_t endpoint, const Error& error, bool once) const {
  EtcdAnswer answer;
  answer.try_another = true;
  std::string message = "etcd: " + error.message + advice(origins_[endpoint], error);
  if (is(error, HttpError::tls_failed)) {
    // Whoever does not accept a certificate does nothing that the request asked for.
    answer.result = fail(AgreementError::refused, std::move(message));
  } else if (is(error, HttpError::connect_failed) || is(error, HttpError::connect_timed_out)) {
    answer.result = fail(AgreementError::unavailable, std::move(message));
  } else {
    answer.sent = true;
    if (is(error, HttpError::cancelled)) message = "etcd did not answer in time (" + options_.endpoints[endpoint] + ")";
    answer.result = fail(once ? AgreementError::unknown : AgreementError::unavailable, std::move(message));
  }
  return answer;
}

asio::awaitable<EtcdAnswer> EtcdHttp::ask(std::size_t endpoint, std::string_view path, std::string_view body,
                                          bool once, std::uint32_t limit_ms) {
  const auto limit = std::make_shared<Limit>(io_);
  begin(limit, limit_ms);
  const http::Origin& origin = origins_[endpoint];
  const http::HeaderField headers[] = {{"Content-Type", "application/json"}};
  const http::BodyPieces pieces(body);
  const http::ClientTimeouts timeouts{std::max<std::uint32_t>(limit_ms / 2, 1), limit_ms, limit_ms};
  Result<std::unique_ptr<http::ClientResponse>> response =
      co_await client_.request(origin, "POST", path, headers, pieces, timeouts, &limit->cancellation);
  if (!response) {
    limit->timer.cancel();
    co_return failed(endpoint, response.error(), once);
  }
  std::string received;
  Result<std::string_view> piece;
  while (true) {
    piece = co_await (*response)->read();
    if (!piece || piece->empty()) break;
    if (received.size() + piece->size() > EtcdClient::answer_bytes_max) break;
    received.append(*piece);
  }
  limit->timer.cancel();
  if (!piece) co_return failed(endpoint, piece.error(), once);
  EtcdAnswer answer;
  answer.sent = true;
  if (!piece->empty()) {
    answer.result = fail(once ? AgreementError::unknown : AgreementError::too_large,
                         "etcd's answer is larger than accepted");
    co_return answer;
  }
  received.reserve(received.size() + http::body_padding_bytes);
  const unsigned status = (*response)->status();
  if (status == 200) {
    answer.result = std::move(received);
    co_return answer;
  }
  Error error = etcd_error(status, received, once);
  answer.try_another = is(error, AgreementError::unavailable) || is(error, AgreementError::unknown);
  answer.result = fail(std::move(error));
  co_return answer;
}

}  // namespace outlast::cluster
