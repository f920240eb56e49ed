// LossyLog: a replica's own disk: what was appended since the last sync may be lost by a crash, from the end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/random.hpp"
#include "storage/memory_log.hpp"

namespace outlast::cluster::simulation {

class LossyLog final : public storage::Log {
 public:
  Result<bool> get(storage::Table table, std::string_view key, std::string& value) const override {
    return log_.get(table, key, value);
  }
  Result<void> scan(storage::Table table, std::string_view from, std::string_view to,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return log_.scan(table, from, to, visit);
  }
  Result<void> read(std::uint64_t from, const std::function<bool(const storage::LogRecord&)>& visit) const override {
    return log_.read(from, visit);
  }
  std::unique_ptr<storage::LedgerView> snapshot() const override { return log_.snapshot(); }

  Result<void> append(const storage::LogBatch& batch, const storage::TableChanges& changes) override {
    Undo undo;
    if (!batch.records.empty()) undo.batch = batch.first_index;
    changes.for_each([this, &undo](storage::Table table, std::string_view key, std::string_view) {
      const auto& rows = log_.rows(table);
      const auto at = rows.find(key);
      undo.rows.emplace_back(table, std::string(key),
                             at == rows.end() ? std::nullopt : std::optional<std::string>(at->second));
    });
    unsynced_.push_back(std::move(undo));
    return log_.append(batch, changes);
  }
  void sync() { unsynced_.clear(); }
  // Of what was not synced, some stays.
  void crash(Random& random) {
    const std::size_t kept = random.below(unsynced_.size() + 1);
    while (unsynced_.size() > kept) {
      Undo& last = unsynced_.back();
      if (last.batch) log_.batches().erase(*last.batch);
      for (auto row = last.rows.rbegin(); row != last.rows.rend(); ++row) {
        auto& [table, key, value] = *row;
        if (value) log_.rows(table).insert_or_assign(key, std::move(*value));
        else log_.rows(table).erase(key);
      }
      unsynced_.pop_back();
    }
    sync();
  }

 private:
  struct Undo {
    std::optional<std::uint64_t> batch;
    std::vector<std::tuple<storage::Table, std::string, std::optional<std::string>>> rows;
  };
  storage::MemoryLog log_;
  std::vector<Undo> unsynced_;
};

}  // namespace outlast::cluster::simulation
