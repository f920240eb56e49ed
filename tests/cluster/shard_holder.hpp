// A gateway node of the simulation: lanes that admit by slices as the gateway's do, the stream and the slices of its
// process, a spool on a disk that survives crashes (or is wiped), and the handover of what earlier processes left.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/holder_handover.hpp"
#include "cluster/shard_stream.hpp"
#include "cluster/slice_keeper.hpp"
#include "tests/cluster/shard_world.hpp"

namespace outlast::cluster::simulation {

// What a caller saw of a request, for the check at the end.
struct Promise {
  Incarnation holder;
  PicoUsd reserved;  // what was told durable
  PicoUsd cost;      // what attempts and the settlement cost, as the lane told the ledger
  bool durable = false;      // the reservation was told so
  bool end_durable = false;  // and its end
  bool settled = false;      // the lane submitted its end
  std::set<std::uint16_t> attempts;    // told durable
  std::set<std::uint16_t> extensions;  // told durable
};

struct HolderCounts {
  std::uint64_t served = 0;
  std::uint64_t from_slices = 0;
  std::uint64_t exhausted = 0;
  std::uint64_t unavailable = 0;
  std::uint64_t spooled = 0;
  std::uint64_t replayed = 0;
};

// Of which shard it is, how fast it gives up, and how busy its lanes are.
struct HolderSetup {
  ShardId shard = the_shard;
  std::string organisation = "acme";
  std::string key = "key_ann";
  std::uint32_t resend_ms = 40;
  std::uint32_t retry_ms = 10;
  std::uint32_t spool_after_ms = 60;
  std::uint32_t refuse_after_ms = 250;
  std::uint64_t begins_of = 1;  // one of so many times that lanes run, a request begins
  // Whether the shared log has the request: asked when its reservation is told durable and is not in the spool.
  std::function<bool(const RequestId&)> stands;
};

class HolderNode {
 public:
  HolderNode(std::string node, std::vector<std::string> budgets, Random& random, const Clock& clock, UuidGenerator& ids,
             HolderSetup setup = {})
      : name(std::move(node)), setup_(std::move(setup)), budgets_(std::move(budgets)), random_(random), clock_(clock),
        ids_(ids) {}

  const std::string name;
  bool up = false;
  std::string broken;  // the first rule that was broken
  std::map<RequestId, Promise> promises;
  std::vector<Incarnation> on_record;  // all of its processes, as the cluster knows them
  std::set<Incarnation> wiped;         // those whose disk was lost
  HolderCounts counts;
  std::string linked_to;  // the owner's node; empty: none
  std::uint64_t linked_epoch = 0;

  void start() { start(ids_.next()); }
  void start(const Incarnation& me) {
    up = true;
    const std::vector<Incarnation> record = on_record;
    me_ = me;
    in_spool_.clear();
    on_record.push_back(me_);
    std::vector<EarlierHolder> earlier = earlier_holders(disk_holders_, record, me_);
    std::erase_if(earlier, [this](const EarlierHolder& holder) { return done_.contains(holder.holder); });
    for (EarlierHolder& holder : earlier) {
      if (const auto spool = disk_spools_.find(holder.holder); spool != disk_spools_.end()) {
        counts.replayed += spool->second.size();
        holder.spools[setup_.shard] = spool->second;
      }
    }
    if (!disk_holders_) disk_holders_.emplace();
    disk_holders_->push_back(me_);
    const ShardId shards[] = {setup_.shard};
    handover_ = std::make_unique<HolderHandover>(std::move(earlier), shards, me_, clock_);
    StreamOptions options;
    options.shard = setup_.shard;
    options.holder = me_;
    options.lazy_ms = 3;
    options.resend_ms = setup_.resend_ms;
    options.retry_ms = setup_.retry_ms;
    options.spool_after_ms = setup_.spool_after_ms;
    options.unowned_spool_after_ms = setup_.spool_after_ms / 3;
    options.refuse_after_ms = setup_.refuse_after_ms;
    options.spool_bytes_max = 64U << 10;
    stream_ = std::make_unique<ShardStream>(options, clock_);
    keeper_ = std::make_unique<SliceKeeper>(KeeperOptions{setup_.shard, me_, 2, 20, 1'000}, clock_);
    for (const std::string& budget : budgets_) slices_.push_back(keeper_->slice_of(budget));
  }
  // What was not synced may be there or not. `wipe`: the disk is lost too.
  void crash(bool wipe) {
    up = false;
    linked_to.clear();
    if (writing_ && random_.below(2) == 0) append_spool(*writing_);
    writing_.reset();
    for (auto& [id, request] : running_) promises[id].settled = promises[id].settled || request.ended;
    running_.clear();
    lanes_.clear();
    told_.clear();
    slices_.clear();
    stream_.reset();
    keeper_.reset();
    handover_.reset();
    if (!wipe) return;
    disk_holders_.reset();
    disk_spools_.clear();
    for (const Incarnation& holder : on_record) {
      if (!done_.contains(holder)) wiped.insert(holder);
    }
  }
  void link(const std::string& node, std::uint64_t epoch) {
    linked_to = node;
    linked_epoch = epoch;
    stream_->connected(node, epoch);
    keeper_->connected(node, epoch);
    handover_->connected(setup_.shard, node, epoch);
  }
  void unlink() {
    linked_to.clear();
    stream_->disconnected();
    keeper_->disconnected();
    handover_->disconnected(setup_.shard);
  }
  void receive(const std::string& from, const shard::Message& message) {
    stream_->receive(from, message);
    keeper_->receive(from, message);
    handover_->receive(from, message);
  }

  // Lanes do something. They run on threads of their own, so what they submit lies between them and the stream for a while.
  void run_lanes(bool may_begin) {
    if (may_begin && running_.size() < 24 && (setup_.begins_of <= 1 || random_.below(setup_.begins_of) == 0)) begin();
    for (std::uint64_t i = 1 + random_.below(3); i > 0 && !running_.empty(); --i) {
      auto at = running_.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(random_.below(running_.size())));
      go_on(at->first, at->second, may_begin);
    }
  }
  // The shard's thread does what is due.
  void run_shard(Network& network) {
    // Lanes go on between the first of these steps and the second.
    std::vector<shard::SliceReturn> returns = keeper_->take_returns();
    if (random_.below(2) == 0) run_lanes(false);
    if (!returns.empty() || random_.below(2) == 0) move_submissions();
    for (shard::SliceReturn& back : returns) stream_->push(std::move(back));
    if (const std::optional<shard::Message> demand = keeper_->take_demand()) network.send(name, keeper_->node(), *demand);
    if (writing_ && random_.below(3) == 0) {
      append_spool(*writing_);
      writing_.reset();
      stream_->spooled();
    }
    stream_->tick();
    const auto act = [this, &network](auto& effect) { on(network, effect); };
    for (StreamEffect& effect : stream_->take_effects()) std::visit(act, effect);
    handover_->tick();
    for (HandoverEffect& effect : handover_->take_effects()) std::visit(act, effect);
  }
  [[nodiscard]] bool is_idle() const {
    return running_.empty() && lanes_.empty() && stream_->size() == 0 && handover_->is_done() && !writing_;
  }
  [[nodiscard]] const Incarnation& me() const { return me_; }
  [[nodiscard]] const SliceKeeper& keeper() const { return *keeper_; }
  [[nodiscard]] std::string state() const {
    return name + ": " + std::to_string(running_.size()) + " requests, " + std::to_string(stream_->size()) +
           " operations, " + (handover_->is_done() ? "nothing" : "something") + " to hand over";
  }

 private:
  enum class What : std::uint8_t { reserve, extend, attempt, end };
  struct Running {
    PicoUsd reserved;
    PicoUsd from_slice;
    PicoUsd charged;
    std::uint16_t attempts = 0;
    std::uint16_t extensions = 0;
    ReservationExtension extension;  // under way; number 0: none
    bool from_slices = false;
    bool durable = false;
    bool ended = false;
  };
  struct Submitted {
    MeteringOperation operation;
    RequestId id;
    What what;
    std::uint16_t number = 0;
  };
  struct Told {
    RequestId id;
    What what;
    std::uint16_t number;
    PicoUsd amount;
    bool from_slices;
  };

  bool take(PicoUsd amount) {
    for (std::size_t i = 0; i < slices_.size(); ++i) {
      if (slices_[i]->take(amount)) continue;
      for (std::size_t before = 0; before < i; ++before) slices_[before]->put_back(amount);
      return false;
    }
    return true;
  }
  void put_back(PicoUsd amount) {
    for (const auto& slice : slices_) slice->put_back(amount);
  }
  void begin() {
    Reservation reservation;
    reservation.request_id = ids_.next();
    reservation.tenant = {setup_.organisation, "search", "ann"};
    reservation.key_id = setup_.key;
    reservation.price_known = true;
    reservation.tags = {"daily", "shared"};
    reservation.candidates = {{"alpha", "fable"}};
    reservation.holder = me_;
    reservation.amount = {static_cast<__int128>(1 + random_.below(2'000))};
    reservation.from_slices = take(reservation.amount);
    if (random_.below(40) == 0)
      reservation.idempotency = IdempotencyKey{Sha256().update(reservation.request_id.to_string()).finish(), {}};
    Running running;
    running.reserved = reservation.amount;
    running.from_slices = reservation.from_slices;
    if (reservation.from_slices) running.from_slice = reservation.amount;
    running_.emplace(reservation.request_id, running);
    promises[reservation.request_id].holder = me_;
    lanes_.push_back({reservation, reservation.request_id, What::reserve, 0});
  }
  void go_on(RequestId id, Running& running, bool may_begin) {
    if (running.ended) return;
    // A caller may leave before anything is durable.
    if (!running.durable) {
      if (running.from_slices && random_.below(60) == 0) end(id, running, true);
      return;
    }
    const std::uint64_t choice = random_.below(10);
    if (may_begin && choice < 2 && running.attempts < 5) {
      AttemptLine line = line_of(id, running);
      line.status = AttemptStatus::overloaded;
      lanes_.push_back({line, id, What::attempt, line.number});
    } else if (may_begin && choice < 4 && running.extension.number == 0 && running.extensions < 5) {
      ReservationExtension extension{id, ++running.extensions, {static_cast<__int128>(1 + random_.below(500))}, 10, false};
      extension.from_slices = take(extension.amount);
      if (extension.from_slices) {
        running.reserved += extension.amount;
        running.from_slice += extension.amount;
      }
      running.extension = extension;
      lanes_.push_back({extension, id, What::extend, extension.number});
    } else if (choice >= 6 && (running.extension.number == 0 || random_.below(8) == 0)) {
      end(id, running, random_.below(4) == 0);
    }
  }
  AttemptLine line_of(const RequestId& id, Running& running) {
    AttemptLine line;
    line.request_id = id;
    line.number = ++running.attempts;
    line.provider = "alpha";
    line.model = "fable";
    line.price_known = true;
    line.cost = {static_cast<__int128>(random_.below(static_cast<std::uint64_t>((running.reserved - running.charged).value) + 1))};
    running.charged += line.cost;
    promises[id].cost += line.cost;
    return line;
  }
  void end(const RequestId& id, Running& running, bool is_void) {
    running.ended = true;
    promises[id].settled = true;
    if (is_void) lanes_.push_back({VoidReservation{id, "none"}, id, What::end, 0});
    else lanes_.push_back({Settlement{line_of(id, running)}, id, What::end, 0});
    const PicoUsd rest = running.from_slice - std::min(running.charged, running.from_slice);
    for (const auto& slice : slices_) slice->give(rest);
  }

  void move_submissions() {
    while (!lanes_.empty()) {
      Submitted& submitted = lanes_.front();
      const bool waits = submitted.what == What::reserve || submitted.what == What::extend;
      const Result<std::uint64_t> sequence = stream_->push(submitted.operation, waits && random_.below(2) == 0);
      if (!sequence) broken = "the stream has no room";
      Told told{submitted.id, submitted.what, submitted.number, {}, true};
      if (const auto* reservation = std::get_if<Reservation>(&submitted.operation)) {
        told.amount = reservation->amount;
        told.from_slices = reservation->from_slices;
      } else if (const auto* extension = std::get_if<ReservationExtension>(&submitted.operation)) {
        told.amount = extension->amount;
        told.from_slices = extension->from_slices;
      }
      if (sequence) told_.emplace(*sequence, told);
      lanes_.pop_front();
    }
  }

  void on(Network& network, SendToOwner& send) { network.send(name, send.node, send.message); }
  void on(Network& network, SendToNode& send) { network.send(name, send.node, send.message); }
  void on(Network&, WriteSpool& write) {
    if (writing_) broken = "two writes to the spool at once";
    counts.spooled += write.records.size();
    writing_ = std::move(write.records);
  }
  void on(Network&, TruncateSpool&) { disk_spools_.erase(me_); }
  void on(Network&, OwnerHint&) {}
  void on(Network&, HolderDone& done) {
    done_.insert(done.holder);
    disk_spools_.erase(done.holder);
    std::erase(*disk_holders_, done.holder);
  }
  void on(Network&, ReplayRefused& replay) {
    // An extension that stands is not known as a duplicate once its request has ended.
    if (replay.refused.error == storage::LedgerError::already_ended) return;
    if (replay.refused.error == storage::LedgerError::unknown_request) return;  // a void of what was never taken in
    broken = "a replayed operation was refused: " + replay.refused.message;
  }
  void on(Network&, OperationsDurable& durable) {
    for (std::uint64_t sequence = durable.first; sequence <= durable.last; ++sequence) {
      const auto at = told_.find(sequence);
      if (at == told_.end()) {
        broken = "an operation is told twice, or one of nobody";
        continue;
      }
      const Told told = at->second;
      told_.erase(at);
      Promise& promise = promises[told.id];
      const auto running = running_.find(told.id);
      switch (told.what) {
        case What::reserve:
          if (setup_.stands && !in_spool_.contains(sequence) && !setup_.stands(told.id))
            broken = "a reservation is acknowledged that is neither in the log nor in the spool";
          promise.durable = true;
          promise.reserved += told.amount;
          if (running != running_.end()) running->second.durable = true;
          ++counts.served;
          counts.from_slices += told.from_slices ? 1 : 0;
          break;
        case What::extend:
          promise.extensions.insert(told.number);
          promise.reserved += told.amount;
          if (running == running_.end()) break;
          if (!told.from_slices) running->second.reserved += told.amount;
          running->second.extension.number = 0;
          break;
        case What::attempt:
          promise.attempts.insert(told.number);
          break;
        case What::end:
          promise.end_durable = true;
          running_.erase(told.id);
          break;
      }
    }
  }
  void on(Network&, OperationRefused& refused) {
    using storage::LedgerError;
    const auto at = told_.find(refused.sequence);
    if (at == told_.end()) {
      // Told durable when it was spooled. Then only an extension that stands already is refused, and the void of a
      // reservation that was never entered, since its caller left before anything was.
      const bool harmless = refused.error == LedgerError::already_ended || refused.error == LedgerError::unknown_request;
      if (!refused.was_durable) broken = "a refusal of nobody's operation";
      else if (!harmless) broken = "refused after it was durable: " + refused.message;
      return;
    }
    const Told told = at->second;
    told_.erase(at);
    const auto found = running_.find(told.id);
    if (refused.error == LedgerError::budget_exhausted) {
      ++counts.exhausted;
      if (told.from_slices && told.what != What::end) broken = "a covered reservation is short";
      if (!refused.shortfall) broken = "a shortfall is told";
    } else if (refused.error == LedgerError::unavailable) {
      ++counts.unavailable;
    } else if (told.what == What::reserve) {
      broken = "a reservation is refused: " + refused.message;
    }
    if (found == running_.end()) {
      // Its end was told already.
      const bool left = told.what == What::extend || (told.what == What::reserve && promises[told.id].settled);
      if (!left) broken = "what nobody runs is refused: " + refused.message;
      return;
    }
    Running& running = found->second;
    if (told.what == What::reserve) {
      // One that a caller left early has an end under way, and has given all back.
      if (running.ended) return;
      put_back(running.from_slice);
      running_.erase(found);
    } else if (told.what == What::extend) {
      running.extension.number = 0;
      if (told.from_slices && refused.error != LedgerError::already_ended)
        broken = "an extension is refused: " + refused.message;
    } else if (told.what == What::end) {
      if (running.durable) broken = "an end is refused: " + refused.message;
      running_.erase(found);
    } else {
      broken = "an attempt is refused: " + refused.message;
    }
  }
  void append_spool(const std::vector<storage::SpoolRecord>& records) {
    auto& spool = disk_spools_[me_];
    spool.insert(spool.end(), records.begin(), records.end());
    for (const storage::SpoolRecord& record : records) in_spool_.insert(record.sequence);
  }

  const HolderSetup setup_;
  const std::vector<std::string> budgets_;
  Random& random_;
  const Clock& clock_;
  UuidGenerator& ids_;
  Incarnation me_;
  std::optional<std::vector<Incarnation>> disk_holders_;
  std::map<Incarnation, std::vector<storage::SpoolRecord>> disk_spools_;
  std::set<std::uint64_t> in_spool_;  // sequences of this process
  std::set<Incarnation> done_;  // ended everywhere: the cluster forgot them
  std::unique_ptr<ShardStream> stream_;
  std::unique_ptr<SliceKeeper> keeper_;
  std::unique_ptr<HolderHandover> handover_;
  std::vector<std::shared_ptr<BudgetSlice>> slices_;  // of the budgets on the path
  std::map<RequestId, Running> running_;
  std::deque<Submitted> lanes_;
  std::map<std::uint64_t, Told> told_;  // by sequence, what nobody has heard of yet
  std::optional<std::vector<storage::SpoolRecord>> writing_;
};

}  // namespace outlast::cluster::simulation
