// What nodes of a cluster share, in memory: batches in order, and each node's log, which hands the
// owner's batches to all before it keeps them, as a cluster's log does.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "storage/memory_log.hpp"

namespace outlast::storage {

class SharedBatches {
 public:
  struct Batch {
    std::uint64_t first_index = 0;
    std::string records;
  };
  void add(const LogBatch& batch) {
    batches_.push_back({batch.first_index, std::string(batch.records)});
  }
  // From the one that holds the index on.
  [[nodiscard]] std::vector<Batch> from(std::uint64_t index) const {
    std::vector<Batch> found;
    for (std::size_t i = 0; i < batches_.size(); ++i) {
      if (i + 1 == batches_.size() ? end_of(batches_[i]) > index
                                   : batches_[i + 1].first_index > index) {
        found.push_back(batches_[i]);
      }
    }
    return found;
  }

 private:
  static std::uint64_t end_of(const Batch& batch) {
    std::uint64_t end = batch.first_index;
    (void)parse_batch({batch.first_index, batch.records}, [&end](const LogRecord& record) {
      end = record.index + 1;
      return true;
    });
    return end;
  }
  std::vector<Batch> batches_;
};

class SharedNodeLog final : public Log {
 public:
  enum class Fate : std::uint8_t {
    done,
    lost,             // nothing is anywhere
    shared_only,      // all may know it, the node does not
    done_but_failed,  // an error, although everything is there
  };
  explicit SharedNodeLog(SharedBatches& shared) : shared_(shared) {}

  void fail_next(Fate fate) { fate_ = fate; }
  bool leading = false;  // its batches are the shared log's
  // Where a test may do damage.
  [[nodiscard]] auto& rows(Table table) { return local_.rows(table); }

  Result<bool> get(Table table, std::string_view key, std::string& value) const override {
    return local_.get(table, key, value);
  }
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return local_.scan(table, from, to, visit);
  }
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override {
    return local_.read(from, visit);
  }
  Result<void> append(const LogBatch& batch, const TableChanges& changes) override {
    const Fate fate = std::exchange(fate_, Fate::done);
    if (fate == Fate::lost) return fail(LedgerError::io, "the append was lost");
    if (leading && !batch.records.empty()) shared_.add(batch);
    if (fate == Fate::shared_only) return fail(LedgerError::io, "the append was not kept");
    const Result<void> appended = local_.append(batch, changes);
    if (!appended) return appended;
    if (fate == Fate::done_but_failed)
      return fail(LedgerError::io, "the append was not acknowledged");
    return {};
  }
  [[nodiscard]] std::unique_ptr<LedgerView> snapshot() const override { return local_.snapshot(); }

 private:
  SharedBatches& shared_;
  MemoryLog local_;
  Fate fate_ = Fate::done;
};

}  // namespace outlast::storage
