// The links of a client's session: connecting, losing, and following the list of nodes.
#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/client_session.hpp"
#include "core/check.hpp"

namespace outlast::cluster {

using link::ErrorKind;

void ClientSession::connected(std::size_t endpoint, std::uint64_t connection) {
  SessionLink& link = links_.at(endpoint).link;
  if (link.connection() != connection || link.state() != SessionLink::State::connecting) return;
  link.greeting();
  send(endpoint, link::Hello{link::protocol_version, options_.virtual_key, options_.client_name, options_.incarnation});
}

void ClientSession::disconnected(std::size_t endpoint, std::uint64_t connection, std::string reason) {
  const auto found = links_.find(endpoint);
  if (found == links_.end() || found->second.link.connection() != connection || connection == 0) return;
  lose(endpoint, std::move(reason));
}

void ClientSession::lose(std::size_t endpoint, std::string reason, std::optional<ChatFailure> rejection,
                         std::uint32_t wait_ms) {
  SessionLink& link = links_.at(endpoint).link;
  effects_.emplace_back(Disconnect{endpoint});
  nodes_.forget(endpoint);
  list_changed_ = true;
  const std::set<std::uint64_t> orphans = std::exchange(link.requests, {});
  link.lost(reason, std::move(rejection), wait_ms, clock_.monotonic_ns(), random_);
  for (const std::uint64_t id : orphans) {
    Request& request = *requests_.at(id);
    if (request.has_content) {
      request.endpoint.reset();
      end(request, ChatFailure{ErrorKind::link_lost, "the link to the node was lost in mid-answer: " + reason, false, 0});
    } else {
      send_again(request);
    }
  }
  fail_hopeless();
}

void ClientSession::drop_if_drained(std::size_t endpoint) {
  const Target& target = links_.at(endpoint);
  const SessionLink& link = target.link;
  if (!target.wanted || target.draining) list_changed_ = true;
  if (link.connection() != 0 && link.is_draining() && link.requests.empty()) lose(endpoint, "the node is draining");
}

void ClientSession::send(std::size_t endpoint, const link::ClientMessage& message) {
  auto frame = link::encode(message);
  check(frame.has_value(), "what the session itself says is small");
  effects_.emplace_back(SendFrame{endpoint, std::move(*frame)});
}

void ClientSession::tick() {
  if (shut_down_) return;
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto& [endpoint, target] : links_) {
    SessionLink& link = target.link;
    if (parked(target)) continue;
    switch (link.due(now_ns)) {
      case SessionLink::Due::nothing:
        break;
      case SessionLink::Due::connect:
        link.connecting(++last_connection_, now_ns);
        effects_.emplace_back(Connect{endpoint, last_connection_, target.endpoint});
        break;
      case SessionLink::Due::ping:
        send(endpoint, link::Ping{++last_ping_});
        break;
      case SessionLink::Due::give_up:
        lose(endpoint, link.state() == SessionLink::State::ready ? "the node has been silent for too long"
                       : link.state() == SessionLink::State::greeting
                           ? "the node did not answer the hello in time"
                           : "no connection in time; is the address right and the server key that of the node?");
        break;
    }
  }
  while (!timers_.empty() && timers_.begin()->first <= now_ns) on_time(*requests_.at(timers_.begin()->second));
}

std::int64_t ClientSession::next_wake_ns() const {
  std::int64_t next = timers_.empty() ? std::numeric_limits<std::int64_t>::max() : timers_.begin()->first;
  for (const auto& [endpoint, target] : links_) {
    if (!parked(target)) next = std::min(next, target.link.next_wake_ns());
  }
  return next;
}

std::vector<Effect> ClientSession::take_effects() {
  if (std::exchange(list_changed_, false) && !shut_down_) follow_list();
  return std::exchange(effects_, {});
}

// ---- the list of nodes

bool ClientSession::others_take_requests() const {
  return std::any_of(links_.begin(), links_.end(), [](const auto& item) {
    const Target& target = item.second;
    return target.wanted && !target.draining && target.link.takes_requests();
  });
}

// A node that drains is not connected to while another takes requests.
bool ClientSession::parked(const Target& target) const {
  return target.draining && target.link.connection() == 0 && others_take_requests();
}

// A seed reaches the same node by another address.
bool ClientSession::covered(const Endpoint& learned) const {
  return std::any_of(links_.begin(), links_.end(), [&learned](const auto& item) {
    const Target& target = item.second;
    return target.seed && target.endpoint.server_key == learned.server_key &&
           target.link.state() == SessionLink::State::ready;
  });
}

void ClientSession::follow_list() {
  nodes_.settle();
  std::vector<Endpoint> chosen = nodes_.chosen();
  std::erase_if(chosen, [this](const Endpoint& endpoint) { return covered(endpoint); });
  for (auto& [endpoint, target] : links_) {
    const auto* entry = nodes_.find(target.endpoint.server_key, target.seed ? std::string() : target.endpoint.address);
    target.draining = entry != nullptr && entry->draining;
    if (target.seed) continue;
    const auto found = std::find(chosen.begin(), chosen.end(), target.endpoint);
    target.wanted = found != chosen.end() || target.draining;
    if (found != chosen.end()) chosen.erase(found);
  }
  for (Endpoint& endpoint : chosen) links_.try_emplace(next_link_++, std::move(endpoint), false, options_.times);
  drop_idle(others_take_requests());
  dispatch_queued();
  fail_hopeless();
}

void ClientSession::drop_idle(bool others_take_requests) {
  for (auto i = links_.begin(); i != links_.end();) {
    const std::size_t endpoint = i->first;
    Target& target = i->second;
    const bool drained = target.draining && others_take_requests;
    if (!target.link.requests.empty() || (target.wanted && !drained)) {
      ++i;
      continue;
    }
    nodes_.forget(endpoint);
    if (target.link.connection() != 0) {
      effects_.emplace_back(Disconnect{endpoint});
      if (target.seed) target.link.lost("the node is draining", std::nullopt, 0, clock_.monotonic_ns(), random_);
    }
    i = target.seed ? std::next(i) : links_.erase(i);
  }
}

}  // namespace outlast::cluster
