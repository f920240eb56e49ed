// The bytes that stand in etcd: base64, batches, keys, presences; and its answers, whatever they are.
#include <catch2/catch.hpp>

#include <string>

#include "cluster/base64.hpp"
#include "cluster/batch_codec.hpp"
#include "cluster/etcd_keys.hpp"
#include "cluster/etcd_messages.hpp"
#include "cluster/presence_json.hpp"
#include "core/random.hpp"

namespace outlast::cluster::agreement_codec_test {
namespace {

constexpr std::size_t padding_bytes = 64;  // simdjson reads so far behind an answer's end

std::string base64(std::string_view bytes) {
  std::string text;
  append_base64(text, bytes);
  return text;
}

std::string random_bytes(Random& random, std::size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random.next());
  return bytes;
}

// Each parser of an answer, on the same bytes.
void parse_everything(std::string body) {
  body.reserve(body.size() + padding_bytes);
  (void)parse_txn_answer(body);
  (void)parse_lease_grant(body);
  (void)parse_keep_alive(body);
  (void)parse_status(body);
  (void)parse_watch_answer(body);
  (void)etcd_error(400, body, true);
  Presence presence;
  (void)parse_presence(body, presence);
}

}  // namespace

TEST_CASE("base64 is that of RFC 4648", "[agreement]") {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  std::string decoded;
  for (const auto& [bytes, text] : vectors) {
    CHECK(base64(bytes) == text);
    REQUIRE(decode_base64(text, decoded));
    CHECK(decoded == bytes);
  }
  Random random(1);
  for (std::size_t size = 0; size < 200; ++size) {
    const std::string bytes = random_bytes(random, size);
    REQUIRE(decode_base64(base64(bytes), decoded));
    CHECK(decoded == bytes);
  }
  for (const char* text : {"Z", "Zg", "Zg=", "Zm9v!m8=", "=Zg=", "Zg==Zg==", "Z===", "====", "Zh==", "Zm9=", "Zm 9"}) {
    INFO(text);
    CHECK_FALSE(decode_base64(text, decoded));
  }
}

TEST_CASE("a batch comes back from its bytes, and from no others", "[agreement]") {
  BatchCodec codec;
  Random random(2);
  std::string bytes;
  SharedBatch batch;
  for (const std::size_t size : {std::size_t{1}, std::size_t{1'000}, shared_batch_bytes_max}) {
    const std::string records = size == 1'000 ? std::string(size, 'r') : random_bytes(random, size);
    codec.encode(5, 9, 77, records, bytes);
    CHECK(bytes.size() < records.size() + records.size() / 100 + 100);
    REQUIRE(codec.decode(bytes, batch));
    CHECK(batch.records == records);
    CHECK(batch.first_index == 5);
    CHECK(batch.next_index == 9);
    CHECK(batch.epoch == 77);
  }
  const std::string records = std::string(1'000, 'r') + "and some that differ";
  codec.encode(5, 9, 77, records, bytes);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      INFO(at << ' ' << bit);
      // zstd ignores a reserved bit of its frame: what is read is the same.
      CHECK((!codec.decode(damaged, batch) || batch.records == records));
    }
    CHECK_FALSE(codec.decode(std::string_view(bytes).substr(0, at), batch));
  }
  CHECK_FALSE(codec.decode(bytes + "x", batch));
}

TEST_CASE("a batch that would grow beyond its limit is refused before it does", "[agreement]") {
  BatchCodec codec;
  std::string small;
  std::string large;
  codec.encode(0, 1, 1, std::string(shared_batch_bytes_max, 'x'), large);
  codec.encode(0, 1, 1, "x", small);
  // The header of one entry of one byte, before a frame of a megabyte.
  constexpr std::size_t header_bytes = 33;
  SharedBatch batch;
  CHECK_FALSE(codec.decode(small.substr(0, header_bytes) + large.substr(header_bytes), batch));
  CHECK(batch.records.size() <= 1);
}

TEST_CASE("keys of batches sort by what they hold, and only they are read as such", "[agreement]") {
  const EtcdKeys keys("main");
  std::uint64_t first = 0;
  std::uint64_t next = 0;
  const std::string key = keys.batch(3, 100, 200);
  CHECK(key == "/outlast/main/log/s003/00000000000000000199-00000000000000000100");
  REQUIRE(keys.parse_batch_key(3, key, first, next));
  CHECK(first == 100);
  CHECK(next == 200);
  // A range from an index begins with the batch that holds it; one to an index ends before.
  CHECK(keys.batches_from(3, 199) < key);
  CHECK(keys.batches_from(3, 100) < key);
  CHECK(keys.batches_from(3, 200) > key);
  CHECK(prefix_end(keys.log(3)) > keys.batch(3, 1, UINT64_MAX));
  CHECK(prefix_end(keys.log(3)) < keys.log(4));
  CHECK_FALSE(keys.parse_batch_key(4, key, first, next));
  for (const char* bad : {"00000000000000000199-00000000000000000200", "00000000000000000199", "x",
                          "00000000000000000199-0000000000000000010x", "99999999999999999999-00000000000000000100",
                          "18446744073709551615-00000000000000000100"}) {
    INFO(bad);
    CHECK_FALSE(keys.parse_batch_key(3, keys.log(3) + bad, first, next));
  }
  CHECK_FALSE(EtcdKeys::is_name("a/b"));
  CHECK_FALSE(EtcdKeys::is_name(""));
  CHECK(EtcdKeys::is_name("node-1.example_2"));
}

TEST_CASE("a member's status has what the member says is wrong", "[agreement]") {
  const auto alarms = [](std::string errors) {
    std::string body = R"({"header":{"member_id":"9"},"version":"3.4.23","dbSize":"4096","leader":"9")" + errors + "}";
    body.reserve(body.size() + padding_bytes);
    const auto status = parse_status(body);
    REQUIRE(status);
    CHECK(status->leader == 9);
    return status->alarms;
  };
  CHECK(alarms("").empty());
  CHECK(alarms(R"(,"errors":["memberID:9 alarm:NOSPACE "])") == "memberID:9 alarm:NOSPACE ");
  CHECK(alarms(R"(,"errors":["a","b"])") == "a; b");
}

TEST_CASE("any bytes in place of etcd's answers are told from answers", "[agreement][hostile]") {
  Presence presence;
  presence.node = "a";
  presence.incarnation.bytes[3] = 9;
  presence.roles = {"ledger"};
  const std::string good[] = {
      R"({"header":{"revision":"2"},"succeeded":true,"responses":[{"response_put":{"header":{"revision":"2"}}},)"
      R"({"response_range":{"kvs":[{"key":"Zm9v","create_revision":"2","lease":"5","value":"YmFy"}],)"
      R"("more":true,"count":"1"}}]})",
      R"({"header":{"revision":"1"},"ID":"2324035614672663046","TTL":"10"})",
      R"({"result":{"header":{"revision":"1"},"ID":"2324035614672663048","TTL":"10"}})",
      R"({"header":{"member_id":"33"},"version":"3.4.23","dbSize":"20480","leader":"33"})",
      R"({"result":{"header":{},"created":true,"events":[{"type":"DELETE","kv":{"key":"Zm9v"}}]}})",
      R"({"error":"etcdserver: requested lease not found","code":5})", encode_presence(presence)};
  for (const std::string& body : good) {
    for (std::size_t size = 0; size < body.size(); ++size) parse_everything(body.substr(0, size));
    Random random(body.size());
    for (int i = 0; i < 3'000; ++i) {
      std::string damaged = body;
      for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
        damaged[random.below(damaged.size())] = static_cast<char>(random.next());
      if (random.below(3) == 0)
        damaged.insert(random.below(damaged.size()), damaged.substr(random.below(damaged.size())));
      parse_everything(damaged);
    }
  }
  std::string body = good[0];
  body.reserve(body.size() + padding_bytes);
  const Result<EtcdTxnAnswer> answer = parse_txn_answer(body);
  REQUIRE(answer);
  CHECK(answer->succeeded);
  CHECK(answer->revision == 2);
  REQUIRE(answer->ranges.size() == 1);
  CHECK(answer->ranges[0].more);
  REQUIRE(answer->ranges[0].rows.size() == 1);
  CHECK(answer->ranges[0].rows[0].key == "foo");
  CHECK(answer->ranges[0].rows[0].value == "bar");
  CHECK(answer->ranges[0].rows[0].lease == 5);
  Presence parsed;
  REQUIRE(parse_presence(encode_presence(presence), parsed));
  CHECK(parsed == presence);
}

}  // namespace outlast::cluster::agreement_codec_test
