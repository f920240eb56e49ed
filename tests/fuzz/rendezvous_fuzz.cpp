// Bytes that came to the rendezvous of a run's ranks, and what its roll makes of them.
#include <cstdint>
#include <string_view>

#include "core/check.hpp"
#include "gpu/collective/roll.hpp"

using namespace outlast;
using namespace outlast::gpu;

// The first byte says how many ranks there are; then each message comes from the rank that its field says.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  RollOptions options;
  options.run = "run";
  options.ranks = 1 + data[0] % 4;
  Roll roll(options);
  RendezvousReader reader;
  reader.append({reinterpret_cast<const char*>(data) + 1, size - 1});
  std::int64_t now_ms = 0;
  for (auto next = reader.next(); next && *next; next = reader.next()) {
    const RendezvousMessage& message = **next;
    RendezvousReader again;
    again.append(encode(message));
    const auto same = again.next();
    check(same && *same && **same == message, "a message that was read is written as it was");
    const Roll::Connection from = message.rank % 5;
    for (const Roll::Word& word : roll.received(from, message, now_ms)) (void)encode(word.message);
    now_ms += message.ranks % 2'000;
    for (const Roll::Word& word : roll.passed(now_ms)) check(word.to < 5, "words go to who has spoken");
    if (message.ranks % 7 == 0) roll.closed(from, now_ms);
    check(roll.ranks() <= options.ranks, "a run has no more ranks than it began with");
  }
  return 0;
}
