// Simulator: a provider that speaks a real dialect over real sockets, with latency, pace and faults
// as told.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/outlast-sim/chat_request.hpp"
#include "apps/outlast-sim/fault.hpp"
#include "core/result.hpp"

namespace outlast::sim {

struct SimOptions {
  std::string listen = "127.0.0.1:0";
  std::string control;  // a second listener, which `refuse` leaves open; empty for none
  Dialect dialect = Dialect::openai;
  std::vector<std::string> models;
  std::uint64_t first_token_ms = 0;
  std::uint64_t tokens_per_s = 0;  // 0: no pace
  std::uint64_t tokens = 32;       // length of an answer
  std::uint64_t chunk_tokens = 1;  // per event of a stream
  std::uint64_t seed = 1;
  unsigned lanes = 1;
  std::string api_key;  // empty: any key, or none, is right
  std::vector<Fault> faults;
};

class Simulator {
 public:
  explicit Simulator(SimOptions options);
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  // Binds and listens, so that connections are accepted from now on.
  Result<void> start();
  // After start(): "HOST:PORT"; control is empty without a second listener.
  [[nodiscard]] const std::string& address() const;
  [[nodiscard]] const std::string& control_address() const;
  // Serves until SIGTERM or SIGINT.
  void run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outlast::sim
