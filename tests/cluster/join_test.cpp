// How a machine becomes a node: token, listener, joiner and ledger together, and everything that must not get in.
#include <catch2/catch.hpp>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>

#include <zmq.hpp>

#include "cluster/enrolment.hpp"
#include "cluster/join_client.hpp"
#include "cluster/join_listener.hpp"
#include "cluster/join_token.hpp"
#include "core/random.hpp"
#include "storage/ledger_store.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::cluster::join_test {
namespace {

constexpr std::chrono::seconds patience{20};
const std::string shared_secret(64, 'a');

// A node of a cluster as far as joining goes, over a real ledger.
struct Founder {
  explicit Founder(JoinLimits limits = {}) : keys(make_curve_keys()) {
    storage::LedgerOptions options;
    options.path = folder.path() + "/ledger";
    options.free_bytes_min = 0;
    options.free_fraction_min = 0;
    auto opened = storage::LedgerStore::open(options, clock);
    REQUIRE(opened);
    ledger = std::move(*opened);
    enrolment = std::make_unique<Enrolment>(*ledger, clock, "river", shared_secret);
    REQUIRE(record(NodeEnrolled{"n1", keys.public_key, "tcp://127.0.0.1:1", {"gateway", "ledger"}, "", "test"}));
    REQUIRE(record(SettingSet{"shards", "16", "test"}));
    REQUIRE(record(SettingSet{"routes", std::string(5'000, 'x'), "test"}));
    auto started = JoinListener::start({"tcp://127.0.0.1:0", keys.secret_key, limits}, clock,
                                       [this](JoinRequest request, JoinListener::Answer answer) {
                                         enrolment->join(std::move(request), std::move(answer));
                                       });
    REQUIRE(started);
    listener = std::move(*started);
  }

  Result<void> record(MemberOperation operation) {
    std::promise<Result<void>> promise;
    auto future = promise.get_future();
    ledger->record_member(std::move(operation), [&promise](Result<void> done) { promise.set_value(std::move(done)); });
    REQUIRE(future.wait_for(patience) == std::future_status::ready);
    return future.get();
  }
  JoinToken token(std::int64_t age_ms = 3'600'000) {
    JoinToken token = make_join_token("river", listener->endpoint(), listener->public_key());
    REQUIRE(record(record_of(token, clock.wall_ms() + age_ms, "test")));
    return token;
  }
  MemberRecords members() {
    auto records = ledger->members();
    REQUIRE(records);
    return std::move(*records);
  }
  [[nodiscard]] JoinCounters counters() const { return listener->counters(); }
  template <class Condition>
  void wait_until(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (!condition(counters())) {
      REQUIRE(std::chrono::steady_clock::now() < give_up);
      std::this_thread::yield();
    }
  }

  storage::TemporaryFolder folder;
  SystemClock clock;
  CurveKeys keys;
  std::unique_ptr<storage::LedgerStore> ledger;
  std::unique_ptr<Enrolment> enrolment;
  std::unique_ptr<JoinListener> listener;
};

JoinCall call_of(JoinToken token, const std::string& name, CurveKeys keys = make_curve_keys()) {
  return {std::move(token), std::move(keys), name, "tcp://127.0.0.1:2", {"gateway", "ledger"}, "test", 15'000};
}

// Says whatever a test wants to a listener.
class Stranger {
 public:
  enum class Security { curve, none };
  explicit Stranger(const Founder& founder, Security security = Security::curve, std::string server_key = {})
      : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    if (security == Security::curve) {
      const CurveKeys own = make_curve_keys();
      socket_.set(zmq::sockopt::curve_serverkey, server_key.empty() ? founder.listener->public_key() : server_key);
      socket_.set(zmq::sockopt::curve_publickey, own.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, own.secret_key);
    }
    socket_.connect(founder.listener->endpoint());
  }
  void send(const std::string& bytes) { (void)socket_.send(zmq::buffer(bytes), zmq::send_flags::dontwait); }
  void send(const join::Request& request) {
    const auto frame = join::encode(request);
    REQUIRE(frame);
    const auto bytes = (*frame)->bytes();
    // A connection that was refused meanwhile takes nothing.
    (void)socket_.send(zmq::buffer(bytes.data(), bytes.size()), zmq::send_flags::dontwait);
  }
  std::optional<join::Answer> receive(std::chrono::milliseconds wait = patience) {
    socket_.set(zmq::sockopt::rcvtimeo, static_cast<int>(wait.count()));
    zmq::message_t body;
    if (!socket_.recv(body)) return std::nullopt;
    auto answer = join::decode_answer({body.data<std::byte>(), body.size()});
    REQUIRE(answer);
    return std::move(*answer);
  }
  join::Refused refusal() {
    const auto answer = receive();
    REQUIRE(answer);
    REQUIRE(std::holds_alternative<join::Refused>(*answer));
    return std::get<join::Refused>(*answer);
  }
  zmq::socket_t& socket() { return socket_; }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

join::Request request_of(const JoinToken& token, const std::string& name) {
  return {join::version_min, join::version_max, token.id, token.secret, name, "tcp://127.0.0.1:2", {"ledger"}, "test"};
}

}  // namespace

TEST_CASE("a join token is one word that reads back, and no other word does", "[cluster][join]") {
  const CurveKeys keys = make_curve_keys();
  const JoinToken token = make_join_token("river", "tcp://10.0.0.1:8084", keys.public_key);
  const std::string text = token.text();
  CHECK(text.starts_with("outlast-join-1."));
  CHECK(text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == std::string::npos);
  const auto parsed = JoinToken::parse(text);
  REQUIRE(parsed);
  CHECK(*parsed == token);
  CHECK(make_join_token("river", "tcp://x:1", keys.public_key).id != token.id);

  const JoinTokenMade record = record_of(token, 5, "ann");
  CHECK(is_secret_of(token.secret, record.hash));
  join::Secret other = token.secret;
  other[31] ^= 1;
  CHECK_FALSE(is_secret_of(other, record.hash));

  Random random(7);
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string bad = text;
    bad[at] = bad[at] == 'A' ? 'B' : 'A';
    CHECK_FALSE(JoinToken::parse(bad));
    CHECK_FALSE(JoinToken::parse(text.substr(0, at)));
  }
  CHECK_FALSE(JoinToken::parse(text + "A"));
  CHECK_FALSE(JoinToken::parse(std::string(join_token_prefix) + std::string(3'000, 'A')));
  for (int i = 0; i < 2'000; ++i) {
    std::string bad(join_token_prefix);
    for (std::uint64_t left = random.below(300); left > 0; --left) bad += static_cast<char>(random.below(256));
    CHECK_FALSE(JoinToken::parse(bad));
  }
}

TEST_CASE("a machine with a token joins with the key that its link proves", "[cluster][join]") {
  Founder founder;
  const JoinCall call = call_of(founder.token(), "n2");
  const auto welcome = join_cluster(call, founder.clock);
  REQUIRE(welcome);
  CHECK(welcome->cluster == "river");
  CHECK(welcome->secret == shared_secret);
  CHECK(welcome->nodes == std::vector<join::Node>{{"n1", founder.keys.public_key, "tcp://127.0.0.1:1"}});
  CHECK(welcome->settings == std::map<std::string, std::string>{{"shards", "16"}});  // the large one comes later
  const MemberRecords members = founder.members();
  REQUIRE(members.find("n2") != nullptr);
  CHECK(members.find("n2")->enrolled.public_key == call.keys.public_key);
  CHECK(members.find("n2")->enrolled.roles == call.roles);
  CHECK(members.tokens.empty());
  CHECK(founder.counters().welcomed == 1);
  CHECK(founder.counters().refused == 0);
}

TEST_CASE("a replayed token lets nobody in but the node whose answer was lost", "[cluster][join]") {
  Founder founder;
  const JoinToken token = founder.token();
  const JoinCall call = call_of(token, "n2");
  REQUIRE(join_cluster(call, founder.clock));
  REQUIRE(join_cluster(call, founder.clock));  // the same key, the same name
  const auto other_key = join_cluster(call_of(token, "n2"), founder.clock);
  REQUIRE_FALSE(other_key);
  CHECK(is(other_key.error(), JoinError::refused));
  CHECK_FALSE(join_cluster(call_of(token, "n3"), founder.clock));
  CHECK_FALSE(join_cluster(call_of(token, "n3", call.keys), founder.clock));
  CHECK(founder.members().nodes.size() == 2);
  REQUIRE(founder.record(NodeChanged{"n2", NodeState::removed, "ann", ""}));
  CHECK_FALSE(join_cluster(call, founder.clock));
  CHECK(founder.counters().welcomed == 2);
  CHECK(founder.counters().refused == 4);
}

TEST_CASE("two machines with one token: one of them gets in", "[cluster][join]") {
  Founder founder;
  const JoinToken token = founder.token();
  std::vector<std::thread> threads;
  std::atomic<int> in{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&founder, &token, &in, i] {
      if (join_cluster(call_of(token, "m" + std::to_string(i)), founder.clock)) ++in;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(in == 1);
  CHECK(founder.members().nodes.size() == 2);
}

TEST_CASE("unknown, expired and wrong secrets are told the same, after the same time", "[cluster][join]") {
  Founder founder;
  const JoinToken open = founder.token();
  JoinToken wrong = open;
  wrong.secret[0] ^= 1;
  JoinToken unknown = make_join_token("river", founder.listener->endpoint(), founder.listener->public_key());
  const JoinToken short_lived = founder.token(1);
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (founder.clock.wall_ms() <= founder.members().tokens.back().token.expires_ms &&
         founder.clock.wall_ms() <= founder.members().tokens.front().token.expires_ms) {
    REQUIRE(std::chrono::steady_clock::now() < give_up);
  }
  std::vector<join::Refused> refusals;
  for (const JoinToken& token : {wrong, unknown, short_lived}) {
    Stranger stranger(founder);
    const auto begin = std::chrono::steady_clock::now();
    stranger.send(request_of(token, "n2"));
    refusals.push_back(stranger.refusal());
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(JoinLimits{}.refusal_ms));
  }
  CHECK(refusals[0].kind == join::RefusalKind::bad_token);
  CHECK(refusals[1] == refusals[0]);
  CHECK(refusals[2] == refusals[0]);
  CHECK(founder.members().nodes.size() == 1);
  CHECK(join_cluster(call_of(open, "n2"), founder.clock));  // wrong guesses use nothing up
}

TEST_CASE("names of others, revoked keys and unfit names are refused with a reason", "[cluster][join]") {
  JoinLimits limits;
  limits.requests_per_s_of_address = 50;
  Founder founder(limits);
  const JoinToken token = founder.token();
  const auto taken = join_cluster(call_of(token, "n1"), founder.clock);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message.find("another node has this name") != std::string::npos);
  const auto unfit = join_cluster(call_of(token, "n 2"), founder.clock);
  REQUIRE_FALSE(unfit);
  CHECK(unfit.error().message.find("1 to 64 of") != std::string::npos);
  const JoinCall call = call_of(token, "n2");
  REQUIRE(join_cluster(call, founder.clock));
  REQUIRE(founder.record(NodeChanged{"n2", NodeState::revoked, "ann", "stolen"}));
  const auto revoked = join_cluster(call_of(founder.token(), "n2", call.keys), founder.clock);
  REQUIRE_FALSE(revoked);
  CHECK(revoked.error().message.find("revoked") != std::string::npos);
  CHECK(founder.members().find("n2")->state == NodeState::revoked);
}

TEST_CASE("a joiner takes no answer from anybody but the token's node", "[cluster][join]") {
  Founder founder;
  JoinCall call = call_of(founder.token(), "n2");
  call.token.public_key = make_curve_keys().public_key;
  call.timeout_ms = 1'000;
  const auto answer = join_cluster(call, founder.clock);
  REQUIRE_FALSE(answer);
  CHECK(is(answer.error(), JoinError::unreachable));
  CHECK(founder.members().nodes.size() == 1);
  CHECK(founder.counters().requests == 0);
  founder.wait_until([](const JoinCounters& counters) { return counters.handshakes_failed > 0; });

  call = call_of(founder.token(), "n2");
  call.token.cluster = "lake";
  const auto other = join_cluster(call, founder.clock);
  REQUIRE_FALSE(other);
  CHECK(is(other.error(), JoinError::bad_answer));
}

TEST_CASE("a peer without CURVE gets nothing", "[cluster][join]") {
  Founder founder;
  Stranger stranger(founder, Stranger::Security::none);
  stranger.send(request_of(founder.token(), "n2"));
  founder.wait_until([](const JoinCounters& counters) { return counters.handshakes_failed > 0; });
  CHECK(founder.counters().requests == 0);
  CHECK(founder.members().nodes.size() == 1);
}

TEST_CASE("hostile bytes are refused and counted, and the next joiner is served", "[cluster][join]") {
  JoinLimits limits;
  limits.requests_per_s_of_address = 100'000;
  limits.requests_per_s = 100'000;
  limits.refusal_ms = 1;
  Founder founder(limits);
  const JoinToken token = founder.token();
  Random random(3);
  const auto good = *join::encode(request_of(token, "n2"));
  const std::string frame(reinterpret_cast<const char*>(good->bytes().data()), good->size());
  Stranger stranger(founder);
  constexpr int count = 500;
  for (int i = 0; i < count; ++i) {
    std::string bytes = frame;
    // Mostly the lengths and pointers at the front; never the secret, or it would be a good request.
    const auto at = static_cast<std::size_t>(random.below(16));
    bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1 + random.below(255)));
    if (random.below(3) == 0) bytes.resize(random.below(16));
    stranger.socket().send(zmq::buffer(bytes), zmq::send_flags::none);
    REQUIRE(std::holds_alternative<join::Refused>(*stranger.receive()));
  }
  CHECK(founder.counters().malformed + founder.counters().refused >= count);
  CHECK(founder.members().nodes.size() == 1);

  // A message of several parts, and an empty one.
  const std::uint64_t malformed = founder.counters().malformed;
  stranger.socket().send(zmq::buffer(frame), zmq::send_flags::sndmore);
  stranger.socket().send(zmq::buffer(frame), zmq::send_flags::none);
  stranger.send(std::string());
  founder.wait_until([malformed](const JoinCounters& counters) { return counters.malformed >= malformed + 2; });
  CHECK(join_cluster(call_of(token, "n2"), founder.clock));
}

TEST_CASE("a frame over the limit ends its connection", "[cluster][join]") {
  Founder founder;
  Stranger stranger(founder);
  stranger.send(std::string(16U << 20, 'x'));
  founder.wait_until([](const JoinCounters& counters) { return counters.disconnected > 0; });
  CHECK(founder.counters().requests == 0);
  CHECK(founder.counters().malformed == 0);
  CHECK(join_cluster(call_of(founder.token(), "n2"), founder.clock));
}

TEST_CASE("who asks too often is told to wait, and is not looked at", "[cluster][join]") {
  Founder founder;
  const JoinToken token = founder.token();
  JoinToken wrong = token;
  wrong.secret[5] ^= 4;
  Stranger stranger(founder);
  for (int i = 0; i < 100; ++i) stranger.send(request_of(wrong, "n2"));
  founder.wait_until([](const JoinCounters& counters) { return counters.requests + counters.rate_limited == 100; });
  CHECK(founder.counters().rate_limited >= 80);
  bool busy = false;
  for (int i = 0; i < 100 && !busy; ++i) busy = stranger.refusal().kind == join::RefusalKind::busy;
  CHECK(busy);
  CHECK(join_cluster(call_of(token, "n2"), founder.clock));  // it waits, as it was told
}

TEST_CASE("handshakes and connections of strangers are bounded", "[cluster][join]") {
  JoinLimits limits;
  limits.handshakes_per_s = 20;
  limits.connections_max = 30;
  Founder founder(limits);
  {
    std::vector<std::unique_ptr<Stranger>> flood;
    for (int i = 0; i < 60; ++i) flood.push_back(std::make_unique<Stranger>(founder));
    founder.wait_until([](const JoinCounters& counters) { return counters.all_dropped > 0; });
    founder.wait_until([](const JoinCounters& counters) { return counters.handshakes_refused > 0; });
  }
  JoinCall call = call_of(founder.token(), "n2");
  call.timeout_ms = 20'000;
  const auto joined = join_cluster(call, founder.clock);
  const JoinCounters counters = founder.counters();
  CAPTURE(counters.connections, counters.disconnected, counters.handshakes_refused, counters.handshakes_failed,
          counters.all_dropped, counters.requests);
  CHECK(joined);
}

TEST_CASE("a version that this cluster does not speak is refused by name", "[cluster][join]") {
  Founder founder;
  join::Request request = request_of(founder.token(), "n2");
  request.version_min = join::version_max + 1;
  request.version_max = join::version_max + 3;
  Stranger stranger(founder);
  stranger.send(request);
  CHECK(stranger.refusal().kind == join::RefusalKind::unsupported_version);
  request.version_min = join::version_min;  // one that speaks newer versions as well
  stranger.send(request);
  const auto answer = stranger.receive();
  REQUIRE(answer);
  REQUIRE(std::holds_alternative<join::Welcome>(*answer));
  CHECK(std::get<join::Welcome>(*answer).version == join::version_max);
}

TEST_CASE("an answer that comes after the listener is gone is dropped", "[cluster][join]") {
  const SystemClock clock;
  const CurveKeys keys = make_curve_keys();
  std::mutex mutex;
  std::condition_variable asked;
  std::optional<JoinListener::Answer> late;
  auto listener = JoinListener::start({"tcp://127.0.0.1:0", keys.secret_key, {}}, clock,
                                      [&mutex, &asked, &late](JoinRequest, JoinListener::Answer answer) {
                                        const std::lock_guard lock(mutex);
                                        late = std::move(answer);
                                        asked.notify_all();
                                      });
  REQUIRE(listener);
  JoinCall call = call_of(make_join_token("river", (*listener)->endpoint(), keys.public_key), "n2");
  call.timeout_ms = 500;
  CHECK_FALSE(join_cluster(call, clock));
  std::unique_lock lock(mutex);
  REQUIRE(asked.wait_for(lock, patience, [&late] { return late.has_value(); }));
  listener->reset();
  (*late)(join::Refused{join::RefusalKind::internal, "too late"});
}

}  // namespace outlast::cluster::join_test
