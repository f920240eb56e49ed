#include "apps/outlast/folder_ledger.hpp"

#include <filesystem>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/report/focus.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/ledger_json.hpp"
#include "apps/report/usage_json.hpp"
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

class FolderLedger final : public LedgerSource {
 public:
  FolderLedger(std::unique_ptr<storage::LedgerReader> reader, std::string data)
      : reader_(std::move(reader)), data_(std::move(data)) {}

  // Entries are numbered without gaps, so their count is found by asking for single entries.
  Result<std::uint64_t> entries() override {
    std::uint64_t there = 0;  // so many entries there are at least
    std::uint64_t not_there = 1;
    while (true) {
      const auto found = has(not_there - 1);
      if (!found) return fail(found.error());
      if (!*found) break;
      there = not_there;
      not_there *= 2;
    }
    while (not_there - there > 1) {
      const std::uint64_t middle = there + (not_there - there) / 2;
      const auto found = has(middle - 1);
      if (!found) return fail(found.error());
      (*found ? there : not_there) = middle;
    }
    return there;
  }

  Result<std::uint64_t> read(std::uint64_t from, std::uint64_t limit,
                             const std::function<void(std::string_view)>& visit) override {
    std::uint64_t count = 0;
    std::string line;
    const auto each = [&count, &line, &visit, limit](const storage::StoredEntry& entry) {
      if (count == limit) return false;
      line.clear();
      storage::append_entry_json(line, entry);
      visit(line);
      return ++count < limit;
    };
    const auto done = reader_->read(from, each);
    if (!done) return fail(as_cli_error(done.error()));
    return count;
  }

  Result<std::string> verify() override {
    const auto report = reader_->verify();
    if (!report) return fail(as_cli_error(report.error()));
    return verify_json(*report);
  }

  Result<std::string> heads() override {
    const auto heads = storage::read_signed_heads(data_);
    if (!heads) return fail(as_cli_error(heads.error()));
    return heads_json(*heads);
  }

  Result<std::string> usage(const storage::UsageQuery& query) override {
    const auto report = reader_->usage(query);
    if (!report) return fail(as_cli_error(report.error()));
    return usage_json(*report);
  }

  Result<std::string> usage_focus(const storage::UsageQuery& query) override {
    const auto grouped = focus_query(query);
    if (!grouped) return fail(as_cli_error(grouped.error()));
    const auto report = reader_->usage(*grouped);
    if (!report) return fail(as_cli_error(report.error()));
    return focus_csv(*report);
  }

  Result<std::string> reconcile(const ReconcileQuery& query, const std::string& csv) override {
    const auto invoice = read_invoice(csv, query.file, query.map, query.models);
    if (!invoice) return fail(as_cli_error(invoice.error()));
    const auto report = reader_->usage(reconcile_usage_query(*invoice, query));
    if (!report) return fail(as_cli_error(report.error()));
    return reconcile_json(apps::reconcile(*invoice, *report, query));
  }

  Result<std::string> reprice(const RepriceQuery& query) override {
    const std::atomic<bool> never{false};
    const auto report = apps::reprice(reader_->view(), query, never);
    if (!report) return fail(as_cli_error(report.error()));
    return reprice_json(*report);
  }

 private:
  Result<bool> has(std::uint64_t index) const {
    bool found = false;
    const auto done = reader_->read(index, [&found](const storage::StoredEntry&) {
      found = true;
      return false;
    });
    if (!done) return fail(as_cli_error(done.error()));
    return found;
  }

  std::unique_ptr<storage::LedgerReader> reader_;
  const std::string data_;
};

}  // namespace

Result<std::unique_ptr<LedgerSource>> open_folder_ledger(const std::string& data) {
  const std::string folder = data + "/ledger";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return fail(CliError::not_found,
                printable(folder) + ": there is no ledger; name a node's data folder with --data");
  }
  auto reader = storage::LedgerReader::open(folder, data);
  if (!reader) return fail(as_cli_error(reader.error()));
  return std::make_unique<FolderLedger>(std::move(*reader), data);
}

}  // namespace outlast::apps
