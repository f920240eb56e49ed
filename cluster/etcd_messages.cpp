#include "cluster/etcd_messages.hpp"

#include <charconv>
#include <cstring>

#include <simdjson.h>

#include "cluster/base64.hpp"
#include "core/check.hpp"
#include "core/json_writer.hpp"

namespace outlast::cluster {
namespace {

namespace json = simdjson::ondemand;

// Of one parse; what it gives out is valid until the next one of the same thread.
json::parser& parser_of_thread() {
  thread_local json::parser parser;
  return parser;
}

constexpr std::size_t alarms_bytes_max = 500;

Failure not_understood(std::string_view what) {
  return fail(AgreementError::corrupt, "etcd's answer to " + std::string(what) + " is not understood");
}

// Calls visit(name, value) for every member, until it returns false; false also when it is no object.
template <class Visit>
bool each_member(json::object& object, const Visit& visit) {
  for (auto next : object) {
    json::field member;
    std::string_view name;
    if (std::move(next).get(member) != simdjson::SUCCESS) return false;
    if (member.unescaped_key().get(name) != simdjson::SUCCESS) return false;
    json::value value = member.value();
    if (!visit(name, value)) return false;
  }
  return true;
}

template <class Visit>
bool each_member(json::value& value, const Visit& visit) {
  json::object object;
  return value.get_object().get(object) == simdjson::SUCCESS && each_member(object, visit);
}

template <class Visit>
bool each_element(json::value& value, const Visit& visit) {
  json::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) return false;
  for (auto next : array) {
    json::value element;
    if (std::move(next).get(element) != simdjson::SUCCESS || !visit(element)) return false;
  }
  return true;
}

// The members of a whole body.
template <class Visit>
bool parse_object(std::string_view body, const Visit& visit) {
  const simdjson::padded_string_view padded(body.data(), body.size(), body.size() + simdjson::SIMDJSON_PADDING);
  json::document document;
  json::object object;
  return parser_of_thread().iterate(padded).get(document) == simdjson::SUCCESS &&
         document.get_object().get(object) == simdjson::SUCCESS && each_member(object, visit);
}

bool take_text(json::value& value, std::string_view& text) {
  return value.get_string().get(text) == simdjson::SUCCESS;
}

// 64 bits come as text, in decimal.
bool take_number(json::value& value, std::uint64_t& number) {
  std::string_view digits;
  if (!take_text(value, digits)) return false;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc{} && end == digits.data() + digits.size();
}

bool take_bytes(json::value& value, std::string& bytes) {
  std::string_view text;
  return take_text(value, text) && decode_base64(text, bytes);
}

bool take_flag(json::value& value, bool& flag) { return value.get_bool().get(flag) == simdjson::SUCCESS; }

bool take_revision(json::value& header, std::uint64_t& revision) {
  return each_member(header, [&revision](std::string_view name, json::value& value) {
    return name != "revision" || take_number(value, revision);
  });
}

bool take_row(json::value& from, EtcdRow& row) {
  return each_member(from, [&row](std::string_view name, json::value& value) {
    if (name == "key") return take_bytes(value, row.key);
    if (name == "value") return take_bytes(value, row.value);
    if (name == "create_revision") return take_number(value, row.create_revision);
    return name != "lease" || take_number(value, row.lease);
  });
}

bool take_range(json::value& from, EtcdRangeAnswer& answer) {
  return each_member(from, [&answer](std::string_view name, json::value& value) {
    if (name == "more") return take_flag(value, answer.more);
    if (name != "kvs") return true;
    return each_element(value, [&answer](json::value& element) {
      return take_row(element, answer.rows.emplace_back());
    });
  });
}

void member(JsonWriter& out, std::string_view name, std::uint64_t number) {
  out.key(name).string(std::to_string(number));
}

// Base64 has nothing to escape, so that a large value is not looked through again.
void member_bytes(JsonWriter& out, std::string_view name, std::string_view bytes) {
  std::string text = "\"";
  text.reserve(bytes.size() / 3 * 4 + 8);
  append_base64(text, bytes);
  text += '"';
  out.key(name).raw(text);
}

void write_operation(JsonWriter& out, const EtcdOperation& operation) {
  out.begin_object();
  if (const auto* range = std::get_if<EtcdRange>(&operation)) {
    out.key("request_range").begin_object();
    member_bytes(out, "key", range->key);
    if (!range->end.empty()) member_bytes(out, "range_end", range->end);
    if (range->limit != 0) member(out, "limit", range->limit);
    if (range->keys_only) out.key("keys_only").boolean(true);
  } else if (const auto* put = std::get_if<EtcdPut>(&operation)) {
    out.key("request_put").begin_object();
    member_bytes(out, "key", put->key);
    member_bytes(out, "value", put->value);
    if (put->lease != 0) member(out, "lease", put->lease);
  } else {
    const auto& erase = std::get<EtcdErase>(operation);
    out.key("request_delete_range").begin_object();
    member_bytes(out, "key", erase.key);
    if (!erase.end.empty()) member_bytes(out, "range_end", erase.end);
  }
  out.end_object().end_object();
}

void write_compare(JsonWriter& out, const EtcdCompare& compare) {
  out.begin_object().key("result").string("EQUAL");
  member_bytes(out, "key", compare.key);
  switch (compare.what) {
    case EtcdCompare::What::create_revision:
      out.key("target").string("CREATE");
      member(out, "create_revision", compare.number);
      break;
    case EtcdCompare::What::lease:
      out.key("target").string("LEASE");
      member(out, "lease", compare.number);
      break;
    case EtcdCompare::What::value:
      out.key("target").string("VALUE");
      member_bytes(out, "value", compare.value);
      break;
  }
  out.end_object();
}

void write_operations(JsonWriter& out, std::string_view name, const std::vector<EtcdOperation>& operations) {
  out.key(name).begin_array();
  for (const EtcdOperation& operation : operations) write_operation(out, operation);
  out.end_array();
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// What etcd said, short and printable.
std::string shown(std::string_view text) {
  constexpr std::size_t shown_bytes_max = 200;
  std::string out(text.substr(0, shown_bytes_max));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) >= 0x7f) c = ' ';
  }
  return out;
}

Error error_of(AgreementError code, std::string message) { return fail(code, std::move(message)).value(); }

}  // namespace

std::string prefix_end(std::string_view prefix) {
  check(!prefix.empty() && static_cast<unsigned char>(prefix.back()) < 0xff, "a prefix has a next key");
  std::string end(prefix);
  end.back() = static_cast<char>(end.back() + 1);
  return end;
}

std::string encode_txn(const EtcdTxn& txn) {
  std::string out;
  JsonWriter writer(out);
  writer.begin_object().key("compare").begin_array();
  for (const EtcdCompare& compare : txn.compares) write_compare(writer, compare);
  writer.end_array();
  write_operations(writer, "success", txn.success);
  write_operations(writer, "failure", txn.failure);
  writer.end_object();
  return out;
}

std::string encode_lease_grant(std::uint32_t ttl_s) {
  std::string out;
  JsonWriter writer(out);
  writer.begin_object();
  member(writer, "TTL", ttl_s);
  writer.end_object();
  return out;
}

std::string encode_lease(std::uint64_t lease) {
  std::string out;
  JsonWriter writer(out);
  writer.begin_object();
  member(writer, "ID", lease);
  writer.end_object();
  return out;
}

std::string encode_compaction(std::uint64_t revision) {
  std::string out;
  JsonWriter writer(out);
  writer.begin_object();
  member(writer, "revision", revision);
  writer.end_object();
  return out;
}

std::string encode_watch(std::string_view key, std::string_view end) {
  std::string out;
  JsonWriter writer(out);
  writer.begin_object().key("create_request").begin_object();
  member_bytes(writer, "key", key);
  member_bytes(writer, "range_end", end);
  writer.end_object().end_object();
  return out;
}

Result<EtcdTxnAnswer> parse_txn_answer(std::string_view body) {
  EtcdTxnAnswer answer;
  const auto take_response = [&answer](json::value& response) {
    return each_member(response, [&answer](std::string_view name, json::value& value) {
      return name != "response_range" || take_range(value, answer.ranges.emplace_back());
    });
  };
  const bool parsed = parse_object(body, [&answer, &take_response](std::string_view name, json::value& value) {
    if (name == "header") return take_revision(value, answer.revision);
    if (name == "succeeded") return take_flag(value, answer.succeeded);
    return name != "responses" || each_element(value, take_response);
  });
  if (!parsed) return not_understood("a transaction");
  return answer;
}

Result<std::uint64_t> parse_lease_grant(std::string_view body) {
  std::uint64_t lease = 0;
  const bool parsed = parse_object(body, [&lease](std::string_view name, json::value& value) {
    return name != "ID" || take_number(value, lease);
  });
  if (!parsed || lease == 0) return not_understood("the request for a lease");
  return lease;
}

Result<std::uint64_t> parse_keep_alive(std::string_view body) {
  std::uint64_t ttl_s = 0;
  bool answered = false;
  const auto take_member = [&ttl_s](std::string_view name, json::value& value) {
    if (name != "TTL") return true;
    return take_number(value, ttl_s);
  };
  const bool parsed = parse_object(body, [&answered, &take_member](std::string_view name, json::value& value) {
    if (name != "result") return true;
    answered = true;
    return each_member(value, take_member);
  });
  if (!parsed || !answered) return not_understood("a lease's renewal");
  return ttl_s;
}

Result<EtcdStatus> parse_status(std::string_view body) {
  EtcdStatus status;
  const auto take_header = [&status](std::string_view name, json::value& value) {
    return name != "member_id" || take_number(value, status.member);
  };
  const auto take_alarm = [&status](json::value& value) {
    std::string_view text;
    if (!take_text(value, text)) return false;
    if (status.alarms.size() < alarms_bytes_max) status.alarms += (status.alarms.empty() ? "" : "; ") + shown(text);
    return true;
  };
  const bool parsed = parse_object(body, [&status, &take_header, &take_alarm](std::string_view name, json::value& value) {
    if (name == "header") return each_member(value, take_header);
    if (name == "leader") return take_number(value, status.leader);
    if (name == "dbSize") return take_number(value, status.database_bytes);
    if (name == "errors") return each_element(value, take_alarm);
    if (name != "version") return true;
    std::string_view text;
    if (!take_text(value, text)) return false;
    status.version = shown(text);
    return true;
  });
  if (!parsed || status.version.empty()) return not_understood("the request for its status");
  return status;
}

Result<EtcdWatchAnswer> parse_watch_answer(std::string_view line) {
  EtcdWatchAnswer answer;
  const auto take_event = [&answer](std::string_view name, json::value& value) {
    EtcdRow row;
    if (name != "kv") return true;
    if (!take_row(value, row)) return false;
    answer.keys.push_back(std::move(row.key));
    return true;
  };
  const auto take_result = [&answer, &take_event](std::string_view name, json::value& value) {
    if (name == "created") return take_flag(value, answer.created);
    if (name == "canceled") return take_flag(value, answer.ended);
    if (name != "events") return true;
    return each_element(value, [&take_event](json::value& event) { return each_member(event, take_event); });
  };
  bool understood = false;
  const bool parsed = parse_object(line, [&](std::string_view name, json::value& value) {
    if (name == "error") answer.ended = understood = true;
    if (name != "result") return true;
    understood = true;
    return each_member(value, take_result);
  });
  if (!parsed || !understood) return not_understood("a watch");
  return answer;
}

Error etcd_error(unsigned status, std::string_view body, bool once) {
  std::string text;
  std::int64_t code = 0;
  const bool parsed = parse_object(body, [&text, &code](std::string_view name, json::value& value) {
    std::string_view message;
    if (name == "code") return value.get_int64().get(code) == simdjson::SUCCESS;
    if (name != "error") return true;
    if (!take_text(value, message)) return false;
    text = shown(message);
    return true;
  });
  if (!parsed || text.empty()) text = "status " + std::to_string(status) + " " + shown(body);
  // gRPC's codes.
  constexpr std::int64_t invalid = 3, not_found = 5, denied = 7, exhausted = 8, precondition = 9, range = 11;
  constexpr std::int64_t unimplemented = 12, unauthenticated = 16;
  if (has(text, "requested lease not found")) return error_of(AgreementError::lease_lost, "etcd: " + text);
  if (has(text, "request is too large")) {
    return error_of(AgreementError::too_large,
                    "etcd: " + text + "; its --max-request-bytes has to be 1572864 at least");
  }
  if (has(text, "database space exceeded")) {
    return error_of(AgreementError::unavailable, "etcd's database is full: " + text +
                                                     "; compact it, defragment it and run etcdctl alarm disarm");
  }
  if (has(text, "authentication handshake failed") || has(text, "bad certificate")) {
    return error_of(AgreementError::refused,
                    "etcd does not accept its own certificate: " + text +
                        "; with client certificates, its server certificate needs serverAuth and clientAuth");
  }
  if (has(text, "HTTP request to an HTTPS server"))
    return error_of(AgreementError::refused, "etcd asks for TLS: write the endpoint with https://");
  if (status == 401 || status == 403 || code == denied || code == unauthenticated || has(text, "user name is empty")) {
    return error_of(AgreementError::refused, "etcd refuses the request: " + text +
                                                 "; it has to know this client's certificate, or to run without users");
  }
  if (!parsed && status == 404) {
    return error_of(AgreementError::refused,
                    "the endpoint has no JSON gateway (" + text + "); it has to be etcd 3.4 or later, started with --enable-grpc-gateway or, in its file, enable-grpc-gateway: true");
  }
  if (code == exhausted) return error_of(AgreementError::unavailable, "etcd is busy: " + text);
  if (code == invalid || code == not_found || code == precondition || code == range || code == unimplemented)
    return error_of(AgreementError::refused, "etcd refuses the request: " + text);
  return error_of(once ? AgreementError::unknown : AgreementError::unavailable, "etcd cannot answer: " + text);
}

}  // namespace outlast::cluster
