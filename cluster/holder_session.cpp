#include "cluster/holder_session.hpp"

#include <algorithm>
#include <utility>

namespace outlast::cluster {

HolderSession::Hears HolderSession::hear(const std::string& node, const shard::Operations& message) {
  if (message.stream < stream_ || message.base == 0) return Hears::stale;
  const bool begins = message.stream > stream_;
  if (begins) {
    *this = HolderSession();
    stream_ = message.stream;
    next_ = message.base;
    durable_ = message.base - 1;
  }
  node_ = node;
  std::erase_if(refused_, [&message](const auto& refused) {
    return refused.second.number != 0 && refused.second.number <= message.confirmed;
  });
  if (std::exchange(capped_, false)) due_ = true;
  return begins ? Hears::new_stream : Hears::yes;
}

std::size_t HolderSession::first_new(const shard::Operations& message) {
  if (message.operations.empty()) return 0;
  if (message.first > next_) {
    missing_ = next_;
    due_ = true;
    return message.operations.size();
  }
  due_ = true;  // also when all of it is known: the last acknowledgement may be lost
  return static_cast<std::size_t>(std::min<std::uint64_t>(next_ - message.first, message.operations.size()));
}

void HolderSession::refuse(std::uint64_t sequence, storage::LedgerError error, std::string message,
                           std::optional<BudgetShortfall> shortfall) {
  refused_[sequence] = {
      {sequence, static_cast<std::uint16_t>(error), std::move(message), std::move(shortfall)}, 0};
  due_ = true;
}

std::optional<shard::Acknowledgement> HolderSession::take_acknowledgement(const Incarnation& holder) {
  if (!std::exchange(due_, false)) return std::nullopt;
  shard::Acknowledgement told{holder, stream_, ++number_, durable_, std::exchange(missing_, 0), {}, {}};
  for (auto& [sequence, refused] : refused_) {
    if (told.refusals.size() == shard::refusals_max) {
      // The rest goes when the holder has confirmed these; until then it is not said that they were decided.
      told.up_to = std::min(told.up_to, sequence - 1);
      capped_ = true;
      break;
    }
    if (refused.number == 0) refused.number = number_;
    told.refusals.push_back(refused.refusal);
  }
  for (const std::uint64_t sequence : waiting_) {
    if (sequence > told.up_to) break;
    if (told.waiting.size() == shard::waiting_max) {
      told.up_to = sequence - 1;
      break;
    }
    told.waiting.push_back(sequence);
  }
  return told;
}

}  // namespace outlast::cluster
