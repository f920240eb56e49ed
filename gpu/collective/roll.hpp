// Roll: who works on a run, as a function of messages and time. A server (rendezvous_server.hpp) feeds it and delivers what it
// says; another carrier of messages can do the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gpu/collective/rendezvous_message.hpp"

namespace outlast::gpu {

inline constexpr std::size_t ranks_max = 256;  // their addresses fit into one message

struct RollOptions {
  std::string run;        // whoever knows it may take part: a secret of those who started the run
  std::size_t ranks = 1;  // of the first generation; at most ranks_max
  std::int64_t silence_ms_max = 1'300;    // then a rank is lost; they speak every 100 ms
  std::int64_t rejoin_ms_max = 60'000;    // after a generation's end: the longest a rank may be busy
};

// One owner.
class Roll {
 public:
  using Connection = std::uint64_t;
  struct Word {
    Connection to = 0;
    RendezvousMessage message;
    bool last = false;  // the connection is closed after it
  };
  using Words = std::vector<Word>;

  explicit Roll(RollOptions options) : options_(std::move(options)) {}

  Words received(Connection from, const RendezvousMessage& message, std::int64_t now_ms);
  Words closed(Connection connection, std::int64_t now_ms);
  // To be called often enough for the deadlines.
  Words passed(std::int64_t now_ms);

  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] std::size_t ranks() const { return members_.size(); }
  [[nodiscard]] bool is_over() const { return over_; }  // all have left

 private:
  struct Member {
    Connection connection = 0;
    std::int64_t heard_ms = 0;
    bool joined = false;   // waits for the next generation
    bool leaving = false;
  };
  struct Question {
    Connection from = 0;
    std::string key;
  };
  Member* find(Connection connection);
  void join(Connection from, const RendezvousMessage& message, std::int64_t now_ms);
  void put(Connection from, const RendezvousMessage& message, std::int64_t now_ms);
  void get(Connection from, const RendezvousMessage& message, std::int64_t now_ms);
  void leave(Member& member);
  void remove(Connection connection, std::int64_t now_ms);
  void end(std::int64_t now_ms);
  void form_if_complete();
  void say(Connection to, RendezvousKind kind, std::string value = {});
  void refuse(Connection to, RendezvousKind kind, std::string why);
  void throw_out(Connection from, std::string why, std::int64_t now_ms);
  Words take_words();

  const RollOptions options_;
  std::vector<Member> members_;  // by rank
  std::uint64_t generation_ = 0;
  bool going_ = false;  // the generation is complete and has not ended
  bool over_ = false;
  std::int64_t ended_ms_ = 0;
  std::map<std::string, std::string> values_;
  std::size_t values_bytes_ = 0;  // put since the generation formed
  std::vector<Question> questions_;
  Words words_;
};

}  // namespace outlast::gpu
