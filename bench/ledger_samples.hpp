// What the ledger's benchmarks share: requests like real ones, and the processor's time.
#pragma once

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/metering.hpp"
#include "core/random.hpp"
#include "core/result.hpp"

namespace outlast::bench {

inline constexpr int users = 50;

inline double cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

template <class T>
void require(const Result<T>& result) {
  if (result) return;
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::exit(1);
}

inline Reservation reservation_of(const RequestId& id, Random& random) {
  Reservation reservation;
  reservation.request_id = id;
  const std::string user = "user-" + std::to_string(random.below(users));
  reservation.tenant = {"acme", "search", user};
  reservation.key_id = "key_" + user;
  reservation.route = "smart";
  reservation.amount = {25'000'000};
  reservation.price_known = true;
  reservation.input_tokens_max = 900;
  reservation.output_tokens_max = 256;
  reservation.candidates = {{"alpha", "claude-fable-5"}, {"beta", "gpt-fable"}};
  return reservation;
}

inline Settlement settlement_of(const RequestId& id, Random& random) {
  Settlement settlement;
  AttemptLine& line = settlement.attempt;
  line.request_id = id;
  line.number = 1;
  line.deployment = "fable-alpha";
  line.provider = "alpha";
  line.model = "claude-fable-5";
  line.http_status = 200;
  line.usage.input_uncached = 300 + random.below(500);
  line.usage.output_text = random.below(256);
  line.usage.source = UsageSource::reported;
  line.cost = {
      static_cast<__int128>(line.usage.input_uncached * 3'000 + line.usage.output_text * 15'000)};
  line.price_known = true;
  line.price_version = "2026-01";
  return settlement;
}

}  // namespace outlast::bench
