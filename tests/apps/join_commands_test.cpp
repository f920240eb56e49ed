// outlast node init and join, against a join listener over a real ledger: what they write, and what they leave alone.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <future>

#include "apps/config/cluster_identity.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "cluster/curve.hpp"
#include "cluster/enrolment.hpp"
#include "cluster/join_token.hpp"
#include "tests/apps/config_files.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::apps::join_commands_test {
namespace {

const std::string shared_secret(64, 'c');

struct Founder {
  Founder() : keys(cluster::make_curve_keys()) {
    storage::LedgerOptions options;
    options.path = folder.path() + "/ledger";
    options.free_bytes_min = 0;
    options.free_fraction_min = 0;
    auto opened = storage::LedgerStore::open(options, clock);
    REQUIRE(opened);
    ledger = std::move(*opened);
    record(NodeEnrolled{"n1", keys.public_key, "tcp://127.0.0.1:1", {"gateway", "ledger"}, "", "test"});
    record(SettingSet{"shards", "16", "test"});
    enrolment = std::make_unique<cluster::Enrolment>(*ledger, clock, "river", shared_secret);
    auto started = cluster::JoinListener::start({"tcp://127.0.0.1:0", keys.secret_key, {}}, clock,
                                                [this](cluster::JoinRequest request, cluster::JoinListener::Answer answer) {
                                                  enrolment->join(std::move(request), std::move(answer));
                                                });
    REQUIRE(started);
    listener = std::move(*started);
  }
  void record(MemberOperation operation) {
    std::promise<Result<void>> done;
    ledger->record_member(std::move(operation), [&done](Result<void> result) { done.set_value(std::move(result)); });
    REQUIRE(done.get_future().get());
  }
  std::string token(const std::string& cluster = "river") {
    const auto token = cluster::make_join_token(cluster, listener->endpoint(), listener->public_key());
    record(cluster::record_of(token, clock.wall_ms() + 60'000, "test"));
    return token.text();
  }
  [[nodiscard]] MemberRecords members() const { return *ledger->members(); }

  storage::TemporaryFolder folder;
  SystemClock clock;
  cluster::CurveKeys keys;
  std::unique_ptr<storage::LedgerStore> ledger;
  std::unique_ptr<cluster::Enrolment> enrolment;
  std::unique_ptr<cluster::JoinListener> listener;
};

// A machine that is to become a node.
struct Machine {
  explicit Machine(const std::string& name = "n2", const std::string& cluster = "river") { configure(name, cluster); }
  void configure(const std::string& name, const std::string& cluster = "river") {
    config = folder.write("node.toml", "[node]\nname = \"" + name + "\"\ndata = \"" + data() +
                                           "\"\n[cluster]\nname = \"" + cluster +
                                           "\"\netcd = [\"http://127.0.0.1:2379\"]\nlisten = \"tcp://127.0.0.1:8083\"\n");
  }
  [[nodiscard]] std::string data() const { return folder.path() + "/data"; }
  int init(bool found = false) { return run({"outlast", "node", "init", "--config", config, found ? "--found" : "--json"}); }
  int join(const std::string& token) { return run({"outlast", "node", "join", token, "--config", config}); }
  static int run(std::vector<std::string> words) {
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    return run_command_line(static_cast<int>(argv.size()), argv.data());
  }
  [[nodiscard]] std::string file(const char* name) const {
    std::ifstream in(data() + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  [[nodiscard]] std::optional<ClusterIdentity> identity() const { return *read_cluster_identity(data()); }

  tests::Folder folder;
  std::string config;
};

// What this process writes to stderr while it lives.
class StderrOf {
 public:
  explicit StderrOf(std::string file) : file_(std::move(file)), before_(dup(STDERR_FILENO)) {
    REQUIRE(std::freopen(file_.c_str(), "w", stderr) != nullptr);
  }
  ~StderrOf() {
    std::fflush(stderr);
    dup2(before_, STDERR_FILENO);
    close(before_);
  }
  StderrOf(const StderrOf&) = delete;
  StderrOf& operator=(const StderrOf&) = delete;
  [[nodiscard]] std::string text() const {
    std::fflush(stderr);
    std::ifstream in(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::string file_;
  int before_;
};

}  // namespace

TEST_CASE("a machine joins, and its folder says so", "[cli][cluster]") {
  Founder founder;
  Machine machine;
  REQUIRE(machine.init() == 0);
  CHECK_FALSE(machine.identity());
  REQUIRE(machine.join(founder.token()) == 0);
  CHECK(machine.file("key.secret") == shared_secret + "\n");
  for (const char* name : {"key.secret", "cluster.json", "zmq.key"}) {
    struct stat about {};
    REQUIRE(stat((machine.data() + "/" + name).c_str(), &about) == 0);
    CHECK((about.st_mode & 0777) == 0600);
  }
  const auto identity = machine.identity();
  REQUIRE(identity);
  CHECK(identity->step == ClusterIdentity::Step::joined);
  CHECK(identity->cluster == "river");
  CHECK(identity->public_key + "\n" == machine.file("zmq.key.pub"));
  CHECK(identity->peers == std::vector<ClusterIdentity::Peer>{{"n1", founder.keys.public_key, "tcp://127.0.0.1:1"}});
  CHECK(identity->settings.at("shards") == "16");
  const MemberRecords members = founder.members();
  REQUIRE(members.find("n2") != nullptr);
  CHECK(members.find("n2")->enrolled.endpoint == "tcp://127.0.0.1:8083");

  CHECK(machine.join(founder.token()) == static_cast<int>(CliError::failed));  // it is in
  CHECK(machine.init() == 0);
  CHECK(machine.init(true) == static_cast<int>(CliError::failed));
  CHECK(machine.identity() == identity);
}

TEST_CASE("a join that was cut short is taken up again", "[cli][cluster]") {
  Founder founder;
  Machine machine;
  const std::string token = founder.token();
  REQUIRE(machine.join(token) == 0);
  auto identity = *machine.identity();
  // As if the process had ended before the last write, and before the secret's.
  identity.step = ClusterIdentity::Step::joining;
  REQUIRE(write_cluster_identity(machine.data(), identity));
  CHECK(machine.join(token) == 0);
  REQUIRE(write_cluster_identity(machine.data(), identity));
  std::filesystem::remove(machine.data() + "/key.secret");
  CHECK(machine.join(token) == 0);
  CHECK(machine.file("key.secret") == shared_secret + "\n");
  CHECK(machine.identity()->step == ClusterIdentity::Step::joined);
  CHECK(founder.members().nodes.size() == 2);
}

TEST_CASE("a machine that was to found a cluster which is there already joins it instead", "[cli][cluster]") {
  Founder founder;
  Machine machine;
  REQUIRE(machine.init(true) == 0);
  const std::string token = founder.token();
  SECTION("at once, when no daemon ran on its folder") {
    CHECK(machine.join(token) == 0);
    CHECK(machine.identity()->step == ClusterIdentity::Step::joined);
    CHECK(machine.file("key.secret") == shared_secret + "\n");
  }
  SECTION("once what a daemon wrote there is moved away, which the refusal names") {
    machine.folder.write("data/key.secret", std::string(64, 'd') + "\n");
    std::filesystem::create_directories(machine.data() + "/shards/control");
    std::string said;
    {
      const StderrOf to(machine.folder.path() + "/said");
      CHECK(machine.join(token) == static_cast<int>(CliError::failed));
      said = to.text();
    }
    CHECK(machine.file("key.secret") == std::string(64, 'd') + "\n");
    for (const char* name : {"cluster.json", "key.secret", "shards"}) {
      CHECK(said.find(machine.data() + "/" + name) != std::string::npos);
      std::filesystem::rename(machine.data() + "/" + name, machine.folder.path() + "/" + name);
    }
    CHECK(machine.join(token) == 0);
    CHECK(machine.file("key.secret") == shared_secret + "\n");
  }
}

TEST_CASE("a folder of another node, of another cluster or of a lone node is left as it is", "[cli][cluster]") {
  Founder founder;
  const std::string token = founder.token();
  constexpr int refused = static_cast<int>(CliError::failed);
  SECTION("a node on its own") {
    Machine machine;
    std::filesystem::create_directories(machine.data());
    machine.folder.write("data/key.secret", "its own\n");
    CHECK(machine.join(token) == refused);
    CHECK(machine.file("key.secret") == "its own\n");
    CHECK_FALSE(machine.identity());
    CHECK(machine.init(true) == 0);  // but it may be the first of a cluster
    CHECK(machine.file("key.secret") == "its own\n");
    CHECK(machine.join(token) == refused);
  }
  SECTION("its ledger alone is enough") {
    Machine machine;
    std::filesystem::create_directories(machine.data() + "/ledger");
    CHECK(machine.join(token) == refused);
  }
  SECTION("another cluster") {
    Machine machine("n2", "lake");
    CHECK(machine.join(token) == refused);
    CHECK_FALSE(machine.identity());
  }
  SECTION("another secret, although it said that it joins") {
    Machine machine;
    REQUIRE(machine.init() == 0);
    std::string key = machine.file("zmq.key.pub");
    key.pop_back();
    REQUIRE(write_cluster_identity(machine.data(), {"river", "n2", key, ClusterIdentity::Step::joining, {}, {}}));
    machine.folder.write("data/key.secret", std::string(64, 'd') + "\n");
    CHECK(machine.join(token) == refused);
    CHECK(machine.file("key.secret") == std::string(64, 'd') + "\n");
  }
  SECTION("another name") {
    Machine machine;
    REQUIRE(machine.join(token) == 0);
    machine.configure("n3");
    CHECK(machine.join(founder.token()) == refused);
    CHECK(machine.init() == refused);
    CHECK(machine.identity()->node == "n2");
  }
}

TEST_CASE("a name that is taken can be changed and tried again with the same token", "[cli][cluster]") {
  Founder founder;
  Machine machine("n1");
  const std::string token = founder.token();
  CHECK(machine.join(token) == static_cast<int>(CliError::failed));
  machine.configure("n2");
  CHECK(machine.join(token) == 0);
  CHECK(machine.identity()->node == "n2");
}

TEST_CASE("what is no token, and a node that does not answer, are told apart", "[cli][cluster]") {
  Machine machine;
  CHECK(machine.join("outlast-join-1.nonsense") == static_cast<int>(CliError::failed));
  CHECK(machine.join("river") == static_cast<int>(CliError::failed));
  const std::string lone = machine.folder.write("lone.toml", "[node]\nname = \"n\"\ndata = \"" + machine.data() + "\"\n");
  CHECK(Machine::run({"outlast", "node", "init", "--config", lone}) == static_cast<int>(CliError::failed));
  CHECK_FALSE(std::filesystem::exists(machine.data()));
}

}  // namespace outlast::apps::join_commands_test
