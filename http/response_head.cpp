#include "http/response_head.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>

namespace outlast::http {
namespace {

std::string_view reason_of(unsigned status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 529: return "Overloaded";
    default: return "Status";
  }
}

void append_number(std::string& out, std::size_t value) {
  char digits[24];
  const auto* end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}

bool breaks_line(char c) { return c == '\r' || c == '\n' || c == '\0'; }

// Three passes of memchr are far quicker than one that looks at each byte, and nearly every value
// is clean.
bool has_line_break(std::string_view value) {
  const auto holds = [value](char c) {
    return std::memchr(value.data(), c, value.size()) != nullptr;
  };
  return !value.empty() && (holds('\r') || holds('\n') || holds('\0'));
}

}  // namespace

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  const auto begin = static_cast<std::ptrdiff_t>(out.size());
  out.append(value);
  if (has_line_break(value)) std::replace_if(out.begin() + begin, out.end(), breaks_line, ' ');
  out.append("\r\n");
}

void append_response_head(std::string& out, const ResponseHeadParts& parts) {
  if (parts.status == 200) {
    out.append("HTTP/1.1 200 OK\r\nDate: ");
  } else {
    out.append("HTTP/1.1 ");
    append_number(out, parts.status);
    out.append(" ").append(reason_of(parts.status)).append("\r\nDate: ");
  }
  out.append(parts.date).append("\r\n");
  for (const auto& field : parts.headers) append_field(out, field.name, field.value);
  if (parts.framing == ResponseFraming::length) {
    out.append("Content-Length: ");
    append_number(out, parts.content_length);
    out.append("\r\n");
  } else if (parts.framing == ResponseFraming::chunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  if (parts.close) {
    out.append("Connection: close\r\n");
  } else if (parts.keep_alive) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");
}

std::string_view DateText::now() {
  timespec clock{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &clock);
  constexpr std::size_t size = 29;
  if (clock.tv_sec == second_) return {text_, size};
  second_ = clock.tv_sec;
  static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm parts{};
  ::gmtime_r(&clock.tv_sec, &parts);
  char pattern[sizeof(text_)];
  // Names of days and months are written by hand: strftime's depend on the locale.
  std::strftime(pattern, sizeof(pattern), "ddd, %d mmm %Y %H:%M:%S GMT", &parts);
  std::copy_n(pattern, size, text_);
  std::copy_n(days[parts.tm_wday], 3, text_);
  std::copy_n(months[parts.tm_mon], 3, text_ + 8);
  return {text_, size};
}

}  // namespace outlast::http
