// MemoryLog: a Log in memory whose appends can fail, for tests of everything above the log by
// seeds. One owner; snapshots are copies.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "storage/log.hpp"

namespace outlast::storage {

class MemoryLog final : public Log {
 public:
  // What becomes of an append: asked before each.
  enum class Fate : std::uint8_t {
    done,             // durable
    lost,             // an error, and nothing is there
    done_but_failed,  // an error, although everything is there: as after a failed sync
  };
  void set_fate(std::function<Fate()> fate) { fate_ = std::move(fate); }
  // Where a test may look, or do damage.
  [[nodiscard]] auto& rows(Table table) {
    return contents_.tables[static_cast<std::size_t>(table)];
  }
  [[nodiscard]] auto& batches() { return contents_.batches; }

  Result<bool> get(Table table, std::string_view key, std::string& value) const override;
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override;
  Result<void> append(const LogBatch& batch, const TableChanges& changes) override;
  [[nodiscard]] std::unique_ptr<LedgerView> snapshot() const override;

 private:
  struct Contents {
    std::array<std::map<std::string, std::string, std::less<>>, table_count> tables;
    std::map<std::uint64_t, std::string> batches;  // by first index
  };
  Contents contents_;
  std::function<Fate()> fate_;
};

}  // namespace outlast::storage
