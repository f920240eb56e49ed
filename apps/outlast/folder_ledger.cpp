#include "apps/outlast/folder_ledger.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/report/focus.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/ledger_json.hpp"
#include "apps/report/usage_json.hpp"
#include "cluster/shard_id.hpp"
#include "storage/entry_json.hpp"
#include "storage/ledger_error.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::apps {
namespace {

// The ledger's error with the exit code that it means here.
Error as_cli_error(const Error& error) {
  CliError code = CliError::failed;
  if (is(error, storage::LedgerError::corrupt)) code = CliError::damaged;
  if (is(error, ReportError::not_found)) code = CliError::not_found;
  return fail(code, printable(error.message, true)).value();
}

struct ShardStore {
  std::string shard;  // as people name it; of a node on its own: ""
  std::string folder;
};

// Of several stores one is open at a time: there may be a thousand.
class FolderLedger final : public LedgerSource {
 public:
  FolderLedger(std::string data, std::vector<ShardStore> stores)
      : data_(std::move(data)), stores_(std::move(stores)) {}

  Result<const storage::LedgerReader*> open(const std::string& shard) {
    if (reader_ && opened_ == shard) return reader_.get();
    const auto store = std::find_if(stores_.begin(), stores_.end(),
                                    [&shard](const ShardStore& one) { return one.shard == shard; });
    if (store == stores_.end()) {
      return fail(CliError::failed, printable(data_) + " is of a node of a cluster: reports read all shards, and need a "
                                                       "node that runs; name it with --admin");
    }
    reader_.reset();
    auto reader = storage::LedgerReader::open(store->folder, shard.empty() ? data_ : std::string());
    if (!reader) return fail(as_cli_error(reader.error()));
    reader_ = std::move(*reader);
    opened_ = shard;
    return reader_.get();
  }

  Result<LedgerShards> shards() override {
    LedgerShards shards;
    for (const ShardStore& store : stores_) shards.here.push_back(store.shard);
    return shards;
  }

  // Entries are numbered without gaps, so their count is found by asking for single entries.
  Result<std::uint64_t> entries(const std::string& shard) override {
    const auto reader = open(shard);
    if (!reader) return fail(reader.error());
    std::uint64_t there = 0;  // so many entries there are at least
    std::uint64_t not_there = 1;
    while (true) {
      const auto found = has(**reader, not_there - 1);
      if (!found) return fail(found.error());
      if (!*found) break;
      there = not_there;
      not_there *= 2;
    }
    while (not_there - there > 1) {
      const std::uint64_t middle = there + (not_there - there) / 2;
      const auto found = has(**reader, middle - 1);
      if (!found) return fail(found.error());
      (*found ? there : not_there) = middle;
    }
    return there;
  }

  Result<std::uint64_t> read(const std::string& shard, std::uint64_t from, std::uint64_t limit,
                             const std::function<void(std::string_view)>& visit) override {
    const auto reader = open(shard);
    if (!reader) return fail(reader.error());
    std::uint64_t count = 0;
    std::string line;
    const auto each = [&count, &line, &visit, &shard, limit](const storage::StoredEntry& entry) {
      if (count == limit) return false;
      line.clear();
      storage::append_entry_json(line, entry, shard);
      visit(line);
      return ++count < limit;
    };
    const auto done = (*reader)->read(from, each);
    if (!done) return fail(as_cli_error(done.error()));
    return count;
  }

  Result<std::string> verify(const std::string& shard) override {
    const auto reader = open(shard);
    if (!reader) return fail(reader.error());
    const auto report = (*reader)->verify();
    if (!report) return fail(as_cli_error(report.error()));
    return verify_json(*report);
  }

  Result<std::string> heads() override {
    if (!stores_.front().shard.empty()) return fail(CliError::failed, std::string(no_heads_in_cluster));
    const auto heads = storage::read_signed_heads(data_);
    if (!heads) return fail(as_cli_error(heads.error()));
    return heads_json(*heads);
  }

  Result<std::string> usage(const storage::UsageQuery& query) override {
    const auto reader = open("");
    if (!reader) return fail(reader.error());
    const auto report = (*reader)->usage(query);
    if (!report) return fail(as_cli_error(report.error()));
    return usage_json(*report);
  }

  Result<std::string> usage_focus(const storage::UsageQuery& query) override {
    const auto grouped = focus_query(query);
    if (!grouped) return fail(as_cli_error(grouped.error()));
    const auto reader = open("");
    if (!reader) return fail(reader.error());
    const auto report = (*reader)->usage(*grouped);
    if (!report) return fail(as_cli_error(report.error()));
    return focus_csv(*report);
  }

  Result<std::string> reconcile(const ReconcileQuery& query, const std::string& csv) override {
    const auto invoice = read_invoice(csv, query.file, query.map, query.models);
    if (!invoice) return fail(as_cli_error(invoice.error()));
    const auto reader = open("");
    if (!reader) return fail(reader.error());
    const auto report = (*reader)->usage(reconcile_usage_query(*invoice, query));
    if (!report) return fail(as_cli_error(report.error()));
    return reconcile_json(apps::reconcile(*invoice, *report, query));
  }

  Result<std::string> reprice(const RepriceQuery& query) override {
    const auto reader = open("");
    if (!reader) return fail(reader.error());
    const std::atomic<bool> never{false};
    const auto report = apps::reprice((*reader)->view(), query, never);
    if (!report) return fail(as_cli_error(report.error()));
    return reprice_json(*report);
  }

 private:
  static Result<bool> has(const storage::LedgerReader& reader, std::uint64_t index) {
    bool found = false;
    const auto done = reader.read(index, [&found](const storage::StoredEntry&) {
      found = true;
      return false;
    });
    if (!done) return fail(as_cli_error(done.error()));
    return found;
  }

  const std::string data_;
  const std::vector<ShardStore> stores_;
  std::unique_ptr<storage::LedgerReader> reader_;  // of `opened_`
  std::string opened_;
};

// The stores of a cluster's node, the control shard last; none where the folder is of a node on its own.
std::vector<ShardStore> stores_of_shards(const std::string& data) {
  std::map<cluster::ShardId, ShardStore> stores;
  std::error_code error;
  for (const auto& place : std::filesystem::directory_iterator(data + "/shards", error)) {
    const std::string folder = place.path() / "ledger";
    cluster::ShardId shard = 0;
    std::error_code absent;
    if (!cluster::parse_shard(place.path().filename().string(), shard)) continue;
    if (std::filesystem::is_directory(folder, absent)) stores[shard] = {cluster::label_of_shard(shard), folder};
  }
  std::vector<ShardStore> all;
  for (auto& [shard, store] : stores) all.push_back(std::move(store));
  return all;
}

}  // namespace

Result<std::unique_ptr<LedgerSource>> open_folder_ledger(const std::string& data) {
  if (auto stores = stores_of_shards(data); !stores.empty())
    return std::make_unique<FolderLedger>(data, std::move(stores));
  const std::string folder = data + "/ledger";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return fail(CliError::not_found,
                printable(folder) + ": there is no ledger; name a node's data folder with --data");
  }
  auto ledger = std::make_unique<FolderLedger>(data, std::vector<ShardStore>{{"", folder}});
  if (const auto opened = ledger->open(""); !opened) return fail(opened.error());
  return ledger;
}

}  // namespace outlast::apps
