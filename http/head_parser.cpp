#include "http/head_parser.hpp"

#include <cstring>
#include <limits>

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

namespace outlast::http {
namespace {

namespace beast = boost::beast;

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// What the framing rules need to know of the fields, gathered as they are parsed.
struct Framing {
  unsigned content_lengths = 0;
  unsigned transfer_encodings = 0;
  unsigned hosts = 0;
  std::string_view content_length;
  std::string_view transfer_encoding;
  std::string_view host;
  std::string_view expect;
};

template <bool is_request>
class HeadReader final : public beast::http::basic_parser<is_request> {
 public:
  HeadReader(std::string_view head, std::vector<HeaderField>& fields) : fields_(fields) {
    constexpr std::size_t usual_fields_max = 24;
    fields_.clear();
    fields_.reserve(usual_fields_max);
    this->eager(false);
    this->header_limit(std::numeric_limits<std::uint32_t>::max());
    this->body_limit(boost::none);
    this->put(boost::asio::const_buffer(head.data(), head.size()), error_);
  }

  [[nodiscard]] const beast::error_code& error() const { return error_; }
  [[nodiscard]] bool too_many_fields() const { return too_many_fields_; }

  std::string_view method;
  std::string_view target;
  unsigned status = 0;
  int version = 0;
  Framing framing;

 private:
  static std::string_view standard(beast::string_view text) { return {text.data(), text.size()}; }

  void on_request_impl(beast::http::verb, beast::string_view method_text,
                       beast::string_view target_text, int version_number,
                       beast::error_code&) override {
    method = standard(method_text);
    target = standard(target_text);
    version = version_number;
  }
  void on_response_impl(int code, beast::string_view, int version_number,
                        beast::error_code&) override {
    status = static_cast<unsigned>(code);
    version = version_number;
  }
  void on_field_impl(beast::http::field field, beast::string_view name,
                     beast::string_view value_text, beast::error_code& error) override {
    if (fields_.size() >= header_fields_max) {
      too_many_fields_ = true;
      error = beast::http::error::header_limit;
      return;
    }
    const auto value = standard(value_text);
    fields_.push_back({standard(name), value});
    switch (field) {
      case beast::http::field::content_length:
        ++framing.content_lengths;
        framing.content_length = value;
        break;
      case beast::http::field::transfer_encoding:
        ++framing.transfer_encodings;
        framing.transfer_encoding = value;
        break;
      case beast::http::field::host:
        ++framing.hosts;
        framing.host = value;
        break;
      case beast::http::field::expect: framing.expect = value; break;
      default: break;
    }
  }
  void on_header_impl(beast::error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, beast::error_code&) override {}
  std::size_t on_body_impl(beast::string_view body, beast::error_code&) override {
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body,
                                 beast::error_code&) override {
    return body.size();
  }
  void on_finish_impl(beast::error_code&) override {}

  std::vector<HeaderField>& fields_;
  beast::error_code error_;
  bool too_many_fields_ = false;
};

Refusal malformed(std::string_view message, unsigned status = 400) {
  return {status, HttpError::malformed, message};
}

template <bool is_request>
std::optional<Refusal> grammar_refusal(const HeadReader<is_request>& reader) {
  using beast::http::error;
  const auto& code = reader.error();
  if (reader.too_many_fields()) {
    return Refusal{431, HttpError::head_too_large,
                   "too many header fields; at most 128 are accepted"};
  }
  if (!code) return std::nullopt;
  if (code == error::bad_version)
    return malformed("the protocol version must be HTTP/1.1 or HTTP/1.0", 505);
  if (code == error::bad_method) return malformed("the method is not a token");
  if (code == error::bad_target) return malformed("the request target has an illegal character");
  if (code == error::bad_field)
    return malformed("a header field's name is not a token followed by a colon");
  if (code == error::bad_value) return malformed("a header field's value has an illegal character");
  if (code == error::bad_line_ending) return malformed("lines of the head must end with CRLF");
  if (code == error::bad_content_length || code == error::multiple_content_length) {
    return malformed("Content-Length must be given once, as digits, and without Transfer-Encoding");
  }
  if (code == error::bad_transfer_encoding) {
    return malformed(
        "Transfer-Encoding must be given once, as \"chunked\", and without Content-Length");
  }
  return malformed("the head is not HTTP/1.1");
}

std::optional<std::uint64_t> parse_length(std::string_view text) {
  constexpr std::size_t digits_max = 18;  // below 2^63
  if (text.empty() || text.size() > digits_max) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

// RFC 9112, section 6.3, without its leniencies: whatever two readers could frame differently is
// refused.
std::optional<Refusal> framing_refusal(const Framing& framing, int version,
                                       std::optional<std::uint64_t>& length) {
  if (framing.transfer_encodings > 0) {
    if (framing.content_lengths > 0)
      return malformed("Content-Length and Transfer-Encoding must not both be given");
    if (version < 11) return malformed("HTTP/1.0 has no Transfer-Encoding");
    if (framing.transfer_encodings > 1 ||
        !equal_ignoring_case(framing.transfer_encoding, "chunked")) {
      return malformed("Transfer-Encoding must be given once, as \"chunked\"");
    }
  }
  if (framing.content_lengths > 1) return malformed("Content-Length must be given once");
  if (framing.content_lengths == 1) {
    length = parse_length(framing.content_length);
    if (!length) return malformed("Content-Length must be a number of digits only");
  }
  return std::nullopt;
}

// Letters, digits and what addresses, ports and percent-encoded names need.
bool legal_host(std::string_view host) {
  for (const char c : host) {
    const bool plain = is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == ':';
    if (!plain && std::string_view("[]_~!$&'()*+;=%").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

// Accepts "/…", "*" with OPTIONS, and "http[s]://authority…", which it reduces to its path.
std::optional<Refusal> target_refusal(RequestHead& head) {
  if (head.target.starts_with('/')) return std::nullopt;
  if (head.target == "*" && head.method == "OPTIONS") return std::nullopt;
  if (head.method == "CONNECT") return malformed("CONNECT is not served here", 405);
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (head.target.size() <= scheme.size() ||
        !equal_ignoring_case(head.target.substr(0, scheme.size()), scheme)) {
      continue;
    }
    const auto path = head.target.find_first_of("/?", scheme.size());
    if (path == std::string_view::npos) {
      head.target = "/";
    } else if (head.target[path] == '/') {
      head.target.remove_prefix(path);
    } else {
      break;
    }
    return std::nullopt;
  }
  return malformed("the request target must be a path that begins with '/'");
}

}  // namespace

ScanStatus HeadScanner::refuse(std::string_view message) {
  refusal_ = malformed(message);
  return ScanStatus::refused;
}

ScanStatus HeadScanner::scan(std::string_view bytes) {
  while (scanned_ < bytes.size()) {
    if (scanned_ == start_) {
      // Refuses at once what would otherwise wait for a line end that never comes, e.g. a TLS
      // handshake.
      const char first = bytes[start_];
      if (!is_letter(first) && first != '\r' && first != '\n')
        return refuse("the bytes are not HTTP/1.1");
    }
    const auto* found = static_cast<const char*>(
        std::memchr(bytes.data() + scanned_, '\n', bytes.size() - scanned_));
    if (found == nullptr) {
      scanned_ = bytes.size();
      return ScanStatus::incomplete;
    }
    const auto position = static_cast<std::size_t>(found - bytes.data());
    if (position == line_start_ || bytes[position - 1] != '\r')
      return refuse("lines of the head must end with CRLF");
    const bool empty = position == line_start_ + 1;
    const bool first_line = line_start_ == start_;
    if (!first_line && (bytes[line_start_] == ' ' || bytes[line_start_] == '\t')) {
      return refuse("a header field must not be folded over several lines");
    }
    scanned_ = position + 1;
    line_start_ = scanned_;
    if (!empty) continue;
    if (!first_line) return ScanStatus::complete;
    // One empty line before a request is legal (RFC 9112, section 2.2).
    if (start_ > 0) return refuse("the head begins with empty lines");
    start_ = scanned_;
  }
  return ScanStatus::incomplete;
}

std::optional<Refusal> parse_request_head(std::string_view head, RequestHead& out,
                                          std::vector<HeaderField>& fields) {
  HeadReader<true> reader(head, fields);
  if (auto refusal = grammar_refusal(reader)) return refusal;
  const Framing& framing = reader.framing;
  out = RequestHead{};
  out.method = reader.method;
  out.target = reader.target;
  out.http_1_1 = reader.version >= 11;
  out.keep_alive = reader.keep_alive();
  out.chunked = framing.transfer_encodings > 0;
  std::optional<std::uint64_t> length;
  if (auto refusal = framing_refusal(framing, reader.version, length)) return refusal;
  out.content_length = length.value_or(0);
  if (framing.hosts > 1) return malformed("Host must be given once");
  if (framing.hosts == 0 && out.http_1_1) return malformed("Host is missing");
  if (!legal_host(framing.host)) return malformed("Host has an illegal character");
  if (auto refusal = target_refusal(out)) return refusal;
  if (!framing.expect.empty()) {
    if (!equal_ignoring_case(framing.expect, "100-continue")) {
      return malformed("the only expectation that can be met is 100-continue", 417);
    }
    out.expects_continue = out.http_1_1;
  }
  return std::nullopt;
}

std::optional<Refusal> parse_response_head(std::string_view head, ResponseHead& out,
                                           std::vector<HeaderField>& fields) {
  HeadReader<false> reader(head, fields);
  if (auto refusal = grammar_refusal(reader)) return refusal;
  out = ResponseHead{};
  out.status = reader.status;
  out.chunked = reader.framing.transfer_encodings > 0;
  if (out.status < 100 || out.status > 999)
    return malformed("the status is not a number of three digits");
  if (auto refusal = framing_refusal(reader.framing, reader.version, out.content_length))
    return refusal;
  // Beast answers "no" for a body that lasts until the connection closes.
  out.keep_alive = reader.keep_alive();
  return std::nullopt;
}

std::string_view find_field(const std::vector<HeaderField>& fields, std::string_view name) {
  for (const auto& field : fields) {
    if (equal_ignoring_case(field.name, name)) return field.value;
  }
  return {};
}

}  // namespace outlast::http
