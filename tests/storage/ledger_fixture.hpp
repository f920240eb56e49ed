// What the ledger's tests share: temporary folders, sample operations, and a submitter that can be
// waited for.
#pragma once

#include <catch2/catch.hpp>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/random.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::storage {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "outlast-ledger-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string path() const { return path_; }

 private:
  std::string path_;
};

inline PicoUsd pico(std::int64_t amount) { return {amount}; }

inline Reservation sample_reservation(const RequestId& id, const std::string& user = "ann") {
  return {id, {"acme", "search", user}, "key_" + user, "smart", pico(1'000'000), true, 500, 100};
}

inline AttemptLine sample_attempt(const RequestId& id, std::uint16_t number, AttemptStatus status,
                                  std::int64_t cost) {
  AttemptLine line;
  line.request_id = id;
  line.number = number;
  line.deployment = "fable-alpha";
  line.provider = "alpha";
  line.model = "claude-fable-5";
  line.status = status;
  line.http_status = status == AttemptStatus::ok ? 200 : 503;
  line.usage.source = UsageSource::reported;
  if (cost > 0) {
    line.usage.input_uncached = 40;
    line.usage.output_text = 7;
  }
  line.cost = pico(cost);
  line.price_known = true;
  line.price_version = "2026-01";
  line.first_event_ms = 3;
  line.duration_ms = 9;
  return line;
}

inline Settlement sample_settlement(const RequestId& id, std::int64_t cost = 600'000,
                                    std::uint16_t number = 1) {
  return {sample_attempt(id, number, AttemptStatus::ok, cost)};
}

// A submitter whose results the test waits for, with a deadline.
class WaitingSubmitter {
 public:
  explicit WaitingSubmitter(LedgerStore& store)
      : submitter_(store.make_submitter(
            [this](std::uint64_t ticket) {
              const std::lock_guard lock(mutex_);
              durable_ = ticket;
              told_.notify_all();
            },
            [this](std::uint64_t ticket, const Refused& refused) {
              const std::lock_guard lock(mutex_);
              refusals_.emplace_back(ticket, refused.error);
            })) {}

  std::uint64_t submit(MeteringOperation operation, bool urgent = true) {
    const Result<std::uint64_t> ticket = submitter_->submit(std::move(operation), urgent);
    REQUIRE(ticket);
    last_ = *ticket;
    return *ticket;
  }
  void wait() {
    std::unique_lock lock(mutex_);
    REQUIRE(told_.wait_for(lock, std::chrono::seconds(20), [this] { return durable_ >= last_; }));
  }
  // Submits, waits, and returns the refusal if there was one.
  std::optional<Error> run(MeteringOperation operation) {
    const std::uint64_t ticket = submit(std::move(operation));
    wait();
    const std::lock_guard lock(mutex_);
    for (const auto& [refused, error] : refusals_) {
      if (refused == ticket) return error;
    }
    return std::nullopt;
  }
  [[nodiscard]] LedgerSubmitter& submitter() { return *submitter_; }
  [[nodiscard]] std::vector<std::pair<std::uint64_t, Error>> refusals() {
    const std::lock_guard lock(mutex_);
    return refusals_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable told_;
  std::uint64_t durable_ = 0;
  std::uint64_t last_ = 0;
  std::vector<std::pair<std::uint64_t, Error>> refusals_;
  std::unique_ptr<LedgerSubmitter> submitter_;  // last: its callbacks use the above
};

inline std::unique_ptr<LedgerStore> open_store(const std::string& path, const Clock& clock) {
  LedgerOptions options;
  options.path = path;
  options.disk_space = [](const std::string&) -> Result<DiskSpace> {
    return DiskSpace{1ULL << 40, 1ULL << 40};
  };
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(options, clock);
  INFO((store ? std::string() : store.error().message));
  REQUIRE(store);
  return std::move(*store);
}

inline std::vector<StoredEntry> entries_of(const LedgerStore& store, std::uint64_t from = 0) {
  std::vector<StoredEntry> entries;
  REQUIRE(store.read(from, [&entries](const StoredEntry& entry) {
    entries.push_back(entry);
    return true;
  }));
  return entries;
}

inline void require_whole(const LedgerStore& store) {
  const Result<VerifyReport> report = store.verify();
  INFO((report ? report->problem : report.error().message));
  REQUIRE(report);
  REQUIRE(report->ok);
}

}  // namespace outlast::storage
