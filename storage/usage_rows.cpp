#include "storage/usage_rows.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <limits>

namespace outlast::storage {
namespace {

static_assert(std::endian::native == std::endian::little);

// The counts and amounts that every row begins with.
struct Fixed {
  std::array<std::uint64_t, 5> counts;
  std::array<std::uint64_t, 4> amounts;  // halves of two 128-bit numbers
  std::array<std::uint64_t, usage_bucket_count> tokens;
};
static_assert(sizeof(Fixed) == rollup_bytes_without_latency);

constexpr std::size_t bucket_bytes = 1 + sizeof(std::uint32_t);

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
bool take(std::string_view& bytes, T& value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return true;
}

void put_counts(std::string& out, const Latency& latency) {
  const auto used =
      static_cast<std::uint8_t>(std::count_if(latency.counts.begin(), latency.counts.end(),
                                              [](std::uint32_t count) { return count != 0; }));
  put(out, used);
  for (std::size_t i = 0; i < latency.counts.size(); ++i) {
    if (latency.counts[i] == 0) continue;
    put(out, static_cast<std::uint8_t>(i));
    put(out, latency.counts[i]);
  }
}

bool take_counts(std::string_view& bytes, Latency& latency) {
  std::uint8_t used = 0;
  if (!take(bytes, used) || bytes.size() < used * bucket_bytes) return false;
  int last = -1;
  for (; used > 0; --used) {
    std::uint8_t bucket = 0;
    std::uint32_t count = 0;
    if (!take(bytes, bucket) || !take(bytes, count)) return false;
    if (bucket <= last || bucket >= latency_bucket_count || count == 0) return false;
    last = bucket;
    std::uint32_t& into = latency.counts[bucket];
    if (__builtin_add_overflow(into, count, &into))
      into = std::numeric_limits<std::uint32_t>::max();
  }
  return true;
}

// Adds to both; their bytes end with it.
bool take_latency(std::string_view bytes, Latency& duration, Latency& first_event) {
  std::uint64_t duration_sum = 0;
  std::uint64_t first_event_sum = 0;
  if (!take(bytes, duration_sum) || !take(bytes, first_event_sum)) return false;
  duration.sum_ms += duration_sum;
  first_event.sum_ms += first_event_sum;
  return take_counts(bytes, duration) && take_counts(bytes, first_event) && bytes.empty();
}

void add(std::uint64_t& sum, std::uint64_t value) {
  if (__builtin_add_overflow(sum, value, &sum)) sum = std::numeric_limits<std::uint64_t>::max();
}

__int128 amount_of(std::uint64_t low, std::uint64_t high) {
  return static_cast<__int128>(static_cast<unsigned __int128>(high) << 64 | low);
}

}  // namespace

std::uint32_t month_of_day(std::uint32_t day) {
  using namespace std::chrono;
  const year_month_day date{sys_days{days{day}}};
  return static_cast<std::uint32_t>((static_cast<int>(date.year()) - 1970) * 12) +
         static_cast<unsigned>(date.month()) - 1;
}

std::uint32_t first_day_of_month(std::uint32_t month) {
  using namespace std::chrono;
  const year_month_day date{year{1970 + static_cast<int>(month / 12)},
                            std::chrono::month{month % 12 + 1}, day{1}};
  return static_cast<std::uint32_t>(sys_days{date}.time_since_epoch().count());
}

RollupPlace rollup_place(RollupKind kind, RollupPeriod period) {
  // By kind, then by period.
  static constexpr std::string_view prefixes[][3] = {
      {"", "md", "mm"}, {"th", "td", "tm"}, {"sh", "sd", "sm"}};
  const std::string_view prefix =
      prefixes[static_cast<std::size_t>(kind)][static_cast<std::size_t>(period)];
  return {prefix.empty() ? Table::rollup : Table::usage, prefix};
}

void encode_rollup_key(std::string& out, RollupKind kind, RollupPeriod period,
                       const RollupKey& names, std::string_view label) {
  out += rollup_place(kind, period).prefix;
  encode(out, names);
  out += label;
}

bool decode_rollup_key(std::string_view bytes, RollupKey& names, std::string_view& label) {
  if (bytes.size() < sizeof(names.hour)) return false;
  std::memcpy(&names.hour, bytes.data(), sizeof(names.hour));
  names.hour = __builtin_bswap32(names.hour);
  bytes.remove_prefix(sizeof(names.hour));
  for (std::string_view* text : {&names.organisation, &names.team, &names.user, &names.key_id,
                                 &names.route, &names.model, &names.provider, &names.deployment}) {
    std::uint16_t size = 0;
    if (!take(bytes, size) || bytes.size() < size) return false;
    *text = bytes.substr(0, size);
    bytes.remove_prefix(size);
  }
  if (!take(bytes, names.status)) return false;
  label = bytes;
  return true;
}

void encode(std::string& out, const UsageTotals& row) {
  for (const std::uint64_t count :
       {row.requests, row.attempts, row.failed_attempts, row.unpriced, row.estimated}) {
    put(out, count);
  }
  put(out, row.cost.value);
  put(out, row.overrun.value);
  put(out, row.tokens);
  put(out, row.duration.sum_ms);
  put(out, row.first_event.sum_ms);
  put_counts(out, row.duration);
  put_counts(out, row.first_event);
}

bool add_rollup(std::string_view bytes, bool latency, UsageTotals& sum) {
  Fixed fixed;
  if (!take(bytes, fixed)) return false;
  sum.requests += fixed.counts[0];
  sum.attempts += fixed.counts[1];
  sum.failed_attempts += fixed.counts[2];
  sum.unpriced += fixed.counts[3];
  sum.estimated += fixed.counts[4];
  sum.cost.value += amount_of(fixed.amounts[0], fixed.amounts[1]);
  sum.overrun.value += amount_of(fixed.amounts[2], fixed.amounts[3]);
  for (std::size_t i = 0; i < usage_bucket_count; ++i) add(sum.tokens[i], fixed.tokens[i]);
  return bytes.empty() || !latency || take_latency(bytes, sum.duration, sum.first_event);
}

bool decode(std::string_view bytes, UsageTotals& row) {
  row = {};
  return add_rollup(bytes, true, row);
}

bool same_rollup(std::string_view stored, std::string_view recomputed) {
  if (stored.size() != rollup_bytes_without_latency) return stored == recomputed;
  return stored == recomputed.substr(0, rollup_bytes_without_latency);
}

bool FoldedRollups::holds(std::uint32_t of_hour, RollupKind of_kind,
                          std::string_view of_key) const {
  if (of_hour != hour) return of_hour < hour;
  if (of_kind != kind) return of_kind < kind;
  return of_key <= key;
}

Result<FoldedRollups> load_folded(const LedgerView& view) {
  std::string value;
  const Result<bool> found = view.get(Table::usage, folded_key, value);
  if (!found) return fail(found.error());
  FoldedRollups folded;
  if (!*found) return folded;
  std::string_view bytes = value;
  std::uint8_t kind = 0;
  if (!take(bytes, folded.hour) || !take(bytes, kind) || kind >= std::size(rollup_kinds)) {
    return fail(LedgerError::corrupt,
                "the row of folded roll-ups cannot be read; restore the data from a copy");
  }
  folded.kind = rollup_kinds[kind];
  folded.key = bytes;
  return folded;
}

std::string encode_folded(const FoldedRollups& folded) {
  std::string value;
  put(value, folded.hour);
  put(value, static_cast<std::uint8_t>(folded.kind));
  return value + folded.key;
}

}  // namespace outlast::storage
