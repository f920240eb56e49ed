// Random operations on money, made to meet each other: few budgets, commitments, keys and holders, and
// ids that come again.
#pragma once

#include <string>
#include <vector>

#include "core/random.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/money_model.hpp"

namespace outlast::storage {

class MoneyOperations {
 public:
  static constexpr std::int64_t day_ms = 24 * hour_ms;

  // `nil_holder`: whether some requests and slices are of the process that writes the ledger.
  // `model`: of what stands; allotments go on with what it knows.
  MoneyOperations(Random& random, UuidGenerator& ids, bool nil_holder, MoneyModel& model)
      : random_(random), ids_(ids), nil_holder_(nil_holder), model_(model) {
    for (int i = 0; i < 3; ++i) holders_.push_back(ids_.next());
  }

  proto::EntryBody next() {
    switch (random_.below(22)) {
      case 0: return budget();
      case 1:
      case 2: return slice();
      case 3: return random_.below(2) == 0 ? commitment() : holder_ends();
      case 4: return extension();
      case 5: return attempt(AttemptStatus::cut);
      case 6: return proto::Voided{{known_id(), "refused"}, {}};
      case 7:
      case 8:
      case 9:
      case 10:
      case 11: return proto::Settled{{attempt(AttemptStatus::ok)}, {}};
      case 12: return allotment();
      case 13: return slice();
      default: return reservation();
    }
  }
  // One of the cluster; it may have ended already.
  Incarnation any_holder() { return holders_[random_.below(holders_.size())]; }
  // A process starts anew; its predecessor may still be heard.
  void replace_holder() {
    holders_.push_back(ids_.next());
    if (holders_.size() > 4) holders_.erase(holders_.begin());
  }

 private:
  std::string one_of(std::initializer_list<const char*> names) {
    return names.begin()[random_.below(names.size())];
  }
  Purchase purchase() { return {one_of({"alpha", "beta"}), one_of({"m1", "m2"})}; }
  RequestId known_id() {
    if (known_.empty()) return ids_.next();
    return known_[known_.size() - 1 -
                  random_.below(std::min<std::size_t>(known_.size(),
                                                      random_.below(2) == 0 ? 6 : 40))];
  }
  PicoUsd amount(std::uint64_t most) { return {static_cast<__int128>(random_.below(most))}; }
  Incarnation holder() {
    if (nil_holder_ && random_.below(2) == 0) return {};
    // Mostly the young ones, so that old ones can end.
    return random_.below(4) == 0 ? any_holder()
                                 : holders_[holders_.size() - 1 - random_.below(2)];
  }

  proto::EntryBody reservation() {
    const RequestId id = random_.below(12) == 0 ? known_id() : ids_.next();
    Reservation reservation = sample_reservation(id, one_of({"ann", "ben"}));
    reservation.amount = amount(1'200);
    reservation.price_known = random_.below(8) != 0;
    if (!reservation.price_known) reservation.amount = {};
    reservation.input_tokens_max = random_.below(300);
    reservation.output_tokens_max = random_.below(300);
    if (random_.below(3) == 0) reservation.tags.push_back(one_of({"nightly", "batch"}));
    if (random_.below(3) == 0) reservation.session = one_of({"s1", "s2"});
    for (std::uint64_t i = random_.below(3) + 1; i > 0; --i)
      reservation.candidates.push_back(purchase());
    reservation.from_slices = random_.below(2) == 0;
    reservation.holder = holder();
    if (random_.below(6) == 0) {
      reservation.idempotency.emplace();
      reservation.idempotency->key.fill(static_cast<std::uint8_t>(random_.below(12)));
      reservation.idempotency->parameters.fill(static_cast<std::uint8_t>(random_.below(2)));
    }
    if (known_.empty() || id > known_.back()) known_.push_back(id);
    return reservation;
  }
  proto::EntryBody extension() {
    return ReservationExtension{known_id(), static_cast<std::uint16_t>(1 + random_.below(3)),
                                amount(400), random_.below(100), random_.below(2) == 0};
  }
  AttemptLine attempt(AttemptStatus status) {
    AttemptLine line = sample_attempt(known_id(), static_cast<std::uint16_t>(1 + random_.below(3)),
                                      status, static_cast<std::int64_t>(random_.below(900)));
    const Purchase bought = purchase();
    line.provider = bought.provider;
    line.model = bought.model;
    line.usage.input_uncached = random_.below(300);
    line.usage.output_text = random_.below(300);
    return line;
  }
  proto::EntryBody budget() {
    const std::string id = "bud_" + std::to_string(random_.below(7));
    if (random_.below(6) == 0) return proto::BudgetRemoved{id, "ann"};
    // Mostly one scope for an id, since a change of it is refused.
    static constexpr const char* scopes[] = {"organisation:acme",
                                             "team:acme/search",
                                             "user:acme/search/ann",
                                             "key:key_ben",
                                             "tag:nightly",
                                             "model:m1",
                                             "provider:beta"};
    const std::size_t scope =
        random_.below(12) == 0 ? random_.below(7) : static_cast<std::size_t>(id.back() - '0');
    Budget budget{id, "", *Scope::parse(scopes[scope]), {}, {}, "UTC", false};
    budget.amount = {static_cast<__int128>(2'000 + random_.below(60'000))};
    budget.period = static_cast<BudgetPeriod>(random_.below(4));
    if (random_.below(2) == 0) budget.time_zone = "Europe/Berlin";
    budget.soft = random_.below(4) == 0;
    // Mostly the same for an id, as a change of it is refused.
    const bool away = (id == "bud_4") != (random_.below(12) == 0);
    return proto::BudgetSet{budget, "ann", 0, 0, away};
  }
  proto::EntryBody slice() {
    const std::string id = "bud_" + std::to_string(random_.below(7));
    if (random_.below(4) == 0) return proto::SliceReturned{id, amount(2'000), holder()};
    return proto::SliceGranted{id, amount(4'000), holder()};
  }
  proto::EntryBody commitment() {
    const std::string id = "com_" + std::to_string(random_.below(12));
    if (random_.below(5) == 0) return proto::CommitmentEnded{id, "ann"};
    const bool tokens = random_.below(2) == 0;
    Commitment commitment{id,
                          one_of({"alpha", "beta"}),
                          {},
                          tokens ? CommitmentUnit::tokens : CommitmentUnit::money,
                          static_cast<__int128>(1 + random_.below(20'000)),
                          amount(30'000),
                          0,
                          0,
                          random_.below(3) == 0};
    if (random_.below(2) == 0) commitment.models.push_back(one_of({"m1", "m2"}));
    commitment.from_ms = 1'750'000'000'000 + static_cast<std::int64_t>(random_.below(4)) * day_ms;
    commitment.until_ms =
        commitment.from_ms + day_ms * static_cast<std::int64_t>(1 + random_.below(9));
    const bool away = (id.back() == '3') != (random_.below(12) == 0);
    return proto::CommitmentAdded{commitment, "ann", away};
  }
  proto::EntryBody allotment() {
    const bool commitment = random_.below(3) == 0;
    const bool returns = random_.below(5) < 2;
    const auto shard = static_cast<std::uint16_t>(random_.below(8) == 0 ? 7 : 2);
    std::string id;
    std::uint64_t opened = 0;
    // Of something that there is, mostly.
    for (int tries = 0; tries < 12 && opened == 0; ++tries) {
      id = commitment ? "com_" + std::to_string(random_.below(12)) : "bud_" + std::to_string(random_.below(7));
      opened = model_.opened_of(id, commitment, shard);
      if (!returns && (commitment ? model_.commitments.contains(id) : model_.budgets.contains(id))) break;
    }
    // As of another one, now and then: earlier, none, or later; what is away hears of a first one somehow.
    switch (random_.below(opened == 0 ? 4 : 16)) {
      case 0: opened -= std::min<std::uint64_t>(opened, 1); break;
      case 1: opened = 0; break;
      case 2: opened += 1 + random_.below(3); break;
      default: break;
    }
    const PicoUsd some = amount(random_.below(6) == 0 ? 6'000 : 800);
    const __int128 moved = random_.below(10) == 0 ? 0 : some.value;
    if (returns) return proto::AllotmentReturned{id, commitment, shard, moved, opened};
    return proto::AllotmentGranted{id, commitment, shard, moved, opened};
  }
  // Refused while it has open reservations.
  proto::EntryBody holder_ends() {
    if (random_.below(3) == 0) replace_holder();
    return proto::HolderEnded{any_holder(), random_.below(2) == 0, "it stopped"};
  }

  Random& random_;
  UuidGenerator& ids_;
  const bool nil_holder_;
  MoneyModel& model_;
  std::vector<RequestId> known_;
  std::vector<Incarnation> holders_;
};

}  // namespace outlast::storage
