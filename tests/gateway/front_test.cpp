#include <catch2/catch.hpp>

#include <set>

#include "gateway/lane.hpp"
#include "tests/gateway/gateway_bench.hpp"

namespace front_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using Catch::Contains;

namespace {

std::string request(const std::string& first_line, const std::string& headers = "", const std::string& body = "") {
  return first_line + " HTTP/1.1\r\nHost: gateway\r\n" + headers +
         (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" + body;
}

struct FrontBench : GatewayBench {
  Caller::Answer reply(const std::string& bytes) {
    const auto caller = connect();
    caller->send(bytes);
    return answer_of(*caller);
  }
  [[nodiscard]] std::string bearer() const { return "Authorization: Bearer " + key_text + "\r\n"; }
};

}  // namespace

TEST_CASE("a request without a valid key is 401, and touches neither meter nor provider", "[front]") {
  FrontBench bench;
  const std::string body = GatewayBench::body_of("smart", false);
  const std::string other = make_virtual_key_text();
  std::string mistyped = bench.key_text;
  mistyped.back() = mistyped.back() == 'a' ? 'b' : 'a';
  const std::vector<std::string> headers = {
        "", "Authorization: Bearer " + other + "\r\n", "Authorization: Bearer " + mistyped + "\r\n",
        "Authorization: Bearer\r\n", "Authorization: Bearer  \r\n", "Authorization: Basic " + bench.key_text + "\r\n",
        "Authorization: " + bench.key_text + "\r\n", "x-api-key: " + other + "\r\n",
        "Authorization: Bearer " + bench.key_text + bench.key_text + "\r\n"};
  for (const std::string& header : headers) {
    INFO(header);
    const auto answer = bench.reply(request("POST /v1/chat/completions", header, body));
    CHECK(answer.status == 401);
    CHECK(answer.headers.at("www-authenticate") == "Bearer");
    CHECK(answer.headers.at("content-type") == "application/json");
    CHECK_THAT(answer.body, Contains("invalid_api_key") && !Contains(other));
  }
  CHECK(bench.metrics.unauthorised.value() == 9);
  CHECK(bench.metrics.requests.value() == 0);
  CHECK(bench.meter.operations.empty());
  CHECK(bench.upstream(0).received.empty());
}

TEST_CASE("a valid key is taken as a bearer in any case of the word, or as x-api-key", "[front]") {
  FrontBench bench;
  bench.upstream(0).otherwise = says("hello");
  const std::string body = GatewayBench::body_of("smart", false);
  for (const char* header : {"Authorization: Bearer ", "authorization: bearer ", "AUTHORIZATION: BEARER ", "x-api-key: "}) {
    INFO(header);
    CHECK(bench.reply(request("POST /v1/chat/completions", header + bench.key_text + "\r\n", body)).status == 200);
  }
}

TEST_CASE("a revoked key is 401 from the next request on, on a connection that is open", "[front]") {
  FrontBench bench;
  bench.upstream(0).otherwise = says("hello");
  const auto caller = bench.ask(false);
  CHECK(bench.answer_of(*caller).status == 200);
  auto snapshot = std::make_shared<Snapshot>(*bench.board.get());
  snapshot->keys = std::make_shared<const KeyTable>(std::make_shared<const HmacSha256>(std::as_bytes(std::span("bench", 5))));
  bench.board.publish(std::move(snapshot));
  caller->forget();
  caller->send(bench.chat(GatewayBench::body_of("smart", false)));
  CHECK(bench.answer_of(*caller).status == 401);
}

TEST_CASE("a body that is no chat request is 400 and says why", "[front]") {
  FrontBench bench;
  const std::pair<const char*, const char*> bodies[] = {
      {"{", "malformed_json"},
      {"[]", "malformed_json"},
      {R"({"model":"smart","messages":[{}],"model":"x"})", "malformed_json"},
      {R"({"messages":[{"role":"user","content":"x"}]})", "'model'"},
      {R"({"model":"smart"})", "'messages'"},
      {R"({"model":"smart","messages":[]})", "'messages'"},
      {R"({"model":"smart","messages":[{}],"stream":"yes"})", "'stream'"},
      {R"({"model":"smart","messages":[{}],"max_tokens":-1})", "'max_tokens'"},
  };
  for (const auto& [body, word] : bodies) {
    INFO(body);
    const auto answer = bench.reply(bench.chat(body));
    CHECK(answer.status == 400);
    CHECK_THAT(answer.body, Contains(word) && Contains("invalid_request_error"));
    CHECK(answer.headers.at("x-should-retry") == "false");
  }
  CHECK(bench.meter.operations.empty());
}

TEST_CASE("an empty body is 400", "[front]") {
  FrontBench bench;
  CHECK(bench.reply(request("POST /v1/chat/completions", bench.bearer() + "Content-Length: 0\r\n")).status == 400);
}

TEST_CASE("other methods and paths are refused in OpenAI's error shape", "[front]") {
  FrontBench bench;
  const auto get = bench.reply(request("GET /v1/chat/completions", bench.bearer()));
  CHECK(get.status == 405);
  CHECK(get.headers.at("allow") == "POST");
  const auto post = bench.reply(request("POST /v1/models", bench.bearer(), "{}"));
  CHECK(post.status == 405);
  CHECK(post.headers.at("allow") == "GET");
  const auto nowhere = bench.reply(request("GET /v1/nothing", bench.bearer()));
  CHECK(nowhere.status == 404);
  for (const auto& answer : {get, post, nowhere}) CHECK_THAT(answer.body, Catch::StartsWith("{\"error\""));
}

TEST_CASE("the list of models names routes, models and deployments, for a valid key", "[front]") {
  FrontBench bench;
  CHECK(bench.reply(request("GET /v1/models")).status == 401);
  const auto list = bench.reply(request("GET /v1/models", bench.bearer()));
  CHECK(list.status == 200);
  CHECK_THAT(list.body, Contains(R"("object":"list")"));
  for (const char* name : {"smart", "m0", "m1", "d0", "d1"}) {
    CHECK_THAT(list.body, Contains("\"id\":\"" + std::string(name) + "\""));
  }
  const auto one = bench.reply(request("GET /v1/models/smart", bench.bearer()));
  CHECK(one.status == 200);
  CHECK_THAT(one.body, Contains(R"("id":"smart")") && Contains(R"("object":"model")"));
  CHECK(bench.reply(request("GET /v1/models/nobody", bench.bearer())).status == 404);
}

TEST_CASE("health says that the node lives, readiness that it takes requests", "[front]") {
  FrontBench bench;
  CHECK(bench.reply(request("GET /healthz")).status == 200);
  CHECK(bench.reply(request("GET /readyz")).status == 200);
  bench.ready = false;
  CHECK(bench.reply(request("GET /healthz")).status == 200);
  CHECK(bench.reply(request("GET /readyz")).status == 503);
  bench.ready = true;
  bench.board.publish(nullptr);
  CHECK(bench.reply(request("GET /readyz")).status == 503);
}

TEST_CASE("a draining node answers what was on its way and finishes what is under way", "[front]") {
  FrontBench bench;
  Gate gate(bench.context);
  bench.upstream(0).then(streams_through(gate, {openai_role(), openai_text("a")}, {openai_text("b"), openai_end()}));
  const auto under_way = bench.ask(true);
  REQUIRE(bench.context.run_until([&under_way] { return !under_way->bytes().empty(); }));
  bench.ready = false;
  bench.upstream(0).otherwise = says("hello");
  CHECK(bench.answer_to(false).status == 200);
  gate.open();
  const auto answer = bench.answer_of(*under_way);
  CHECK(answer.complete);
  CHECK_THAT(answer.body, Catch::EndsWith("data: [DONE]\n\n"));
  CHECK(bench.meter.all<Reservation>().size() == 2);
}

TEST_CASE("requests on one connection are answered one after the other", "[front]") {
  FrontBench bench;
  bench.upstream(0).otherwise = says("hello");
  const auto caller = bench.connect();
  std::set<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    caller->forget();
    caller->send(bench.chat(GatewayBench::body_of("smart", false)));
    const auto answer = bench.answer_of(*caller);
    CHECK(answer.status == 200);
    CHECK(answer.headers.at("x-request-id") == answer.headers.at("x-outlast-request-id"));
    ids.insert(answer.headers.at("x-outlast-request-id"));
  }
  CHECK(ids.size() == 5);
  CHECK_FALSE(caller->ended());
}

TEST_CASE("what is no HTTP is refused in OpenAI's error shape", "[front]") {
  FrontBench bench;
  const auto answer = bench.reply("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  CHECK(answer.status == 400);
  CHECK_THAT(answer.body, Catch::StartsWith("{\"error\"") && Contains("bad_request"));
}

// --- a whole lane, on its own thread -------------------------------------------------------------------------------

namespace {

struct LaneBench {
  // A lane whose upstreams are the bench's; the bench's loop is stepped by the test, the lane runs by itself.
  GatewayBench bench;
  Lane lane{LaneOptions{}, bench.board, bench.clock,
            [this](asio::io_context& context) {
              auto made = std::make_unique<FakeMeter>(context);
              made->held = hold;
              return made;
            },
            bench.outcome_sink};
  static inline bool hold = false;
};

}  // namespace

TEST_CASE("a lane serves on its own thread and drains", "[lane]") {
  LaneBench::hold = false;
  LaneBench node;
  node.bench.upstream(0).otherwise = streams_words("from a lane");
  const auto port = node.lane.start("127.0.0.1:0");
  REQUIRE(port);
  Caller caller(node.bench.context, *port);
  caller.send(node.bench.chat(GatewayBench::body_of("smart", true)));
  CHECK_THAT(node.bench.answer_of(caller).body, Contains("from a lane"));
  CHECK(node.bench.context.run_until([&node] { return node.lane.requests_in_flight() == 0; }));
  CHECK(node.lane.metrics().answered.value() == 1);
  node.lane.drain();
  CHECK(node.bench.context.run_until([&caller] { return caller.ended(); }));  // an idle connection is closed
  node.lane.stop();
  node.lane.stop();
}

TEST_CASE("a lane that stops drops what is under way, wherever it stands", "[lane]") {
  LaneBench::hold = GENERATE(true, false);
  LaneBench node;
  Gate never(node.bench.context);
  node.bench.upstream(0).then([&never](http::Request&, http::Response& response) -> asio::awaitable<void> {
    co_await never.passed();
    response.cut();
  });
  node.bench.upstream(0).then(streams_through(never, {openai_role(), openai_text("begun")}, {}));
  node.bench.upstream(0).then(streams_words("all but the end"));
  node.bench.upstream(0).then(answers(429, "{}", {{"retry-after", "9"}}));
  node.bench.upstream(0).otherwise = streams_words("more");
  node.bench.upstream(1).otherwise = streams_words("more");
  const auto port = node.lane.start("127.0.0.1:0");
  REQUIRE(port);
  std::vector<std::unique_ptr<Caller>> callers;
  for (std::size_t i = 0; i < 4; ++i) {
    callers.push_back(std::make_unique<Caller>(node.bench.context, *port));
    callers.back()->send(node.bench.chat(GatewayBench::body_of(i == 3 ? "d0" : "smart", true)));
    REQUIRE(node.bench.context.run_until([&] { return node.bench.upstream(0).received.size() == i + 1; }));
  }
  CHECK(node.lane.requests_in_flight() >= 2);
  node.lane.stop();
}

}  // namespace front_test
