// usage_of(): sums roll-ups into a report. It reads the rows of whole months and days where they
// are kept, and of hours only at the ends, so that what is read grows with months and not with
// entries.
#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <optional>
#include <unordered_map>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/usage_rows.hpp"

namespace outlast::storage {
namespace {

constexpr std::uint32_t no_end = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t hour_max = hours_per_day * 10'000'000;  // beyond any calendar

std::string_view value_of(const RollupKey& key, std::string_view label, UsageDimension dimension) {
  switch (dimension) {
    case UsageDimension::organisation: return key.organisation;
    case UsageDimension::team: return key.team;
    case UsageDimension::user: return key.user;
    case UsageDimension::key: return key.key_id;
    case UsageDimension::model:
    case UsageDimension::route: return key.route;
    case UsageDimension::model_served: return key.model;
    case UsageDimension::provider: return key.provider;
    case UsageDimension::deployment: return key.deployment;
    case UsageDimension::status:
      if (key.status == status_void) return "void";
      return key.status < std::size(attempt_status_names) ? attempt_status_names[key.status]
                                                          : "unknown";
    case UsageDimension::tag:
    case UsageDimension::session: return label;
  }
  return {};
}

std::uint32_t hour_of(std::int64_t ms) {
  const std::int64_t hour = std::max<std::int64_t>(ms, 0) / hour_ms;
  return static_cast<std::uint32_t>(std::min<std::int64_t>(hour, hour_max));
}

bool concerns(const UsageQuery& query, UsageDimension dimension) {
  return std::find(query.by.begin(), query.by.end(), dimension) != query.by.end() ||
         std::any_of(
             query.where.begin(), query.where.end(),
             [dimension](const UsageFilter& filter) { return filter.dimension == dimension; });
}

// The rows that entries since the head's rows_from have changed, as they are now.
using RecentRows = std::map<std::pair<Table, std::string>, std::string>;
Result<RecentRows> recent_rollups(const LedgerView& view) {
  RecentRows rows;
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  if (head->rows_from == head->next_index) return rows;
  LedgerState state(view, head->max_ended_id);
  if (const Result<void> replayed = replay_tail(view, *head, state); !replayed)
    return fail(replayed.error());
  state.collect(true, false)
      .for_each([&rows](Table table, std::string_view key, std::string_view value) {
        if (table == Table::rollup || table == Table::usage)
          rows.insert_or_assign({table, std::string(key)}, std::string(value));
      });
  return rows;
}

// Adds rows of the roll-up to the groups of a query.
class Groups {
 public:
  explicit Groups(const UsageQuery& query)
      : query_(query),
        every_row_is_timed_(concerns(query, UsageDimension::status)),
        last_(index_.end()) {
    for (const UsageFilter& filter : query.where) {
      auto at = std::find_if(filters_.begin(), filters_.end(), [&filter](const auto& known) {
        return known.first == filter.dimension;
      });
      if (at == filters_.end()) at = filters_.insert(filters_.end(), {filter.dimension, {}});
      at->second.push_back(filter.value);
    }
  }

  // False when the row cannot be read, or when it would be one too many.
  bool add(std::string_view key, std::string_view value, RollupPeriod period);
  [[nodiscard]] bool too_many() const { return rows_.size() > usage_rows_max; }
  UsageReport finish();

 private:
  [[nodiscard]] bool wanted(const RollupKey& names, std::string_view label) const;
  UsageTotals* group_of(std::int64_t start_ms, const RollupKey& names, std::string_view label);

  const UsageQuery& query_;
  const bool every_row_is_timed_;
  std::vector<std::pair<UsageDimension, std::vector<std::string>>> filters_;
  std::vector<UsageRow> rows_;
  std::unordered_map<std::string, std::size_t> index_;
  std::unordered_map<std::string, std::size_t>::iterator last_;
  std::string group_;  // scratch
};

bool Groups::wanted(const RollupKey& names, std::string_view label) const {
  return std::all_of(filters_.begin(), filters_.end(), [&](const auto& filter) {
    const std::string_view value = value_of(names, label, filter.first);
    return std::find(filter.second.begin(), filter.second.end(), value) != filter.second.end();
  });
}

UsageTotals* Groups::group_of(std::int64_t start_ms, const RollupKey& names,
                              std::string_view label) {
  group_.assign(reinterpret_cast<const char*>(&start_ms), sizeof(start_ms));
  for (const UsageDimension dimension : query_.by) {
    const std::string_view value = value_of(names, label, dimension);
    const auto size = static_cast<std::uint32_t>(value.size());
    group_.append(reinterpret_cast<const char*>(&size), sizeof(size));
    group_ += value;
  }
  // Rows come in the order of tenants: often the group is that of the row before.
  if (last_ != index_.end() && last_->first == group_) return &rows_[last_->second].totals;
  bool made = false;
  std::tie(last_, made) = index_.try_emplace(group_, rows_.size());
  if (!made) return &rows_[last_->second].totals;
  UsageRow row;
  row.start_ms = start_ms;
  for (const UsageDimension dimension : query_.by)
    row.group.emplace_back(value_of(names, label, dimension));
  rows_.push_back(std::move(row));
  return too_many() ? nullptr : &rows_.back().totals;
}

std::int64_t start_of(RollupPeriod period, std::uint32_t number) {
  switch (period) {
    case RollupPeriod::hour: return number * hour_ms;
    case RollupPeriod::day: return number * day_ms;
    case RollupPeriod::month: return first_day_of_month(number) * day_ms;
  }
  return 0;
}

bool Groups::add(std::string_view key, std::string_view value, RollupPeriod period) {
  RollupKey names;
  std::string_view label;
  if (!decode_rollup_key(key, names, label)) return false;
  if (!wanted(names, label)) return true;
  const std::int64_t start_ms =
      query_.every ? bucket_start_ms(*query_.every, start_of(period, names.hour)) : 0;
  UsageTotals* totals = group_of(start_ms, names, label);
  const bool timed =
      every_row_is_timed_ || names.status == static_cast<std::uint8_t>(AttemptStatus::ok);
  return totals != nullptr && add_rollup(value, timed, *totals);
}

std::uint64_t tokens_of(const UsageTotals& totals) {
  std::uint64_t sum = 0;
  for (const std::uint64_t tokens : totals.tokens) sum += tokens;
  return sum;
}

bool larger(const UsageTotals& a, const UsageTotals& b, UsageSort sort) {
  switch (sort) {
    case UsageSort::cost: return a.cost > b.cost;
    case UsageSort::requests: return a.requests > b.requests;
    case UsageSort::tokens: return tokens_of(a) > tokens_of(b);
    case UsageSort::failures: return a.failed_attempts > b.failed_attempts;
  }
  return false;
}

UsageReport Groups::finish() {
  UsageReport report;
  report.by = query_.by;
  report.every = query_.every;
  for (const UsageRow& row : rows_) report.total += row.totals;
  std::optional<UsageSort> sort = query_.sort;
  if (query_.top > 0 && !sort) sort = UsageSort::cost;
  std::sort(rows_.begin(), rows_.end(), [sort](const UsageRow& a, const UsageRow& b) {
    if (a.start_ms != b.start_ms) return a.start_ms < b.start_ms;
    if (sort && larger(a.totals, b.totals, *sort)) return true;
    if (sort && larger(b.totals, a.totals, *sort)) return false;
    return a.group < b.group;
  });
  if (query_.top > 0) {
    std::size_t in_bucket = 0;
    std::int64_t start_ms = -1;
    report.rows_left_out = std::erase_if(rows_, [&](const UsageRow& row) {
      if (row.start_ms != start_ms) in_bucket = 0;
      start_ms = row.start_ms;
      return ++in_bucket > query_.top;
    });
  }
  report.rows = std::move(rows_);
  return report;
}

std::uint32_t hour_of_key(std::string_view key) {
  RollupKey names;
  std::string_view label;
  return decode_rollup_key(key, names, label) ? names.hour : no_end;
}

// Reads the rows of a kind into groups.
class Scan {
 public:
  Scan(const LedgerView& view, RollupKind kind, const FoldedRollups& folded,
       const RecentRows& recent, Groups& groups)
      : view_(view), kind_(kind), folded_(folded), recent_(recent), groups_(groups) {}

  // Hours from `first` to before `end`, by as few rows as there are.
  Result<void> read_hours(std::uint32_t first, std::uint32_t end, RollupPeriod longest) const;

 private:
  Result<void> read_days(std::uint32_t first, std::uint32_t end, RollupPeriod longest) const;
  Result<void> read(RollupPeriod period, std::uint32_t first, std::uint32_t end,
                    bool unfolded_only = false) const;

  const LedgerView& view_;
  const RollupKind kind_;
  const FoldedRollups& folded_;
  const RecentRows& recent_;
  Groups& groups_;
};

Result<void> Scan::read_hours(std::uint32_t first, std::uint32_t end, RollupPeriod longest) const {
  const std::uint32_t day = (first + hours_per_day - 1) / hours_per_day;
  const std::uint32_t whole_end = end / hours_per_day;
  const bool all_folded = end <= folded_.hour;
  if (longest == RollupPeriod::hour || day * hours_per_day >= folded_.hour ||
      (all_folded && day >= whole_end)) {
    return read(RollupPeriod::hour, first, end);
  }
  Result<void> done = read(RollupPeriod::hour, first, day * hours_per_day);
  // The last day and month may be at their beginning: their rows hold what is folded.
  if (done) done = read_days(day, all_folded ? whole_end : no_end, longest);
  if (!done) return done;
  return all_folded ? read(RollupPeriod::hour, whole_end * hours_per_day, end)
                    : read(RollupPeriod::hour, folded_.hour, end, true);
}

Result<void> Scan::read_days(std::uint32_t first, std::uint32_t end, RollupPeriod longest) const {
  std::uint32_t month = month_of_day(first);
  if (first_day_of_month(month) < first) ++month;
  const std::uint32_t month_end = end == no_end ? no_end : month_of_day(end);
  if (longest == RollupPeriod::day || month >= month_end)
    return read(RollupPeriod::day, first, end);
  Result<void> done = read(RollupPeriod::day, first, first_day_of_month(month));
  if (done) done = read(RollupPeriod::month, month, month_end);
  if (done && month_end != no_end)
    done = read(RollupPeriod::day, first_day_of_month(month_end), end);
  return done;
}

Result<void> Scan::read(RollupPeriod period, std::uint32_t first, std::uint32_t end,
                        bool unfolded_only) const {
  if (first >= end) return {};
  const RollupPlace place = rollup_place(kind_, period);
  const std::string from = std::string(place.prefix) + rollup_hour_key(first);
  std::string to(place.prefix);
  if (end != no_end) to += rollup_hour_key(end);
  else if (!to.empty()) ++to.back();
  bool good = true;
  const auto add = [&](std::string_view key, std::string_view value) {
    key.remove_prefix(place.prefix.size());
    // Behind the folded hour nothing is folded.
    if (unfolded_only && folded_.holds(hour_of_key(key), kind_, key)) return true;
    return good = groups_.add(key, value, period);
  };
  const Result<void> scanned =
      view_.scan(place.table, from, to, [&](std::string_view key, std::string_view value) {
        const bool newer = !recent_.empty() && recent_.contains({place.table, std::string(key)});
        return newer || add(key, value);
      });
  if (!scanned) return scanned;
  for (auto at = recent_.lower_bound({place.table, from});
       good && at != recent_.end() && at->first.first == place.table &&
       (to.empty() || at->first.second < to);
       ++at) {
    add(at->first.second, at->second);
  }
  if (good) return {};
  if (groups_.too_many()) {
    return fail(LedgerError::invalid, "the report would have more than " +
                                          std::to_string(usage_rows_max) +
                                          " rows; narrow it by time or by what counts");
  }
  return fail(LedgerError::corrupt, "a roll-up row cannot be read; see `outlast ledger verify`");
}

Result<RollupKind> kind_of(const UsageQuery& query) {
  const bool tag = concerns(query, UsageDimension::tag);
  const bool session = concerns(query, UsageDimension::session);
  if (tag && session) {
    return fail(LedgerError::invalid,
                "tags and sessions are counted separately; ask for one of the two at a time");
  }
  if (query.where.size() > usage_filters_max) {
    return fail(LedgerError::invalid,
                "a report takes at most " + std::to_string(usage_filters_max) + " filters");
  }
  if (tag) return RollupKind::tag;
  return session ? RollupKind::session : RollupKind::main;
}

}  // namespace

Result<UsageReport> usage_of(const LedgerView& view, const UsageQuery& query) {
  const LedgerView* const only = &view;
  return usage_of(std::span(&only, 1), query);
}

Result<UsageReport> usage_of(std::span<const LedgerView* const> views, const UsageQuery& query) {
  const Result<RollupKind> kind = kind_of(query);
  if (!kind) return fail(kind.error());
  const std::uint32_t from = query.since_ms ? hour_of(*query.since_ms) : 0;
  const std::uint32_t last = query.until_ms ? hour_of(*query.until_ms - 1) : hour_max;
  const std::uint32_t to = last == hour_max ? no_end : last + 1;
  Groups groups(query);
  RollupPeriod longest = RollupPeriod::month;
  if (query.every == UsageEvery::hour) longest = RollupPeriod::hour;
  if (query.every == UsageEvery::day || query.every == UsageEvery::week)
    longest = RollupPeriod::day;
  for (const LedgerView* const view : views) {
    const Result<RecentRows> recent = recent_rollups(*view);
    if (!recent) return fail(recent.error());
    const Result<FoldedRollups> folded = load_folded(*view);
    if (!folded) return fail(folded.error());
    const Scan scan(*view, *kind, *folded, *recent, groups);
    if (const Result<void> done = scan.read_hours(from, to, longest); !done) return fail(done.error());
  }
  UsageReport report = groups.finish();
  const auto tags = std::count_if(
      query.where.begin(), query.where.end(),
      [](const UsageFilter& filter) { return filter.dimension == UsageDimension::tag; });
  report.overlapping = *kind == RollupKind::tag && tags != 1;
  return report;
}

}  // namespace outlast::storage
