#include "http/certificates.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace outlast::http {
namespace {

constexpr long backdated_s = 3'600;
constexpr int serial_bits = 127;  // RFC 5280: positive, at most 20 octets; random, so that two are never the same

template <class T, void (*release)(T*)>
struct Release {
  void operator()(T* object) const { release(object); }
};
void release_bio(BIO* bio) { BIO_free_all(bio); }
void release_extension(X509_EXTENSION* extension) { X509_EXTENSION_free(extension); }
void release_names(GENERAL_NAMES* names) { GENERAL_NAMES_free(names); }
using Key = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Release<X509, X509_free>>;
using Bio = std::unique_ptr<BIO, Release<BIO, release_bio>>;
using Extension = std::unique_ptr<X509_EXTENSION, Release<X509_EXTENSION, release_extension>>;
using Names = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES, release_names>>;
using Number = std::unique_ptr<BIGNUM, Release<BIGNUM, BN_free>>;

// The library's first reason, which it keeps per thread until it is asked.
Failure library_error(const std::string& what) {
  const unsigned long code = ERR_get_error();
  char text[256] = "no reason given";
  if (code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return fail(CertificateError::failed, what + ": " + text);
}

bool is_ip_address(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 || inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

bool is_dns_name(const std::string& host) {
  constexpr std::size_t dns_name_bytes_max = 253;
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  return !host.empty() && host.size() <= dns_name_bytes_max && std::all_of(host.begin(), host.end(), fits) &&
         host.front() != '.' && host.front() != '-';
}

bool is_common_name(const std::string& name) {
  const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
  return !name.empty() && name.size() <= common_name_bytes_max && std::all_of(name.begin(), name.end(), printable);
}

bool set_name(X509_NAME* name, const std::string& common_name) {
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
  return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("Outlast"), -1, -1,
                                    0) == 1 &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0) == 1;
}

bool set_random_serial(X509& certificate) {
  const Number number(BN_new());
  return number != nullptr && BN_rand(number.get(), serial_bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(&certificate)) != nullptr;
}

bool add_extension(X509& certificate, X509& issuer, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value));
  return extension != nullptr && X509_add_ext(&certificate, extension.get(), -1) == 1;
}

// Built name by name and not from one text, in which a comma would begin another name.
bool add_hosts(X509& certificate, const std::vector<std::string>& hosts) {
  const Names names(GENERAL_NAMES_new());
  if (names == nullptr) return false;
  for (const std::string& host : hosts) {
    GENERAL_NAME* name = a2i_GENERAL_NAME(nullptr, nullptr, nullptr, is_ip_address(host) ? GEN_IPADD : GEN_DNS,
                                          host.c_str(), 0);
    if (name == nullptr) return false;
    if (sk_GENERAL_NAME_push(names.get(), name) == 0) {
      GENERAL_NAME_free(name);
      return false;
    }
  }
  return X509_add1_ext_i2d(&certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
}

// Everything but the extensions and the signature.
Certificate blank_certificate(const std::string& common_name, EVP_PKEY& key, const X509* issuer, std::uint32_t days) {
  Certificate made(X509_new());
  if (made == nullptr || X509_set_version(made.get(), X509_VERSION_3) != 1 || !set_random_serial(*made) ||
      X509_gmtime_adj(X509_getm_notBefore(made.get()), -backdated_s) == nullptr ||
      X509_time_adj_ex(X509_getm_notAfter(made.get()), static_cast<int>(days), 0, nullptr) == nullptr ||
      X509_set_pubkey(made.get(), &key) != 1 || !set_name(X509_get_subject_name(made.get()), common_name)) {
    return nullptr;
  }
  const X509_NAME* by = issuer == nullptr ? X509_get_subject_name(made.get()) : X509_get_subject_name(issuer);
  if (X509_set_issuer_name(made.get(), by) != 1) return nullptr;
  if (issuer != nullptr && ASN1_TIME_compare(X509_get0_notAfter(made.get()), X509_get0_notAfter(issuer)) > 0 &&
      X509_set1_notAfter(made.get(), X509_get0_notAfter(issuer)) != 1) {
    return nullptr;
  }
  return made;
}

Result<std::string> text_of(const Bio& bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);
  if (size <= 0) return library_error("no PEM was written");
  return std::string(bytes, static_cast<std::size_t>(size));
}

Result<CertificatePair> pem_of(X509& certificate, EVP_PKEY& key) {
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const Bio key_text(BIO_new(BIO_s_mem()));
  if (certificate_text == nullptr || key_text == nullptr ||
      PEM_write_bio_X509(certificate_text.get(), &certificate) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return library_error("a certificate cannot be written as PEM");
  }
  auto certificate_pem = text_of(certificate_text);
  if (!certificate_pem) return fail(certificate_pem.error());
  auto key_pem = text_of(key_text);
  if (!key_pem) return fail(key_pem.error());
  return CertificatePair{std::move(*certificate_pem), std::move(*key_pem)};
}

// A key of a file that is encrypted is no key to us: without this, the library would ask on the terminal.
int no_password(char*, int, int, void*) { return -1; }

}  // namespace

struct CertificateAuthority::State {
  Key key;
  Certificate certificate;
};

Result<std::int64_t> certificates_end_ms(const std::string& pem) {
  const Bio text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::optional<std::int64_t> first;
  const auto no_password = [](char*, int, int, void*) { return 0; };
  while (const Certificate one{PEM_read_bio_X509(text.get(), nullptr, no_password, nullptr)}) {
    std::tm end{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(one.get()), &end) != 1) return fail(CertificateError::invalid, "a certificate's end is no time");
    const std::int64_t end_ms = std::int64_t{::timegm(&end)} * 1'000;
    first = std::min(first.value_or(end_ms), end_ms);
  }
  ERR_clear_error();  // of the end of the text
  if (!first) return fail(CertificateError::invalid, "this is no certificate in PEM");
  return *first;
}

CertificateAuthority::CertificateAuthority(std::unique_ptr<State> state) : state_(std::move(state)) {}
CertificateAuthority::CertificateAuthority(CertificateAuthority&&) noexcept = default;
CertificateAuthority& CertificateAuthority::operator=(CertificateAuthority&&) noexcept = default;
CertificateAuthority::~CertificateAuthority() = default;

Result<CertificateAuthority> CertificateAuthority::make(const std::string& name) {
  if (!is_common_name(name)) {
    return fail(CertificateError::invalid, "an authority's name has 1 to 64 printable ASCII characters");
  }
  auto state = std::make_unique<State>();
  state->key.reset(EVP_EC_gen("P-256"));
  if (state->key == nullptr) return library_error("no key was made");
  state->certificate = blank_certificate(name, *state->key, nullptr, authority_days);
  if (state->certificate == nullptr) return library_error("no certificate was made");
  X509& made = *state->certificate;
  // pathlen:0 — what it signs is never an authority itself.
  if (!add_extension(made, made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !add_extension(made, made, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !add_extension(made, made, NID_subject_key_identifier, "hash") ||
      X509_sign(&made, state->key.get(), EVP_sha256()) == 0) {
    return library_error("the authority cannot sign itself");
  }
  return CertificateAuthority(std::move(state));
}

Result<CertificateAuthority> CertificateAuthority::load(const CertificatePair& pem) {
  auto state = std::make_unique<State>();
  const Bio certificate_text(BIO_new_mem_buf(pem.certificate.data(), static_cast<int>(pem.certificate.size())));
  const Bio key_text(BIO_new_mem_buf(pem.key.data(), static_cast<int>(pem.key.size())));
  if (certificate_text == nullptr || key_text == nullptr) return library_error("PEM cannot be read");
  state->certificate.reset(PEM_read_bio_X509(certificate_text.get(), nullptr, no_password, nullptr));
  state->key.reset(PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  if (state->certificate == nullptr) return fail(CertificateError::invalid, "this is no certificate in PEM");
  if (state->key == nullptr) return fail(CertificateError::invalid, "this is no key in PEM without a password");
  if (X509_check_private_key(state->certificate.get(), state->key.get()) != 1) {
    ERR_clear_error();
    return fail(CertificateError::invalid, "key and certificate do not belong together");
  }
  if (X509_check_ca(state->certificate.get()) != 1) {
    return fail(CertificateError::invalid, "this certificate is no authority's");
  }
  if (X509_cmp_current_time(X509_get0_notAfter(state->certificate.get())) <= 0) {
    return fail(CertificateError::invalid, "this authority's certificate has expired");
  }
  return CertificateAuthority(std::move(state));
}

Result<CertificatePair> CertificateAuthority::pem() const { return pem_of(*state_->certificate, *state_->key); }

Result<CertificatePair> CertificateAuthority::issue(const CertificateRequest& request) const {
  if (!is_common_name(request.common_name)) {
    return fail(CertificateError::invalid, "a certificate's name has 1 to 64 printable ASCII characters");
  }
  for (const std::string& host : request.hosts) {
    if (!is_ip_address(host) && !is_dns_name(host)) {
      return fail(CertificateError::invalid, "'" + host + "' is neither a host name nor an IP address");
    }
  }
  if (request.server && request.hosts.empty()) {
    return fail(CertificateError::invalid, "a server's certificate names at least one host");
  }
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return library_error("no key was made");
  const Certificate made = blank_certificate(request.common_name, *key, state_->certificate.get(), request.days);
  if (made == nullptr) return library_error("no certificate was made");
  X509& issuer = *state_->certificate;
  if (!add_extension(*made, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
      !add_extension(*made, issuer, NID_key_usage, "critical,digitalSignature") ||
      !add_extension(*made, issuer, NID_ext_key_usage, request.server ? "serverAuth,clientAuth" : "clientAuth") ||
      !add_extension(*made, issuer, NID_subject_key_identifier, "hash") ||
      !add_extension(*made, issuer, NID_authority_key_identifier, "keyid") ||
      (!request.hosts.empty() && !add_hosts(*made, request.hosts)) ||
      X509_sign(made.get(), state_->key.get(), EVP_sha256()) == 0) {
    return library_error("the certificate of '" + request.common_name + "' cannot be signed");
  }
  return pem_of(*made, *key);
}

}  // namespace outlast::http
