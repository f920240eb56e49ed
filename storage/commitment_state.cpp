#include "storage/commitment_state.hpp"

#include <algorithm>
#include <tuple>

#include "core/check.hpp"
#include "core/mul_div.hpp"
#include "storage/money_rows.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

constexpr __int128 units_max = static_cast<__int128>(1'000'000'000'000'000'000) *
                               1'000'000'000'000;

bool share_a_model(const Commitment& a, const Commitment& b) {
  if (a.models.empty() || b.models.empty()) return true;
  return std::any_of(a.models.begin(), a.models.end(),
                     [&b](const std::string& model) { return b.covers(model); });
}

// What is still to be funded of an amount and its tokens, while commitments take their part.
struct Need {
  PicoUsd amount;
  __int128 tokens;

  [[nodiscard]] __int128 of(CommitmentUnit unit) const {
    return unit == CommitmentUnit::tokens ? tokens : amount.value;
  }
  // Takes `units` off, and the share of the other unit that goes with them; returns the amount
  // that they cover. One division, half to even; the commitment covers what it leaves.
  PicoUsd cover(CommitmentUnit unit, __int128 units) {
    const PicoUsd before = amount;
    if (units == 0) return {};
    if (unit == CommitmentUnit::tokens) {
      amount.value = mul_div_half_even(amount.value, tokens - units, tokens);
      tokens -= units;
    } else {
      tokens = mul_div_floor(tokens, amount.value - units, amount.value);
      amount.value -= units;
    }
    return before - amount;
  }
};

}  // namespace

Result<void> check_commitment(const Commitment& commitment) {
  const auto short_text = [](const std::string& text) {
    return !text.empty() && text.size() <= commitment_text_bytes_max;
  };
  if (!short_text(commitment.id)) return invalid("a commitment's id has 1 to 128 bytes");
  if (!short_text(commitment.provider))
    return invalid("a commitment names its provider, in at most 128 bytes");
  if (commitment.models.size() > commitment_models_max ||
      !std::all_of(commitment.models.begin(), commitment.models.end(), short_text)) {
    return invalid("a commitment names at most 64 models, of 1 to 128 bytes each, or none for all");
  }
  if (commitment.units <= 0 || commitment.units > units_max)
    return invalid("a commitment is of more than 0 and at most 10^30 tokens or 10^18 US dollars");
  if (commitment.price.value < 0 || commitment.price.value > units_max)
    return invalid("a commitment's price is from 0 to 10^18 US dollars");
  if (commitment.from_ms < 0 || commitment.until_ms <= commitment.from_ms)
    return invalid("a commitment ends after it begins: --until is later than --from");
  return {};
}

void CommitmentState::touch(CommitmentAccount& account) {
  if (account.dirty) return;
  account.dirty = true;
  dirty_.push_back(&account);
}

void CommitmentState::index(CommitmentAccount& account) {
  Matched& list = by_provider_[account.status.commitment.provider];
  const auto expires_before = [](const CommitmentAccount* a, const CommitmentAccount* b) {
    const Commitment& left = a->status.commitment;
    const Commitment& right = b->status.commitment;
    return std::tie(left.until_ms, left.id) < std::tie(right.until_ms, right.id);
  };
  list.insert(std::upper_bound(list.begin(), list.end(), &account, expires_before), &account);
  ++version_;
}

bool CommitmentState::stands(const proto::CommitmentAdded& body) const {
  const CommitmentAccount* const known = find(body.commitment.id);
  return known != nullptr && known->status.commitment == body.commitment &&
         known->status.away == body.away;
}

std::optional<LedgerError> CommitmentState::add(const proto::CommitmentAdded& body) {
  const Commitment& commitment = body.commitment;
  if (!check_commitment(commitment)) return LedgerError::invalid;
  if (find(commitment.id) != nullptr) return LedgerError::duplicate;
  if (commitments_.size() >= commitments_max) return LedgerError::invalid;
  if (const auto at = by_provider_.find(commitment.provider); at != by_provider_.end()) {
    for (const CommitmentAccount* other : at->second) {
      // Both are drawn until that moment, and nothing says which first.
      if (other->status.ended || other->status.commitment.until_ms != commitment.until_ms ||
          !share_a_model(other->status.commitment, commitment)) {
        continue;
      }
      overlapped_ = other->status.commitment.id;
      return LedgerError::overlap;
    }
  }
  auto account = std::make_unique<CommitmentAccount>();
  account->status.commitment = commitment;
  account->status.away = body.away;
  index(*account);
  touch(*account);
  commitments_.emplace(commitment.id, std::move(account));
  return std::nullopt;
}

std::optional<LedgerError> CommitmentState::end(const proto::CommitmentEnded& body) {
  CommitmentAccount* const account = find(body.id);
  if (account == nullptr) return LedgerError::unknown_commitment;
  if (account->status.ended) return LedgerError::duplicate;
  touch(*account);
  account->status.ended = true;
  return std::nullopt;
}

void CommitmentState::match(std::string_view provider, std::string_view model,
                            Matched& found) const {
  const auto at = by_provider_.find(provider);
  if (at == by_provider_.end()) return;
  for (CommitmentAccount* account : at->second) {
    if (account->status.commitment.covers(model)) found.push_back(account);
  }
}

void CommitmentState::hold(std::vector<CommitmentHold>& holds, const Matched& matched,
                           PicoUsd amount, __int128 tokens, std::int64_t time_ms) {
  for (CommitmentAccount* account : matched) {
    if (account->active(time_ms)) holds.push_back({account, 0});
  }
  hold_more(holds, amount, tokens, time_ms);
}

void CommitmentState::hold_more(std::vector<CommitmentHold>& holds, PicoUsd amount,
                                __int128 tokens, std::int64_t time_ms) {
  Need need{amount, tokens};
  for (CommitmentHold& hold : holds) {
    CommitmentAccount& account = *hold.commitment;
    if (!account.active(time_ms)) continue;
    const CommitmentUnit unit = account.status.commitment.unit;
    const __int128 units = std::min(account.unheld(), need.of(unit));
    if (units == 0) continue;
    need.cover(unit, units);
    touch(account);
    hold.units += units;
    account.status.held += units;
  }
}

FundingChain CommitmentState::draw(std::vector<CommitmentHold>& holds, const Matched& matched,
                                   PicoUsd cost, __int128 tokens, std::int64_t time_ms) {
  FundingChain chain{cost, {}, {}, {}};
  Need need{cost, tokens};
  for (CommitmentAccount* account : matched) {
    CommitmentStatus& status = account->status;
    const CommitmentUnit unit = status.commitment.unit;
    const auto own = std::find_if(holds.begin(), holds.end(), [account](const CommitmentHold& one) {
      return one.commitment == account;
    });
    const __int128 held = own == holds.end() ? 0 : own->units;
    const __int128 unheld = account->active(time_ms) ? account->unheld() : 0;
    const __int128 units = std::min(held + unheld, need.of(unit));
    if (units == 0) continue;
    touch(*account);
    const __int128 from_hold = std::min(units, held);
    if (from_hold > 0) {
      own->units -= from_hold;
      status.held -= from_hold;
    }
    status.used += units;
    const PicoUsd covered = need.cover(unit, units);
    const PicoUsd amortised{
        mul_div_floor(status.commitment.price.value, status.used, status.commitment.units)};
    const PicoUsd step = amortised - status.amortised;
    status.amortised = amortised;
    status.list_cost += covered;
    chain.amortised += step;
    chain.savings += covered - step;
  }
  chain.on_demand = need.amount;
  return chain;
}

void CommitmentState::release(std::vector<CommitmentHold>& holds) {
  for (CommitmentHold& hold : holds) {
    if (hold.units == 0) continue;
    touch(*hold.commitment);
    hold.commitment->status.held -= hold.units;
  }
  holds.clear();
}

void CommitmentState::restore(CommitmentStatus status) {
  auto account = std::make_unique<CommitmentAccount>();
  account->status = std::move(status);
  index(*account);
  std::string id = account->status.commitment.id;
  commitments_.insert_or_assign(std::move(id), std::move(account));
}

CommitmentAccount* CommitmentState::find(std::string_view id) const {
  const auto at = commitments_.find(id);
  return at == commitments_.end() ? nullptr : at->second.get();
}

void CommitmentState::copy_rows(TableChanges& changes) const {
  std::string row;
  for (const auto& [id, account] : commitments_) {
    row.clear();
    encode(row, account->status);
    changes.put(Table::meta, commitment_key(id), row);
    for (const auto& [shard, allotment] : account->allotments) {
      const AllotmentRow whole{true, id, shard, allotment};
      row.clear();
      encode(row, whole);
      changes.put(Table::meta, allotment_key(whole), row);
    }
  }
}

void CommitmentState::collect(TableChanges& changes) {
  for (CommitmentAccount* account : dirty_) {
    row_.clear();
    encode(row_, account->status);
    changes.put(Table::meta, commitment_key(account->status.commitment.id), row_);
    collect_allotments(*account, changes);
    account->dirty = false;
  }
  dirty_.clear();
}

}  // namespace outlast::storage
