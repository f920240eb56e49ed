#include "http/stream.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include <boost/asio/ip/address.hpp>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/check.hpp"

namespace outlast::http {
namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

// A BIO straight on a socket whose writes raise no SIGPIPE, unlike OpenSSL's own.
int descriptor_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

int bio_write(BIO* bio, const char* bytes, int count) {
  BIO_clear_retry_flags(bio);
  const auto sent =
      ::send(descriptor_of(bio), bytes, static_cast<std::size_t>(count), MSG_NOSIGNAL);
  if (sent < 0 && would_block(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* bytes, int count) {
  BIO_clear_retry_flags(bio);
  const auto received = ::recv(descriptor_of(bio), bytes, static_cast<std::size_t>(count), 0);
  if (received < 0 && would_block(errno)) BIO_set_retry_read(bio);
  return static_cast<int>(received);
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

int bio_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

BIO* new_socket_bio(int descriptor) {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "outlast socket");
    check(made != nullptr, "BIO_meth_new");
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, bio_create);
    return made;
  }();
  BIO* bio = BIO_new(method);
  check(bio != nullptr, "BIO_new");
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)));
  return bio;
}

std::string last_openssl_error() {
  const auto code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "the peer closed the connection";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "unknown error";
}

// One record of TLS holds so much.
constexpr std::size_t tls_record_bytes_max = 16 * 1024;

constexpr std::string_view alpn_http_1_1("\x08http/1.1");

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_size,
                const unsigned char* offered, unsigned int offered_size, void*) {
  unsigned char* selected = nullptr;
  const auto* ours = reinterpret_cast<const unsigned char*>(alpn_http_1_1.data());
  if (SSL_select_next_proto(&selected, out_size, ours, alpn_http_1_1.size(), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

SslContext make_context(const SSL_METHOD* method) {
  ERR_clear_error();
  SslContext context(SSL_CTX_new(method));
  check(context != nullptr, "SSL_CTX_new");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

Result<void> use_certificate(SSL_CTX& context, const std::string& certificate_file,
                             const std::string& key_file) {
  if (SSL_CTX_use_certificate_chain_file(&context, certificate_file.c_str()) != 1) {
    return fail(HttpError::tls_failed, "cannot read the certificate chain (PEM) from " +
                                           certificate_file + ": " + last_openssl_error());
  }
  if (SSL_CTX_use_PrivateKey_file(&context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return fail(HttpError::tls_failed,
                "cannot read the private key (PEM) from " + key_file + ": " + last_openssl_error());
  }
  if (SSL_CTX_check_private_key(&context) != 1) {
    return fail(HttpError::tls_failed, "the private key in " + key_file +
                                           " does not belong to the certificate in " +
                                           certificate_file);
  }
  return {};
}

}  // namespace

void SslFree::operator()(SSL* ssl) const { SSL_free(ssl); }
void SslContextFree::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

Result<SslContext> make_server_tls(const std::string& certificate_file,
                                   const std::string& key_file) {
  SslContext context = make_context(TLS_server_method());
  Result<void> used = use_certificate(*context, certificate_file, key_file);
  if (!used) return fail(std::move(used.error()));
  SSL_CTX_set_alpn_select_cb(context.get(), select_alpn, nullptr);
  return context;
}

Result<SslContext> make_client_tls(const std::string& ca_file, const std::string& certificate_file,
                                   const std::string& key_file) {
  SslContext context = make_context(TLS_client_method());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context.get()) != 1) {
      return fail(HttpError::tls_failed,
                  "cannot load the system's certificate authorities; install ca-certificates");
    }
  } else if (SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) != 1) {
    return fail(HttpError::tls_failed, "cannot read certificate authorities (PEM) from " + ca_file +
                                           ": " + last_openssl_error());
  }
  if (!certificate_file.empty() || !key_file.empty()) {
    Result<void> used = use_certificate(*context, certificate_file, key_file);
    if (!used) return fail(std::move(used.error()));
  }
  SSL_CTX_set_alpn_protos(context.get(),
                          reinterpret_cast<const unsigned char*>(alpn_http_1_1.data()),
                          alpn_http_1_1.size());
  return context;
}

void Stream::begin_tls_as_server(SSL_CTX& context) {
  ssl_.reset(SSL_new(&context));
  check(ssl_ != nullptr, "SSL_new");
  BIO* bio = new_socket_bio(socket_.native_handle());
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_accept_state(ssl_.get());
}

void Stream::begin_tls_as_client(SSL_CTX& context, const std::string& host) {
  begin_tls_as_server(context);
  SSL_set_connect_state(ssl_.get());
  boost::system::error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) {
    SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
    SSL_set1_host(ssl_.get(), host.c_str());
  } else {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), host.c_str());
  }
}

IoResult Stream::tls_result(int returned) const {
  if (returned > 0) return {IoStatus::done, static_cast<std::size_t>(returned)};
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ: return {IoStatus::wants_read, 0};
    case SSL_ERROR_WANT_WRITE: return {IoStatus::wants_write, 0};
    case SSL_ERROR_ZERO_RETURN: return {IoStatus::end, 0};
    case SSL_ERROR_SSL:
      if (tls_failure_ == 0) tls_failure_ = ERR_peek_last_error();
      return {IoStatus::failed, 0};
    default:
      // Also an end without close_notify: a cut, since anyone on the way can send a FIN.
      return {IoStatus::failed, 0};
  }
}

IoResult Stream::try_handshake() {
  if (!is_open()) return {IoStatus::failed, 0};
  ERR_clear_error();
  return tls_result(SSL_do_handshake(ssl_.get()));
}

std::string Stream::tls_error() const {
  const long verified = SSL_get_verify_result(ssl_.get());
  if (verified != X509_V_OK) {
    ERR_clear_error();
    return std::string("the certificate is not accepted: ") +
           X509_verify_cert_error_string(verified);
  }
  return last_openssl_error();
}

std::string_view Stream::tls_alert() const {
  constexpr int alerts_from = SSL_AD_REASON_OFFSET;  // below are our own findings, such as a cut
  if (ERR_GET_LIB(tls_failure_) != ERR_LIB_SSL || ERR_GET_REASON(tls_failure_) < alerts_from)
    return {};
  const char* reason = ERR_reason_error_string(tls_failure_);
  return reason != nullptr ? reason : "an alert";
}

IoResult Stream::try_read(char* to, std::size_t bytes_max) {
  // OpenSSL knows the descriptor's number only, which may belong to another connection by now.
  if (!is_open()) return {IoStatus::failed, 0};
  if (ssl_) {
    ERR_clear_error();
    constexpr std::size_t int_max = 1 << 30;
    return tls_result(SSL_read(ssl_.get(), to, static_cast<int>(std::min(bytes_max, int_max))));
  }
  const auto received = ::recv(socket_.native_handle(), to, bytes_max, 0);
  if (received > 0) return {IoStatus::done, static_cast<std::size_t>(received)};
  if (received == 0) return {IoStatus::end, 0};
  return {would_block(errno) ? IoStatus::wants_read : IoStatus::failed, 0};
}

IoResult Stream::write_once(const iovec* pieces, std::size_t count) {
  if (ssl_) {
    // One record for all pieces. A write that is tried again brings the same bytes, as OpenSSL asks
    // for.
    std::array<char, tls_record_bytes_max> record;
    std::size_t size = 0;
    for (std::size_t i = 0; i < count && size < record.size(); ++i) {
      const auto taken = std::min(pieces[i].iov_len, record.size() - size);
      std::memcpy(record.data() + size, pieces[i].iov_base, taken);
      size += taken;
    }
    ERR_clear_error();
    return tls_result(SSL_write(ssl_.get(), record.data(), static_cast<int>(size)));
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces);
  message.msg_iovlen = count;
  const auto sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return {IoStatus::done, static_cast<std::size_t>(sent)};
  return {would_block(errno) ? IoStatus::wants_write : IoStatus::failed, 0};
}

IoResult Stream::try_write(iovec*& pieces, std::size_t& count) {
  std::size_t total = 0;
  while (true) {
    while (count > 0 && pieces->iov_len == 0) {
      ++pieces;
      --count;
    }
    if (count == 0) return {IoStatus::done, total};
    if (!socket_.is_open()) return {IoStatus::failed, total};
    const IoResult result = write_once(pieces, count);
    if (result.status != IoStatus::done) return {result.status, total};
    total += result.bytes;
    for (std::size_t left = result.bytes; left > 0;) {
      const auto taken = std::min(left, pieces->iov_len);
      pieces->iov_base = static_cast<char*>(pieces->iov_base) + taken;
      pieces->iov_len -= taken;
      left -= taken;
      if (pieces->iov_len == 0) {
        ++pieces;
        --count;
      }
    }
  }
}

void Stream::shut_down_send() {
  if (!is_open()) return;
  if (ssl_ && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

void Stream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Stream::reset() {
  boost::system::error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
}

}  // namespace outlast::http
