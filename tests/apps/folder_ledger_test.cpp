#include <catch2/catch.hpp>

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/ledger_source.hpp"
#include "core/id.hpp"
#include "storage/ledger_store.hpp"

namespace folder_ledger_test {

using namespace std::chrono_literals;
using outlast::is;
using outlast::apps::CliError;
using outlast::apps::GlobalOptions;
using outlast::apps::open_ledger_source;
using outlast::apps::wanted_shards;
namespace storage = outlast::storage;

namespace {

constexpr auto deadline = 30s;

// A node's data folder with a ledger in it, removed at the end.
class DataFolder {
 public:
  DataFolder() : path_((std::filesystem::temp_directory_path() / "outlast_data_XXXXXX").string()) {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~DataFolder() { std::filesystem::remove_all(path_); }

  // `place`: of the ledger within the folder.
  std::unique_ptr<storage::LedgerStore> open_store(const std::string& place = "ledger") {
    storage::LedgerOptions options;
    options.path = path_ + "/" + place;
    std::filesystem::create_directories(options.path);
    options.free_bytes_min = 0;
    options.free_fraction_min = 0;
    auto store = storage::LedgerStore::open(options, clock_);
    if (!store) FAIL(store.error().message);
    return std::move(*store);
  }

  // One settled request of `cost` for the model "smart".
  void charge(storage::LedgerStore& store, outlast::PicoUsd cost) {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t durable = 0;  // up to this ticket
    const auto submitter = store.make_submitter(
        [&mutex, &changed, &durable](std::uint64_t ticket) {
          const std::lock_guard lock(mutex);
          durable = ticket;
          changed.notify_all();
        },
        [](std::uint64_t, const outlast::storage::Refused&) {});
    outlast::Reservation reservation;
    reservation.request_id = ids_.next();
    reservation.tenant = {"acme", "search", "ann"};
    reservation.route = "smart";
    reservation.amount = cost;
    reservation.price_known = true;
    outlast::Settlement settlement;
    settlement.attempt.request_id = reservation.request_id;
    settlement.attempt.number = 1;
    settlement.attempt.deployment = "fable-alpha";
    settlement.attempt.provider = "alpha";
    settlement.attempt.model = "claude-fable-5";
    settlement.attempt.cost = cost;
    settlement.attempt.price_known = true;
    settlement.attempt.usage.output_text = 3;
    settlement.attempt.usage.source = outlast::UsageSource::reported;
    REQUIRE(submitter->submit(reservation, false));
    const auto ticket = submitter->submit(settlement, true);
    REQUIRE(ticket);
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, deadline, [&durable, &ticket] { return durable >= *ticket; }));
  }

  [[nodiscard]] GlobalOptions options() const {
    GlobalOptions options;
    options.data = path_;
    return options;
  }

 private:
  std::string path_;
  outlast::SystemClock clock_;
  outlast::UuidGenerator ids_{clock_, 1};
};

}  // namespace

TEST_CASE("a ledger is read from its folder while no node runs", "[cli][ledger]") {
  DataFolder folder;
  {
    const auto store = folder.open_store();
    for (int i = 0; i < 5; ++i) folder.charge(*store, outlast::PicoUsd{1'000'000});
  }
  auto source = open_ledger_source(folder.options());
  if (!source) FAIL(source.error().message);

  std::vector<nlohmann::json> lines;
  const auto keep = [&lines](std::string_view line) {
    lines.push_back(nlohmann::json::parse(line));
  };
  const auto all = (*source)->read("", 0, 1'000, keep);
  REQUIRE(all);
  CHECK(*all == lines.size());
  REQUIRE(lines.size() >= 11);  // the incarnation, and two for each request
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i]["index"] == i);
  CHECK((*source)->entries("") == lines.size());
  const std::size_t count = lines.size();

  lines.clear();
  CHECK((*source)->read("", count - 3, 2, keep) == 2);
  CHECK(lines.front()["index"] == count - 3);
  CHECK((*source)->read("", count, 10, keep) == 0);

  const auto verified = (*source)->verify("");
  REQUIRE(verified);
  CHECK(nlohmann::json::parse(*verified)["ok"] == true);
  CHECK(nlohmann::json::parse(*verified)["entries"] == count);

  storage::UsageQuery query;
  query.by = {storage::UsageDimension::model};
  const auto usage = (*source)->usage(query);
  REQUIRE(usage);
  const auto row = nlohmann::json::parse(*usage)["rows"][0];
  CHECK(row["model"] == "smart");
  CHECK(row["requests"] == 5);
  CHECK(row["cost_usd"] == "0.000005");
  CHECK(row["tokens"]["output_text"] == 15);
}

TEST_CASE("the shards of a cluster's node are read from its folder, each by its name", "[cli][ledger]") {
  DataFolder folder;
  for (const char* name : {"s010", "s002", "control"}) {
    const auto store = folder.open_store("shards/" + std::string(name) + "/ledger");
    folder.charge(*store, outlast::PicoUsd{1'000'000});
  }
  std::filesystem::create_directories(folder.options().data + "/shards/s003/ledger.damaged");
  auto source = open_ledger_source(folder.options());
  if (!source) FAIL(source.error().message);
  const auto shards = (*source)->shards();
  REQUIRE(shards);
  CHECK(shards->in_cluster());
  CHECK(shards->here == std::vector<std::string>{"2", "10", "control"});
  for (const std::string& shard : shards->here) {
    std::vector<nlohmann::json> lines;
    const auto keep = [&lines](std::string_view line) { lines.push_back(nlohmann::json::parse(line)); };
    CHECK((*source)->read(shard, 0, 100, keep) == 3);
    CHECK((*source)->entries(shard) == 3);
    REQUIRE(lines.size() == 3);
    for (const auto& line : lines) CHECK(line["ledger_shard"] == shard);
    const auto verified = (*source)->verify(shard);
    REQUIRE(verified);
    CHECK(nlohmann::json::parse(*verified)["entries"] == 3);
  }
  CHECK(wanted_shards((*source)->shards(), "10")->here == std::vector<std::string>{"10"});
  const auto unknown = wanted_shards((*source)->shards(), "3");
  REQUIRE_FALSE(unknown);
  CHECK(is(unknown.error(), CliError::not_found));
  CHECK(unknown.error().message == "there is no shard '3' here; there are 2, 10, control");
  CHECK_FALSE((*source)->heads());
  CHECK_FALSE((*source)->usage({}));
}

TEST_CASE("a node on its own has no shards to choose from", "[cli][ledger]") {
  DataFolder folder;
  folder.open_store();
  auto source = open_ledger_source(folder.options());
  if (!source) FAIL(source.error().message);
  CHECK_FALSE((*source)->shards()->in_cluster());
  const auto chosen = wanted_shards((*source)->shards(), "0");
  REQUIRE_FALSE(chosen);
  CHECK(is(chosen.error(), CliError::usage));
}

TEST_CASE("a ledger that a process has open is not read behind its back", "[cli][ledger]") {
  DataFolder folder;
  const auto store = folder.open_store();
  const auto source = open_ledger_source(folder.options());
  REQUIRE_FALSE(source);
  CHECK(is(source.error(), CliError::failed));
}

TEST_CASE("a folder without a ledger is not found", "[cli][ledger]") {
  GlobalOptions options;
  options.data = "/no/such/folder";
  const auto source = open_ledger_source(options);
  REQUIRE_FALSE(source);
  CHECK(is(source.error(), CliError::not_found));
}

}  // namespace folder_ledger_test
