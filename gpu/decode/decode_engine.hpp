// DecodeEngine: answers of one model to many requests at once. Each step computes one batch of single tokens and chunks of prompts
// (continuous batching; Yu et al. 2022) over a paged cache whose pages requests with the same beginning share.
//
// The same kernels as the trainer's: the log-probability of a token is minus the trainer's loss of it. Greedy answers and those of
// a seed do not depend on what else is running, but for rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/result.hpp"
#include "gpu/decode/constraint.hpp"
#include "gpu/decode/decode_batch.hpp"
#include "gpu/decode/sampler.hpp"
#include "gpu/decode/scheduler.hpp"
#include "gpu/decode/stop_strings.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/decoder.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu {

using RequestId = std::uint64_t;
using DecodeLimits = SchedulerLimits;

struct DecodeRequest {
  std::vector<TokenId> prompt;
  std::size_t tokens_max = 256;          // of the answer, its end token among them
  std::vector<TokenId> end_tokens;       // each ends the answer; under a constraint, only where that may end
  std::vector<std::string> stop;         // each ends the answer before itself
  SamplingOptions sampling;
  std::unique_ptr<Constraint> constraint;  // or none; an answer that can only end ends without an end token
};

enum class FinishReason : std::uint8_t {
  stop,       // the model ended, a stop string came, or a constraint was fulfilled
  length,     // tokens_max
  cancelled,
  error,
};
struct DecodeUsage {
  std::size_t prompt_tokens = 0;
  std::size_t cached_prompt_tokens = 0;  // of these, computed for an earlier request
  std::size_t completion_tokens = 0;     // the end token among them
};
struct DecodeFinish {
  FinishReason reason = FinishReason::stop;
  DecodeUsage usage;
  std::string error;
};

// What a step did for one request.
struct DecodeEvent {
  RequestId request = 0;
  std::string text;                   // whole characters that are certain now
  std::optional<DecodedToken> token;  // that came in this step; its text may come later, or not at all
  std::optional<DecodeFinish> finish; // the last event of a request has it, and only that
};
// May call submit() and cancel(). The event is the engine's own, until it returns.
using DecodeSink = std::function<void(const DecodeEvent&)>;

struct DecodeStatistics {
  std::size_t running = 0;
  std::size_t waiting = 0;
  std::size_t pages = 0;
  std::size_t pages_used = 0;          // by requests that run
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;              // tokens that were computed
  std::uint64_t tokens = 0;            // that were produced
  std::uint64_t prefix_tokens = 0;     // that were not computed again
  std::uint64_t preemptions = 0;
};

// Bytes on the device beside the weights; known before anything is allocated.
struct DecodeMemory {
  std::uint64_t cache = 0;
  std::uint64_t activations = 0;  // and the batch
  [[nodiscard]] std::uint64_t total() const { return cache + activations; }
};
DecodeMemory decode_memory(const ModelConfig& config, const DecodeLimits& limits, Dtype compute);
// Whether it fits. Errors: too_large, with the numbers and what would fit.
Result<void> check_fits(const ModelConfig& config, const DecodeLimits& limits, const Device& device);

// One owner.
class DecodeEngine {
 public:
  // `device` and what `weights` shows outlive it. Errors: too_large, invalid.
  static Result<std::unique_ptr<DecodeEngine>> make(Device& device, const ModelConfig& config, DecoderWeights weights, std::shared_ptr<const Tokenizer> tokenizer,
                                                    const DecodeLimits& limits);
  ~DecodeEngine();
  DecodeEngine(const DecodeEngine&) = delete;
  DecodeEngine& operator=(const DecodeEngine&) = delete;

  // Queues a request. Errors: overloaded (the queue is full), too_large (it could never run to its end), invalid.
  Result<RequestId> submit(DecodeRequest request);
  // Ends a request; its last event comes with the next step. False where there is none.
  bool cancel(RequestId id);
  // One batch. A request that fails ends with an event; the others go on. Errors: device.
  Result<void> step(const DecodeSink& sink);
  // Whether a step would have nothing to do.
  [[nodiscard]] bool idle() const { return answers_.empty() && ended_.empty(); }
  [[nodiscard]] DecodeStatistics statistics() const;

 private:
  struct Answer;   // one request's, as far as it came
  struct Giving {  // a sequence from which a token follows
    RequestId request = 0;
    Sequence* sequence = nullptr;
  };

  DecodeEngine(Device& device, const ModelConfig& config, DecoderWeights weights, std::shared_ptr<const Tokenizer> tokenizer, const DecodeLimits& limits);
  Result<void> compute(std::span<const PlannedRows> plan);
  // Of the row's sequence in giving_.
  void take_token(std::size_t row, const DecodeSink& sink);
  Result<void> choose(std::size_t row, Answer& answer, DecodedToken& chosen);
  static bool takes_likeliest(const Answer& answer);
  // The tokens that the answer's constraint allows now, its end among them; none without a constraint.
  const TokenMask* allowed_of(Answer& answer);
  // What the token, once chosen, means for the answer: text, and perhaps its end.
  std::optional<FinishReason> go_on(Answer& answer, TokenId token);
  DecodeFinish finish(RequestId id, FinishReason reason, std::string error);

  Device& device_;
  const ModelConfig config_;
  const DecoderWeights weights_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const DecodeLimits limits_;
  const std::size_t tokens_;  // the tokenizer's size: ids beyond are padding
  Scheduler scheduler_;
  Sampler sampler_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<DecodeBatch> batch_;
  std::unique_ptr<Repeats> repeats_;  // goes before what its steps work on
  std::unordered_map<RequestId, std::unique_ptr<Answer>> answers_;
  std::deque<DecodeEvent> ended_;  // that no step has told of yet
  bool device_chooses_ = false;  // in this step: all answers take the likeliest token
  std::vector<Giving> giving_;
  DecodeEvent event_;
  TokenMask mask_;
  RequestId next_ = 1;
  DecodeStatistics done_;  // what only grows
};

}  // namespace outlast::gpu
