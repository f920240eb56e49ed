#include "cluster/peer_session.hpp"

#include <algorithm>
#include <utility>

#include "cluster/durations.hpp"
#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

static_assert(peer::channel_count == channel_count);

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr const char* channel_names[channel_count] = {"control", "ledger", "stream"};

bool all(const std::array<bool, channel_count>& flags) { return std::ranges::find(flags, false) == flags.end(); }

Failure lie(const char* what) { return fail(FrameError::malformed, what); }

}  // namespace

SessionNumbers::SessionNumbers(const Incarnation& incarnation) : last_(0) {
  for (std::size_t i = 8; i < 16; ++i) last_ = last_ << 8 | incarnation.bytes[i];
}

PeerSession::PeerSession(PeerSessionOptions options, SessionNumbers& numbers, const PeerHandlers& handlers,
                         PeerCounters& counters, std::int64_t now_ns)
    : options_(std::move(options)),
      numbers_(numbers),
      handlers_(handlers),
      counters_(counters),
      session_(numbers.next()),
      next_hello_ns_(now_ns),
      last_tick_ns_(now_ns) {
  tick(now_ns);
}

// ---- what is heard

bool PeerSession::in_session(const peer::Message& message) const {
  return remote_ && !remote_->ended && message.from == remote_->session && message.to == session_;
}

Result<void> PeerSession::receive(peer::Message message, std::int64_t now_ns) {
  if (over_) return {};
  if (auto* hello = std::get_if<peer::Hello>(&message.body)) return on_hello(message.from, std::move(*hello), now_ns);
  if (const auto* goodbye = std::get_if<peer::Goodbye>(&message.body)) {
    on_goodbye(message, goodbye->reason);
    return {};
  }
  if (!in_session(message)) return {};
  if (const auto* welcome = std::get_if<peer::Welcome>(&message.body)) {
    if (welcome->version != remote_->version) return lie("a welcome of another version than was agreed on");
    last_heard_ns_[welcome->channel] = now_ns;
    welcomed_[welcome->channel] = true;
    up_if_complete(now_ns);
    return {};
  }
  if (!up_) go_up(now_ns);
  if (auto* data = std::get_if<peer::Data>(&message.body)) {
    last_heard_ns_[data->channel] = now_ns;
    return on_data(std::move(*data));
  }
  const auto& heartbeat = std::get<peer::Heartbeat>(message.body);
  last_heard_ns_[heartbeat.channel] = now_ns;
  return on_heartbeat(heartbeat);
}

bool PeerSession::hello_allowed(std::int64_t now_ns) {
  if (now_ns - hello_second_ns_ >= second_ns) {
    hello_second_ns_ = now_ns;
    hellos_this_second_ = 0;
  }
  return ++hellos_this_second_ <= options_.limits.hellos_per_s_max;
}

std::string PeerSession::refusal_of(const peer::Hello& hello) const {
  if (hello.node != options_.peer) return "the key belongs to " + options_.peer + " and not to " + hello.node;
  if (hello.cluster != options_.cluster) {
    return "this node is of cluster " + options_.cluster + " and the other of " + hello.cluster;
  }
  if (hello.version_min > hello.version_max || hello.version_min > options_.version_max ||
      hello.version_max < options_.version_min) {
    return "this node speaks versions " + std::to_string(options_.version_min) + " to " +
           std::to_string(options_.version_max) + " of the link, the other " + std::to_string(hello.version_min) +
           " to " + std::to_string(hello.version_max);
  }
  return {};
}

void PeerSession::refuse(std::uint64_t from, std::uint8_t channel, std::string reason) {
  ++counters_.hellos_refused;
  if (reason != last_refusal_) log::warning("peer.refused", {{"node", options_.peer}, {"reason", reason}});
  last_refusal_ = reason;
  refusals_[channel] = Refusal{from, std::move(reason)};
}

Result<void> PeerSession::on_hello(std::uint64_t from, peer::Hello hello, std::int64_t now_ns) {
  if (!hello_allowed(now_ns)) {
    ++counters_.hellos_refused;
    return {};
  }
  if (auto reason = refusal_of(hello); !reason.empty()) {
    refuse(from, hello.channel, std::move(reason));
    return {};
  }
  if (is_news(from, hello.incarnation)) {
    if (up_) {
      go_down(hello.incarnation == remote_->incarnation ? "the node began the link anew" : "a new process of the node");
    }
    meet(from, hello);
  } else if (up_ && hello.incarnation != remote_->incarnation) {
    refuse(from, hello.channel, "another process of the node is linked, which began later; two must not run with one identity");
    return {};
  }
  if (remote_->session != from || remote_->incarnation != hello.incarnation || remote_->ended) return {};
  heard_[hello.channel] = true;
  welcome_due_[hello.channel] = true;
  up_if_complete(now_ns);
  return {};
}

bool PeerSession::is_news(std::uint64_t from, const Incarnation& incarnation) const {
  if (!remote_) return true;
  if (incarnation == remote_->incarnation) return static_cast<std::int64_t>(from - remote_->session) > 0;
  // A process that ended may have left hellos behind; or it lives, and the one that took its place has gone.
  return !up_ || std::ranges::find(ended_incarnations_, incarnation) == ended_incarnations_.end();
}

// Takes the other end's new number; this node says hello at once, so that nothing waits for the next interval.
void PeerSession::meet(std::uint64_t from, const peer::Hello& hello) {
  if (remote_ && remote_->incarnation != hello.incarnation) {
    std::erase(ended_incarnations_, hello.incarnation);
    if (ended_incarnations_.size() == ended_incarnations_max) ended_incarnations_.erase(ended_incarnations_.begin());
    ended_incarnations_.push_back(remote_->incarnation);
  }
  remote_ = Remote{hello.incarnation, from, std::min(options_.version_max, hello.version_max), hello.frame_bytes_max};
  heard_ = {};
  welcomed_ = {};
  welcome_due_ = {};
  hello_due_.fill(true);
}

void PeerSession::on_goodbye(const peer::Message& message, const std::string& reason) {
  if (message.to != session_) return;
  if (!in_session(message)) {
    if (reason != last_refusal_) log::warning("peer.refuses_us", {{"node", options_.peer}, {"reason", reason}});
    last_refusal_ = reason;
    return;
  }
  remote_->ended = true;
  if (up_) go_down(reason.empty() ? "the node said goodbye" : reason);
}

Result<void> PeerSession::on_data(peer::Data data) {
  const auto taken = in_[data.channel].take(data.round, data.first, data.frames.size());
  if (!taken) return lie("a frame's number is further ahead than any queue is long");
  counters_.duplicates += taken->duplicates;
  counters_.frames_received += taken->fresh;
  unreported_frames_ += taken->fresh;
  for (std::size_t i = taken->duplicates; i < taken->duplicates + taken->fresh; ++i) {
    unreported_bytes_ += data.frames[i]->size();
  }
  const bool lost = in_[data.channel].ack().lost_round >= data.round;
  ack_due_ = ack_due_ || data.ack_wanted || lost || unreported_frames_ >= unreported_frames_max ||
             unreported_bytes_ >= unreported_bytes_max;
  if (auto acks = on_acks(data.acks); !acks) return acks;
  const auto channel = static_cast<Channel>(data.channel);
  for (std::size_t i = taken->duplicates; i < taken->duplicates + taken->fresh; ++i) {
    handlers_.on_frame(peer_, channel, std::move(data.frames[i]));
  }
  return {};
}

Result<void> PeerSession::on_heartbeat(const peer::Heartbeat& heartbeat) {
  if (!in_[heartbeat.channel].sent_until(heartbeat.round, heartbeat.next)) {
    return lie("a frame's number is further ahead than any queue is long");
  }
  if (in_[heartbeat.channel].ack().lost_round >= heartbeat.round) ack_due_ = true;
  return on_acks(heartbeat.acks);
}

Result<void> PeerSession::on_acks(const peer::Acks& acks) {
  for (std::size_t i = 0; i < channel_count; ++i) {
    if (!out_[i].acknowledge(acks[i])) return lie("an acknowledgement of what was never sent");
  }
  return {};
}

// ---- up and down

void PeerSession::up_if_complete(std::int64_t now_ns) {
  if (!up_ && all(heard_) && all(welcomed_)) go_up(now_ns);
}

void PeerSession::go_up(std::int64_t now_ns) {
  up_ = true;
  last_refusal_.clear();
  last_heard_ns_.fill(now_ns);
  hello_due_ = {};
  heartbeat_due_.fill(true);  // which brings the other node up, should it lack a welcome
  peer_ = Peer{options_.peer, remote_->incarnation, remote_->version};
  ++counters_.peers_up;
  handlers_.on_up(peer_);
}

void PeerSession::go_down(const std::string& why) {
  up_ = false;
  session_ = numbers_.next();
  out_ = {};
  in_ = {};
  unreported_frames_ = unreported_bytes_ = 0;
  ack_due_ = false;
  heard_ = welcomed_ = welcome_due_ = heartbeat_due_ = {};
  hello_due_.fill(true);
  --counters_.peers_up;
  handlers_.on_down(peer_, why);
}

void PeerSession::end(const std::string& why) {
  if (over_) return;
  const std::uint64_t ended = session_;
  if (up_) go_down(why);
  session_ = ended;  // which the goodbye is from
  over_ = true;
  hello_due_ = welcome_due_ = {};
  refusals_ = {};
  if (remote_ && !remote_->ended) refusals_[index(Channel::control)] = Refusal{remote_->session, why};
}

void PeerSession::tick(std::int64_t now_ns) {
  if (over_) return;
  const std::int64_t heartbeat_ns = ns_of(options_.limits.heartbeat_ms);
  const std::int64_t since_tick_ns = now_ns - std::exchange(last_tick_ns_, now_ns);
  if (since_tick_ns > heartbeat_ns) {
    for (std::int64_t& heard_ns : last_heard_ns_) heard_ns = std::min(heard_ns + since_tick_ns, now_ns);
  }
  if (!up_) {
    if (now_ns < next_hello_ns_) return;
    next_hello_ns_ = now_ns + std::min(ns_of(hello_interval_ms_max), heartbeat_ns);
    hello_due_.fill(true);
    return;
  }
  for (std::size_t i = 0; i < channel_count; ++i) {
    if (now_ns - last_sent_ns_[i] >= heartbeat_ns) heartbeat_due_[i] = true;
  }
  for (std::size_t i = 0; i < channel_count; ++i) {
    if (now_ns - last_heard_ns_[i] <= ns_of(options_.limits.silence_ms_max)) continue;
    return go_down(std::string("nothing was heard on ") + channel_names[i] + " for " +
                   std::to_string(options_.limits.silence_ms_max) + " ms");
  }
}

// ---- what is sent

Result<void> PeerSession::queue(Channel channel, FramePtr frame) {
  check(up_, "frames are queued while a session is up");
  SendChannel& out = out_[index(channel)];
  if (out.frames() >= options_.limits.queue_frames_max ||
      out.bytes() + frame->size() > options_.limits.queue_bytes_max) {
    ++counters_.overloaded;
    return fail(LinkError::overloaded, "the queue to " + options_.peer + " is full");
  }
  out.queue(std::move(frame));
  return {};
}

std::size_t PeerSession::frame_bytes_max() const {
  return std::min<std::size_t>(options_.limits.frame_bytes_max, remote_ ? remote_->frame_bytes_max : 0);
}

bool PeerSession::has_output(Channel channel) const {
  const std::size_t i = index(channel);
  return refusals_[i] || hello_due_[i] || welcome_due_[i] || (up_ && (out_[i].has_unsent() || heartbeat_due_[i]));
}

peer::Message PeerSession::next(Channel channel, std::int64_t now_ns) {
  const std::size_t i = index(channel);
  check(has_output(channel), "there is something to send");
  last_sent_ns_[i] = now_ns;
  if (refusals_[i]) {
    const Refusal refusal = *std::exchange(refusals_[i], std::nullopt);
    return {session_, refusal.to, peer::Goodbye{refusal.reason}};
  }
  const std::uint64_t to = remote_ ? remote_->session : 0;
  if (std::exchange(hello_due_[i], false)) {
    return {session_, to,
            peer::Hello{options_.cluster, options_.node, options_.incarnation, options_.version_min,
                        options_.version_max, static_cast<std::uint8_t>(i),
                        static_cast<std::uint32_t>(options_.limits.frame_bytes_max)}};
  }
  if (std::exchange(welcome_due_[i], false)) {
    return {session_, to, peer::Welcome{remote_->version, static_cast<std::uint8_t>(i)}};
  }
  return out_[i].has_unsent() ? data_of(i) : heartbeat_of(i);
}

peer::Message PeerSession::ack_message(std::int64_t now_ns) {
  last_sent_ns_[index(Channel::control)] = now_ns;
  return heartbeat_of(index(Channel::control));
}

peer::Message PeerSession::data_of(std::size_t channel) {
  SendChannel& out = out_[channel];
  const std::uint64_t resent_before = out.resent();
  peer::Data data = out.take();
  const std::uint64_t resent = out.resent() - resent_before;
  counters_.frames_resent += resent;
  counters_.frames_sent += data.frames.size() - resent;
  data.channel = static_cast<std::uint8_t>(channel);
  data.ack_wanted = out.frames() > options_.limits.queue_frames_max / 2 ||
                    out.bytes() > options_.limits.queue_bytes_max / 2;
  data.acks = acks();
  heartbeat_due_[channel] = false;
  return {session_, remote_->session, std::move(data)};
}

peer::Message PeerSession::heartbeat_of(std::size_t channel) {
  heartbeat_due_[channel] = false;
  return {session_, remote_->session,
          peer::Heartbeat{static_cast<std::uint8_t>(channel), out_[channel].round(), out_[channel].next(), acks()}};
}

peer::Acks PeerSession::acks() {
  ack_due_ = false;
  unreported_frames_ = unreported_bytes_ = 0;
  peer::Acks acks;
  for (std::size_t i = 0; i < channel_count; ++i) acks[i] = in_[i].ack();
  return acks;
}

void PeerSession::on_writable(Channel channel) {
  if (over_) return;
  (up_ ? heartbeat_due_ : hello_due_)[index(channel)] = true;
}

}  // namespace outlast::cluster
