#include "storage/allotment.hpp"

namespace outlast::storage {
namespace {

// One home has each budget.
bool of_another_home(const Allotments& allotments, bool away, std::uint16_t shard) {
  return away && !allotments.empty() && !allotments.contains(shard);
}

// The home gives what it has free. The first entry opens the allotment, be it with nothing.
bool may_give(const Allotment* known, const AllotmentSide& side, const proto::AllotmentGranted& body) {
  // An overdrawn budget gives nothing, and may open an allotment with that.
  if (side.soft || (body.amount > 0 && body.amount > side.free)) return false;
  return known == nullptr ? body.opened == 0 : body.opened == known->opened && body.amount > 0;
}

// The other side takes in what the home gave.
bool may_take(const Allotment* known, const AllotmentSide& side, const proto::AllotmentGranted& body) {
  if (body.opened == 0) return false;
  if (known == nullptr) return true;
  if (body.opened == known->opened) return body.amount > 0;
  return side.reopened && body.opened > known->opened;
}

}  // namespace

std::optional<LedgerError> take_grant(Allotments& allotments, const AllotmentSide& side,
                                      const proto::AllotmentGranted& body, std::uint64_t index) {
  if (body.amount < 0 || body.amount > allotment_amount_max ||
      of_another_home(allotments, side.away, body.shard)) {
    return LedgerError::invalid;
  }
  const auto at = allotments.find(body.shard);
  const Allotment* const known = at == allotments.end() ? nullptr : &at->second;
  if (side.away ? !may_take(known, side, body) : !may_give(known, side, body)) return LedgerError::invalid;
  const std::uint64_t opened = body.opened == 0 ? index : body.opened;
  // An allotment of an earlier budget is void with it.
  Allotment next = known != nullptr && known->opened == opened ? *known : Allotment{0, 0, opened};
  if (__builtin_add_overflow(next.granted, body.amount, &next.granted)) return LedgerError::invalid;
  allotments.insert_or_assign(body.shard, next);
  return std::nullopt;
}

std::optional<LedgerError> take_return(Allotments& allotments, const AllotmentSide& side,
                                       const proto::AllotmentReturned& body) {
  const auto at = allotments.find(body.shard);
  if (at == allotments.end() || at->second.opened != body.opened || body.amount <= 0 ||
      body.amount > allotment_amount_max) {
    return LedgerError::invalid;
  }
  Allotment& known = at->second;
  // Away nothing goes back that is used or held; at home nothing comes back that was not given.
  if (body.amount > known.out() || (side.away && body.amount > side.free)) return LedgerError::invalid;
  known.returned += body.amount;
  return std::nullopt;
}

__int128 allotted_of(const Allotments& allotments, bool away) {
  __int128 out = 0;
  for (const auto& [shard, allotment] : allotments) out += allotment.out();
  return away ? out : -out;
}

bool restore_allotment(Allotments& allotments, bool away, std::uint16_t shard,
                       const Allotment& allotment) {
  if (allotment.opened == 0 || allotment.returned < 0 || allotment.out() < 0 ||
      of_another_home(allotments, away, shard)) {
    return false;
  }
  return allotments.emplace(shard, allotment).second;
}

}  // namespace outlast::storage
