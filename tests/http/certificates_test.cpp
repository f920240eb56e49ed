// The private authority and what it signs, as OpenSSL's own verifier sees it.
#include "http/certificates.hpp"

#include <ctime>
#include <memory>

#include <catch2/catch.hpp>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace outlast::http::certificates_test {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Certificate read(const std::string& pem) {
  BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  Certificate certificate(PEM_read_bio_X509(text, nullptr, nullptr, nullptr), X509_free);
  BIO_free(text);
  REQUIRE(certificate != nullptr);
  return certificate;
}

// X509_V_OK, or why a program that trusts `authority` refuses `pem` for the purpose.
int verify(const std::string& authority, const std::string& pem, int purpose) {
  const Certificate root = read(authority);
  const Certificate leaf = read(pem);
  X509_STORE* store = X509_STORE_new();
  X509_STORE_add_cert(store, root.get());
  X509_STORE_CTX* context = X509_STORE_CTX_new();
  X509_STORE_CTX_init(context, store, leaf.get(), nullptr);
  X509_STORE_CTX_set_purpose(context, purpose);
  X509_STORE_CTX_set_flags(context, X509_V_FLAG_X509_STRICT);
  const int result = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  return result;
}

std::int64_t days_until(std::int64_t time_ms) { return (time_ms / 1'000 - std::time(nullptr)) / 86'400; }

CertificateRequest server(std::vector<std::string> hosts) {
  CertificateRequest request;
  request.common_name = "outlast-etcd";
  request.hosts = std::move(hosts);
  request.server = true;
  return request;
}

CertificateRequest client(const std::string& name) {
  CertificateRequest request;
  request.common_name = name;
  return request;
}

}  // namespace

TEST_CASE("a server's certificate is good for both sides, and for its hosts only", "[http][tls]") {
  const auto authority = CertificateAuthority::make("test");
  REQUIRE(authority);
  const std::string root = authority->pem()->certificate;
  const auto pair = authority->issue(server({"etcd1.example", "10.0.0.1", "fd00::1"}));
  REQUIRE(pair);
  CHECK(verify(root, pair->certificate, X509_PURPOSE_SSL_SERVER) == X509_V_OK);
  CHECK(verify(root, pair->certificate, X509_PURPOSE_SSL_CLIENT) == X509_V_OK);
  const Certificate certificate = read(pair->certificate);
  CHECK(X509_check_host(certificate.get(), "etcd1.example", 0, 0, nullptr) == 1);
  CHECK(X509_check_ip_asc(certificate.get(), "10.0.0.1", 0) == 1);
  CHECK(X509_check_ip_asc(certificate.get(), "fd00::1", 0) == 1);
  CHECK(X509_check_host(certificate.get(), "etcd2.example", 0, 0, nullptr) != 1);
  CHECK(X509_check_ip_asc(certificate.get(), "10.0.0.2", 0) != 1);
}

TEST_CASE("a client's certificate serves nobody, and signs nothing", "[http][tls]") {
  const auto authority = CertificateAuthority::make("test");
  REQUIRE(authority);
  const std::string root = authority->pem()->certificate;
  const auto pair = authority->issue(client("node n1"));
  REQUIRE(pair);
  CHECK(verify(root, pair->certificate, X509_PURPOSE_SSL_CLIENT) == X509_V_OK);
  CHECK(verify(root, pair->certificate, X509_PURPOSE_SSL_SERVER) == X509_V_ERR_INVALID_PURPOSE);
  const auto as_authority = CertificateAuthority::load(*pair);
  REQUIRE_FALSE(as_authority);
  CHECK(is(as_authority.error(), CertificateError::invalid));
}

TEST_CASE("certificates of one authority are strangers to another", "[http][tls]") {
  const auto ours = CertificateAuthority::make("same name");
  const auto theirs = CertificateAuthority::make("same name");
  REQUIRE(ours);
  REQUIRE(theirs);
  const auto pair = theirs->issue(client("node n1"));
  REQUIRE(pair);
  CHECK(verify(ours->pem()->certificate, pair->certificate, X509_PURPOSE_SSL_CLIENT) != X509_V_OK);
}

TEST_CASE("an authority that was read back signs what the first one's friends accept", "[http][tls]") {
  const auto made = CertificateAuthority::make("test");
  REQUIRE(made);
  const auto pem = made->pem();
  REQUIRE(pem);
  const auto again = CertificateAuthority::load(*pem);
  REQUIRE(again);
  const auto pair = again->issue(client("node n2"));
  REQUIRE(pair);
  CHECK(verify(pem->certificate, pair->certificate, X509_PURPOSE_SSL_CLIENT) == X509_V_OK);
}

TEST_CASE("no certificate outlives its authority, and two have no serial number in common", "[http][tls]") {
  const auto authority = CertificateAuthority::make("test");
  REQUIRE(authority);
  CertificateRequest long_lived = client("node n1");
  long_lived.days = authority_days + 1'000;
  const auto first = authority->issue(long_lived);
  const auto second = authority->issue(long_lived);
  REQUIRE(first);
  REQUIRE(second);
  const Certificate root = read(authority->pem()->certificate);
  const Certificate one = read(first->certificate);
  const Certificate two = read(second->certificate);
  CHECK(ASN1_TIME_compare(X509_get0_notAfter(one.get()), X509_get0_notAfter(root.get())) == 0);
  CHECK(ASN1_INTEGER_cmp(X509_get0_serialNumber(one.get()), X509_get0_serialNumber(two.get())) != 0);
}

TEST_CASE("names that no certificate can hold are refused in words", "[http][tls]") {
  const auto authority = CertificateAuthority::make("test");
  REQUIRE(authority);
  for (const std::string host : {"", "two words", "a,DNS:evil.example", ".example", "snow\xe2\x98\x83", "-x"}) {
    INFO(host);
    const auto pair = authority->issue(server({host}));
    REQUIRE_FALSE(pair);
    CHECK(is(pair.error(), CertificateError::invalid));
  }
  CHECK_FALSE(authority->issue(server({})));
  CHECK_FALSE(authority->issue(client("")));
  CHECK_FALSE(authority->issue(client(std::string(common_name_bytes_max + 1, 'x'))));
  CHECK_FALSE(CertificateAuthority::make("line\nbreak"));
}

TEST_CASE("what is no authority's pair is not taken for one", "[http][tls]") {
  const auto authority = CertificateAuthority::make("test");
  const auto other = CertificateAuthority::make("other");
  REQUIRE(authority);
  REQUIRE(other);
  const CertificatePair good = *authority->pem();
  for (const CertificatePair& bad : {CertificatePair{"", ""}, CertificatePair{good.certificate, "no key"},
                                     CertificatePair{"no certificate", good.key},
                                     CertificatePair{good.certificate, other->pem()->key}}) {
    const auto loaded = CertificateAuthority::load(bad);
    REQUIRE_FALSE(loaded);
    CHECK(is(loaded.error(), CertificateError::invalid));
  }
}

TEST_CASE("the end of a text of certificates is that of the first to end", "[http][tls]") {
  const auto authority = std::move(*CertificateAuthority::make("a"));
  const std::string root = authority.pem()->certificate;
  CertificateRequest request = server({"localhost"});
  request.days = 40;
  const std::string leaf = authority.issue(request)->certificate;
  const auto days = days_until(*certificates_end_ms(leaf));
  CHECK((days == 39 || days == 40));  // the second may have changed since
  CHECK(days_until(*certificates_end_ms(root)) > 3'600);
  CHECK(*certificates_end_ms(root + leaf) == *certificates_end_ms(leaf));
  CHECK_FALSE(certificates_end_ms(""));
  CHECK_FALSE(certificates_end_ms("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
}

}  // namespace outlast::http::certificates_test
