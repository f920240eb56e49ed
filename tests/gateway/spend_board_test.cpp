// What lanes see of spend breakers: gates, snapshots, and the hashes by which they know a request again.
#include <catch2/catch.hpp>

#include <memory>

#include "gateway/request_hash.hpp"
#include "gateway/spend_board.hpp"

namespace outlast::gateway::spend_board_test {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

OpenBreaker breaker_of(SpendAction action, std::uint32_t requests_per_minute = 0) {
  OpenBreaker breaker;
  breaker.trip = {"brk_a", "daily", "user:acme/search/ann", "", action, "it spent 5.00 USD within 60 s"};
  breaker.subject = {ScopeKind::user, "acme/search/ann", {}};
  breaker.requests_per_minute = requests_per_minute;
  breaker.half_open_requests = 2;
  return breaker;
}

CallerRequest scanned(ChatScanner& scanner, std::string& padded, std::string_view body) {
  padded.assign(body);
  padded.reserve(padded.size() + http::body_padding_bytes);
  CallerRequest request;
  auto head = scanner.scan(padded);
  REQUIRE(head);
  request.head = std::move(*head);
  request.openai_body = padded;
  return request;
}

}  // namespace

TEST_CASE("a held gate lets nothing pass but its probes", "[spend_breaker]") {
  SpendGate gate(breaker_of(SpendAction::hold), "https://ops.example/breakers/brk_a");
  REQUIRE(gate.enter(0).has_value());
  CHECK(gate.enter(0)->retry_after_s == 0);
  gate.half_open();
  CHECK_FALSE(gate.enter(0).has_value());
  CHECK_FALSE(gate.enter(0).has_value());
  CHECK(gate.enter(0).has_value());
  CHECK(gate.message() ==
        "the spend breaker 'daily' holds user:acme/search/ann: it spent 5.00 USD within 60 s. An administrator can close "
        "it: outlast breaker reset brk_a --reason '…' (https://ops.example/breakers/brk_a)");
}

TEST_CASE("a throttled gate lets so many a minute pass and says when the next may", "[spend_breaker]") {
  SpendGate gate(breaker_of(SpendAction::throttle, 6), "");
  std::int64_t now = 100 * second_ns;
  CHECK_FALSE(gate.enter(now).has_value());
  const auto refused = gate.enter(now + second_ns / 2);
  REQUIRE(refused.has_value());
  CHECK(refused->retry_after_s == 10);
  int passed = 0;
  for (int tenth = 0; tenth < 600; ++tenth) passed += gate.enter(now + tenth * second_ns / 10).has_value() ? 0 : 1;
  CHECK(passed == 5);  // 10, 20, 30, 40, 50 s
}

TEST_CASE("a breaker that only notifies stops nothing and is not on the board", "[spend_breaker]") {
  SpendBoard board;
  SpendGates gates(board);
  gates.tripped(breaker_of(SpendAction::notify), "");
  SpendBreakerRule rule;
  rule.limit = SpendRepeatLimit{3, 60};
  gates.publish({rule});
  const auto snapshot = board.get();
  CHECK(snapshot->watching);
  CHECK(snapshot->requests);
  CHECK_FALSE(snapshot->conversations);
  CHECK(snapshot->scopes.empty());
  CHECK(board.version() == 2);
}

TEST_CASE("a board finds gates by scope and by session until they close", "[spend_breaker]") {
  SpendBoard board;
  SpendGates gates(board);
  gates.tripped(breaker_of(SpendAction::hold), "");
  OpenBreaker session = breaker_of(SpendAction::hold);
  session.trip.id = "brk_b";
  session.subject = {ScopeKind::key, "key_a", session_subject("night run")};
  gates.tripped(session, "");
  gates.publish({SpendBreakerRule{}});
  CHECK(board.get()->scopes.size() == 1);
  CHECK(board.get()->sessions.contains("key:key_a session night run"));
  gates.closed("brk_a");
  gates.closed("brk_b");
  gates.publish({});
  CHECK(board.get()->scopes.empty());
  CHECK(board.get()->sessions.empty());
  CHECK_FALSE(board.get()->watching);
}

TEST_CASE("SipHash-2-4 gives its authors' vectors", "[spend_breaker]") {
  const RequestHashKey key{0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
  std::string input;
  CHECK(sip_hash(key, input) == 0x726fdb47dd0e0e31ULL);
  for (char c = 0; c < 15; ++c) input += c;
  CHECK(sip_hash(key, input) == 0xa129ca6149be45e5ULL);
}

TEST_CASE("requests of one conversation share a hash, and repeated ones another", "[spend_breaker]") {
  const RequestHashKey key{1, 2};
  ChatScanner scanner;
  std::string a;
  std::string b;
  std::string c;
  const auto first = scanned(scanner, a, R"({"model": "m", "messages": [{"role": "system", "content": "be [brief]"},
    {"role": "user", "content": [{"type": "text", "text": "go, \"on\""}]}]})");
  const auto second = scanned(scanner, b, R"({"messages":[{"role": "system", "content": "be [brief]"},
    {"role": "user", "content": [{"type": "text", "text": "go, \"on\""}]}, {"role": "assistant", "content": "ok"},
    {"role": "user", "content": "more"}], "model":"other"})");
  const auto third = scanned(scanner, c, R"({"model": "m", "messages": [{"role": "system", "content": "be [brief]"},
    {"role": "user", "content": [{"type": "text", "text": "stop"}]}]})");
  CHECK(conversation_hash(key, first) != 0);
  CHECK(conversation_hash(key, first) == conversation_hash(key, second));
  CHECK(conversation_hash(key, first) != conversation_hash(key, third));
  CHECK(conversation_hash(key, first) != conversation_hash(RequestHashKey{1, 3}, first));
  CHECK(request_hash(key, first) == request_hash(key, first));
  CHECK(request_hash(key, first) != request_hash(key, second));
}

TEST_CASE("the beginning of a conversation is found where it stands", "[spend_breaker]") {
  ChatScanner scanner;
  std::string body;
  const auto text_of = [&body](ByteRange range) { return std::string_view(body).substr(range.begin, range.end - range.begin); };
  auto request = scanned(scanner, body, R"({"model":"m","messages":[ {"role":"developer","content":"d"} , 7, "x",
    {"role":"assistant"},{"content":"hi","role":"user"},{"role":"user","content":"b"} ]})");
  CHECK(text_of(request.head.system_message) == R"({"role":"developer","content":"d"})");
  CHECK(text_of(request.head.first_user_message) == R"({"content":"hi","role":"user"})");
  request = scanned(scanner, body, R"({"model":"m","messages":[{"role":"assistant","content":"a"}]})");
  CHECK(request.head.first_user_message.empty());
  CHECK(conversation_hash(RequestHashKey{1, 2}, request) == 0);
}

TEST_CASE("typed requests are known again as well", "[spend_breaker]") {
  const RequestHashKey key{1, 2};
  chat::Request typed;
  typed.model = "m";
  typed.messages = {{chat::Role::system, {chat::Text{"s"}}}, {chat::Role::user, {chat::Text{"u"}}}};
  CallerRequest request;
  request.typed = &typed;
  const std::uint64_t conversation = conversation_hash(key, request);
  const std::uint64_t whole = request_hash(key, request);
  typed.messages.push_back({chat::Role::assistant, {chat::Text{"a"}}});
  CHECK(conversation_hash(key, request) == conversation);
  CHECK(request_hash(key, request) != whole);
  typed.messages[1].parts[0] = chat::Text{"other"};
  CHECK(conversation_hash(key, request) != conversation);
}

}  // namespace outlast::gateway::spend_board_test
