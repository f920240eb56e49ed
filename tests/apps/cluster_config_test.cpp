// [cluster], the setting `routes`, and which cluster a data folder belongs to.
#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <cstdlib>

#include "apps/config/cluster_identity.hpp"
#include "apps/config/cluster_routes.hpp"
#include "tests/apps/config_files.hpp"

namespace outlast::apps::cluster_config_test {
namespace {

using tests::errors_after_node;
using tests::errors_of;
using tests::Folder;
using tests::node_lines;

const std::string loopback = "etcd = [\"http://127.0.0.1:2379\"]\n";
const std::string listen = "listen = \"tcp://10.0.0.1:8083\"\n";

// The lines of [cluster] begin at line 5.
std::string errors_in_cluster(const std::string& lines) {
  return errors_after_node("[cluster]\n" + lines);
}

}  // namespace

TEST_CASE("[cluster] is read into its fields", "[config][cluster]") {
  const Folder folder;
  for (const char* file : {"ca.pem", "cert.pem", "key.pem"}) folder.write(file, "PEM");
  const auto config = load_node_config(folder.write("node.toml", std::string(node_lines) + R"(roles = ["ledger"]
[cluster]
name = "river"
etcd = ["https://10.0.0.1:2379", "https://etcd-2.example.com:2379"]
etcd_ca = "ca.pem"
etcd_cert = "cert.pem"
etcd_key = "key.pem"
listen = "tcp://0.0.0.0:8083"
advertise = "tcp://n1.example.com:8083"
join_listen = "tcp://0.0.0.0:8084"
shards = 32
replicas = 5
lease_ttl_s = 2
trim_keep = 100000
)"));
  REQUIRE(config);
  const ClusterConfig& cluster = config->cluster;
  CHECK(cluster.name == "river");
  CHECK(cluster.etcd == std::vector<std::string>{"https://10.0.0.1:2379", "https://etcd-2.example.com:2379"});
  CHECK(cluster.etcd_ca == folder.path() + "/ca.pem");
  CHECK(cluster.etcd_cert == folder.path() + "/cert.pem");
  CHECK(cluster.etcd_key == folder.path() + "/key.pem");
  CHECK(cluster.listen == "tcp://0.0.0.0:8083");
  CHECK(cluster.advertise == "tcp://n1.example.com:8083");
  CHECK(cluster.join_listen == "tcp://0.0.0.0:8084");
  CHECK(cluster.shards == 32);
  CHECK(cluster.replicas == 5);
  CHECK(cluster.lease_ttl_s == 2);
  CHECK(cluster.trim_keep == 100'000);
  CHECK(config->roles == std::vector<std::string>{"ledger"});
  CHECK(errors_in_cluster("name = \"river\"\n" + loopback + listen) == "no error");
}

TEST_CASE("a listener on every interface is reached at the advertised host", "[config][cluster]") {
  ClusterConfig config;
  CHECK(reachable_endpoint(config, "tcp://10.0.0.1:8084") == "tcp://10.0.0.1:8084");
  config.advertise = "tcp://n1.example.com:8083";
  CHECK(reachable_endpoint(config, "tcp://10.0.0.1:8084") == "tcp://10.0.0.1:8084");
  CHECK(reachable_endpoint(config, "tcp://0.0.0.0:40001") == "tcp://n1.example.com:40001");
  config.advertise = "tcp://[fd00::1]:8083";
  CHECK(reachable_endpoint(config, "tcp://[::]:40001") == "tcp://[fd00::1]:40001");
}

TEST_CASE("what is missing in [cluster] is named", "[config][cluster]") {
  CHECK(errors_in_cluster("") ==
        "FILE:4: key 'cluster.name': is missing; write e.g. name = \"river\" under [cluster]\n"
        "FILE:4: key 'cluster.etcd': is missing; write e.g. etcd = [\"https://10.0.0.1:2379\", \"https://10.0.0.2:2379\"]\n"
        "FILE:4: key 'cluster.listen': is missing; write e.g. listen = \"tcp://10.0.0.1:8083\", where other nodes reach "
        "this one");
  CHECK(errors_after_node("cluster = 3").find("'node.cluster': is not known") != std::string::npos);
  CHECK(errors_of("cluster = 3\n" + std::string(node_lines)).find("key 'cluster': is an integer; write [cluster]") !=
        std::string::npos);
}

TEST_CASE("an etcd that strangers can read or write is refused unless it is accepted in words", "[config][cluster]") {
  const std::string plain = "name = \"river\"\netcd = [\"http://10.0.0.1:2379\"]\n" + listen;
  CHECK(errors_in_cluster(plain) ==
        "FILE:6: key 'cluster.etcd': 'http://10.0.0.1:2379' is spoken to without TLS, and whoever reaches it could write "
        "the ledger; write https:// with etcd_ca, etcd_cert and etcd_key, or accept that with allow_plaintext_etcd = true "
        "under [cluster]");
  CHECK(errors_in_cluster(plain + "allow_plaintext_etcd = true\n") == "no error");
  CHECK(errors_in_cluster(plain + "allow_plaintext_etcd = false\n") != "no error");
  for (const char* member : {"http://localhost:2379", "http://[::1]:2379", "http://127.9.9.9:1"}) {
    CHECK(errors_in_cluster("name = \"r\"\netcd = [\"" + std::string(member) + "\"]\n" + listen) == "no error");
  }
}

TEST_CASE("every mistake in [cluster] gets a line that says what would be right", "[config][cluster]") {
  const std::string good = "name = \"river\"\n" + loopback + listen;  // lines 5 to 7
  const std::pair<std::string, std::string> after[] = {
      {"shards = 0", "FILE:8: key 'cluster.shards': 0 is out of range; write an integer from 1 to 1024"},
      {"shards = 1025", "FILE:8: key 'cluster.shards': 1025 is out of range; write an integer from 1 to 1024"},
      {"replicas = 8", "FILE:8: key 'cluster.replicas': 8 is out of range; write an integer from 1 to 7"},
      {"lease_ttl_s = 1", "FILE:8: key 'cluster.lease_ttl_s': 1 is out of range; write an integer from 2 to 60"},
      {"lease_ttl_s = 61", "FILE:8: key 'cluster.lease_ttl_s': 61 is out of range; write an integer from 2 to 60"},
      {"trim_keep = 15", "FILE:8: key 'cluster.trim_keep': 15 is out of range; write an integer from 16 to 16777216"},
      {"etcd_cert = \"cert.pem\"",
       "FILE:8: key 'cluster.etcd_cert': stands without etcd_key; give both as PEM files, or neither\n"
       "FILE:8: key 'cluster.etcd_cert': 'FOLDER/cert.pem' cannot be read: No such file or directory; name a PEM file"},
      {"etcd_ca = \"ca.pem\"",
       "FILE:8: key 'cluster.etcd_ca': 'FOLDER/ca.pem' cannot be read: No such file or directory; name a PEM file"},
      {"join_listen = \"tcp://10.0.0.1:8083\"",
       "FILE:8: key 'cluster.join_listen': is the same address as listen; give it a port of its own"},
      {"join_listen = \"10.0.0.1:8084\"",
       "FILE:8: key 'cluster.join_listen': '10.0.0.1:8084' is not a ZeroMQ address; write tcp://HOST:PORT, e.g. "
       "tcp://10.0.0.1:8083"},
      {"advertise = \"tcp://0.0.0.0:8083\"",
       "FILE:8: key 'cluster.advertise': 'tcp://0.0.0.0:8083' is no place to connect to; write the address by which other "
       "nodes reach this one, e.g. tcp://10.0.0.1:8083"},
      {"shard = 3", "FILE:8: key 'cluster.shard': is not known; did you mean 'shards'?"},
  };
  for (const auto& [line, error] : after) CHECK(errors_in_cluster(good + line + "\n") == error);

  CHECK(errors_in_cluster("name = \"a river\"\n" + loopback + listen) ==
        "FILE:5: key 'cluster.name': is not a cluster's name; write 1 to 64 of A-Z a-z 0-9 . _ -");
  CHECK(errors_in_cluster("name = \"r\"\n" + loopback + "listen = \"tcp://[::]:8083\"\n") ==
        "FILE:7: key 'cluster.listen': 'tcp://[::]:8083' does not say how other nodes reach this one; add advertise = "
        "\"tcp://HOST:8083\"");
  const std::pair<std::string, std::string> members[] = {
      {"[]", "is empty; write 1 to 16"},
      {"[\"http://root:secret@10.0.0.1:2379\"]", "holds '@'; credentials do not stand in a URL"},
      {"[\"10.0.0.1:2379\"]", "'10.0.0.1:2379' is not a member's client URL"},
      {"[\"https://10.0.0.1:2379/v3\"]", "'https://10.0.0.1:2379/v3' is not a member's client URL; write e.g."},
      {"[\"https://a:1\", \"https://a:1\"]", "'https://a:1' stands in the list twice"},
  };
  for (const auto& [list, error] : members) {
    const std::string errors = errors_in_cluster("name = \"r\"\netcd = " + list + "\n" + listen);
    CHECK(errors.find("FILE:6: key 'cluster.etcd': " + error) == 0);
    CHECK(errors.find("secret") == std::string::npos);
  }
}

TEST_CASE("in a cluster a node may be a gateway or a ledger only", "[config][cluster]") {
  const std::string cluster = "[cluster]\nname = \"river\"\n" + loopback + listen;
  CHECK(errors_after_node("roles = [\"gateway\"]\n" + cluster) == "no error");
  CHECK(errors_after_node("roles = [\"ledger\"]\n" + cluster) == "no error");
  CHECK(errors_after_node("roles = []\n" + cluster) ==
        "FILE:4: key 'node.roles': has neither gateway nor ledger; write roles = [\"gateway\", \"ledger\"], or one of them");
  CHECK(errors_after_node("roles = [\"ledger\", \"ledger\"]\n" + cluster) ==
        "FILE:4: key 'node.roles': names a role twice; write roles = [\"gateway\", \"ledger\"]");
  CHECK(errors_after_node("roles = [\"distill\"]\n" + cluster) ==
        "FILE:4: key 'node.roles': 'distill' is not in this version; write roles = [\"gateway\", \"ledger\"]");
}

TEST_CASE("routes for all nodes are checked without the nodes' secrets", "[config][cluster]") {
  unsetenv("OUTLAST_TEST_NOWHERE");
  const std::string routes = std::string(tests::alpha_lines) + "api_key = { env = \"OUTLAST_TEST_NOWHERE\" }\n" +
                             std::string(tests::fable_lines) + "[[route]]\nname = \"smart\"\ndeployments = [\"fable-alpha\"]\n";
  const auto checked = parse_routes(routes, "routes.toml", ".", SecretUse::only_checked);
  REQUIRE(checked);
  CHECK(checked->providers.size() == 1);
  CHECK(checked->providers[0].api_key.empty());
  CHECK(checked->routes[0].name == "smart");
  const auto absent = parse_routes(routes, "routes.toml", ".", SecretUse::read);
  REQUIRE_FALSE(absent);
  CHECK(absent.error().message.find("the environment variable OUTLAST_TEST_NOWHERE is not set") != std::string::npos);
  setenv("OUTLAST_TEST_NOWHERE", "sk-now", 1);
  const auto read = parse_routes(routes, "routes.toml", ".", SecretUse::read);
  REQUIRE(read);
  CHECK(read->providers[0].api_key == "sk-now");
  unsetenv("OUTLAST_TEST_NOWHERE");

  const std::pair<std::string, std::string> wrong[] = {
      {"[[provider", "is not TOML"},
      {"[node]\nname = \"n1\"\n", "routes.toml:1: key 'node': is not known"},
      {std::string(tests::alpha_lines) + "api_key = \"sk-in-the-open\"\n", "key 'provider.api_key': is a string; write"},
      {std::string(tests::alpha_lines) + "api_key = { env = \"\" }\n", "key 'provider.api_key': names nothing; write"},
      {std::string(tests::alpha_lines) + "api_key = { env = \"A\", file = \"b\" }\n", "names both env and file"},
      {std::string(tests::fable_lines), "there is no provider 'alpha'"},
  };
  for (const auto& [text, message] : wrong) {
    const auto refused = parse_routes(text, "routes.toml", ".", SecretUse::only_checked);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find(message) != std::string::npos);
    CHECK(refused.error().message.find("sk-in-the-open") == std::string::npos);
  }
}

TEST_CASE("a data folder says which node of which cluster it is", "[config][cluster]") {
  const Folder folder;
  const auto none = read_cluster_identity(folder.path());
  REQUIRE(none);
  CHECK_FALSE(none->has_value());
  const ClusterIdentity identity{"river", "n1", std::string(40, 'k'), ClusterIdentity::Step::joined,
                                 {{"n2", std::string(40, '"'), "tcp://10.0.0.2:8083"}}, {{"shards", "16"}}};
  REQUIRE(write_cluster_identity(folder.path(), identity));
  const auto read = read_cluster_identity(folder.path());
  REQUIRE(read);
  CHECK(*read == identity);
  struct stat about {};
  REQUIRE(stat(identity_file(folder.path()).c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);

  NodeConfig config;
  config.data = folder.path();
  config.name = "n1";
  config.cluster.name = "river";
  CHECK(check_identity(identity, config, identity.public_key));
  CHECK_FALSE(check_identity(identity, config, std::string(40, 'x')));
  config.name = "n2";
  CHECK(check_identity(identity, config, identity.public_key).error().message.find("is of the node 'n1'") !=
        std::string::npos);
  config.cluster.name = "lake";
  CHECK(check_identity(identity, config, identity.public_key).error().message.find("is of the cluster 'river'") !=
        std::string::npos);

  for (const char* bad : {"", "{}", "[1]", R"({"cluster":"c","node":"n","public_key":"k","step":"x"})",
                          R"({"cluster":"c","node":"n","public_key":"k","step":"joined","peers":3})",
                          R"({"cluster":"c","node":"n","public_key":"k","step":"joined","peers":[{}]})",
                          R"({"cluster":"c","node":"n","public_key":"k","step":"joined","settings":{"a":1}})"}) {
    folder.write("cluster.json", bad);
    const auto refused = read_cluster_identity(folder.path());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("cluster.json is not what 'outlast node init'") != std::string::npos);
  }
}

}  // namespace outlast::apps::cluster_config_test
