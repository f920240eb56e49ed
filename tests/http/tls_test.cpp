// TLS end to end, with an authority and certificates that the test makes.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "http/stream.hpp"
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test::tls_test {
namespace {

struct KeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct CertificateFree {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Key = std::unique_ptr<EVP_PKEY, KeyFree>;
using Certificate = std::unique_ptr<X509, CertificateFree>;

Key make_key() { return Key(EVP_EC_gen("P-256")); }

void add_extension(X509& certificate, X509& issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  REQUIRE(extension != nullptr);
  X509_add_ext(&certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// `names` in the form of a subjectAltName; empty for an authority that signs itself.
Certificate make_certificate(EVP_PKEY& key, const std::string& name, const std::string& names,
                             X509* issuer, EVP_PKEY& issuer_key, long valid_from_s = -3600,
                             long valid_to_s = 3600) {
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), issuer == nullptr ? 1 : 2);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), valid_to_s);
  X509_set_pubkey(certificate.get(), &key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509& signer = issuer == nullptr ? *certificate : *issuer;
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(&signer));
  if (issuer == nullptr) {
    add_extension(*certificate, signer, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(*certificate, signer, NID_key_usage, "critical,keyCertSign");
  } else {
    add_extension(*certificate, signer, NID_subject_alt_name, names);
  }
  REQUIRE(X509_sign(certificate.get(), &issuer_key, EVP_sha256()) > 0);
  return certificate;
}

// A folder with an authority and certificates of its making, gone with the test.
class Authority {
 public:
  Authority()
      : key_(make_key()),
        certificate_(make_certificate(*key_, "test authority", "", nullptr, *key_)) {
    std::string pattern = (std::filesystem::temp_directory_path() / "outlast-tls-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
    write_certificate("ca.pem", *certificate_);
  }
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;
  ~Authority() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  [[nodiscard]] std::string ca_file() const { return folder_ / "ca.pem"; }
  TlsServerFiles issue(const std::string& names, long valid_to_s = 3600) {
    const Key key = make_key();
    const auto stem = std::to_string(++issued_);
    write_certificate(stem + ".pem", *make_certificate(*key, "server", names, certificate_.get(),
                                                       *key_, -7200, valid_to_s));
    FILE* file = std::fopen((folder_ / (stem + ".key")).c_str(), "w");
    REQUIRE(file != nullptr);
    PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    return {folder_ / (stem + ".pem"), folder_ / (stem + ".key")};
  }

 private:
  void write_certificate(const std::string& name, X509& certificate) {
    FILE* file = std::fopen((folder_ / name).c_str(), "w");
    REQUIRE(file != nullptr);
    PEM_write_X509(file, &certificate);
    std::fclose(file);
  }

  std::filesystem::path folder_;
  Key key_;
  Certificate certificate_;
  int issued_ = 0;
};

Origin secure(const ServerFixture& fixture, const std::string& host = "127.0.0.1") {
  return {true, host, fixture.port, ""};
}

asio::awaitable<void> echo_streamed(Request& request, Response& response) {
  Result<void> done = co_await response.start(200, {});
  for (std::size_t at = 0; done && at < request.body.size(); at += 70'000) {
    done = co_await response.write(request.body.substr(at, 70'000));
  }
  if (done && request.path() == "/cut") {
    response.cut();
  } else if (done) {
    done = co_await response.finish("");
  }
}

// A server of one connection that asks for a certificate of `ca_file`, answers one request, and tells whose it was.
class AskingServer {
 public:
  AskingServer(const TlsServerFiles& files, const std::string& ca_file)
      : context_(std::move(*make_server_tls(files.certificate, files.private_key))),
        acceptor_(io_, Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)) {
    REQUIRE(SSL_CTX_load_verify_locations(context_.get(), ca_file.c_str(), nullptr) == 1);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    thread_ = std::thread([this] { serve(); });
  }
  AskingServer(const AskingServer&) = delete;
  AskingServer& operator=(const AskingServer&) = delete;
  ~AskingServer() { thread_.join(); }

  [[nodiscard]] Origin origin() const {
    return {true, "127.0.0.1", acceptor_.local_endpoint().port(), ""};
  }

 private:
  void serve() {
    Tcp::socket socket(io_);
    acceptor_.accept(socket);
    SSL* ssl = SSL_new(context_.get());
    SSL_set_fd(ssl, socket.native_handle());
    char request[1024];
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof(request)) > 0) {
      constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome";
      SSL_write(ssl, answer.data(), static_cast<int>(answer.size()));
      SSL_shutdown(ssl);
    }
    // The client has all that was sent before it sees a reset.
    boost::system::error_code ended;
    socket.shutdown(Tcp::socket::shutdown_send, ended);
    while (!ended) socket.read_some(asio::buffer(request), ended);
    SSL_free(ssl);
  }

  asio::io_context io_;
  SslContext context_;
  Tcp::acceptor acceptor_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("requests and answers of any size pass over TLS, on one connection", "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("DNS:localhost,IP:127.0.0.1");
  ServerFixture fixture(echo_streamed, {}, &files);
  ClientOptions options;
  options.ca_file = authority.ca_file();
  Client client(fixture.loop.io, options);
  for (const std::size_t size : {1, 100, 16'384, 16'385, 100'000, 5'000'000}) {
    std::string body(size, ' ');
    for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + i % 29 % 26);
    const Answer answer = fixture.loop.run(fetch(client, secure(fixture), "POST", "/", body));
    INFO(size);
    REQUIRE_FALSE(answer.error);
    CHECK(answer.body == body);
  }
  CHECK(fixture.server->counters().connections_accepted == 1);
  CHECK(client.idle_connections() == 1);
  const Answer by_name =
      fixture.loop.run(fetch(client, secure(fixture, "localhost"), "POST", "/", "named"));
  REQUIRE_FALSE(by_name.error);
  CHECK(by_name.body == "named");
}

TEST_CASE("a certificate for another host, of an unknown authority or out of date is not accepted",
          "[http][tls]") {
  Authority authority;
  Authority stranger;
  const TlsServerFiles good = authority.issue("IP:127.0.0.1");
  const TlsServerFiles other_name = authority.issue("DNS:other.example,IP:127.0.0.2");
  const TlsServerFiles expired = authority.issue("IP:127.0.0.1", -3600);
  struct Case {
    const char* name;
    const TlsServerFiles* files;
    std::string ca_file;
    const char* message;
  };
  for (const Case& one : {Case{"other host", &other_name, authority.ca_file(), "mismatch"},
                          Case{"unknown authority", &good, stranger.ca_file(), "certificate"},
                          Case{"system's authorities", &good, "", "certificate"},
                          Case{"expired", &expired, authority.ca_file(), "expired"}}) {
    INFO(one.name);
    ServerFixture fixture(echo, {}, one.files);
    ClientOptions options;
    options.ca_file = one.ca_file;
    Client client(fixture.loop.io, options);
    const Answer answer = fixture.loop.run(fetch(client, secure(fixture), "POST", "/", "secret"));
    REQUIRE(answer.error);
    CHECK(is(*answer.error, HttpError::tls_failed));
    INFO(answer.error->message);
    CHECK(answer.error->message.find(one.message) != std::string::npos);
    CHECK(answer.error->message.find("127.0.0.1:") != std::string::npos);
    CHECK(fixture.server->counters().requests == 0);
  }
}

TEST_CASE("files that cannot be used for TLS are named", "[http][tls]") {
  Authority authority;
  const TlsServerFiles good = authority.issue("IP:127.0.0.1");
  const TlsServerFiles other = authority.issue("IP:127.0.0.1");
  Loop loop;
  ServerOptions options;
  options.error_body = plain_error;
  for (const TlsServerFiles& files : {TlsServerFiles{"/nowhere/a.pem", good.private_key},
                                      TlsServerFiles{good.certificate, "/nowhere/a.key"},
                                      TlsServerFiles{good.certificate, other.private_key}}) {
    options.tls = &files;
    Server server(loop.io, options, echo);
    const auto bound = server.listen("127.0.0.1:0");
    REQUIRE_FALSE(bound);
    CHECK(is(bound.error(), HttpError::tls_failed));
    const bool named = bound.error().message.find(files.certificate) != std::string::npos ||
                       bound.error().message.find(files.private_key) != std::string::npos;
    CHECK(named);
  }
  ServerFixture fixture(echo, {}, &good);
  ClientOptions client_options;
  client_options.ca_file = "/nowhere/ca.pem";
  Client client(fixture.loop.io, client_options);
  const Answer answer = fixture.loop.run(fetch(client, secure(fixture), "GET", "/", ""));
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::tls_failed));
  CHECK(answer.error->message.find("/nowhere/ca.pem") != std::string::npos);
}

TEST_CASE("a server that asks for a certificate lets in who has one of its authority",
          "[http][tls]") {
  Authority authority;
  Authority stranger;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  struct Case {
    const char* name;
    TlsServerFiles shown;
    const char* message;  // null: let in
  };
  for (const Case& one :
       {Case{"of the authority", authority.issue("DNS:client"), nullptr},
        Case{"none", {}, "certificate"},
        Case{"of a stranger", stranger.issue("DNS:client"), "alert"}}) {
    INFO(one.name);
    AskingServer server(files, authority.ca_file());
    Loop loop;
    ClientOptions options;
    options.ca_file = authority.ca_file();
    options.certificate_file = one.shown.certificate;
    options.key_file = one.shown.private_key;
    Client client(loop.io, options);
    const Answer answer = loop.run(fetch(client, server.origin(), "POST", "/", "hello"));
    if (one.message == nullptr) {
      REQUIRE_FALSE(answer.error);
      CHECK(answer.body == "welcome");
      continue;
    }
    REQUIRE(answer.error);
    INFO(answer.error->message);
    CHECK(is(*answer.error, HttpError::tls_failed));
    CHECK(answer.error->message.find(one.message) != std::string::npos);
  }
}

TEST_CASE("a client's certificate that cannot be used is named", "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  ServerFixture fixture(echo, {}, &files);
  ClientOptions options;
  options.ca_file = authority.ca_file();
  options.certificate_file = files.certificate;
  options.key_file = "/nowhere/client.key";
  Client client(fixture.loop.io, options);
  const Answer answer = fixture.loop.run(fetch(client, secure(fixture), "GET", "/", ""));
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::tls_failed));
  CHECK(answer.error->message.find("/nowhere/client.key") != std::string::npos);
}

TEST_CASE("a cut over TLS is seen as a cut", "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  ServerFixture fixture(echo_streamed, {}, &files);
  ClientOptions options;
  options.ca_file = authority.ca_file();
  Client client(fixture.loop.io, options);
  const Answer cut = fixture.loop.run(fetch(client, secure(fixture), "POST", "/cut", "some"));
  REQUIRE(cut.error);
  CHECK(is(*cut.error, HttpError::closed));
  CHECK(cut.body == "some");
}

TEST_CASE("a client that speaks plainly to TLS, and a server that does not, fail at once",
          "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  ServerFixture tls(echo, {}, &files);
  RawPeer plain(tls.loop, tls.port);
  plain.send(get());
  CHECK(plain.wait_closed());
  CHECK(plain.received().find("HTTP/1.1 200") == std::string::npos);
  CHECK(tls.server->counters().requests == 0);

  ServerFixture clear(echo);
  ClientOptions options;
  options.ca_file = authority.ca_file();
  Client client(clear.loop.io, options);
  const Answer answer = clear.loop.run(fetch(client, secure(clear), "GET", "/", ""));
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::tls_failed));
}

TEST_CASE("a handshake that does not come costs its time-out only", "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  ServerLimits limits;
  limits.head_timeout_ms = 50;
  ServerFixture fixture(echo, limits, &files);
  RawPeer silent(fixture.loop, fixture.port);
  CHECK(silent.wait_closed());

  RawListener mute(fixture.loop);
  ClientOptions options;
  options.ca_file = authority.ca_file();
  Client client(fixture.loop.io, options);
  ClientTimeouts timeouts;
  timeouts.connect_ms = 50;
  const Answer answer = fixture.loop.run(
      fetch(client, Origin{true, "127.0.0.1", mute.port(), ""}, "GET", "/", "", timeouts));
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::connect_timed_out));
}

TEST_CASE("the handler learns over TLS that the caller has left", "[http][tls]") {
  Authority authority;
  const TlsServerFiles files = authority.issue("IP:127.0.0.1");
  bool left = false;
  Gate* gate = nullptr;  // the fixture's
  ServerFixture fixture(
      [&left, &gate](Request&, Response& response) -> asio::awaitable<void> {
        response.on_disconnect([&left, &gate] {
          left = true;
          gate->open();
        });
        co_await gate->wait();
        Result<void> sent = co_await response.send(200, {}, "");
        CHECK_FALSE(sent);
      },
      {}, &files);
  gate = &fixture.add_gate();
  ClientOptions options;
  options.ca_file = authority.ca_file();
  Client client(fixture.loop.io, options);
  Cancellation cancellation;
  std::optional<Answer> got;
  asio::co_spawn(fixture.loop.io, fetch(client, secure(fixture), "GET", "/", "", {}, &cancellation),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  REQUIRE(fixture.loop.run_until([&fixture] { return fixture.server->counters().requests == 1; }));
  cancellation.cancel();
  REQUIRE(fixture.loop.run_until([&left, &got] { return left && got; }));
  CHECK(is(*got->error, HttpError::cancelled));
}

}  // namespace outlast::http::test::tls_test
