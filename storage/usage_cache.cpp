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
  std::uint64_t hash = mix(id.hour, id.cell.status);
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(id.cell.payer));
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(id.cell.leg));
  if (id.kind == RollupKind::main) return hash;
  hash = mix(hash, static_cast<std::uint64_t>(id.kind));
  return mix(hash, std::hash<std::string_view>()(id.label));
}

Result<UsageCache::Rollup*> UsageCache::find(const Id& id, const RollupKey& names) {
  const auto at = rollups_.find(id);
  if (at != rollups_.end()) return at->second.get();
  auto row = std::make_unique<Rollup>();
  row->label = id.label;
  row->table = rollup_place(id.kind, RollupPeriod::hour).table;
  RollupKey of_hour = names;
  of_hour.hour = id.hour;
  encode_rollup_key(row->key, id.kind, RollupPeriod::hour, of_hour, id.label);
  const Result<bool> found = view_.get(row->table, row->key, scratch_);
  if (!found) return fail(found.error());
  if (*found && !decode(scratch_, row->totals)) {
    return fail(LedgerError::corrupt,
                "a row of a roll-up cannot be read; restore the data from a copy");
  }
  row->without_latency = *found && scratch_.size() == rollup_bytes_without_latency;
  Rollup* const made = row.get();
  rollups_.emplace(Id{id.cell, id.hour, id.kind, made->label}, std::move(row));
  return made;
}

Result<void> UsageCache::add(const Id& id, const RollupKey& names) {
  const Result<Rollup*> row = find(id, names);
  if (!row) return fail(row.error());
  found_.push_back(&(*row)->totals);
  if ((*row)->dirty) return {};
  (*row)->dirty = true;
  dirty_.push_back(*row);
  return {};
}

Result<std::span<UsageTotals* const>> UsageCache::rows(std::int64_t time_ms, const Cell& cell,
                                                       const RollupKey& names,
                                                       const UsageLabels* labels) {
  found_.clear();
  const auto hour = static_cast<std::uint32_t>(std::max<std::int64_t>(time_ms, 0) / hour_ms);
  Result<void> added = add({cell, hour, RollupKind::main, {}}, names);
  if (labels != nullptr) {
    for (const std::string& tag : labels->tags) {
      if (added) added = add({cell, hour, RollupKind::tag, tag}, names);
    }
    if (added && !labels->session.empty())
      added = add({cell, hour, RollupKind::session, labels->session}, names);
  }
  if (!added) return fail(added.error());
  return std::span<UsageTotals* const>(found_);
}

void UsageCache::copy_changed(TableChanges& changes) {
  for (const Rollup* row : dirty_) {
    scratch_.clear();
    encode(scratch_, row->totals);
    if (row->without_latency) scratch_.resize(rollup_bytes_without_latency);
    changes.put(row->table, row->key, scratch_);
  }
}

void UsageCache::clear_changed() {
  for (Rollup* row : dirty_) row->dirty = false;
  dirty_.clear();
}

void UsageCache::clear() {
  check(dirty_.empty(), "changed roll-ups are written before they are forgotten");
  rollups_.clear();
}

}  // namespace outlast::storage
