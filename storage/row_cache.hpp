// RowCache: the balances and roll-ups that recent entries touched, so that a batch costs one put
// per touched row and no reads. Names are interned; the cache is emptied when it grows beyond its
// limit. One owner.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/metering.hpp"
#include "storage/log.hpp"
#include "storage/rows.hpp"
#include "storage/spend_plan.hpp"
#include "storage/usage_cache.hpp"

namespace outlast::storage {

class RowCache {
 public:
  static constexpr std::size_t rows_max = 65'536;  // of each kind

  struct Balance {
    std::string key;
    BalanceRow row;
    bool dirty = false;
  };
  // Who pays: one virtual key's requests for one route.
  struct Payer {
    TenantPath tenant;
    std::string key_id;
    std::string route;
    std::size_t open = 0;  // reservations that refer to it; it stays while there are any
    Balance* balance = nullptr;
    PayerPlans plans;
  };
  // What was bought.
  struct Leg {
    std::string deployment;
    std::string provider;
    std::string model;
    Balance* balance = nullptr;
    // Those that cover it, as of their version.
    std::vector<CommitmentAccount*> commitments;
    std::uint64_t commitments_version = 0;
  };

  explicit RowCache(const LedgerView& view) : view_(view), usage_(view) {}
  RowCache(const RowCache&) = delete;
  RowCache& operator=(const RowCache&) = delete;

  Payer& payer_of(const Reservation& reservation);
  Leg& leg_of(const AttemptLine& attempt);

  // Changes what the tenant holds in open reservations.
  Result<void> hold(Payer& payer, PicoUsd change);
  // One cost leg: the tenant pays the cost; the provider is owed what no commitment covers.
  Result<void> charge(Payer& payer, Leg& leg, PicoUsd cost, PicoUsd on_demand);
  Result<void> overrun(Payer& payer, PicoUsd overrun);
  // The rows that a request or attempt counts in, marked as changed; valid until the next call.
  // `leg` is null for voided requests, `labels` for requests without any.
  Result<std::span<UsageTotals* const>> rollups(std::int64_t time_ms, const Payer& payer,
                                                const Leg* leg, std::uint8_t status,
                                                const UsageLabels* labels);

  // Puts every changed row; and the same, but they stay changed.
  void collect(TableChanges& changes);
  void copy_changed(TableChanges& changes);
  // Once collected rows are in the view: forgets rows beyond the limit. Does nothing while there
  // are changed rows.
  void trim();

 private:
  using Names = std::array<std::string_view, 5>;
  struct NamesHash {
    std::size_t operator()(const Names& names) const noexcept;
  };
  Result<Balance*> balance(Balance*& cached, std::string key);
  Result<Balance*> changed_balance(Payer& payer);

  const LedgerView& view_;
  // The keys are views of the rows' own names.
  std::unordered_map<Names, std::unique_ptr<Payer>, NamesHash> payers_;
  std::unordered_map<Names, std::unique_ptr<Leg>, NamesHash> legs_;
  std::unordered_map<std::string_view, std::unique_ptr<Balance>> balances_;
  std::vector<Balance*> dirty_balances_;
  UsageCache usage_;
  std::string scratch_;
};

}  // namespace outlast::storage
