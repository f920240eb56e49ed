// EtcdClient and what is built on it where something is wrong: certificates, members, answers.
#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "cluster/base64.hpp"
#include "cluster/etcd_coordination.hpp"
#include "core/random.hpp"
#include "http/server.hpp"
#include "tests/cluster/etcd_fixture.hpp"

namespace outlast::cluster::test::etcd_client_test {
namespace {

namespace asio = boost::asio;

std::unique_ptr<EtcdClient> client_of(EtcdOptions options) {
  auto client = EtcdClient::start(std::move(options));
  INFO((client ? "" : client.error().message));
  REQUIRE(client);
  return std::move(*client);
}

Presence presence(const std::string& node) {
  Presence made;
  made.node = node;
  made.incarnation.bytes[0] = 1;
  return made;
}

bool says(const Error& error, std::string_view part) { return error.message.find(part) != std::string::npos; }

// A server that answers what the test says, on a thread of its own.
class FakeEtcd {
 public:
  struct Answer {
    unsigned status = 200;
    std::string body;
  };
  FakeEtcd() {
    http::ServerOptions options;
    options.error_body = [](unsigned, http::HttpError, std::string_view) { return std::string("{}"); };
    server_ = std::make_unique<http::Server>(
        io_, std::move(options),
        [this](http::Request&, http::Response& response) { return answer(this, &response); });
    const Result<std::uint16_t> port = server_->listen("127.0.0.1:0");
    REQUIRE(port);
    endpoint_ = "http://127.0.0.1:" + std::to_string(*port);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~FakeEtcd() {
    io_.stop();
    thread_.join();
  }
  FakeEtcd(const FakeEtcd&) = delete;
  FakeEtcd& operator=(const FakeEtcd&) = delete;

  void say(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] int requests() const { return requests_; }

 private:
  static asio::awaitable<void> answer(FakeEtcd* self, http::Response* response) {
    Answer given;
    {
      const std::lock_guard lock(self->mutex_);
      given = self->answer_;
    }
    ++self->requests_;
    const http::HeaderField headers[] = {{"Content-Type", "application/json"}};
    Result<void> sent = co_await response->send(given.status, headers, given.body);
    (void)sent;
  }

  asio::io_context io_{1};
  std::unique_ptr<http::Server> server_;
  std::string endpoint_;
  std::mutex mutex_;
  Answer answer_;
  std::atomic<int> requests_{0};
  std::thread thread_;
};

std::string base64(std::string_view bytes) {
  std::string text;
  append_base64(text, bytes);
  return text;
}

}  // namespace

TEST_CASE("etcd lets in a client with a certificate, and nobody else", "[etcd][tls]") {
  if (!EtcdMembers::installed()) return;
  EtcdAuthority authority;
  EtcdAuthority stranger;
  EtcdMembers members(1, &authority);
  {
    const auto client = client_of(members.options());
    EtcdCoordination node(*client, "tls");
    const Result<LeaseId> lease = node.start_lease(60, presence("a"));
    REQUIRE(lease);
    const Result<std::uint64_t> epoch = node.claim(1, *lease, presence("a"));
    REQUIRE(epoch);
    REQUIRE(node.log(1)->append(*epoch, 1, {0, std::string(300'000, 'x')}));
    CHECK(node.members().front().healthy);
  }
  struct Case {
    const char* name;
    std::string certificate, key, ca;
    const char* message;
  };
  for (const Case& one :
       {Case{"none", "", "", authority.file("ca.pem"), "does not accept the client certificate"},
        Case{"a stranger's", stranger.file("client.pem"), stranger.file("client.key"), authority.file("ca.pem"),
             "does not accept the client certificate"},
        Case{"another authority", authority.file("client.pem"), authority.file("client.key"), stranger.file("ca.pem"),
             "check the CA file"}}) {
    INFO(one.name);
    EtcdOptions options = members.options();
    options.ca_file = one.ca;
    options.certificate_file = one.certificate;
    options.key_file = one.key;
    const auto client = client_of(options);
    const Result<std::uint64_t> lease = client->grant_lease(60);
    REQUIRE_FALSE(lease);
    INFO(lease.error().message);
    CHECK(is(lease.error(), AgreementError::refused));
    CHECK(says(lease.error(), one.message));
  }
  EtcdOptions plain;
  plain.endpoints = {"http" + members.endpoints().front().substr(5)};
  const Result<EtcdTxnAnswer> read = client_of(plain)->read({EtcdRange{"k"}});
  REQUIRE_FALSE(read);
  INFO(read.error().message);
  CHECK(says(read.error(), "https://"));
}

TEST_CASE("https to an etcd without TLS, and settings that cannot be, are told as such", "[etcd][tls]") {
  if (!EtcdMembers::installed()) return;
  EtcdMembers members;
  EtcdOptions options;
  options.endpoints = {"https" + members.endpoints().front().substr(4)};
  const Result<EtcdTxnAnswer> read = client_of(options)->read({EtcdRange{"k"}});
  REQUIRE_FALSE(read);
  INFO(read.error().message);
  CHECK(is(read.error(), AgreementError::refused));
  CHECK(says(read.error(), "http://"));

  EtcdOptions no_endpoint;
  CHECK_FALSE(EtcdClient::start(no_endpoint));
  EtcdOptions secret;
  secret.endpoints = {"http://user:password@127.0.0.1:1"};
  const auto refused = EtcdClient::start(secret);
  REQUIRE_FALSE(refused);
  CHECK_FALSE(says(refused.error(), "password@"));
  CHECK_FALSE(says(refused.error(), "user:"));
  EtcdOptions half;
  half.endpoints = {"https://127.0.0.1:1"};
  half.certificate_file = "a.pem";
  CHECK_FALSE(EtcdClient::start(half));
}

TEST_CASE("calls go on when a member dies, and when one hangs", "[etcd]") {
  if (!EtcdMembers::installed()) return;
  EtcdMembers members(3);
  EtcdOptions options = members.options();
  options.call_timeout_ms = 1'500;
  const auto client = client_of(options);
  EtcdCoordination node(*client, "rotation");
  const LeaseId lease = eventually([&node] { return node.start_lease(600, presence("a")); });
  const std::uint64_t epoch = eventually([&node, lease] { return node.claim(1, lease, presence("a")); });
  const auto log = node.log(1);
  std::uint64_t next_index = 0;
  const auto append_until_it_stands = [&log, &epoch, &next_index] {
    return wait_until([&log, &epoch, &next_index] {
      if (log->append(epoch, next_index + 1, {next_index, "entry"})) {
        ++next_index;
        return true;
      }
      // What a caller does after `unknown`.
      const Result<SharedTail> tail = log->tail();
      if (!tail || tail->next_index == next_index) return false;
      ++next_index;
      return true;
    });
  };
  REQUIRE(append_until_it_stands());
  // The one that is asked first, whatever it is; then the leader.
  members.kill(0);
  REQUIRE(append_until_it_stands());
  CHECK(wait_until([&node, &lease] { return node.keep_alive(lease).has_value(); }));
  std::vector<AgreementMember> seen = node.members();
  REQUIRE(seen.size() == 3);
  CHECK_FALSE(seen[0].healthy);
  CHECK_FALSE(seen[0].error.empty());
  CHECK((seen[1].healthy || seen[2].healthy));
  members.start(0);
  REQUIRE(wait_until([&node] {
    const std::vector<AgreementMember> all = node.members();
    return all[0].healthy && all[1].healthy && all[2].healthy;
  }));
  const std::size_t leader = members.leader();
  members.pause(leader);
  REQUIRE(append_until_it_stands());
  members.resume(leader);
  REQUIRE(append_until_it_stands());
  const Result<SharedTail> tail = log->tail();
  REQUIRE(tail);
  CHECK(tail->next_index == next_index);
  seen = node.members();
  CHECK(std::count_if(seen.begin(), seen.end(), [](const AgreementMember& member) { return member.leader; }) <= 1);

  // Without most of the members nothing is acknowledged, and no call hangs.
  members.kill(0);
  members.kill(1);
  const auto began = std::chrono::steady_clock::now();
  const Result<void> refused = log->append(epoch, next_index + 1, {next_index, "entry"});
  REQUIRE_FALSE(refused);
  CHECK((is(refused.error(), AgreementError::unknown) || is(refused.error(), AgreementError::unavailable)));
  const Result<CoordinationView> view = node.view();
  REQUIRE_FALSE(view);
  CHECK(is(view.error(), AgreementError::unavailable));
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::milliseconds(3 * options.call_timeout_ms));
}

TEST_CASE("a write that was sent and not answered is unknown, one that could not be sent is not", "[etcd]") {
  if (!EtcdMembers::installed()) return;
  EtcdMembers members;
  EtcdOptions options = members.options();
  options.call_timeout_ms = 300;
  const auto client = client_of(options);
  REQUIRE(wait_until([&client] { return client->read({EtcdRange{"k"}}).has_value(); }));
  members.pause(0);
  EtcdTxn put;
  put.success = {EtcdPut{"k", "v", 0}};
  const Result<EtcdTxnAnswer> hung = client->txn(put, EtcdEffect::once);
  REQUIRE_FALSE(hung);
  CHECK(is(hung.error(), AgreementError::unknown));
  const Result<EtcdTxnAnswer> read = client->read({EtcdRange{"k"}});
  REQUIRE_FALSE(read);
  CHECK(is(read.error(), AgreementError::unavailable));
  members.resume(0);
  REQUIRE(wait_until([&client] { return client->read({EtcdRange{"k"}}).has_value(); }));
  members.kill(0);
  const auto lost = [&client, &put] {
    const Result<EtcdTxnAnswer> answer = client->txn(put, EtcdEffect::once);
    return !answer && is(answer.error(), AgreementError::unavailable);
  };
  CHECK(wait_until(lost));
  members.start(0);
  CHECK(wait_until([&client, &put] { return client->txn(put, EtcdEffect::once).has_value(); }));
}

TEST_CASE("compaction forgets what is old and disturbs nobody", "[etcd]") {
  if (!EtcdMembers::installed()) return;
  std::atomic<int> grew{0};
  EtcdMembers members;
  const auto client = client_of(members.options());
  const auto watching = client_of(members.options());
  EtcdCoordination node(*client, "compaction");
  EtcdCoordination watcher(*watching, "compaction");
  const auto watched = watcher.log(1);
  watcher.watch([] {}, [&grew](ShardId) { ++grew; });
  REQUIRE(wait_until([&grew] { return grew > 0; }));
  const Result<LeaseId> lease = node.start_lease(60, presence("a"));
  REQUIRE(lease);
  const Result<std::uint64_t> epoch = node.claim(1, *lease, presence("a"));
  REQUIRE(epoch);
  const auto log = node.log(1);
  for (std::uint64_t i = 0; i < 50; ++i) {
    REQUIRE(log->append(*epoch, i + 1, {i, "entry " + std::to_string(i)}));
    if (i % 10 != 0) continue;
    REQUIRE(log->trim(i));
    REQUIRE(node.compact());
    REQUIRE(node.compact());
  }
  const Result<SharedTail> tail = watched->tail();
  REQUIRE(tail);
  CHECK(tail->first_index == 40);
  CHECK(tail->next_index == 50);
  // The watch begins again after its member was away, and says so.
  members.kill(0);
  const int before = grew;
  members.start(0);
  REQUIRE(wait_until([&grew, before] { return grew > before; }));
  const int again = grew;
  REQUIRE(wait_until([&log, &epoch] {
    const Result<void> appended = log->append(*epoch, 51, {50, "last"});
    return appended || is(appended.error(), AgreementError::conflict);
  }));
  CHECK(wait_until([&grew, again] { return grew > again; }));
}

TEST_CASE("a server that lies is not believed, and nothing falls over", "[etcd][hostile]") {
  FakeEtcd fake;
  EtcdOptions options;
  options.endpoints = {fake.endpoint()};
  options.call_timeout_ms = 5'000;
  const auto client = client_of(options);
  EtcdCoordination node(*client, "lies");
  const auto log = node.log(1);
  const std::string key = base64(EtcdKeys("lies").batch(1, 0, 5));
  const std::string tail = base64("5");
  const auto answer = [](const std::string& rows, const std::string& tail_value) {
    return R"({"header":{"revision":"9"},"succeeded":true,"responses":[{"response_range":{"kvs":[)" + rows +
           R"(]}},{"response_range":{"kvs":[{"key":"a","value":")" + tail_value + R"("}]}}]})";
  };
  const std::vector<std::string> bodies{
      "", "{", "null", "[]", "\"text\"", R"({"responses":{}})", R"({"responses":[7]})", R"({"succeeded":"yes"})",
      R"({"header":{"revision":"-1"}})", R"({"header":{"revision":"99999999999999999999"}})",
      R"({"responses":[{"response_range":{"kvs":[{"key":"!!!!"}]}}]})",
      R"({"responses":[{"response_range":{"kvs":[{"key":"abc"}]}}]})",
      std::string(100'000, '['), answer("", "####"), answer("", base64("five")), answer("", base64("0")),
      answer(R"({"key":")" + key + R"(","value":""})", tail),
      answer(R"({"key":")" + key + R"(","value":")" + base64("\1" + std::string(50, 'x')) + R"("})", tail),
      answer(R"({"key":")" + base64("/else/where") + R"(","value":"AAAA"})", tail)};
  for (const std::string& body : bodies) {
    INFO(body.substr(0, 200));
    fake.say({200, body});
    const Result<void> read = log->read(0, [](const SharedBatch&) { return true; });
    REQUIRE_FALSE(read);
    CHECK(is(read.error(), AgreementError::corrupt));
    // Whatever such an answer means, the write may stand.
    const Result<void> appended = log->append(7, 1, {0, "entry"});
    if (!appended) {
      const Error& error = appended.error();
      CHECK((is(error, AgreementError::unknown) || is(error, AgreementError::corrupt)));
    }
    CHECK_FALSE(client->keep_alive(1));
    CHECK_FALSE(client->grant_lease(2));
    CHECK_FALSE(node.members().front().healthy);
    // These may hold what is answered to something else, as long as they end.
    (void)log->tail();
    (void)node.view();
    (void)node.claim(1, 7, presence("a"));
  }
  fake.say({200, std::string(EtcdClient::answer_bytes_max + 1, ' ')});
  const Result<SharedTail> huge = log->tail();
  REQUIRE_FALSE(huge);
  CHECK(is(huge.error(), AgreementError::too_large));

  struct Case {
    unsigned status;
    const char* body;
    AgreementError once;
    AgreementError repeated;
  };
  using enum AgreementError;
  for (const Case& one :
       {Case{503, R"({"error":"etcdserver: request timed out","code":14})", unknown, unavailable},
        Case{500, "<html>", unknown, unavailable}, Case{503, "", unknown, unavailable},
        Case{404, R"({"error":"etcdserver: requested lease not found","code":5})", lease_lost, lease_lost},
        Case{404, "Not Found", refused, refused},
        Case{403, R"({"error":"etcdserver: permission denied","code":7})", refused, refused},
        Case{401, R"({"error":"etcdserver: invalid auth token","code":16})", refused, refused},
        Case{400, R"({"error":"etcdserver: user name is empty","code":3})", refused, refused},
        Case{400, R"({"error":"etcdserver: request is too large","code":3})", too_large, too_large},
        Case{429, R"({"error":"etcdserver: mvcc: database space exceeded","code":8})", unavailable, unavailable},
        Case{429, R"({"error":"etcdserver: too many requests","code":8})", unavailable, unavailable}}) {
    INFO(one.body);
    fake.say({one.status, one.body});
    EtcdTxn txn;
    const Result<EtcdTxnAnswer> once = client->txn(txn, EtcdEffect::once);
    REQUIRE_FALSE(once);
    CHECK(is(once.error(), one.once));
    const Result<EtcdTxnAnswer> repeated = client->txn(txn, EtcdEffect::idempotent);
    REQUIRE_FALSE(repeated);
    CHECK(is(repeated.error(), one.repeated));
  }
}

TEST_CASE("a presence that cannot be read hides no other, and an owner that cannot is still one", "[etcd][hostile]") {
  FakeEtcd fake;
  EtcdOptions options;
  options.endpoints = {fake.endpoint()};
  const auto client = client_of(options);
  EtcdCoordination node(*client, "c");
  const EtcdKeys keys("c");
  const auto row = [](const std::string& key, const std::string& value) {
    return R"({"key":")" + base64(key) + R"(","create_revision":"8","value":")" + base64(value) + R"("})";
  };
  const std::string good = R"({"node":"b","incarnation":"01020304-0000-7000-8000-000000000000","added later":[{}]})";
  fake.say({200, R"({"header":{"revision":"9"},"succeeded":true,"responses":[{"response_range":{"kvs":[)" +
                     row(keys.node("a"), "nonsense") + "," + row(keys.node("b"), good) + "," +
                     row(keys.node("c"), good) + R"(]}},{"response_range":{"kvs":[)" + row(keys.owner(2), "{}") + "," +
                     row(keys.owners() + "else", "{}") + "]}}]}"});
  const Result<CoordinationView> view = node.view();
  REQUIRE(view);
  REQUIRE(view->nodes.size() == 1);
  CHECK(view->nodes[0].node == "b");
  REQUIRE(view->owners.size() == 1);
  CHECK(view->owners[0].shard == 2);
  CHECK(view->owners[0].epoch == 8);
  CHECK(view->owners[0].node.empty());
}

}  // namespace outlast::cluster::test::etcd_client_test
