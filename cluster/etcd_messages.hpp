// What is said to etcd's JSON gateway and what it answers, as values: transactions, since a range, a put or a delete is
// a transaction of one operation; leases; status; watches. Pure. Answers may be any bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cluster/agreement_error.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

struct EtcdRange {
  std::string key;
  std::string end;          // empty: only `key`
  std::uint64_t limit = 0;  // of rows; 0: none
  bool keys_only = false;
};
struct EtcdPut {
  std::string key;
  std::string_view value;
  std::uint64_t lease = 0;
};
struct EtcdErase {
  std::string key;
  std::string end;  // empty: only `key`
};
using EtcdOperation = std::variant<EtcdRange, EtcdPut, EtcdErase>;

// Holds when the key's `what` equals; of a key that is not there every number is 0.
struct EtcdCompare {
  enum class What : std::uint8_t { create_revision, lease, value };
  std::string key;
  What what = What::create_revision;
  std::uint64_t number = 0;
  std::string value;  // for What::value
};

struct EtcdTxn {
  std::vector<EtcdCompare> compares;
  std::vector<EtcdOperation> success;  // if all compares hold
  std::vector<EtcdOperation> failure;
};

struct EtcdRow {
  std::string key;
  std::string value;
  std::uint64_t create_revision = 0;
  std::uint64_t lease = 0;
};
struct EtcdRangeAnswer {
  std::vector<EtcdRow> rows;
  bool more = false;  // the limit cut it
};
struct EtcdTxnAnswer {
  bool succeeded = false;
  std::uint64_t revision = 0;
  std::vector<EtcdRangeAnswer> ranges;  // of the branch that was taken, in order
};

struct EtcdStatus {
  std::string version;
  std::uint64_t member = 0;
  std::uint64_t leader = 0;  // 0: it knows none
  std::uint64_t database_bytes = 0;
  std::string alarms;  // what it says is wrong, such as "memberID:1 alarm:NOSPACE"; empty: nothing
};

struct EtcdWatchAnswer {
  bool created = false;
  bool ended = false;             // by etcd: the watch is gone, for compaction or another reason
  std::vector<std::string> keys;  // that changed
};

// The key behind all that begin with `prefix`, which is not empty and does not end in 0xff.
std::string prefix_end(std::string_view prefix);

std::string encode_txn(const EtcdTxn& txn);
std::string encode_lease_grant(std::uint32_t ttl_s);
std::string encode_lease(std::uint64_t lease);  // for keepalive and revoke
std::string encode_compaction(std::uint64_t revision);
std::string encode_watch(std::string_view key, std::string_view end);

// Of a body that was answered with status 200; http::body_padding_bytes behind its end are readable. Error: corrupt.
Result<EtcdTxnAnswer> parse_txn_answer(std::string_view body);
Result<std::uint64_t> parse_lease_grant(std::string_view body);
// Seconds that the lease has; 0 when there is no such lease.
Result<std::uint64_t> parse_keep_alive(std::string_view body);
Result<EtcdStatus> parse_status(std::string_view body);
Result<EtcdWatchAnswer> parse_watch_answer(std::string_view line);

// What an answer with another status means. `once`: a repetition of the request would not be harmless, so that what may
// have happened is `unknown`. Others are `unavailable`.
Error etcd_error(unsigned status, std::string_view body, bool once);

}  // namespace outlast::cluster
