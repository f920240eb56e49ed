#include "storage/usage_cache.hpp"

#include <algorithm>
#include <functional>
#include <limits>

#include "core/check.hpp"

namespace outlast::storage {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 32;
}

std::uint32_t hour_at(std::int64_t time_ms) {
  return static_cast<std::uint32_t>(std::max<std::int64_t>(time_ms, 0) / hour_ms);
}

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<std::uint64_t>::max() : sum;
}

}  // namespace

std::unique_ptr<const UsageLabels> UsageLabels::of(const Reservation& reservation) {
  if (reservation.tags.empty() && reservation.session.empty()) return nullptr;
  auto labels = std::make_unique<UsageLabels>(UsageLabels{reservation.tags, reservation.session});
  auto& tags = labels->tags;
  std::sort(tags.begin(), tags.end());
  tags.erase(std::unique(tags.begin(), tags.end()), tags.end());
  return labels;
}

void add_attempt(UsageTotals& row, const AttemptLine& attempt) {
  ++row.attempts;
  if (attempt.status != AttemptStatus::ok && attempt.status != AttemptStatus::caller_gone &&
      attempt.status != AttemptStatus::in_doubt) {
    ++row.failed_attempts;
  }
  row.cost += attempt.cost;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    row.tokens[i] = saturating_add(row.tokens[i], attempt.usage.*usage_buckets[i].member);
  }
  // Nobody knows how long an attempt in doubt took.
  if (attempt.status != AttemptStatus::in_doubt) row.duration.add(attempt.duration_ms);
  if (attempt.first_event_ms != 0) row.first_event.add(attempt.first_event_ms);
}

std::size_t UsageCache::IdHash::operator()(const Id& id) const noexcept {
  std::uint64_t hash = mix(id.period, id.cell.status);
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(id.cell.payer));
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(id.cell.leg));
  if (id.kind == RollupKind::main && !id.day) return hash;
  hash = mix(hash, static_cast<std::uint64_t>(id.kind) << 1 | static_cast<std::uint64_t>(id.day));
  return mix(hash, std::hash<std::string_view>()(id.label));
}

Result<UsageCache::Rollup*> UsageCache::find(RollupKind kind, bool day, std::uint32_t period,
                                             const Cell& cell, const RollupKey& names,
                                             std::string_view label) {
  const auto at = rollups_.find({cell, period, kind, day, label});
  if (at != rollups_.end()) return at->second.get();
  auto row = std::make_unique<Rollup>();
  row->label = label;
  row->table = rollup_place(kind, day).table;
  RollupKey of_period = names;
  of_period.hour = period;
  encode_rollup_key(row->key, kind, day, of_period, label);
  const Result<bool> found = view_.get(row->table, row->key, scratch_);
  if (!found) return fail(found.error());
  if (*found && !decode(scratch_, row->totals)) {
    return fail(LedgerError::corrupt,
                "a row of a roll-up cannot be read; restore the data from a copy");
  }
  row->without_latency = *found && scratch_.size() == rollup_bytes_without_latency;
  Rollup* const made = row.get();
  rollups_.emplace(Id{cell, period, kind, day, made->label}, std::move(row));
  return made;
}

void UsageCache::mark(Rollup& row) {
  found_.push_back(&row.totals);
  if (row.dirty) return;
  row.dirty = true;
  dirty_.push_back(&row);
}

Result<void> UsageCache::add(RollupKind kind, std::uint32_t hour, const Cell& cell,
                             const RollupKey& names, std::string_view label) {
  const Result<Rollup*> row = find(kind, false, hour, cell, names, label);
  if (!row) return fail(row.error());
  const std::uint32_t day = hour / hours_per_day;
  if ((*row)->day == nullptr && first_day_ && day >= *first_day_) {
    const Result<Rollup*> of_day = find(kind, true, day, cell, names, label);
    if (!of_day) return fail(of_day.error());
    (*row)->day = *of_day;
  }
  mark(**row);
  if ((*row)->day != nullptr) mark(*(*row)->day);
  return {};
}

Result<std::span<UsageTotals* const>> UsageCache::rows(std::int64_t time_ms, const Cell& cell,
                                                       const RollupKey& names,
                                                       const UsageLabels* labels) {
  if (!first_day_loaded_) {
    const Result<std::optional<std::uint32_t>> first = load_first_day(view_);
    if (!first) return fail(first.error());
    first_day_ = *first;
    first_day_loaded_ = true;
  }
  found_.clear();
  const std::uint32_t hour = hour_at(time_ms);
  Result<void> added = add(RollupKind::main, hour, cell, names, {});
  if (labels != nullptr) {
    for (const std::string& tag : labels->tags) {
      if (added) added = add(RollupKind::tag, hour, cell, names, tag);
    }
    if (added && !labels->session.empty())
      added = add(RollupKind::session, hour, cell, names, labels->session);
  }
  if (!added) return fail(added.error());
  return std::span<UsageTotals* const>(found_);
}

Result<void> UsageCache::begin_days(std::int64_t time_ms, bool empty) {
  const Result<std::optional<std::uint32_t>> first = load_first_day(view_);
  if (!first) return fail(first.error());
  first_day_ = *first;
  first_day_loaded_ = true;
  if (first_day_) return {};
  first_day_ = empty ? 0 : hour_at(time_ms) / hours_per_day + 1;
  first_day_changed_ = true;
  return {};
}

void UsageCache::collect(TableChanges& changes) {
  if (first_day_changed_) {
    changes.put(Table::usage, first_day_key, encode_first_day(*first_day_));
    first_day_changed_ = false;
  }
  for (Rollup* row : dirty_) {
    scratch_.clear();
    encode(scratch_, row->totals);
    if (row->without_latency) scratch_.resize(rollup_bytes_without_latency);
    changes.put(row->table, row->key, scratch_);
    row->dirty = false;
  }
  dirty_.clear();
}

void UsageCache::clear() {
  check(dirty_.empty(), "changed roll-ups are written before they are forgotten");
  rollups_.clear();
}

}  // namespace outlast::storage
