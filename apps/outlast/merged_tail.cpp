#include "apps/outlast/merged_tail.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {

Result<std::string> MergedTail::newest(const std::vector<std::string>& shards, std::uint64_t count) {
  for (const std::string& shard : shards) {
    const auto entries = source_.entries(shard);
    if (!entries) return fail(entries.error());
    places_.push_back({shard, *entries - std::min(*entries, count)});
    if (const auto read = read_on(places_.back(), count); !read) return fail(read.error());
    sort();
    if (lines_.size() > count) lines_.erase(lines_.begin(), lines_.end() - static_cast<std::ptrdiff_t>(count));
  }
  return take_lines();
}

Result<MergedTail::News> MergedTail::next(bool look) {
  News news;
  const std::uint64_t limit = std::max<std::uint64_t>(page_ / std::max<std::size_t>(places_.size(), 1), 1);
  std::optional<Error> wrong;
  for (Place& place : places_) {
    if (!place.is_here) continue;
    const auto read = read_on(place, limit);
    if (!read) wrong = read.error();
    else news.more = news.more || *read == limit;
  }
  sort();
  news.lines = take_lines();
  if (!look && !wrong) return news;
  auto changes = look_again();
  if (!changes) return fail(std::move(changes.error()));
  if (wrong && changes->empty()) return fail(std::move(*wrong));
  news.changes = std::move(*changes);
  return news;
}

Result<std::vector<std::string>> MergedTail::look_again() {
  const auto shards = source_.shards();
  if (!shards) return fail(shards.error());
  std::vector<std::string> changes;
  for (const LedgerShards::Elsewhere& elsewhere : shards->elsewhere) {
    const auto place = place_of(elsewhere.shard);
    if (place == places_.end() || !std::exchange(place->is_here, false)) continue;
    changes.push_back("no longer at this node: " + words_of(elsewhere));
  }
  for (const std::string& shard : shards->here) {
    auto place = place_of(shard);
    if (place != places_.end() && place->is_here) continue;
    if (place == places_.end()) {
      const auto entries = source_.entries(shard);
      if (!entries) return fail(entries.error());
      place = places_.insert(places_.end(), {shard, *entries});
    }
    place->is_here = true;
    changes.push_back("shard " + printable(shard) + " is at this node now; shown from entry " + std::to_string(place->next) + " on");
  }
  return changes;
}

Result<std::uint64_t> MergedTail::read_on(Place& place, std::uint64_t limit) {
  const auto read = source_.read(place.shard, place.next, limit, [this](std::string_view line) {
    const Json entry = Json::parse(line, nullptr, false);
    const Json& time = member_of(entry, "time_ms");
    lines_.push_back({time.is_number_integer() ? time.get<std::int64_t>() : 0, line_of_(line)});
  });
  if (read) place.next += *read;
  return read;
}

std::vector<MergedTail::Place>::iterator MergedTail::place_of(const std::string& shard) {
  return std::find_if(places_.begin(), places_.end(), [&shard](const Place& place) { return place.shard == shard; });
}

// Within a shard times never go back, so its entries stay in their order.
void MergedTail::sort() {
  std::stable_sort(lines_.begin(), lines_.end(), [](const Line& a, const Line& b) { return a.time_ms < b.time_ms; });
}

std::string MergedTail::take_lines() {
  std::string text;
  for (const Line& line : std::exchange(lines_, {})) text += line.text;
  return text;
}

}  // namespace outlast::apps
