// LedgerSource: the ledger as a command reads it: through a running node, or from its folder while
// no node runs. In a cluster these are several ledgers, one for each shard that has a replica there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/outlast/node_access.hpp"
#include "apps/report/reconcile.hpp"
#include "apps/report/reprice.hpp"
#include "storage/usage_report.hpp"

namespace outlast::apps {

// The ledgers of a cluster as one of its nodes sees them.
struct LedgerShards {
  struct Elsewhere {
    std::string shard;
    std::vector<std::string> nodes;  // that have it
  };
  // That can be read here, as people name them ("0", "control"). Of a node on its own: "" alone.
  std::vector<std::string> here;
  std::vector<Elsewhere> elsewhere;

  [[nodiscard]] bool in_cluster() const { return here.size() != 1 || !here.front().empty(); }
};

// One owner.
class LedgerSource {
 public:
  virtual ~LedgerSource() = default;
  virtual Result<LedgerShards> shards() = 0;
  // `shard` is one of shards().here, as in what follows. The next index; of a node as of shards().
  virtual Result<std::uint64_t> entries(const std::string& shard) = 0;
  // Gives up to `limit` entries from index `from` on, each as one line of JSON without its line
  // break; returns how many there were. None: the end is reached.
  virtual Result<std::uint64_t> read(const std::string& shard, std::uint64_t from, std::uint64_t limit,
                                     const std::function<void(std::string_view line)>& visit) = 0;
  // The report as verify_json() writes it.
  virtual Result<std::string> verify(const std::string& shard) = 0;
  // Signed heads as heads_json() writes them.
  virtual Result<std::string> heads() = 0;
  // The report as usage_json() writes it.
  virtual Result<std::string> usage(const storage::UsageQuery& query) = 0;
  // The report as focus_csv() writes it; the query is of focus_query()'s form before it is changed.
  virtual Result<std::string> usage_focus(const storage::UsageQuery& query) = 0;
  // As reconcile_json() and reprice_json() write them.
  virtual Result<std::string> reconcile(const ReconcileQuery& query, const std::string& csv) = 0;
  virtual Result<std::string> reprice(const RepriceQuery& query) = 0;
};

// The node when it answers; else, with --data, its folder.
Result<std::unique_ptr<LedgerSource>> open_ledger_source(const GlobalOptions& options);

// What a running node has.
Result<LedgerShards> shards_of_node(AdminApi& api);
// Those that --shard asks for: the one that it names, or all where it is empty. Errors: usage, for one of a node on its own;
// not_found, which names the nodes that have it.
Result<LedgerShards> wanted_shards(Result<LedgerShards> shards, const std::string& wanted);
// "shard 3 (n2, n3)"
std::string words_of(const LedgerShards::Elsewhere& elsewhere);
// Says on stderr which shards are not in what was printed, and who has them. Nothing where all are.
void note_elsewhere(const LedgerShards& shards);

}  // namespace outlast::apps
