// Heads and chunked bodies from anywhere: what is accepted must be the same however the bytes are
// split, and must hold nothing that a second reader could frame differently.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http/chunked.hpp"
#include "http/head_parser.hpp"

namespace {

using namespace outlast::http;

void require(bool condition) {
  if (!condition) std::abort();
}

bool inside(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

// Scans with `bytes` arriving in two pieces.
ScanStatus scan_split(HeadScanner& scanner, std::string_view bytes, std::size_t split) {
  const auto status = scanner.scan(bytes.substr(0, split));
  return status == ScanStatus::incomplete ? scanner.scan(bytes) : status;
}

void check_fields(const std::vector<HeaderField>& fields, std::string_view head) {
  require(fields.size() <= header_fields_max);
  for (const auto& field : fields) {
    require(inside(field.name, head) && inside(field.value, head));
    require(!field.name.empty());
    require(field.name.find_first_of(" \t:\r\n") == std::string_view::npos);
    require(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  }
}

std::size_t count_fields(const std::vector<HeaderField>& fields, std::string_view name) {
  std::size_t count = 0;
  for (const auto& field : fields) count += equal_ignoring_case(field.name, name) ? 1 : 0;
  return count;
}

void check_framing(const std::vector<HeaderField>& fields, bool chunked) {
  const auto lengths = count_fields(fields, "content-length");
  const auto codings = count_fields(fields, "transfer-encoding");
  require(lengths + codings <= 1);
  require(chunked == (codings == 1));
}

void read_heads(std::string_view head) {
  std::vector<HeaderField> fields;
  RequestHead request;
  if (!parse_request_head(head, request, fields)) {
    check_fields(fields, head);
    check_framing(fields, request.chunked);
    require(count_fields(fields, "host") == 1 || !request.http_1_1);
    require(inside(request.method, head) && !request.method.empty());
    require(request.target.starts_with('/') || request.target == "*");
    require(request.target.find_first_of(" \r\n") == std::string_view::npos);
  }
  ResponseHead response;
  if (!parse_response_head(head, response, fields)) {
    check_fields(fields, head);
    check_framing(fields, response.chunked);
    require(response.status >= 100 && response.status <= 999);
    (void)find_field(fields, "content-type");
  }
}

struct Decoded {
  ChunkStatus status = ChunkStatus::need_more;
  std::string body;
  std::size_t used = 0;
};

Decoded decode(std::string_view bytes, std::size_t split) {
  Decoded out;
  ChunkDecoder decoder;
  for (const auto part : {bytes.substr(0, split), bytes.substr(split)}) {
    auto rest = part;
    std::string_view piece;
    do {
      out.status = decoder.next(rest, piece);
      if (out.status == ChunkStatus::data) {
        require(inside(piece, part) && !piece.empty());
        out.body.append(piece);
      }
    } while (out.status == ChunkStatus::data);
    out.used += part.size() - rest.size();
    if (out.status != ChunkStatus::need_more) break;
    require(rest.empty());
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // An exact copy, so that a read beyond the end is seen.
  const std::vector<char> copy(data + 1, data + size);
  const std::string_view bytes(copy.data(), copy.size());
  const std::size_t split = bytes.size() * data[0] / 256;

  HeadScanner whole;
  HeadScanner pieces;
  const auto status = whole.scan(bytes);
  require(scan_split(pieces, bytes, split) == status);
  std::string_view body = bytes;
  if (status == ScanStatus::complete) {
    require(whole.start() == pieces.start() && whole.end() == pieces.end());
    const std::vector<char> head(copy.begin() + static_cast<std::ptrdiff_t>(whole.start()),
                                 copy.begin() + static_cast<std::ptrdiff_t>(whole.end()));
    read_heads({head.data(), head.size()});
    body = bytes.substr(whole.end());
  }
  const Decoded at_once = decode(body, 0);
  const Decoded split_up = decode(body, body.size() * data[0] / 256);
  require(at_once.status == split_up.status && at_once.body == split_up.body &&
          at_once.used == split_up.used);
  return 0;
}
