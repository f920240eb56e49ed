// A budget that three ledgers spend of: one is its home. They tell each other totals, and what they say may be lost, late,
// repeated or out of order, while each of them may forget what it had not committed. By seeds.
#include <algorithm>
#include <array>

#include "tests/storage/owned_ledger.hpp"

namespace outlast::storage::allotment_exchange_test {
namespace {

constexpr std::int64_t amount = 10'000;

class Exchange {
 public:
  explicit Exchange(std::uint64_t seed) : random_(seed) {
    for (OwnedLedger* ledger : {&home_, &aways_[0], &aways_[1]}) REQUIRE(ledger->writer->commit());
  }

  void step() {
    const std::size_t side = random_.below(aways_.size());
    switch (random_.below(10)) {
      case 0: return give(side);
      case 1: return give_back(side);
      case 2:
      case 3:
      case 4: return deliver(random_.below(3) != 0);
      case 5: return restart(random_.below(3) == 0 ? home_ : aways_[side]);
      default: return spend(random_.below(3) == 0 ? home_ : aways_[side]);
    }
  }
  void require_kept() {
    __int128 parts = 0;
    __int128 spent = 0;
    for (OwnedLedger* ledger : {&home_, &aways_[0], &aways_[1]}) {
      const BudgetStatus& status = ledger->status();
      parts += status.part().value;
      spent += status.used.value + status.held.value + status.sliced.value;
      REQUIRE(ledger->account().pool().value >= 0);
    }
    const __int128 under_way = on_its_way();
    REQUIRE((under_way >= 0));
    REQUIRE((parts + under_way == amount));
    REQUIRE((spent <= amount));
    most_under_way = std::max(most_under_way, under_way);
    most_spent = std::max(most_spent, spent);
  }
  // All is said again until nothing is on its way.
  void settle() {
    for (std::size_t side = 0; side < aways_.size(); ++side) {
      REQUIRE(home_.writer->commit());
      tell_away(side);
      REQUIRE(aways_[side].writer->commit());
      tell_home(side);
    }
    while (!messages_.empty()) deliver(true);
    REQUIRE((on_its_way() == 0));
    for (OwnedLedger* ledger : {&home_, &aways_[0], &aways_[1]}) ledger->require_whole();
  }
  __int128 most_under_way = 0;
  __int128 most_spent = 0;

 private:
  static constexpr std::uint16_t home_shard = 4;
  struct Message {
    std::size_t side = 0;
    bool to_home = false;
    Allotment totals;  // of which the receiver reads what the sender decides
  };
  static std::uint16_t shard_of(std::size_t side) { return static_cast<std::uint16_t>(10 + side); }
  static Allotment known(const OwnedLedger& ledger, std::uint16_t shard) {
    const Allotments& all = ledger.account().allotments;
    const auto at = all.find(shard);
    return at == all.end() ? Allotment{} : at->second;
  }
  Allotment at_home(std::size_t side) const { return known(home_, shard_of(side)); }
  Allotment away(std::size_t side) const { return known(aways_[side], home_shard); }
  // What left one side by an entry that may still be forgotten is under way as well.
  __int128 on_its_way() const {
    __int128 sum = 0;
    for (std::size_t side = 0; side < aways_.size(); ++side)
      sum += at_home(side).granted - away(side).granted + away(side).returned - at_home(side).returned;
    return sum;
  }
  __int128 some(__int128 most) { return static_cast<__int128>(random_.below(static_cast<std::uint64_t>(most) + 1)); }

  void give(std::size_t side) {
    const Allotment before = at_home(side);
    const __int128 given = some(home_.account().pool().value / 2);
    if (before.opened != 0 && given == 0) return;
    REQUIRE(home_.add(proto::AllotmentGranted{"bud", false, shard_of(side), given, before.opened}) ==
            Outcome::applied);
    if (random_.below(3) == 0) return;
    REQUIRE(home_.writer->commit());
    tell_away(side);
  }
  void give_back(std::size_t side) {
    OwnedLedger& ledger = aways_[side];
    const __int128 given = some(ledger.account().pool().value);
    if (given == 0) return;
    REQUIRE(ledger.add(proto::AllotmentReturned{"bud", false, home_shard, given, away(side).opened}) ==
            Outcome::applied);
    if (random_.below(3) == 0) return;
    REQUIRE(ledger.writer->commit());
    tell_home(side);
  }
  // Only what is durable is said.
  void tell_away(std::size_t side) {
    if (at_home(side).opened != 0) messages_.push_back({side, false, at_home(side)});
  }
  void tell_home(std::size_t side) {
    if (away(side).opened != 0) messages_.push_back({side, true, away(side)});
  }
  void deliver(bool gone) {
    if (messages_.empty()) return;
    const std::size_t at = random_.below(messages_.size());
    const Message message = messages_[at];
    if (gone) messages_.erase(messages_.begin() + static_cast<std::ptrdiff_t>(at));
    const std::size_t side = message.side;
    if (message.to_home) {
      const __int128 more = message.totals.returned - at_home(side).returned;
      if (more <= 0) return;
      REQUIRE(home_.add(proto::AllotmentReturned{"bud", false, shard_of(side), more, message.totals.opened}) ==
              Outcome::applied);
      return;
    }
    const Allotment before = away(side);
    const __int128 more = message.totals.granted - before.granted;
    if (before.opened != 0 && more <= 0) return;
    REQUIRE(aways_[side].add(proto::AllotmentGranted{"bud", false, home_shard, more, message.totals.opened}) ==
            Outcome::applied);
  }
  void restart(OwnedLedger& ledger) {
    if (random_.below(3) == 0) REQUIRE(ledger.writer->finish());
    ledger.lead();
  }
  void spend(OwnedLedger& ledger) {
    const std::int64_t most = random_.below(3) == 0 ? 2'000 : 100;
    const Reservation one = ledger.reservation({}, static_cast<std::int64_t>(some(most)), false);
    if (ledger.apply(one).outcome != Outcome::applied) return;
    if (random_.below(2) == 0) {
      REQUIRE(ledger.add(VoidReservation{one.request_id, "refused"}) == Outcome::applied);
    } else {
      const auto cost = static_cast<std::int64_t>(some(one.amount.value));
      REQUIRE(ledger.add(sample_settlement(one.request_id, cost)) == Outcome::applied);
    }
  }

  Random random_;
  OwnedLedger home_;
  std::array<OwnedLedger, 2> aways_{OwnedLedger(true), OwnedLedger(true)};
  std::vector<Message> messages_;
};

}  // namespace

TEST_CASE("the parts of all ledgers sum to a budget's amount, whatever is lost or late", "[ledger][allotments]") {
  __int128 most_under_way = 0;
  __int128 most_spent = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    Exchange exchange(seed);
    for (int i = 0; i < 300; ++i) {
      exchange.step();
      exchange.require_kept();
    }
    exchange.settle();
    most_under_way = std::max(most_under_way, exchange.most_under_way);
    most_spent = std::max(most_spent, exchange.most_spent);
  }
  CHECK((most_under_way > amount / 4));
  CHECK((most_spent > amount / 2));
}

}  // namespace outlast::storage::allotment_exchange_test
