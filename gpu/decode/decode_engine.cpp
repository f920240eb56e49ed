#include "gpu/decode/decode_engine.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {

struct DecodeEngine::Answer {
  std::vector<TokenId> end_tokens;
  SamplingOptions sampling;
  std::unique_ptr<Constraint> constraint;
  StopStrings stop;
  TokenStream stream;
  std::size_t tokens_max = 0;
  DecodeUsage usage;
};

namespace {

constexpr std::size_t cached_tokens_max = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t end_tokens_max = 64;

DecoderLimits limits_of(const DecodeLimits& limits) {
  DecoderLimits decoder;
  decoder.rows = limits.rows;
  decoder.loss_rows = limits.sequences;
  decoder.chunk_rows = limits.sequences;
  decoder.positions = limits.positions;
  decoder.trains = false;
  return decoder;
}

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1U << 20) - 1) >> 20) + " MiB"; }

Result<void> check_limits(const ModelConfig& config, const DecodeLimits& limits) {
  if (limits.sequences == 0 || limits.page_rows == 0 || limits.pages == 0 || limits.positions == 0 || limits.waiting == 0)
    return fail(GpuError::invalid, "an engine runs at least one sequence of one token, and has a page and a queue for it");
  if (limits.rows < limits.sequences)
    return fail(GpuError::invalid, "a step of " + std::to_string(limits.rows) + " rows has none for each of " + std::to_string(limits.sequences) + " sequences");
  if (limits.positions > config.positions)
    return fail(GpuError::invalid, "sequences of " + std::to_string(limits.positions) + " tokens are asked for; the model was made for " + std::to_string(config.positions));
  if (limits.pages > cached_tokens_max / limits.page_rows) return fail(GpuError::too_large, "a cache holds at most " + std::to_string(cached_tokens_max) + " tokens");
  return {};
}

}  // namespace

DecodeMemory decode_memory(const ModelConfig& config, const DecodeLimits& limits, Dtype compute) {
  DecodeMemory memory;
  memory.cache = DecodeBatch::cache_bytes_of(config, limits, compute);
  memory.activations = Decoder::bytes_of(config, limits_of(limits), compute) + DecodeBatch::batch_bytes_of(config, limits, compute);
  return memory;
}

Result<void> check_fits(const ModelConfig& config, const DecodeLimits& limits, const Device& device) {
  const std::uint64_t free = device.memory().free_bytes;
  const DecodeMemory memory = decode_memory(config, limits, device.compute_dtype());
  if (memory.total() <= free) return {};
  std::string text = "the engine takes " + mib(memory.total()) + " (key-value cache of " + std::to_string(limits.pages * limits.page_rows) + " tokens " + mib(memory.cache) +
                     ", activations " + mib(memory.activations) + ") and " + device.name() + " has " + mib(free) + " free; ";
  const std::uint64_t page = memory.cache / limits.pages;
  const std::uint64_t pages = memory.activations < free ? (free - memory.activations) / page : 0;
  if (pages > 0) text += "a cache of " + std::to_string(pages * limits.page_rows) + " tokens fits";
  else text += "fewer rows in a step, or a smaller model, fit";
  return fail(GpuError::too_large, std::move(text));
}

DecodeEngine::DecodeEngine(Device& device, const ModelConfig& config, DecoderWeights weights, std::shared_ptr<const Tokenizer> tokenizer, const DecodeLimits& limits)
    : device_(device), config_(config), weights_(std::move(weights)), tokenizer_(std::move(tokenizer)), limits_(limits), tokens_(tokenizer_->size()),
      scheduler_(limits), sampler_(tokens_), mask_(tokens_) {}

DecodeEngine::~DecodeEngine() = default;

Result<std::unique_ptr<DecodeEngine>> DecodeEngine::make(Device& device, const ModelConfig& config, DecoderWeights weights, std::shared_ptr<const Tokenizer> tokenizer,
                                                         const DecodeLimits& limits) {
  if (Result<void> good = check_limits(config, limits); !good) return fail(std::move(good.error()));
  if (tokenizer->size() == 0 || tokenizer->size() > config.vocabulary)
    return fail(GpuError::invalid, "the tokenizer has " + std::to_string(tokenizer->size()) + " tokens and the model " + std::to_string(config.vocabulary));
  if (Result<void> fits = check_fits(config, limits, device); !fits) return fail(std::move(fits.error()));
  std::unique_ptr<DecodeEngine> engine(new DecodeEngine(device, config, std::move(weights), std::move(tokenizer), limits));
  auto batch = DecodeBatch::make(device, config, limits, engine->tokens_);
  if (!batch) return fail(std::move(batch.error()));
  auto decoder = Decoder::make(device, config, limits_of(limits));
  if (!decoder) return fail(std::move(decoder.error()));
  engine->batch_ = std::move(*batch);
  engine->decoder_ = std::move(*decoder);
  engine->repeats_ = device.make_repeats();
  return engine;
}

Result<RequestId> DecodeEngine::submit(DecodeRequest request) {
  const auto known = [this](TokenId token) { return token < tokens_; };
  if (!std::all_of(request.prompt.begin(), request.prompt.end(), known)) return fail(GpuError::invalid, "the prompt has a token that the tokenizer does not have");
  if (request.end_tokens.size() > end_tokens_max) return fail(GpuError::invalid, "at most " + std::to_string(end_tokens_max) + " tokens end an answer");
  if (Result<void> good = check_sampling(request.sampling); !good) return fail(std::move(good.error()));
  if (Result<void> good = check_stop_strings(request.stop); !good) return fail(std::move(good.error()));
  if (request.constraint && request.constraint->allowed().tokens() != tokens_) return fail(GpuError::invalid, "the constraint is of another vocabulary");
  DecodeUsage usage;
  usage.prompt_tokens = request.prompt.size();
  const RequestId id = next_;
  if (Result<void> added = scheduler_.add(id, std::move(request.prompt), request.tokens_max); !added) return fail(std::move(added.error()));
  ++next_;
  answers_.emplace(id, new Answer{std::move(request.end_tokens), request.sampling, std::move(request.constraint), StopStrings(std::move(request.stop)),
                                  TokenStream(tokenizer_), request.tokens_max, usage});
  return id;
}

bool DecodeEngine::cancel(RequestId id) {
  if (!answers_.contains(id)) return false;
  DecodeEvent event;
  event.request = id;
  event.finish = finish(id, FinishReason::cancelled, {});
  ended_.push_back(std::move(event));
  return true;
}

DecodeFinish DecodeEngine::finish(RequestId id, FinishReason reason, std::string error) {
  const auto at = answers_.find(id);
  DecodeFinish last{reason, at->second->usage, std::move(error)};
  const bool removed = scheduler_.remove(id);
  check(removed, "what has not ended is scheduled");
  answers_.erase(at);
  return last;
}

Result<void> DecodeEngine::step(const DecodeSink& sink) {
  for (std::size_t left = ended_.size(); left > 0; --left) {
    const DecodeEvent event = std::move(ended_.front());
    ended_.pop_front();
    sink(event);
  }
  const auto plan = scheduler_.plan();
  if (plan.empty()) return {};
  giving_.clear();
  for (const PlannedRows& rows : plan) {
    done_.rows += rows.rows;
    if (rows.gives_token()) giving_.push_back({rows.sequence->id, rows.sequence});
  }
  if (Result<void> computed = compute(plan); !computed) return computed;
  scheduler_.computed();
  ++done_.steps;
  // A sink may have cancelled a request whose turn comes.
  for (std::size_t row = 0; row < giving_.size(); ++row) {
    if (answers_.contains(giving_[row].request)) take_token(row, sink);
  }
  return {};
}

Result<void> DecodeEngine::compute(std::span<const PlannedRows> plan) {
  batch_->load(plan);
  if (batch_->giving().empty()) {
    decoder_->forward(weights_, batch_->batch());
    return device_.synchronize();
  }
  const auto forward = [this] { return decoder_->logits(weights_, batch_->batch(), batch_->giving(), tokens_); };
  const auto key = batch_->repeats_as();
  const Array logits = key ? repeats_->run(*key, forward) : forward();
  device_chooses_ = std::all_of(giving_.begin(), giving_.end(), [this](const Giving& giving) { return takes_likeliest(*answers_.at(giving.request)); });
  if (Result<void> fetched = device_chooses_ ? batch_->fetch_likeliest(logits) : batch_->fetch(logits); !fetched) return fetched;
  return device_.synchronize();
}

const TokenMask* DecodeEngine::allowed_of(Answer& answer) {
  if (!answer.constraint) return nullptr;
  mask_ = answer.constraint->allowed();
  if (!answer.constraint->may_end()) return &mask_;
  for (const TokenId token : answer.end_tokens) {
    if (token < tokens_) mask_.add(token);
  }
  return &mask_;
}

bool DecodeEngine::takes_likeliest(const Answer& answer) { return is_greedy(answer.sampling) && answer.sampling.top_log_p == 0 && !answer.constraint; }

Result<void> DecodeEngine::choose(std::size_t row, Answer& answer, DecodedToken& chosen) {
  if (device_chooses_) {
    const DecodeBatch::Token likeliest = batch_->likeliest(row);
    return take_likeliest(static_cast<TokenId>(likeliest.token), likeliest.log_p, chosen);
  }
  const TokenMask* const allowed = allowed_of(answer);
  if (allowed != nullptr && allowed->empty()) return fail(GpuError::unsupported, "the tokenizer's vocabulary lacks a token to go on with, as the constraint has it");
  return sampler_.choose(batch_->logits(row), allowed, answer.sampling, answer.usage.completion_tokens, chosen);
}

void DecodeEngine::take_token(std::size_t row, const DecodeSink& sink) {
  const Giving& giving = giving_[row];
  Answer& answer = *answers_.at(giving.request);
  answer.usage.cached_prompt_tokens = giving.sequence->cached;
  event_.request = giving.request;
  event_.text.clear();
  event_.finish.reset();
  if (!event_.token) event_.token.emplace();
  Result<void> chosen = choose(row, answer, *event_.token);
  if (!chosen) {
    event_.token.reset();
    event_.finish = finish(giving.request, FinishReason::error, std::move(chosen.error().message));
    return sink(event_);
  }
  const TokenId token = event_.token->token;
  giving.sequence->tokens.push_back(token);
  ++answer.usage.completion_tokens;
  ++done_.tokens;
  if (const auto reason = go_on(answer, token)) event_.finish = finish(giving.request, *reason, {});
  sink(event_);
}

std::optional<FinishReason> DecodeEngine::go_on(Answer& answer, TokenId token) {
  const bool may_end = !answer.constraint || answer.constraint->may_end();
  std::optional<FinishReason> reason;
  if (may_end && std::find(answer.end_tokens.begin(), answer.end_tokens.end(), token) != answer.end_tokens.end()) {
    reason = FinishReason::stop;
  } else {
    if (answer.stop.push(answer.stream.push(token), event_.text)) return FinishReason::stop;
    if (answer.constraint) {
      answer.constraint->advance(token);
      if (answer.constraint->may_end() && answer.constraint->allowed().empty()) reason = FinishReason::stop;
    }
    if (!reason && answer.usage.completion_tokens == answer.tokens_max) reason = FinishReason::length;
  }
  if (!reason) return reason;
  if (answer.stop.push(answer.stream.finish(), event_.text)) return FinishReason::stop;
  answer.stop.finish(event_.text);
  return reason;
}

DecodeStatistics DecodeEngine::statistics() const {
  DecodeStatistics now = done_;
  now.running = scheduler_.running();
  now.waiting = scheduler_.waiting();
  now.pages = scheduler_.pages().count();
  now.pages_used = now.pages - scheduler_.available();
  now.prefix_tokens = scheduler_.prefix_tokens();
  now.preemptions = scheduler_.preemptions();
  return now;
}

}  // namespace outlast::gpu
