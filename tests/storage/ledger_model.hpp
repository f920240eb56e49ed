// A naive model of the ledger: maps and plain rules, slow and obvious, to compare the state machine
// with.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <variant>

#include "storage/ledger_state.hpp"

namespace outlast::storage {

class LedgerModel {
 public:
  struct Request {
    Reservation reservation;
    std::map<std::uint16_t, AttemptLine> attempts;
    std::optional<std::variant<Settlement, VoidReservation>> end;
    std::uint64_t order = 0;
  };
  struct Account {
    __int128 held = 0;
    __int128 used = 0;
    __int128 overrun = 0;
    bool operator==(const Account&) const = default;
  };
  // organisation/team/user, key, route, model, provider, deployment, status
  using RollupName =
      std::tuple<std::string, std::string, std::string, std::string, std::string, std::string, int>;

  Applied apply(const Reservation& operation, std::int64_t time_ms) {
    if (operation.request_id.unix_ms() < time_ms - dedup_age_ms_max)
      return no(LedgerError::too_old);
    const auto at = requests.find(operation.request_id);
    if (at != requests.end())
      return at->second.reservation == operation ? again() : no(LedgerError::duplicate);
    requests[operation.request_id] = {operation, {}, std::nullopt, ++order};
    tenants[operation.tenant.to_string()].held += operation.amount.value;
    return yes();
  }
  Applied apply(const AttemptLine& operation, std::int64_t) {
    const auto at = requests.find(operation.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    Request& request = at->second;
    const LedgerError otherwise = request.end ? LedgerError::already_ended : LedgerError::duplicate;
    const auto same_number = request.attempts.find(operation.number);
    if (same_number != request.attempts.end())
      return same_number->second == operation ? again() : no(otherwise);
    if (request.end) return no(otherwise);
    request.attempts[operation.number] = operation;
    charge(request, operation);
    return yes();
  }
  Applied apply(const Settlement& operation, std::int64_t) {
    const auto at = requests.find(operation.attempt.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    Request& request = at->second;
    if (request.end)
      return *request.end == std::variant<Settlement, VoidReservation>(operation)
                 ? again()
                 : no(LedgerError::already_ended);
    request.end = operation;
    charge(request, operation.attempt);
    UsageTotals& row =
        row_of(request, &operation.attempt, static_cast<int>(operation.attempt.status));
    ++row.requests;
    row.unpriced += operation.attempt.price_known ? 0 : 1;
    row.estimated += operation.attempt.estimated() ? 1 : 0;
    return ended(request, operation.attempt.cost, row);
  }
  Applied apply(const VoidReservation& operation, std::int64_t) {
    const auto at = requests.find(operation.request_id);
    if (at == requests.end()) return no(LedgerError::unknown_request);
    Request& request = at->second;
    if (request.end)
      return *request.end == std::variant<Settlement, VoidReservation>(operation)
                 ? again()
                 : no(LedgerError::already_ended);
    request.end = operation;
    UsageTotals& row = row_of(request, nullptr, status_void);
    ++row.requests;
    return ended(request, {}, row);
  }

  // What a restart does with what is open.
  std::size_t settle_open(std::int64_t time_ms) {
    std::map<std::uint64_t, Request*> open;
    for (auto& [id, request] : requests) {
      if (!request.end) open[request.order] = &request;
    }
    for (auto& [order, request] : open) {
      AttemptLine line;
      line.request_id = request->reservation.request_id;
      line.number = static_cast<std::uint16_t>(
          request->attempts.empty() ? 1 : request->attempts.rbegin()->first + 1);
      line.status = AttemptStatus::in_doubt;
      line.usage.source = UsageSource::estimated;
      line.usage.input_uncached = request->reservation.input_tokens_max;
      line.usage.output_text = request->reservation.output_tokens_max;
      line.price_known = request->reservation.price_known;
      __int128 left = request->reservation.amount.value;
      for (const auto& [number, attempt] : request->attempts) left -= attempt.cost.value;
      line.cost = {left > 0 ? left : 0};
      apply(Settlement{line}, time_ms);
    }
    return open.size();
  }

  std::map<RequestId, Request> requests;
  std::map<std::string, Account> tenants;
  std::map<std::string, Account> providers;
  std::map<RollupName, UsageTotals> rollups;
  std::uint64_t order = 0;

 private:
  static Applied yes(PicoUsd overrun = {}) { return {Outcome::applied, {}, overrun}; }
  static Applied again() { return {Outcome::duplicate, {}, {}}; }
  static Applied no(LedgerError error) { return {Outcome::refused, error, {}}; }

  UsageTotals& row_of(const Request& request, const AttemptLine* line, int status) {
    const Reservation& reservation = request.reservation;
    return rollups[{reservation.tenant.to_string(), reservation.key_id, reservation.route,
                    line ? line->model : "", line ? line->provider : "",
                    line ? line->deployment : "", status}];
  }
  void charge(const Request& request, const AttemptLine& line) {
    tenants[request.reservation.tenant.to_string()].used += line.cost.value;
    providers[line.provider].used += line.cost.value;
    UsageTotals& row = row_of(request, &line, static_cast<int>(line.status));
    ++row.attempts;
    const bool failed = line.status != AttemptStatus::ok &&
                        line.status != AttemptStatus::caller_gone &&
                        line.status != AttemptStatus::in_doubt;
    row.failed_attempts += failed ? 1 : 0;
    row.cost += line.cost;
    for (std::size_t i = 0; i < usage_bucket_count; ++i)
      row.tokens[i] += line.usage.*usage_buckets[i].member;
    if (line.status != AttemptStatus::in_doubt) row.duration.add(line.duration_ms);
    if (line.first_event_ms > 0) row.first_event.add(line.first_event_ms);
  }
  Applied ended(const Request& request, PicoUsd last_cost, UsageTotals& row) {
    Account& tenant = tenants[request.reservation.tenant.to_string()];
    tenant.held -= request.reservation.amount.value;
    __int128 total = last_cost.value;
    for (const auto& [number, attempt] : request.attempts) total += attempt.cost.value;
    const __int128 over = total - request.reservation.amount.value;
    if (!request.reservation.price_known || over <= 0) return yes();
    tenant.overrun += over;
    row.overrun.value += over;
    return yes({over});
  }
};

}  // namespace outlast::storage
