// Faults: what the simulator does wrong on purpose, set by flag or at run time (POST /sim/faults).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.hpp"
#include "core/result.hpp"

namespace outlast::sim {

enum class FaultKind : std::uint8_t {
  status,             // an error status instead of an answer
  error_first_event,  // status 200, then an error as the first event
  cut,                // the connection closes after `after_tokens` (default: half of the answer)
  close,              // the connection closes without an answer
  stall,              // nothing more comes after `after_tokens` (default: not even a head)
  slow,               // another first-token delay and pace
  wrong_usage,        // usage multiplied by `factor`
  missing_usage,      // no usage
  refuse,  // the listening socket is closed, for `for_ms` or until the faults are replaced
};

struct Fault {
  FaultKind kind = FaultKind::status;
  unsigned status = 500;
  std::optional<std::uint64_t> retry_after_s;
  std::string type;     // of the error; by status when empty
  std::string code;     // of the error (OpenAI only); by status when empty
  std::string message;  // of the error
  std::string model;    // only for requests of this model; empty for all
  double probability = 1.0;
  std::uint64_t count = 0;  // how many requests it hits; 0: no limit
  std::optional<std::uint64_t> after_tokens;
  std::uint64_t stall_ms = 0;  // 0: until the caller goes, at most `stall_ms_max`
  std::uint64_t first_token_ms = 0;
  std::uint64_t tokens_per_s = 0;
  std::uint64_t factor = 10;
  std::uint64_t for_ms = 0;  // refuse: 0 for until the faults are replaced
};

inline constexpr std::uint64_t stall_ms_max = 600'000;
inline constexpr std::size_t faults_max = 64;

// One JSON object or a list of them; the error says which field is wrong.
tl::expected<std::vector<Fault>, std::string> read_faults(std::string_view json);
// A flag's value: JSON, or "kind=status,status=429,count=3".
tl::expected<std::vector<Fault>, std::string> read_fault_flag(std::string_view text);

// The faults in force. Any thread.
class FaultBoard {
 public:
  explicit FaultBoard(std::uint64_t seed) : random_(seed) {}
  void replace(std::vector<Fault> faults);
  // The first fault that hits this request, counted down; none on the ordinary path without a lock.
  std::optional<Fault> take(std::string_view model);
  // What is left, as JSON.
  [[nodiscard]] std::string describe() const;

 private:
  std::atomic<bool> any_{false};
  mutable std::mutex mutex_;
  std::vector<Fault> faults_;
  Random random_;
};

}  // namespace outlast::sim
