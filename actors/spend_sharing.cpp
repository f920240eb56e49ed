#include "actors/spend_sharing.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace outlast::actors {
namespace {

std::uint32_t ms_between(std::int64_t from_ms, std::int64_t to_ms) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(to_ms - from_ms, 0, std::numeric_limits<std::uint32_t>::max()));
}

ask::SpendItem item_of(gateway::SpendEvent event, std::int64_t now_ms) {
  ask::SpendItem item;
  item.key = std::move(event.key);
  item.tags = std::move(event.tags);
  item.session = std::move(event.session);
  item.provider = std::move(event.provider);
  item.model = std::move(event.model);
  item.conversation = event.conversation;
  item.request = event.request;
  item.cost = event.cost;
  item.age_ms = ms_between(event.time_ms, now_ms);
  item.duration_ms = ms_between(event.started_ms, event.time_ms);
  item.ended = event.ended;
  return item;
}

gateway::SpendEvent event_of(ask::SpendItem item, std::int64_t now_ms) {
  gateway::SpendEvent event;
  event.key = std::move(item.key);
  event.tags = std::move(item.tags);
  event.session = std::move(item.session);
  event.conversation = item.conversation;
  event.request = item.request;
  event.provider = std::move(item.provider);
  event.model = std::move(item.model);
  event.cost = item.cost;
  event.time_ms = std::max<std::int64_t>(0, now_ms - item.age_ms);
  event.started_ms = std::max<std::int64_t>(0, event.time_ms - item.duration_ms);
  event.ended = item.ended;
  return event;
}

}  // namespace

void SpendSharing::tell(const std::vector<gateway::SpendEvent>& events) {
  const std::lock_guard lock(mutex_);
  for (const gateway::SpendEvent& event : events) {
    waiting_.push_back(event);
    if (waiting_.size() == batch_events) send();
  }
}

void SpendSharing::tell_delivered(const std::string& delivery) {
  const auto frame = ask::encode(ask::Told{{delivery}});
  if (!frame) return;  // a longer name than any breaker has
  const std::lock_guard lock(mutex_);
  for (const auto& [node, incarnation] : up_) (void)port_.send(node, cluster::Channel::control, *frame);
}

void SpendSharing::tick() {
  const std::lock_guard lock(mutex_);
  if (!waiting_.empty()) send();
}

void SpendSharing::send() {
  const std::size_t count = waiting_.size();
  ask::SpendBatch batch{told_, {}};
  told_ += count;  // what nobody hears has a number too: who hears the next one knows what was lost
  std::vector<gateway::SpendEvent> events = std::exchange(waiting_, {});
  if (up_.empty()) return;
  const std::int64_t now_ms = gateway::spend_time_ms(clock_);
  batch.events.reserve(count);
  for (gateway::SpendEvent& event : events) batch.events.push_back(item_of(std::move(event), now_ms));
  const auto frame = ask::encode(batch);
  for (const auto& [node, incarnation] : up_) {
    const Result<void> sent = frame ? port_.send(node, cluster::Channel::control, *frame) : fail(frame.error());
    if (!sent) counters_.events_untold.fetch_add(count);
  }
}

void SpendSharing::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  up_.clear();
}

void SpendSharing::on_up(const cluster::Peer& peer) {
  const std::lock_guard lock(mutex_);
  if (!ended_) up_[peer.node] = peer.incarnation;
}

void SpendSharing::on_down(const cluster::Peer& peer) {
  const std::lock_guard lock(mutex_);
  const auto found = up_.find(peer.node);
  if (found != up_.end() && found->second == peer.incarnation) up_.erase(found);
}

void SpendSharing::on_spend(const cluster::Peer& peer, ask::SpendBatch batch) {
  const std::uint64_t end = batch.first + batch.events.size();
  if (end <= batch.first) return;  // nothing in it, or a number that cannot be
  std::vector<gateway::SpendEvent> events;
  {
    const std::lock_guard lock(mutex_);
    Heard& heard = heard_.try_emplace(peer.node, Heard{peer.incarnation, batch.first}).first->second;
    if (heard.incarnation != peer.incarnation) heard = {peer.incarnation, batch.first};
    if (end <= heard.next) return;
    if (batch.first > heard.next) counters_.peer_events_missed.fetch_add(batch.first - heard.next);
    const std::size_t known = heard.next > batch.first ? heard.next - batch.first : 0;
    heard.next = end;
    const std::int64_t now_ms = gateway::spend_time_ms(clock_);
    events.reserve(batch.events.size() - known);
    for (std::size_t i = known; i < batch.events.size(); ++i) {
      events.push_back(event_of(std::move(batch.events[i]), now_ms));
    }
  }
  sink_.report(std::move(events));
}

}  // namespace outlast::actors
