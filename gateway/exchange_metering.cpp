#include "gateway/exchange_metering.hpp"

#include <algorithm>

#include "core/attempt_price.hpp"

namespace outlast::gateway {
namespace {

std::uint64_t tokens_of(std::uint64_t bytes) { return (bytes + bytes_per_token_estimate - 1) / bytes_per_token_estimate; }

// What is known before an answer.
PriceQuery price_query(const Snapshot& snapshot, std::uint32_t deployment, std::int64_t time_ms) {
  const Provider& provider = snapshot.routing->provider_of(deployment);
  return {.provider = provider.name,
          .model = snapshot.routing->deployments()[deployment].model,
          .geo = provider.region,
          .contract = provider.contract,
          .time_ms = time_ms};
}

}  // namespace

std::uint64_t output_tokens_bound(const ChatHead& head, const ServingPolicy& serving) {
  return head.max_tokens.value_or(serving.default_output_tokens_max);
}

Result<Reservation> worst_case_reservation(const Snapshot& snapshot, std::span<const std::uint32_t> deployments,
                                           const VirtualKey& key, const ChatHead& head, std::uint64_t input_bytes,
                                           std::int64_t time_ms) {
  Reservation reservation;
  reservation.tenant = key.tenant;
  reservation.key_id = key.id;
  reservation.route = head.model;
  reservation.input_tokens_max = input_bytes + template_tokens_max;
  reservation.output_tokens_max = std::min(output_tokens_bound(head, snapshot.serving), output_tokens_max_per_choice) *
                                  std::max<std::uint64_t>(head.choices, 1);
  reservation.price_known = true;
  for (const std::uint32_t index : deployments) {
    const Deployment& deployment = snapshot.routing->deployments()[index];
    const std::string& model = deployment.model;
    const Purchase candidate{deployment.provider, model};
    if (std::find(reservation.candidates.begin(), reservation.candidates.end(), candidate) ==
        reservation.candidates.end()) {
      reservation.candidates.push_back(candidate);
    }
    const auto amount = snapshot.prices->worst_case(price_query(snapshot, index, time_ms), reservation.input_tokens_max,
                                                    reservation.output_tokens_max);
    if (amount) {
      reservation.amount = std::max(reservation.amount, *amount);
    } else if (snapshot.serving.refuse_unpriced) {
      return fail(RoutingError::unpriced, "no price for model '" + model +
                                              "'; add it to the price book, or set [prices] unpriced = \"serve\"");
    } else {
      reservation.price_known = false;
    }
  }
  return reservation;
}

PicoUsd worst_case_amount(const Snapshot& snapshot, std::span<const std::uint32_t> deployments,
                          std::uint64_t input_tokens_max, std::uint64_t output_tokens_max, std::int64_t time_ms) {
  PicoUsd amount;
  for (const std::uint32_t index : deployments) {
    const auto worst = snapshot.prices->worst_case(price_query(snapshot, index, time_ms), input_tokens_max, output_tokens_max);
    amount = std::max(amount, worst.value_or(PicoUsd{}));
  }
  return amount;
}

AttemptLine make_attempt_line(const Snapshot& snapshot, std::uint32_t deployment, const RequestId& request_id,
                              const AttemptFacts& facts) {
  const Deployment& served_by = snapshot.routing->deployments()[deployment];
  AttemptLine line;
  line.request_id = request_id;
  line.number = facts.number;
  line.deployment = served_by.name;
  line.provider = served_by.provider;
  line.model = served_by.model;
  line.status = facts.status;
  line.http_status = facts.http_status;
  line.usage = facts.usage;
  line.first_event_ms = facts.first_event_ms;
  line.duration_ms = facts.duration_ms;
  line.price_version = snapshot.prices->version();
  const bool billed = facts.content_bytes > 0 || facts.status == AttemptStatus::ok ||
                      facts.status == AttemptStatus::caller_gone;
  // What was reported stands; what nobody counted (all of it, or the output of a stream that broke) is estimated.
  if (billed && facts.usage.source != UsageSource::reported) {
    line.usage.source = UsageSource::estimated;
    if (line.usage.input_total() == 0) line.usage.input_uncached = tokens_of(facts.input_bytes);
    const std::uint64_t output = std::min(tokens_of(facts.content_bytes), facts.output_tokens_max);
    line.usage.output_text = std::max(line.usage.output_text, output);
  }
  line.service_tier = facts.terms.service_tier;
  const Provider& provider = snapshot.routing->provider_of(deployment);
  line.inference_geo = facts.terms.inference_geo.empty() ? provider.region : facts.terms.inference_geo;
  line.batch = facts.terms.batch;
  line.contract = provider.contract;
  line.units = facts.terms.units;
  const std::optional<PicoUsd> cost = cost_of(*snapshot.prices, line);
  line.price_known = cost.has_value();
  line.cost = cost.value_or(PicoUsd{});
  return line;
}

}  // namespace outlast::gateway
