// A ledger that random requests go through, and what its reports say when they are summed from the
// entries, slowly and plainly.
#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/random.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "storage/usage_cache.hpp"
#include "storage/usage_fold.hpp"
#include "storage/usage_rows.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage {
inline constexpr AttemptStatus statuses[] = {AttemptStatus::ok,        AttemptStatus::ok,
                                             AttemptStatus::throttled, AttemptStatus::overloaded,
                                             AttemptStatus::cut,       AttemptStatus::caller_gone};

// A ledger in memory that random requests go through, over days.
struct Ledger {
  MemoryLog log;
  ManualClock clock;
  std::unique_ptr<LedgerWriter> writer;
  Random random;
  UuidGenerator ids;
  std::vector<RequestId> open;
  bool labelled = true;  // whether callers give tags and sessions

  explicit Ledger(std::uint64_t seed) : random(seed), ids(clock, seed) { start(); }
  void start() {
    writer.reset();
    open.clear();  // settled in doubt
    auto opened = LedgerWriter::open(log, clock, {}, "test");
    INFO((opened ? std::string() : opened.error().message));
    REQUIRE(opened);
    writer = std::move(*opened);
  }

  AttemptLine line(const RequestId& id, std::uint16_t number, AttemptStatus status) {
    AttemptLine line =
        sample_attempt(id, number, status, static_cast<std::int64_t>(random.below(900'000)));
    const std::uint64_t which = random.below(3);
    line.deployment = "d" + std::to_string(which);
    line.provider = which == 0 ? "alpha" : "beta";
    line.model = which == 2 ? "large" : "small";
    line.usage.input_cache_read = random.below(50);
    line.price_known = random.below(9) != 0;
    if (random.below(8) == 0) line.usage.source = UsageSource::estimated;
    line.first_event_ms = static_cast<std::uint32_t>(random.below(4) * 70);
    line.duration_ms = static_cast<std::uint32_t>(random.below(9'000));
    return line;
  }
  void step() {
    if (open.empty() || random.below(2) == 0) {
      Reservation reservation =
          sample_reservation(ids.next(), "user" + std::to_string(random.below(4)));
      reservation.route = random.below(2) == 0 ? "smart" : "fast";
      for (std::uint64_t i = labelled ? random.below(4) : 0; i > 1; --i)
        reservation.tags.push_back(std::string(1, static_cast<char>('a' + random.below(3))));
      if (labelled && random.below(3) == 0)
        reservation.session = "run" + std::to_string(random.below(5));
      open.push_back(reservation.request_id);
      REQUIRE(writer->add(reservation)->outcome == Outcome::applied);
      return;
    }
    const std::size_t at = random.below(open.size());
    const RequestId id = open[at];
    std::uint16_t number = 1;
    for (; random.below(4) == 0; ++number)
      REQUIRE(writer->add(line(id, number, statuses[random.below(std::size(statuses))])));
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
    if (random.below(5) == 0) REQUIRE(writer->add(VoidReservation{id, "gone"}));
    else
      REQUIRE(
          writer->add(Settlement{line(id, number, statuses[random.below(std::size(statuses))])}));
  }
  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (random.below(6) == 0) clock.advance_ms(static_cast<std::int64_t>(random.below(hour_ms)));
      if (random.below(80) == 0)
        clock.advance_ms(static_cast<std::int64_t>(random.below(4 * day_ms)));
      if (random.below(20) == 0) REQUIRE(writer->commit());
      if (random.below(90) == 0) REQUIRE(writer->commit_rows());
      if (random.below(30) == 0) fold(1 + random.below(9));
      if (random.below(400) == 0) REQUIRE(writer->finish());
    }
    REQUIRE(writer->commit());
  }
  // A few rows of hours that are over, so that it also stops within an hour.
  std::size_t fold(std::size_t rows_max) {
    REQUIRE(writer->commit_rows());
    TableChanges changes;
    const auto hour = static_cast<std::uint32_t>(writer->time_ms() / hour_ms);
    const Result<std::size_t> rows = fold_rollups(log, hour, rows_max, changes);
    REQUIRE(rows);
    REQUIRE(log.append({writer->next_index(), {}}, changes));
    return *rows;
  }
  void require_whole() {
    REQUIRE(writer->commit_rows());
    verify();
  }
  void verify() const {
    const Result<VerifyReport> report = verify_ledger(log);
    REQUIRE(report);
    INFO(report->problem);
    REQUIRE(report->ok);
  }
};

// What a report says, summed from the entries, slowly and plainly.
struct Naive {
  using Rows = std::map<std::pair<std::int64_t, std::vector<std::string>>, UsageTotals>;
  const UsageQuery& query;
  Rows rows;

  static std::string value(UsageDimension dimension, const Reservation& who,
                           const AttemptLine* line, const std::string& tag) {
    switch (dimension) {
      case UsageDimension::organisation: return who.tenant.organisation;
      case UsageDimension::team: return who.tenant.team;
      case UsageDimension::user: return who.tenant.user;
      case UsageDimension::key: return who.key_id;
      case UsageDimension::model:
      case UsageDimension::route: return who.route;
      case UsageDimension::model_served: return line ? line->model : "";
      case UsageDimension::provider: return line ? line->provider : "";
      case UsageDimension::deployment: return line ? line->deployment : "";
      case UsageDimension::status: return line ? std::string(name_of(line->status)) : "void";
      case UsageDimension::tag: return tag;
      case UsageDimension::session: return who.session;
    }
    return {};
  }
  bool asks(UsageDimension dimension) const {
    return std::count(query.by.begin(), query.by.end(), dimension) > 0 ||
           std::any_of(query.where.begin(), query.where.end(),
                       [dimension](const auto& filter) { return filter.dimension == dimension; });
  }
  void add(std::int64_t time_ms, const Reservation& who, const AttemptLine* line,
           const std::string& tag, const std::function<void(UsageTotals&)>& count) {
    if (query.since_ms && time_ms / hour_ms < *query.since_ms / hour_ms) return;
    if (query.until_ms && time_ms / hour_ms > (*query.until_ms - 1) / hour_ms) return;
    for (const UsageFilter& wanted : query.where) {
      bool any = false;
      for (const UsageFilter& filter : query.where) {
        any = any || (filter.dimension == wanted.dimension &&
                      filter.value == value(filter.dimension, who, line, tag));
      }
      if (!any) return;
    }
    std::vector<std::string> group;
    for (const UsageDimension dimension : query.by)
      group.push_back(value(dimension, who, line, tag));
    UsageTotals& row =
        rows[{query.every ? bucket_start_ms(*query.every, time_ms) : 0, std::move(group)}];
    UsageTotals one;
    count(one);
    if (line != nullptr && line->status != AttemptStatus::ok && !asks(UsageDimension::status)) {
      one.duration = {};
      one.first_event = {};
    }
    row += one;
  }
  void add_for_labels(std::int64_t time_ms, const Reservation& who, const AttemptLine* line,
                      const std::function<void(UsageTotals&)>& count) {
    if (asks(UsageDimension::session) && who.session.empty()) return;
    if (!asks(UsageDimension::tag)) return add(time_ms, who, line, "", count);
    std::map<std::string, int> tags;
    for (const std::string& tag : who.tags) tags[tag] = 1;
    for (const auto& [tag, one] : tags) add(time_ms, who, line, tag, count);
  }
};

inline Naive::Rows naive_usage(const LedgerView& view, const UsageQuery& query) {
  Naive naive{query, {}};
  std::map<RequestId, Reservation> requests;
  REQUIRE(read_entries(view, 0, [&](const StoredEntry& entry) {
    const std::int64_t time_ms = entry.header.time_ms;
    if (const auto* reservation = std::get_if<Reservation>(&entry.body)) {
      requests[reservation->request_id] = *reservation;
    } else if (const auto* attempt = std::get_if<AttemptLine>(&entry.body)) {
      naive.add_for_labels(time_ms, requests[attempt->request_id], attempt,
                           [attempt](UsageTotals& row) { add_attempt(row, *attempt); });
    } else if (const auto* settled = std::get_if<proto::Settled>(&entry.body)) {
      const AttemptLine& line = settled->settlement.attempt;
      naive.add_for_labels(time_ms, requests[line.request_id], &line, [&](UsageTotals& row) {
        row.requests = 1;
        row.unpriced = line.price_known ? 0 : 1;
        row.estimated = line.estimated() ? 1 : 0;
        row.overrun = settled->overrun;
        add_attempt(row, line);
      });
    } else if (const auto* voided = std::get_if<proto::Voided>(&entry.body)) {
      naive.add_for_labels(time_ms, requests[voided->reservation.request_id], nullptr,
                           [voided](UsageTotals& row) {
                             row.requests = 1;
                             row.overrun = voided->overrun;
                           });
    }
    return true;
  }));
  return naive.rows;
}

inline void require_same(const LedgerView& view, const UsageQuery& query) {
  const Result<UsageReport> report = usage_of(view, query);
  REQUIRE(report);
  Naive::Rows rows;
  UsageTotals total;
  for (const UsageRow& row : report->rows) {
    rows[{row.start_ms, row.group}] = row.totals;
    total += row.totals;
  }
  REQUIRE(rows.size() == report->rows.size());
  REQUIRE(rows == naive_usage(view, query));
  REQUIRE(total == report->total);
}

inline UsageQuery random_query(Random& random, std::int64_t start_ms, std::int64_t now_ms) {
  UsageQuery query;
  const auto label = random.below(2) == 0 ? UsageDimension::tag : UsageDimension::session;
  for (std::uint64_t i = random.below(3); i > 0; --i) {
    const auto dimension =
        static_cast<UsageDimension>(random.below(std::size(usage_dimension_names) - 1));
    query.by.push_back(dimension == UsageDimension::tag ? label : dimension);
  }
  const auto span = static_cast<std::uint64_t>(now_ms - start_ms + 2 * day_ms);
  const auto moment = [&] {
    return start_ms - day_ms + static_cast<std::int64_t>(random.below(span));
  };
  if (random.below(2) == 0) query.since_ms = moment();
  if (random.below(2) == 0) query.until_ms = moment();
  if (random.below(2) == 0) query.every = static_cast<UsageEvery>(random.below(4));
  if (random.below(3) == 0) query.where.push_back({UsageDimension::provider, "beta"});
  if (random.below(3) == 0) query.where.push_back({UsageDimension::route, "smart"});
  if (random.below(5) == 0) query.where.push_back({UsageDimension::route, "fast"});
  if (random.below(5) == 0) query.where.push_back({UsageDimension::status, "ok"});
  if (random.below(5) == 0)
    query.where.push_back({label, label == UsageDimension::tag ? "b" : "run1"});
  return query;
}

}  // namespace outlast::storage
