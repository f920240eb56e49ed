#include "apps/outlastd/metrics_text.hpp"

#include <algorithm>

#include "apps/outlastd/certificate_ends.hpp"
#include "apps/outlastd/cluster_metrics.hpp"
#include "apps/outlastd/metrics_writer.hpp"

namespace outlast::apps {
namespace {

using gateway::LaneMetrics;

struct CounterName {
  gateway::Counter LaneMetrics::*member;
  std::string_view name;
  std::string_view type;
  std::string_view help;
};
constexpr CounterName counters[] = {
    {&LaneMetrics::requests, "outlast_requests_total", "counter", "Chat requests with a valid key."},
    {&LaneMetrics::requests_in_flight, "outlast_requests_in_flight", "gauge", "Chat requests under way."},
    {&LaneMetrics::answered, "outlast_requests_answered_total", "counter", "Chat requests answered to their end."},
    {&LaneMetrics::refused, "outlast_requests_refused_total", "counter", "Chat requests that got an error answer."},
    {&LaneMetrics::unauthorised, "outlast_unauthorised_total", "counter", "Requests without a valid key."},
    {&LaneMetrics::cut, "outlast_answers_cut_total", "counter", "Answers that failed after their first content."},
    {&LaneMetrics::callers_gone, "outlast_callers_gone_total", "counter", "Callers that left before the end."},
    {&LaneMetrics::attempts, "outlast_upstream_attempts_total", "counter", "Upstream attempts."},
    {&LaneMetrics::failovers, "outlast_failovers_total", "counter", "Attempts after the first of their request."},
    {&LaneMetrics::usage_estimated, "outlast_usage_estimated_total", "counter", "Requests settled with estimated usage."},
    {&LaneMetrics::unpriced, "outlast_requests_unpriced_total", "counter", "Requests whose model has no price."},
    {&LaneMetrics::ledger_refusals, "outlast_ledger_refusals_total", "counter", "Requests that the ledger did not take."},
    {&LaneMetrics::admitted_in_slice, "outlast_budget_admissions_in_slice_total", "counter",
     "Requests under a hard budget that the node's slices covered."},
    {&LaneMetrics::admitted_in_step, "outlast_budget_admissions_synchronous_total", "counter",
     "Requests under a hard budget that waited for the ledger's word."},
    {&LaneMetrics::budget_refusals, "outlast_budget_refused_requests_total", "counter",
     "Requests refused for want of budget."},
    {&LaneMetrics::budget_cuts, "outlast_budget_cut_streams_total", "counter",
     "Streams cut since a budget had no more for them."},
    {&LaneMetrics::extensions, "outlast_reservation_extensions_total", "counter", "Further tranches of long streams."},
    {&LaneMetrics::answers_replayed, "outlast_idempotent_replays_total", "counter",
     "Repeated requests that got the first one's answer."},
    {&LaneMetrics::idempotency_refusals, "outlast_idempotency_refusals_total", "counter",
     "Repeated requests that were refused."},
    {&LaneMetrics::spend_held, "outlast_requests_spend_held_total", "counter", "Requests that a spend breaker held."},
    {&LaneMetrics::spend_throttled, "outlast_requests_spend_throttled_total", "counter",
     "Requests that a spend breaker throttled."},
    {&LaneMetrics::connections_open, "outlast_connections_open", "gauge", "Open connections of callers."},
    {&LaneMetrics::connections_accepted, "outlast_connections_accepted_total", "counter", "Accepted connections."},
    {&LaneMetrics::protocol_errors, "outlast_protocol_errors_total", "counter", "Requests refused as malformed HTTP."},
};

void histogram(MetricsWriter& text, const Daemon& daemon, gateway::LatencyHistogram LaneMetrics::*member, std::string_view name,
               std::string_view help) {
  text.head(name, "histogram", help);
  const std::string bucket = std::string(name) + "_bucket";
  std::uint64_t count = 0;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i <= gateway::latency_bounds_ms.size(); ++i) {
    for (const auto& lane : daemon.lanes()) count += (lane->metrics().*member).buckets[i].value();
    const bool last = i == gateway::latency_bounds_ms.size();
    text.value(bucket, metric_label("le", last ? "+Inf" : std::to_string(gateway::latency_bounds_ms[i])), count);
  }
  for (const auto& lane : daemon.lanes()) sum += (lane->metrics().*member).sum_ms.value();
  text.value(std::string(name) + "_sum", "", sum);
  text.value(std::string(name) + "_count", "", count);
}

void rate_limit_metrics(MetricsWriter& text, const Daemon& daemon) {
  constexpr std::string_view name = "outlast_rate_limited_total";
  text.head(name, "counter", "Requests that a rate limit refused, and deployments that one left out.");
  for (std::size_t kind = 0; kind < std::size(gateway::rate_scope_kind_names); ++kind) {
    for (const bool of_tokens : {false, true}) {
      std::uint64_t sum = 0;
      for (const auto& lane : daemon.lanes()) sum += lane->metrics().limited[kind][of_tokens ? 1 : 0].value();
      std::string labels = metric_label("scope", gateway::rate_scope_kind_names[kind]);
      labels.insert(labels.size() - 1, of_tokens ? R"(,limit="tokens")" : R"(,limit="requests")");
      text.value(name, labels, sum);
    }
  }
}

void deployment_metrics(MetricsWriter& text, const actors::DeploymentList& deployments) {
  const auto each = [&](std::string_view name, std::string_view type, std::string_view help, auto read) {
    text.head(name, type, help);
    for (const auto& status : deployments) text.value(name, metric_label("deployment", status.name), read(status));
  };
  each("outlast_deployment_breaker", "gauge", "0 closed, 1 open, 2 half-open.",
       [](const auto& status) { return static_cast<std::uint64_t>(status.breaker); });
  each("outlast_deployment_in_flight", "gauge", "Requests under way.",
       [](const auto& status) { return std::uint64_t{status.in_flight}; });
  each("outlast_deployment_successes_total", "counter", "Attempts that the deployment answered.",
       [](const auto& status) { return status.successes; });
  each("outlast_deployment_failures_total", "counter", "Attempts that failed by the deployment's fault.",
       [](const auto& status) { return status.failures; });
}

void spend_metrics(MetricsWriter& text, const actors::SpendCounters& spend, const actors::SpendNotifierCounters& notices) {
  text.one("outlast_spend_breakers_open", "gauge", "Spend breakers that are open or half-open.", spend.open.load());
  text.one("outlast_spend_breaker_trips_total", "counter", "Spend breakers that tripped.", spend.trips.load());
  text.one("outlast_spend_breaker_resets_total", "counter", "Spend breakers that a person closed.", spend.resets.load());
  text.one("outlast_spend_breaker_closed_total", "counter", "Spend breakers that closed by themselves.",
           spend.closed.load());
  text.one("outlast_spend_breaker_trips_dropped_total", "counter", "Trips while too many breakers were open.",
           spend.trips_dropped.load());
  text.one("outlast_spend_breaker_not_recorded_total", "counter", "Changes that the ledger did not take.",
           spend.not_recorded.load());
  text.one("outlast_spend_tracked", "gauge", "Scopes and sessions that spend breakers count.", spend.tracked.load());
  text.one("outlast_spend_events_total", "counter", "Reports of spend.", spend.events.load());
  text.one("outlast_spend_events_dropped_total", "counter", "Reports of spend that found no room.",
           spend.events_dropped.load());
  text.one("outlast_spend_events_untold_total", "counter", "Reports of spend that found no room on the way to another node.",
           spend.events_untold.load());
  text.one("outlast_spend_peer_events_total", "counter", "Reports of spend by other nodes.", spend.peer_events.load());
  text.one("outlast_spend_peer_events_missed_total", "counter", "Reports of spend by other nodes that did not arrive.",
           spend.peer_events_missed.load());
  text.head("outlast_spend_notices_total", "counter", "Notices of spend breakers, by how they ended.");
  const auto notice = [&text](std::string_view outcome, std::uint64_t count) {
    text.value("outlast_spend_notices_total", metric_label("outcome", outcome), count);
  };
  notice("webhook_delivered", notices.webhooks_delivered.load());
  notice("webhook_failed", notices.webhooks_failed.load());
  notice("command_done", notices.commands_done.load());
  notice("command_failed", notices.commands_failed.load());
  notice("dropped", notices.dropped.load());
  text.one("outlast_spend_webhook_retries_total", "counter", "Attempts after the first of a webhook's delivery.",
           notices.webhook_retries.load());
}

void budget_metrics(MetricsWriter& text, const Daemon& daemon) {
  const auto snapshot = daemon.board().get();
  if (!snapshot || !snapshot->budgets || snapshot->budgets->by_scope.empty()) return;
  const BudgetBook& book = *snapshot->budgets;
  text.head("outlast_budget_refusals_total", "counter", "Requests and streams refused, by the budget that was short.");
  book.by_scope.visit_all([&text](const BudgetBook::Entry& entry) {
    if (!entry.budget.soft) text.value("outlast_budget_refusals_total", metric_label("budget", entry.budget.id), entry.refusals());
  });
}

}  // namespace

std::string metrics_text(const Daemon& daemon, const storage::LedgerStore::Status& ledger,
                         const actors::DeploymentList& deployments) {
  MetricsWriter text;
  for (const CounterName& counter : counters) {
    std::uint64_t sum = 0;
    for (const auto& lane : daemon.lanes()) sum += (lane->metrics().*counter.member).value();
    text.one(counter.name, counter.type, counter.help, sum);
  }
  histogram(text, daemon, &LaneMetrics::first_content_ms, "outlast_first_content_milliseconds",
            "From the request to its first content.");
  histogram(text, daemon, &LaneMetrics::duration_ms, "outlast_duration_milliseconds", "From the request to its end.");
  rate_limit_metrics(text, daemon);
  deployment_metrics(text, deployments);
  budget_metrics(text, daemon);
  spend_metrics(text, daemon.spend_counters(), daemon.notifier().counters());
  text.one("outlast_ledger_entries", "gauge", "Entries in the ledger.", ledger.entries);
  text.one("outlast_ledger_open_reservations", "gauge", "Reservations that are not settled yet.", ledger.open_reservations);
  text.one("outlast_ledger_queued_operations", "gauge", "Operations that wait for the committer.", ledger.queued_operations);
  text.one("outlast_ledger_batches_total", "counter", "Synced batches.", ledger.batches);
  text.one("outlast_ledger_commit_microseconds", "gauge", "Duration of the last synced batch.", ledger.commit_us_last);
  text.one("outlast_ledger_disk_free_bytes", "gauge", "Free bytes where the ledger is.", ledger.free_bytes);
  text.one("outlast_ledger_disk_full", "gauge", "1 while new reservations are refused.", ledger.disk_full ? 1 : 0);
  if (const auto ends = certificate_ends(daemon.config()); !ends.empty()) {
    text.head("outlast_certificate_end_seconds", "gauge", "When a file's first certificate ends, in seconds since 1970.");
    for (const CertificateEnd& one : ends)
      text.value("outlast_certificate_end_seconds", metric_label("file", one.file), static_cast<std::uint64_t>(std::max<std::int64_t>(one.end_ms, 0) / 1'000));
  }
  if (const auto* listener = daemon.listener()) {
    const auto counts = listener->counters();
    text.one("outlast_links", "gauge", "Links of client actors.", counts.peers);
    text.one("outlast_link_calls_in_flight", "gauge", "Chats of client actors under way.", counts.calls_in_flight);
    text.one("outlast_link_calls_total", "counter", "Chats of client actors.", counts.calls);
    text.one("outlast_link_refused_total", "counter", "Hellos and chats that were refused.", counts.refused);
  }
  if (const ClusterPart* part = daemon.cluster()) cluster_metrics(text, *part);
  return text.take();
}

}  // namespace outlast::apps
