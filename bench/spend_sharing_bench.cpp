// What spend breakers over a whole cluster cost: bytes and time of a batch on its way, and how many events an engine counts.
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/check.hpp"
#include "gateway/spend_breaker_engine.hpp"
#include "proto/ask_codec.hpp"

using namespace outlast;

namespace {

using Steady = std::chrono::steady_clock;

constexpr std::size_t keys = 1'000;
constexpr std::size_t batch_events = 256;
constexpr int batches = 2'000;
constexpr int engine_events = 1'000'000;

double seconds_since(Steady::time_point began) { return std::chrono::duration<double>(Steady::now() - began).count(); }

std::vector<std::shared_ptr<const VirtualKey>> make_keys() {
  std::vector<std::shared_ptr<const VirtualKey>> made;
  for (std::size_t i = 0; i < keys; ++i) {
    auto key = std::make_shared<VirtualKey>();
    key->id = "key_" + std::to_string(10'000'000'000 + i);
    key->tenant = {"acme", "team-" + std::to_string(i % 20), "user-" + std::to_string(i)};
    made.push_back(std::move(key));
  }
  return made;
}

ask::SpendItem item_of(const std::shared_ptr<const VirtualKey>& key, std::size_t number) {
  ask::SpendItem item;
  item.key = key;
  item.tags = {"nightly"};
  item.session = "session-" + std::to_string(number % 500);
  item.provider = "openai";
  item.model = "gpt-4o-mini";
  item.conversation = number * 7'919;
  item.request = number * 104'729;
  item.cost.value = 1'000'000;
  item.age_ms = 20;
  item.duration_ms = 900;
  item.ended = true;
  return item;
}

void measure_batches(const std::vector<std::shared_ptr<const VirtualKey>>& known) {
  ask::SpendBatch batch;
  for (std::size_t i = 0; i < batch_events; ++i) batch.events.push_back(item_of(known[i * 31 % keys], i));
  auto began = Steady::now();
  FramePtr frame;
  for (int i = 0; i < batches; ++i) {
    auto made = ask::encode(batch);
    check(made.has_value(), "a batch fits a frame");
    frame = std::move(*made);
  }
  const double encoded_s = seconds_since(began);
  began = Steady::now();
  std::size_t events = 0;
  for (int i = 0; i < batches; ++i) events += std::get<ask::SpendBatch>(ask::decode(frame->bytes()).value()).events.size();
  const double decoded_s = seconds_since(began);
  const double all = static_cast<double>(events);
  std::printf("a batch of %zu events: %zu bytes, %.0f an event; written in %.0f ns an event, read in %.0f ns\n", batch_events,
              frame->size(), static_cast<double>(frame->size()) / batch_events, encoded_s / all * 1e9, decoded_s / all * 1e9);
}

SpendBreakerRule rule_of(const char* name, const char* scope, SpendLimit limit) {
  SpendBreakerRule rule;
  rule.name = name;
  rule.scope = *SpendScope::parse(scope);
  rule.limit = limit;
  return rule;
}

void measure_engine(const std::vector<std::shared_ptr<const VirtualKey>>& known, std::vector<SpendBreakerRule> rules) {
  const std::size_t count = rules.size();
  gateway::SpendBreakerEngine engine;
  engine.set_rules(std::move(rules));
  std::vector<gateway::SpendEvent> events;
  for (std::size_t i = 0; i < keys; ++i) {
    gateway::SpendEvent event;
    event.key = known[i];
    event.tags = {"nightly"};
    event.session = "session-" + std::to_string(i % 500);
    event.request = i + 1;
    event.provider = "openai";
    event.model = "gpt-4o-mini";
    event.cost.value = 1'000'000;
    event.ended = true;
    events.push_back(std::move(event));
  }
  const auto began = Steady::now();
  for (int i = 0; i < engine_events; ++i) {
    gateway::SpendEvent& event = events[static_cast<std::size_t>(i) % keys];
    event.time_ms = event.started_ms = i / 100;
    engine.record(event);
  }
  std::printf("%zu rules: %.0f events/s\n", count, engine_events / seconds_since(began));
}

}  // namespace

int main() {
  const auto known = make_keys();
  measure_batches(known);
  const PicoUsd much{__int128{1} << 100};
  const std::vector<SpendBreakerRule> four = {
      rule_of("window", "key:*", SpendWindowLimit{much, 3'600}),
      rule_of("rate", "user:*", SpendRateLimit{10, much}),
      rule_of("session", "key:*", SpendSessionLimit{0, much}),
      rule_of("repeats", "key:*", SpendRepeatLimit{1'000'000'000, 3'600})};
  measure_engine(known, {four[0]});
  measure_engine(known, four);
}
