#include "gpu/collective/roll.hpp"

#include <algorithm>

#include "core/crypto.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t values_bytes_max = 16U << 20;  // of one generation
constexpr std::size_t questions_max = 65'536;

}  // namespace

Roll::Words Roll::received(Connection from, const RendezvousMessage& message, std::int64_t now_ms) {
  Member* const member = find(from);
  if (member != nullptr) member->heard_ms = now_ms;
  const bool is_current = going_ && message.generation == generation_;
  switch (message.kind) {
    case RendezvousKind::join:
      join(from, message, now_ms);
      break;
    case RendezvousKind::put:
    case RendezvousKind::get:
    case RendezvousKind::leave:
      if (member == nullptr) {
        refuse(from, RendezvousKind::refused, "only a rank of the run may say this");
      } else if (!is_current) {
        words_.push_back({from, {RendezvousKind::ended, message.generation}});
      } else if (message.kind == RendezvousKind::put) {
        put(from, message, now_ms);
      } else if (message.kind == RendezvousKind::get) {
        get(from, message, now_ms);
      } else {
        leave(*member);
      }
      break;
    case RendezvousKind::beat:
      break;
    default:
      throw_out(from, "only the rendezvous may say this", now_ms);
  }
  return take_words();
}

void Roll::join(Connection from, const RendezvousMessage& message, std::int64_t now_ms) {
  if (!constant_time_equal(message.key, options_.run)) return refuse(from, RendezvousKind::refused, "this is another run");
  Member* const member = find(from);
  const std::uint64_t own = member == nullptr ? 0 : generation_;
  if (message.generation != own) {
    return throw_out(from, "it says that it is of generation " + std::to_string(message.generation) + ", and is of " + std::to_string(own), now_ms);
  }
  if (member != nullptr) {
    if (going_) end(now_ms);
    member->joined = true;
  } else if (generation_ == 0 && members_.size() < options_.ranks) {
    members_.push_back({from, now_ms, true, false});
  } else {
    return refuse(from, RendezvousKind::refused, "the run is complete with " + std::to_string(members_.size()) + " ranks, and takes in no more");
  }
  form_if_complete();
}

void Roll::put(Connection from, const RendezvousMessage& message, std::int64_t now_ms) {
  values_bytes_ += message.key.size() + message.value.size();
  if (values_bytes_ > values_bytes_max) return throw_out(from, "the ranks have put more than " + std::to_string(values_bytes_max) + " bytes", now_ms);
  values_[message.key] = message.value;
  std::erase_if(questions_, [this, &message](const Question& question) {
    if (question.key != message.key) return false;
    words_.push_back({question.from, {RendezvousKind::value, generation_, 0, 0, message.key, message.value}});
    return true;
  });
}

void Roll::get(Connection from, const RendezvousMessage& message, std::int64_t now_ms) {
  const auto at = values_.find(message.key);
  if (at != values_.end()) {
    words_.push_back({from, {RendezvousKind::value, generation_, 0, 0, at->first, at->second}});
  } else if (questions_.size() < questions_max) {
    questions_.push_back({from, message.key});
  } else {
    throw_out(from, "the ranks wait for more than " + std::to_string(questions_max) + " values", now_ms);
  }
}

void Roll::leave(Member& member) {
  member.leaving = true;
  if (!std::all_of(members_.begin(), members_.end(), [](const Member& one) { return one.leaving; })) return;
  for (const Member& one : members_) say(one.connection, RendezvousKind::may_leave);
  over_ = true;
}

Roll::Words Roll::closed(Connection connection, std::int64_t now_ms) {
  remove(connection, now_ms);
  return take_words();
}

Roll::Words Roll::passed(std::int64_t now_ms) {
  std::vector<std::pair<Connection, std::string>> gone;
  for (const Member& member : members_) {
    if (now_ms - member.heard_ms > options_.silence_ms_max) {
      gone.emplace_back(member.connection, "it was silent for " + std::to_string(now_ms - member.heard_ms) + " ms");
    } else if (generation_ > 0 && !going_ && !member.joined && now_ms - ended_ms_ > options_.rejoin_ms_max) {
      gone.emplace_back(member.connection, "it did not join again within " + std::to_string(options_.rejoin_ms_max) + " ms");
    }
  }
  for (auto& [connection, why] : gone) {
    refuse(connection, RendezvousKind::lost, std::move(why));
    remove(connection, now_ms);
  }
  return take_words();
}

void Roll::remove(Connection connection, std::int64_t now_ms) {
  if (find(connection) == nullptr) return;
  std::erase_if(members_, [connection](const Member& member) { return member.connection == connection; });
  if (over_) return;
  if (going_) end(now_ms);
  form_if_complete();
}

void Roll::end(std::int64_t now_ms) {
  going_ = false;
  ended_ms_ = now_ms;
  questions_.clear();
  for (Member& member : members_) {
    member.joined = false;
    member.leaving = false;
    say(member.connection, RendezvousKind::ended);
  }
}

void Roll::form_if_complete() {
  const bool complete = generation_ == 0 ? members_.size() == options_.ranks : !members_.empty();
  if (going_ || !complete || !std::all_of(members_.begin(), members_.end(), [](const Member& member) { return member.joined; })) return;
  ++generation_;
  going_ = true;
  values_.clear();
  values_bytes_ = 0;
  for (std::size_t rank = 0; rank < members_.size(); ++rank) {
    words_.push_back({members_[rank].connection,
                      {RendezvousKind::formed, generation_, static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(members_.size())}});
  }
}

Roll::Member* Roll::find(Connection connection) {
  const auto at = std::find_if(members_.begin(), members_.end(), [connection](const Member& member) { return member.connection == connection; });
  return at == members_.end() ? nullptr : &*at;
}

void Roll::say(Connection to, RendezvousKind kind, std::string value) { words_.push_back({to, {kind, generation_, 0, 0, {}, std::move(value)}}); }

void Roll::refuse(Connection to, RendezvousKind kind, std::string why) {
  say(to, kind, std::move(why));
  words_.back().last = true;
}

void Roll::throw_out(Connection from, std::string why, std::int64_t now_ms) {
  refuse(from, RendezvousKind::refused, std::move(why));
  remove(from, now_ms);
}

Roll::Words Roll::take_words() { return std::exchange(words_, {}); }

}  // namespace outlast::gpu
