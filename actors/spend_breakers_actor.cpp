#include "actors/spend_breakers_actor.hpp"

#include <algorithm>

#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/durable_write.hpp"
#include "actors/spend_history.hpp"
#include "actors/spend_notice.hpp"
#include "core/log.hpp"

namespace outlast::actors {
namespace {

constexpr auto tick_least = std::chrono::milliseconds(10);
constexpr auto tick_most = std::chrono::milliseconds(250);

Done as_done(Result<void> result) {
  if (!result) return fail(std::move(result.error()));
  return true;
}

void arm(SpendBreakers::pointer self, SpendBreakersState& state) {
  if (state.armed) return;
  const auto due = state.due();
  if (!due) return;
  state.armed = true;
  self->delayed_send(self, std::clamp<std::chrono::milliseconds>(*due, tick_least, tick_most), tick_atom::value);
}

void not_recorded(SpendCounters& counters, const SpendNotice& notice, const Error& error) {
  counters.not_recorded.fetch_add(1);
  log::error("spend_breaker_not_recorded", {{"delivery", notice.id}, {"error", error.message}});
}

}  // namespace

SpendBreakersState::SpendBreakersState(SpendBreakersDependencies dependencies)
    : dependencies_(std::move(dependencies)), gates_(dependencies_.board) {}

Done SpendBreakersState::configure(std::shared_ptr<const gateway::SpendConfig> config) {
  const bool first = config_ == nullptr;
  config_ = std::move(config);
  if (first) {
    if (auto restored = restore(); !restored) {
      config_.reset();
      return restored;
    }
  }
  apply_rules();
  if (first) recall();
  return true;
}

Done SpendBreakersState::restore() {
  const auto records = dependencies_.read_records();
  if (!records) return fail(records.error());
  for (const auto& [name, definition] : records->definitions) {
    auto rule = dependencies_.parse_rule(definition);
    if (rule) api_rules_[name] = std::move(*rule);
    else log::error("spend_rule_unreadable", {{"rule", name}, {"error", rule.error().message}});
  }
  const std::int64_t wall_ms = dependencies_.clock.wall_ms();
  for (const BreakerRecord& record : records->open) {
    engine_.restore(record.trip, now_ms() - std::max<std::int64_t>(0, wall_ms - record.tripped_ms));
  }
  for (const auto& [id, allowance] : records->allowances) engine_.restore_allowance(id, allowance);
  if (!alone()) entries_.restore(records->open, wall_ms, now_ms());
  return true;
}

bool SpendBreakersState::in_file(std::string_view name) const {
  return std::any_of(config_->rules.begin(), config_->rules.end(),
                     [name](const gateway::SpendFileRule& rule) { return rule.rule.name == name; });
}

void SpendBreakersState::apply_rules() {
  std::vector<SpendBreakerRule> rules;
  for (const gateway::SpendFileRule& rule : config_->rules) rules.push_back(rule.rule);
  for (const auto& [name, rule] : api_rules_) {
    if (in_file(name) || rules.size() == spend_rules_max) {
      log::warning("spend_rule_ignored", {{"rule", name}, {"why", in_file(name) ? "the file has one of that name"
                                                                               : "there are too many rules"}});
      continue;
    }
    rules.push_back(rule);
  }
  engine_.set_rules(std::move(rules));
  follow_changes();
  for (const auto& [id, breaker] : engine_.open()) {  // as the rules are now
    gates_.tripped(breaker, link_of(id));
    if (breaker.state == gateway::SpendState::half_open) gates_.half_opened(id);
  }
  publish();
}

void SpendBreakersState::recall() {
  if (engine_.rules().empty()) return;
  SpendHistory history(dependencies_.clock.wall_ms(), now_ms());
  const auto read = dependencies_.read_history([this, &history](const storage::StoredEntry& entry) {
    if (const auto* reset = std::get_if<BreakerReset>(&entry.body)) engine_.recall_reset(reset->id, reset->allowance);
    else if (const auto* trip = std::get_if<BreakerTripped>(&entry.body)) engine_.recall_trip(trip->id);
    else if (const auto event = history.read(entry)) engine_.recall(*event);
  });
  // Counting then starts at nothing, which is no reason not to serve.
  if (!read) log::error("spend_history_unreadable", {{"error", read.error().message}});
  dependencies_.counters.tracked.store(engine_.tracked());
}

void SpendBreakersState::take(const SpendReport& report) {
  if (!config_) return;
  for (const gateway::SpendEvent& event : report.events) engine_.record(event);
  const bool of_peers = report.origin == SpendOrigin::peers;
  (of_peers ? dependencies_.counters.peer_events : dependencies_.counters.events).fetch_add(report.events.size());
  if (!of_peers && dependencies_.share) dependencies_.share(report.events);
  follow_changes();
}

void SpendBreakersState::tick() {
  engine_.advance(now_ms());
  follow_changes();
  if (!alone()) follow_entries();
}

std::optional<std::chrono::milliseconds> SpendBreakersState::due() const {
  std::optional<std::int64_t> due_ms = engine_.next_due_ms();
  const auto at_latest = [&due_ms](std::int64_t time_ms) { due_ms = due_ms ? std::min(*due_ms, time_ms) : time_ms; };
  if (const auto waits_until = entries_.next_due_ms()) at_latest(*waits_until);
  const std::lock_guard lock(recording_->mutex);
  const bool answers = recording_->under_way > 0 || !recording_->refused.empty();
  if (answers || entries_.keeps_untold()) at_latest(now_ms() + tick_most.count());
  if (!due_ms) return std::nullopt;
  return std::chrono::milliseconds(*due_ms - now_ms());
}

void SpendBreakersState::follow_changes() {
  dependencies_.counters.tracked.store(engine_.tracked());
  dependencies_.counters.trips_dropped.store(engine_.trips_dropped());
  const auto changes = engine_.take_changes();
  if (changes.empty()) return;
  for (const gateway::SpendChange& change : changes) {
    switch (change.kind) {
      case gateway::SpendChangeKind::tripped: tripped(change.breaker); break;
      case gateway::SpendChangeKind::closed: closed(change.breaker, change.reason); break;
      case gateway::SpendChangeKind::half_opened:
        gates_.half_opened(change.breaker.trip.id);
        log::info("spend_breaker_half_open", {{"breaker", change.breaker.trip.id}, {"rule", change.breaker.trip.rule}});
        break;
    }
  }
  publish();  // before the ledger has written: a hold does not wait for the disk
}

void SpendBreakersState::tripped(const gateway::OpenBreaker& breaker) {
  const BreakerTripped& trip = breaker.trip;
  dependencies_.counters.trips.fetch_add(1);
  log::warning("spend_breaker_tripped", {{"breaker", trip.id}, {"rule", trip.rule}, {"scope", trip.scope},
                                         {"session", trip.session}, {"action", name_of(trip.action)}, {"why", trip.why}});
  gates_.tripped(breaker, link_of(trip.id));
  record({trip, {"tripped", trip, {}, {}, dependencies_.clock.wall_ms()}});
}

void SpendBreakersState::closed(const gateway::OpenBreaker& breaker, const std::string& reason) {
  dependencies_.counters.closed.fetch_add(1);
  log::info("spend_breaker_closed", {{"breaker", breaker.trip.id}, {"rule", breaker.trip.rule}, {"reason", reason}});
  gates_.closed(breaker.trip.id);
  const std::string by(closed_by_itself);
  record({BreakerReset{breaker.trip.id, by, reason, {}},
          {"closed", breaker.trip, by, reason, dependencies_.clock.wall_ms()}});
}

void SpendBreakersState::record(BreakerChange change) {
  if (alone()) return write(std::move(change));
  entries_.changed(std::move(change), now_ms());
  follow_entries();
}

void SpendBreakersState::follow_entries() {
  std::vector<BreakerChange> refused;
  {
    const std::lock_guard lock(recording_->mutex);
    refused.swap(recording_->refused);
  }
  for (BreakerChange& change : refused) {
    const bool trips = std::holds_alternative<BreakerTripped>(change.operation);
    if (trips == engine_.open().contains(change.event.trip.id)) entries_.not_recorded(std::move(change), now_ms());
  }
  const bool leads = dependencies_.leads();
  for (BreakerChange& change : entries_.due(leads, now_ms())) write(std::move(change));
  for (const BreakerEvent& event : entries_.to_tell(leads, now_ms())) {
    SpendNotice told = notice(event);
    told.delivered = dependencies_.tell_delivered;
    dependencies_.notices.notify(std::move(told));
  }
}

// People are told once it is durable. Where the ledger does not take it they are told all the same: money is being spent.
void SpendBreakersState::write(BreakerChange change) {
  if (!alone()) return write_shared(std::move(change));
  SpendNotice told = notice(change.event);
  dependencies_.record(std::move(change.operation), [&notices = dependencies_.notices, &counters = dependencies_.counters,
                                                     notice = std::move(told)](const Result<void>& written) {
    if (!written) not_recorded(counters, notice, written.error());
    notices.notify(notice);
  });
}

// The same in a cluster: whom follow_entries() says tells of the entry, and what found no way to it is tried again.
void SpendBreakersState::write_shared(BreakerChange change) {
  {
    const std::lock_guard lock(recording_->mutex);
    ++recording_->under_way;
  }
  BreakerOperation operation = change.operation;
  const SpendNotice told = notice(change.event);
  const auto then = [&notices = dependencies_.notices, &counters = dependencies_.counters, recording = recording_, told,
                     change = std::move(change)](const Result<void>& written) mutable {
    const std::lock_guard lock(recording->mutex);
    --recording->under_way;
    const bool closes = std::holds_alternative<BreakerReset>(change.operation);
    // Another node's entry closed it before.
    if (written || (closes && is(written.error(), storage::LedgerError::unknown_breaker))) return;
    if (!change.told) {
      not_recorded(counters, told, written.error());
      notices.notify(told);
    }
    change.told = true;
    recording->refused.push_back(change);
  };
  dependencies_.record(std::move(operation), then);
}

SpendNotice SpendBreakersState::notice(const BreakerEvent& event) const {
  return spend_notice(event, *config_, link_of(event.trip.id));
}

std::string SpendBreakersState::link_of(const std::string& id) const { return config_->link_base + "/breakers/" + id; }

void SpendBreakersState::publish() {
  dependencies_.counters.open.store(engine_.open().size());
  gates_.publish(engine_.rules());
}

Done SpendBreakersState::reset(const ResetBreaker& request) {
  const auto found = engine_.open().find(request.id);
  if (found == engine_.open().end()) {
    return fail(ActorError::not_found, "no spend breaker '" + request.id + "' is open; 'outlast breaker list' shows those that are");
  }
  const BreakerTripped trip = found->second.trip;
  if (auto waiting = entries_.take(request.id)) write(std::move(*waiting));  // the entry of the trip comes first
  auto written = write_durably([this, &request](auto done) {
    dependencies_.record(BreakerReset{request.id, request.by, request.reason, request.allowance}, std::move(done));
  });
  // Of a trip that the ledger did not take, there is nothing to reset in it.
  if (!written && !is(written.error(), storage::LedgerError::unknown_breaker)) return as_done(std::move(written));
  engine_.reset(request.id, request.allowance);
  gates_.closed(request.id);
  publish();
  dependencies_.counters.resets.fetch_add(1);
  log::info("spend_breaker_reset", {{"breaker", request.id}, {"by", request.by}, {"reason", request.reason},
                                    {"allowance_usd", request.allowance.to_usd()}});
  if (written && !alone()) {
    own_resets_.insert(request.id);  // people are told of its entry, which comes as news
  } else {
    dependencies_.notices.notify(notice({"reset", trip, request.by, request.reason, dependencies_.clock.wall_ms()}));
  }
  return true;
}

Done SpendBreakersState::add_rule(const AddBreakerRule& request) {
  const std::string& name = request.rule.name;
  if (in_file(name)) {
    return fail(ActorError::refused, "the node's configuration has a rule '" + name + "'; change it there, or give this one another name");
  }
  if (!api_rules_.contains(name) && config_->rules.size() + api_rules_.size() >= spend_rules_max) {
    return fail(ActorError::refused, "there are " + std::to_string(spend_rules_max) + " rules already; remove one first");
  }
  auto written = write_durably([this, &request, &name](auto done) {
    dependencies_.record(BreakerRuleChange{name, request.definition, request.by, request.reason}, std::move(done));
  });
  if (!written) return as_done(std::move(written));
  api_rules_[name] = request.rule;
  log::info("spend_rule_added", {{"rule", name}, {"by", request.by}, {"reason", request.reason}});
  apply_rules();
  return true;
}

Done SpendBreakersState::remove_rule(const RemoveBreakerRule& request) {
  if (!api_rules_.contains(request.name)) {
    return in_file(request.name)
               ? fail(ActorError::refused, "the rule '" + request.name + "' stands in the node's configuration; remove it there")
               : fail(ActorError::not_found, "there is no rule '" + request.name + "'; 'outlast breaker rules' shows all");
  }
  auto written = write_durably([this, &request](auto done) {
    dependencies_.record(BreakerRuleChange{request.name, {}, request.by, request.reason}, std::move(done));
  });
  if (!written) return as_done(std::move(written));
  api_rules_.erase(request.name);
  log::info("spend_rule_removed", {{"rule", request.name}, {"by", request.by}, {"reason", request.reason}});
  apply_rules();
  return true;
}

void SpendBreakersState::follow(const BreakerNews& news) {
  if (!config_) return;  // restore() will read all of it
  bool rules_changed = false;
  for (const BreakerEntry& entry : news.entries) {
    if (const auto* trip = std::get_if<BreakerTripped>(&entry.operation)) follow_trip(entry, *trip);
    else if (const auto* reset = std::get_if<BreakerReset>(&entry.operation)) follow_reset(entry, *reset);
    else rules_changed |= follow_rule(std::get<BreakerRuleChange>(entry.operation));
  }
  for (const std::string& delivery : news.told) entries_.told(delivery);
  if (rules_changed) apply_rules();
  publish();
  if (!alone()) follow_entries();
}

void SpendBreakersState::follow_trip(const BreakerEntry& entry, const BreakerTripped& trip) {
  own_resets_.erase(trip.id);
  const bool news = entries_.entered(entry, engine_.half_open_after_s(trip.rule), now_ms());
  const auto known = engine_.open().find(trip.id);
  if (known != engine_.open().end() && (!news || known->second.state == gateway::SpendState::open)) return;
  engine_.restore(trip, now_ms());
  const auto opened = engine_.open().find(trip.id);
  if (opened != engine_.open().end()) gates_.tripped(opened->second, link_of(trip.id));
}

void SpendBreakersState::follow_reset(const BreakerEntry& entry, const BreakerReset& reset) {
  entries_.entered(entry, 0, now_ms());
  if (own_resets_.erase(reset.id) > 0) return;  // what may have tripped since then is not what it closed
  const bool closed = reset.by == closed_by_itself ? engine_.close(reset.id) : engine_.reset(reset.id, reset.allowance);
  if (closed) gates_.closed(reset.id);
}

bool SpendBreakersState::follow_rule(const BreakerRuleChange& change) {
  if (change.definition.empty()) return api_rules_.erase(change.name) > 0;
  auto rule = dependencies_.parse_rule(change.definition);
  if (!rule) {
    log::error("spend_rule_unreadable", {{"rule", change.name}, {"error", rule.error().message}});
    return false;
  }
  const auto known = api_rules_.find(change.name);
  if (known != api_rules_.end() && known->second == *rule) return false;
  api_rules_[change.name] = std::move(*rule);
  return true;
}

BreakerReport SpendBreakersState::report() const {
  BreakerReport report;
  if (!config_) return report;
  const std::int64_t wall_ms = dependencies_.clock.wall_ms();
  for (const auto& [id, breaker] : engine_.open()) {
    BreakerStatus status{breaker.trip, breaker.state, wall_ms - (now_ms() - breaker.since_ms), std::nullopt, link_of(id)};
    if (breaker.half_opens_ms && breaker.state == gateway::SpendState::open) {
      status.half_opens_in_ms = std::max<std::int64_t>(0, *breaker.half_opens_ms - now_ms());
    }
    report.breakers.push_back(std::move(status));
  }
  for (SpendBreakerRule& rule : engine_.rules()) {
    const bool from_file = in_file(rule.name);
    report.rules.push_back({std::move(rule), from_file});
  }
  return report;
}

SpendBreakers::behavior_type spend_breakers_actor(SpendBreakers::pointer self, std::shared_ptr<SpendBreakersState> state) {
  return {
      [self, state](const SpendReport& report) {
        state->take(report);
        arm(self, *state);
      },
      [self, state](tick_atom) {
        state->armed = false;
        state->tick();
        arm(self, *state);
      },
      [self, state](const BreakerNews& news) {
        state->follow(news);
        arm(self, *state);
      },
      [self, state](const ApplySpendConfig& apply) {
        Done done = state->configure(apply.config);
        arm(self, *state);
        return done;
      },
      [state](const ResetBreaker& request) { return state->reset(request); },
      [state](const AddBreakerRule& request) { return state->add_rule(request); },
      [state](const RemoveBreakerRule& request) { return state->remove_rule(request); },
      [state](breakers_atom) { return state->report(); },
  };
}

}  // namespace outlast::actors
