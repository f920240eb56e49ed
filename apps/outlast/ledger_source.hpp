// LedgerSource: the ledger as a command reads it: through a running node, or from its folder while
// no node runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "apps/outlast/node_access.hpp"
#include "apps/report/reconcile.hpp"
#include "apps/report/reprice.hpp"
#include "storage/usage_report.hpp"

namespace outlast::apps {

// One owner.
class LedgerSource {
 public:
  virtual ~LedgerSource() = default;
  // The next index.
  virtual Result<std::uint64_t> entries() = 0;
  // Gives up to `limit` entries from index `from` on, each as one line of JSON without its line
  // break; returns how many there were. None: the end is reached.
  virtual Result<std::uint64_t> read(std::uint64_t from, std::uint64_t limit,
                                     const std::function<void(std::string_view line)>& visit) = 0;
  // The report as verify_json() writes it.
  virtual Result<std::string> verify() = 0;
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

}  // namespace outlast::apps
