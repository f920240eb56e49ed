#include "cluster/holder_handover.hpp"

#include <algorithm>
#include <limits>

namespace outlast::cluster {
namespace {

constexpr std::int64_t ask_again_ns = std::int64_t{HolderHandover::ask_again_ms} * 1'000'000;

}  // namespace

std::vector<EarlierHolder> earlier_holders(const std::optional<std::vector<Incarnation>>& on_disk,
                                           std::span<const Incarnation> on_record, const Incarnation& me) {
  std::vector<EarlierHolder> earlier;
  std::set<Incarnation> seen{me, Incarnation{}};
  for (const Incarnation& holder : on_disk.value_or(std::vector<Incarnation>())) {
    if (seen.insert(holder).second) earlier.push_back({holder, true, {}});
  }
  for (const Incarnation& holder : on_record) {
    if (seen.insert(holder).second) earlier.push_back({holder, false, {}});
  }
  return earlier;
}

HolderHandover::HolderHandover(std::vector<EarlierHolder> earlier, std::span<const ShardId> shards,
                               const Incarnation& me, const Clock& clock)
    : clock_(clock) {
  for (EarlierHolder& holder : earlier) {
    for (const ShardId shard : shards) {
      StreamOptions options;
      options.shard = shard;
      options.holder = holder.holder;
      options.speaker = me;
      options.has_spool = false;  // it is in the old one's
      Part& part = parts_[{holder.holder, shard}];
      part.known = holder.known;
      part.stream = std::make_unique<ShardStream>(options, clock_);
      if (const auto spool = holder.spools.find(shard); spool != holder.spools.end())
        part.stream->replay(std::move(spool->second));
    }
  }
}

void HolderHandover::connected(ShardId shard, const std::string& node, std::uint64_t epoch) {
  owners_[shard] = {node, epoch};
  for (auto& [key, part] : parts_) {
    if (key.second != shard) continue;
    part.stream->connected(node, epoch);
    part.asked_ns = 0;
  }
}

void HolderHandover::disconnected(ShardId shard) {
  owners_.erase(shard);
  for (auto& [key, part] : parts_) {
    if (key.second == shard) part.stream->disconnected();
  }
}

void HolderHandover::receive(const std::string& node, const shard::Message& message) {
  const auto* const ended = std::get_if<shard::HolderEnded>(&message.body);
  if (ended == nullptr) {
    for (auto& [key, part] : parts_) {
      if (key.second == message.shard) part.stream->receive(node, message);
    }
    return;
  }
  const auto at = parts_.find({ended->holder, message.shard});
  // It is asked for only when its spool is through.
  if (at == parts_.end() || at->second.stream->size() > 0) return;
  parts_.erase(at);
  const auto other = parts_.lower_bound({ended->holder, 0});
  if (other == parts_.end() || other->first.first != ended->holder) effects_.emplace_back(HolderDone{ended->holder});
}

void HolderHandover::tick() {
  for (auto& [key, part] : parts_) run(key, part);
}

void HolderHandover::run(const std::pair<Incarnation, ShardId>& key, Part& part) {
  part.stream->tick();
  for (StreamEffect& effect : part.stream->take_effects()) {
    if (auto* send = std::get_if<SendToOwner>(&effect)) {
      effects_.emplace_back(SendToNode{std::move(send->node), std::move(send->message)});
    } else if (auto* refused = std::get_if<OperationRefused>(&effect)) {
      effects_.emplace_back(ReplayRefused{key.first, key.second, std::move(*refused)});
    }
  }
  const auto owner = owners_.find(key.second);
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (owner == owners_.end() || part.stream->size() > 0) return;
  if (part.asked_ns != 0 && now_ns - part.asked_ns < ask_again_ns) return;
  part.asked_ns = now_ns;
  const char* const why = part.known ? "its node started again" : "its node's disk was lost";
  effects_.emplace_back(SendToNode{owner->second.node, shard::Message{key.second, owner->second.epoch,
                                                                      shard::EndHolder{key.first, !part.known, why}}});
}

std::int64_t HolderHandover::next_wake_ns() const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  for (const auto& [key, part] : parts_) {
    next = std::min(next, part.stream->next_wake_ns());
    if (part.stream->size() == 0 && owners_.contains(key.second))
      next = std::min(next, part.asked_ns == 0 ? clock_.monotonic_ns() : part.asked_ns + ask_again_ns);
  }
  return next;
}

std::vector<HandoverEffect> HolderHandover::take_effects() { return std::exchange(effects_, {}); }

}  // namespace outlast::cluster
