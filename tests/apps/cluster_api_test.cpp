// The admin calls of a cluster's nodes, tokens and settings, over a real ledger.
#include <catch2/catch.hpp>

#include <boost/asio/co_spawn.hpp>
#include <nlohmann/json.hpp>

#include <future>
#include <optional>

#include "apps/outlastd/cluster_api.hpp"
#include "cluster/join_token.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::apps::cluster_api_test {
namespace {

using Json = nlohmann::json;

const std::string key_n1(40, 'k');

struct Bench {
  explicit Bench(bool in_cluster = true) : api(loop, store(), clock, in_cluster ? &port : nullptr) {}

  storage::LedgerStore& store() {
    storage::LedgerOptions options;
    options.path = folder.path() + "/ledger";
    options.free_bytes_min = 0;
    options.free_fraction_min = 0;
    auto opened = storage::LedgerStore::open(options, clock);
    REQUIRE(opened);
    ledger = std::move(*opened);
    return *ledger;
  }
  ClusterApi::Reply call(const std::string& method, const std::string& name, const std::string& body = {}) {
    std::optional<ClusterApi::Reply> reply;
    boost::asio::co_spawn(loop, api.handle(method, name, body),
                          [&reply](std::exception_ptr error, ClusterApi::Reply got) {
                            if (!error) reply = std::move(got);
                          });
    loop.restart();
    loop.run();
    REQUIRE(reply);
    return std::move(*reply);
  }
  Json json(const std::string& method, const std::string& name, const std::string& body = {}) {
    const ClusterApi::Reply reply = call(method, name, body);
    INFO(reply.body);
    REQUIRE(reply.status == 200);
    return Json::parse(reply.body);
  }
  void enrol(const std::string& name, const std::string& key, const std::string& token = {},
             const std::vector<std::string>& roles = {"gateway", "ledger"}) {
    std::promise<Result<void>> done;
    ledger->record_member(NodeEnrolled{name, key, "tcp://127.0.0.1:1", roles, token, "test"},
                          [&done](Result<void> result) { done.set_value(std::move(result)); });
    REQUIRE(done.get_future().get());
  }

  storage::TemporaryFolder folder;
  SystemClock clock;
  std::unique_ptr<storage::LedgerStore> ledger;
  boost::asio::io_context loop;
  ClusterPort port{"river", "tcp://127.0.0.1:8084", key_n1, [] { return std::string(R"({"cluster":"river"})"); }};
  ClusterApi api;
};

}  // namespace

TEST_CASE("a node on its own says how it becomes the first of a cluster", "[admin][cluster]") {
  Bench bench(false);
  for (const char* path : {"cluster", "cluster/nodes", "cluster/tokens", "cluster/settings/x"}) {
    const auto reply = bench.call("GET", path);
    CHECK(reply.status == 409);
    CHECK(reply.body.find("outlast node init --found") != std::string::npos);
  }
  CHECK(bench.call("POST", "cluster/tokens", "{}").status == 409);
}

TEST_CASE("a token is shown once, listed without its secret, and withdrawn", "[admin][cluster]") {
  Bench bench;
  const Json made = bench.json("POST", "cluster/tokens", R"({"expires_s": 600, "by": "ann"})");
  const auto token = cluster::JoinToken::parse(made["token"].get<std::string>());
  REQUIRE(token);
  CHECK(token->cluster == "river");
  CHECK(token->endpoint == "tcp://127.0.0.1:8084");
  CHECK(token->public_key == key_n1);
  CHECK(made["id"] == token->id);
  const std::int64_t left_ms = made["expires_ms"].get<std::int64_t>() - bench.clock.wall_ms();
  CHECK((left_ms > 500'000 && left_ms <= 600'000));
  const auto records = bench.ledger->members();
  REQUIRE(records);
  REQUIRE(records->tokens.size() == 1);
  CHECK(cluster::is_secret_of(token->secret, records->tokens[0].token.hash));

  const auto list = bench.call("GET", "cluster/tokens");
  CHECK(Json::parse(list.body)["tokens"][0]["by"] == "ann");
  CHECK(list.body.find(made["token"].get<std::string>()) == std::string::npos);
  CHECK(bench.json("DELETE", "cluster/tokens/" + token->id)["state"] == "withdrawn");
  CHECK(bench.call("DELETE", "cluster/tokens/" + token->id).status == 404);
  CHECK(bench.json("GET", "cluster/tokens")["tokens"].empty());

  for (const char* bad : {"[", "3", R"({"expires_s": 59})", R"({"expires_s": 604801})", R"({"expires_s": "1h"})",
                          R"({"expires_s": 1e300})", R"({"by": 3})", R"({"by": ""})"}) {
    CHECK(bench.call("POST", "cluster/tokens", bad).status == 400);
  }
  bench.port.join_endpoint.clear();
  CHECK(bench.call("POST", "cluster/tokens").status == 409);
}

TEST_CASE("nodes are listed, drained, removed and revoked", "[admin][cluster]") {
  Bench bench;
  bench.enrol("n1", key_n1);
  const Json token = bench.json("POST", "cluster/tokens");
  bench.enrol("n2", std::string(40, 'l'), token["id"].get<std::string>());
  Json nodes = bench.json("GET", "cluster/nodes")["nodes"];
  REQUIRE(nodes.size() == 2);
  CHECK(nodes[1]["name"] == "n2");
  CHECK(nodes[1]["state"] == "active");
  CHECK(nodes[1]["changed_ms"].is_null());
  CHECK(nodes[1]["roles"] == Json::array({"gateway", "ledger"}));

  CHECK(bench.json("POST", "cluster/nodes/n2/drain", R"({"by": "ann", "reason": "new disk"})")["state"] == "draining");
  nodes = bench.json("GET", "cluster/nodes")["nodes"];
  CHECK(nodes[1]["state"] == "draining");
  CHECK(nodes[1]["reason"] == "new disk");
  CHECK(nodes[1]["changed_by"] == "ann");
  CHECK(bench.json("POST", "cluster/nodes/n2/undrain")["state"] == "active");
  CHECK(bench.json("POST", "cluster/nodes/n2/revoke")["state"] == "revoked");
  CHECK(bench.call("POST", "cluster/nodes/n2/undrain").status == 409);
  CHECK(bench.call("POST", "cluster/nodes/n1/remove").status == 409);  // the last one
  CHECK(bench.call("POST", "cluster/nodes/n9/remove").status == 404);
  CHECK(bench.call("POST", "cluster/nodes/n1/explode").status == 404);
  CHECK(bench.call("GET", "cluster/nodes/n1/drain").status == 404);
  CHECK(bench.call("POST", "cluster/nodes/n1/drain", R"({"reason": ")" + std::string(1'001, 'x') + "\"}").status == 400);
}

TEST_CASE("the last node that keeps the ledger is not let go, whatever other nodes there are", "[admin][cluster]") {
  Bench bench;
  bench.enrol("n1", key_n1);
  bench.enrol("n2", std::string(40, 'l'), bench.json("POST", "cluster/tokens")["id"].get<std::string>(), {"gateway"});
  for (const char* action : {"remove", "revoke"}) {
    const auto refused = bench.call("POST", std::string("cluster/nodes/n1/") + action);
    CHECK(refused.status == 409);
    CHECK(refused.body.find("'n1' is the last node with role ledger") != std::string::npos);
  }
  CHECK(bench.json("POST", "cluster/nodes/n1/drain")["state"] == "draining");  // which can be taken back
  CHECK(bench.call("POST", "cluster/nodes/n1/remove").status == 409);
  CHECK(bench.json("POST", "cluster/nodes/n2/remove")["state"] == "removed");

  bench.enrol("n3", std::string(40, 'm'), bench.json("POST", "cluster/tokens")["id"].get<std::string>(), {"ledger"});
  CHECK(bench.json("POST", "cluster/nodes/n1/remove")["state"] == "removed");
  CHECK(bench.json("POST", "cluster/nodes/n1/revoke")["state"] == "revoked");  // it takes no part any more
  CHECK(bench.call("POST", "cluster/nodes/n3/revoke").status == 409);
}

TEST_CASE("settings are set by name, and routes only when every node could go by them", "[admin][cluster]") {
  Bench bench;
  CHECK(bench.json("PUT", "cluster/settings/motto", R"({"value": "slow is smooth"})")["state"] == "set");
  CHECK(bench.json("GET", "cluster/settings/motto")["value"] == "slow is smooth");
  CHECK(bench.json("GET", "cluster/settings")["settings"].size() == 1);
  CHECK(bench.json("PUT", "cluster/settings/motto", R"({"value": ""})")["state"] == "removed");
  CHECK(bench.call("GET", "cluster/settings/motto").status == 404);
  CHECK(bench.call("PUT", "cluster/settings/shards", R"({"value": "99"})").status == 409);
  CHECK(bench.call("PUT", "cluster/settings/a%2Fb", R"({"value": "1"})").status == 400);
  CHECK(bench.call("PUT", "cluster/settings/motto", R"({"value": 3})").status == 400);

  const std::string provider = "[[provider]]\nname = \"alpha\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";
  const std::string good = provider + "api_key = { env = \"ON_THE_NODES_ONLY\" }\n";
  CHECK(bench.json("PUT", "cluster/settings/routes", Json{{"value", good}}.dump())["state"] == "set");
  const auto open_secret = bench.call("PUT", "cluster/settings/routes",
                                      Json{{"value", provider + "api_key = \"sk-in-the-open\"\n"}}.dump());
  CHECK(open_secret.status == 400);
  CHECK(open_secret.body.find("sk-in-the-open") == std::string::npos);
  const auto wrong = bench.call("PUT", "cluster/settings/routes", Json{{"value", "[node]\nname = \"x\"\n"}}.dump());
  CHECK(wrong.status == 400);
  CHECK(wrong.body.find("routes:1: key 'node'") != std::string::npos);
  CHECK(bench.json("GET", "cluster/settings/routes")["value"] == good);
}

}  // namespace outlast::apps::cluster_api_test
