#include "apps/outlast-gpu-worker/generator.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::worker {
namespace {

namespace fs = std::filesystem;
using gpu::GpuError;
using work::EventKind;

constexpr std::size_t positions_max = 8'192;      // of one answer and its prompt
constexpr std::size_t sequences = 16;             // that run at once
constexpr std::size_t rows = 256;                 // tokens of one step
constexpr std::size_t tokens_kept_max = 65'536;   // in the cache
constexpr double memory_share = 0.5;              // of what is free beside the weights, for the cache

// Tells a model from one that was written over it.
std::string stamp_of(const std::string& folder) {
  std::string stamp;
  for (const char* const name : {"config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"}) {
    struct stat status {};
    if (::stat((fs::path(folder) / name).c_str(), &status) != 0) continue;
    stamp += std::to_string(status.st_ino) + ":" + std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec) + ":" +
             std::to_string(status.st_size) + ";";
  }
  return stamp;
}

gpu::DecodeLimits limits_of(const gpu::ModelConfig& config, const gpu::Device& device) {
  gpu::DecodeLimits limits;
  limits.sequences = sequences;
  limits.rows = rows;
  limits.positions = std::min<std::size_t>(config.positions, positions_max);
  limits.waiting = work::prompts_max * 4;
  const std::size_t page_bytes = gpu::decode_memory(config, limits, device.compute_dtype()).cache / limits.pages;
  const auto affordable = static_cast<std::size_t>(static_cast<double>(device.memory().free_bytes) * memory_share) / std::max<std::size_t>(page_bytes, 1);
  const std::size_t one = (limits.positions + limits.page_rows - 1) / limits.page_rows;  // what one sequence may take
  limits.pages = std::max(std::min(affordable, tokens_kept_max / limits.page_rows), one);
  return limits;
}

const char* reason_name(gpu::FinishReason reason) {
  switch (reason) {
    case gpu::FinishReason::stop: return "stop";
    case gpu::FinishReason::length: return "length";
    case gpu::FinishReason::cancelled: return "cancelled";
    case gpu::FinishReason::error: return "error";
  }
  return "error";
}

}  // namespace

struct Generator::Loaded {
  std::string folder;
  std::string stamp;
  gpu::ModelFolder model;
  std::unique_ptr<gpu::Memory> weights;
  std::unique_ptr<gpu::TokenEncoder> encoder;
  std::shared_ptr<const gpu::TokenTrie> trie;  // when first a constraint wants it
  gpu::DecodeLimits limits;
  std::unique_ptr<gpu::DecodeEngine> engine;
};

struct Generator::Job {
  const work::Generate& work;
  JobContext& context;
  std::shared_ptr<JobContext> keeps;                     // what `work` and `context` live in, where they joined
  std::shared_ptr<const gpu::LabelSet> labels;
  std::unique_ptr<gpu::JsonTexts> json;
  std::unordered_map<gpu::RequestId, std::size_t> open;  // prompt by request
  std::unordered_map<gpu::RequestId, double> log_p;      // of the answer so far
  std::size_t next = 0;                                  // prompt that is not submitted yet
  std::string error;                                     // of the first answer that failed
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
};

Generator::Generator(gpu::Device& device) : device_(device) {}
Generator::~Generator() = default;

void Generator::unload() { loaded_.reset(); }

Result<void> Generator::load(const std::string& folder) {
  const std::string stamp = stamp_of(folder);
  if (loaded_ && loaded_->folder == folder && loaded_->stamp == stamp) return {};
  unload();
  auto loaded = std::make_unique<Loaded>();
  loaded->folder = folder;
  loaded->stamp = stamp;
  auto model = gpu::read_model_folder(folder);
  if (!model) return fail(std::move(model.error()));
  loaded->model = std::move(*model);
  const gpu::ModelConfig& config = loaded->model.config;
  auto encoder = gpu::TokenEncoder::make(loaded->model.tokenizer);
  if (!encoder) return fail(std::move(encoder.error()));
  loaded->encoder = std::move(*encoder);
  const gpu::ParameterLayout layout(config);
  {
    const auto files = gpu::WeightFiles::open(folder);
    if (!files) return fail(files.error());
    const auto weights = gpu::load_weights(layout, **files);
    if (!weights) return fail(weights.error());
    auto placed = gpu::upload_weights(device_, *weights);
    if (!placed) return fail(std::move(placed.error()));
    loaded->weights = std::move(*placed);
  }
  loaded->limits = limits_of(config, device_);
  auto engine = gpu::DecodeEngine::make(device_, config, gpu::view_weights(config, layout, loaded->weights->array()), loaded->model.tokenizer, loaded->limits);
  if (!engine) return fail(std::move(engine.error()));
  loaded->engine = std::move(*engine);
  loaded_ = std::move(loaded);
  return {};
}

Result<void> Generator::run(const work::Generate& work, JobContext& context) {
  if (Result<void> ready = load(work.model); !ready) return ready;
  add(work, context, nullptr);
  while (!jobs_.empty()) {
    if (auto joined = context.join(work.model)) add(*joined->work, *joined->context, joined->context);
    cancel_stopped();
    const auto done = loaded_->engine->step([this](const gpu::DecodeEvent& event) { take(event); });
    if (!done) {  // of the device: nobody gets an answer
      while (!jobs_.empty()) end_job(jobs_.size() - 1, fail(done.error()));
      unload();
      return fail(done.error());
    }
    for (std::size_t at = jobs_.size(); at-- > 0;) {
      Job& job = *jobs_[at];
      if (Result<void> submitted = submit(job); !submitted) end_job(at, std::move(submitted));
      else if (job.open.empty() && job.next == job.work.prompts.size())
        end_job(at, job.context.stopping() ? Result<void>(fail(GpuError::cancelled, "stopped")) : job.error.empty() ? Result<void>() : fail(GpuError::invalid, job.error));
    }
  }
  return {};
}

void Generator::add(const work::Generate& work, JobContext& context, std::shared_ptr<JobContext> keeps) {
  tell_template(context, work.model, loaded_->model.foreign_template);
  auto job = std::make_unique<Job>(Job{work, context, std::move(keeps), {}, {}, {}, {}, 0, {}});
  Result<void> ready = work.prompts.empty() ? Result<void>(fail(GpuError::invalid, "there is no prompt")) : prepare_constraint(*job);
  jobs_.push_back(std::move(job));
  if (ready) ready = submit(*jobs_.back());
  if (!ready) end_job(jobs_.size() - 1, std::move(ready));
}

Result<void> Generator::prepare_constraint(Job& job) {
  if (job.work.labels.empty() && job.work.json_schema.empty()) return {};
  if (!job.work.labels.empty() && !job.work.json_schema.empty())
    return fail(GpuError::invalid, "an answer is one of some labels or valid by a schema, not both");
  const auto& tokenizer = loaded_->model.tokenizer;
  if (!loaded_->trie) loaded_->trie = std::make_shared<const gpu::TokenTrie>(*tokenizer);
  if (!job.work.labels.empty()) {
    auto labels = gpu::LabelSet::make(job.work.labels, tokenizer, loaded_->trie);
    if (!labels) return fail(std::move(labels.error()));
    job.labels = std::move(*labels);
    return {};
  }
  auto grammar = gpu::compile_json_schema(job.work.json_schema);
  if (!grammar) return fail(std::move(grammar.error()));
  job.json = std::make_unique<gpu::JsonTexts>(std::move(*grammar), tokenizer, loaded_->trie);
  return {};
}

// As many prompts as the engine queues; the rest follow when some have ended.
Result<void> Generator::submit(Job& job) {
  while (job.next < job.work.prompts.size() && !job.context.stopping()) {
    auto request = request_of(job, job.next);
    if (!request) return fail(std::move(request.error()));
    const auto id = loaded_->engine->submit(std::move(*request));
    if (!id && is(id.error(), GpuError::overloaded) && !job.open.empty()) return {};
    if (!id) return fail(Error{id.error().module, id.error().code, "prompt " + std::to_string(job.next + 1) + ": " + id.error().message});
    job.open[*id] = job.next++;
  }
  if (job.context.stopping()) job.next = job.work.prompts.size();
  return {};
}

Result<gpu::DecodeRequest> Generator::request_of(const Job& job, std::size_t prompt) {
  const auto wrong = [prompt](const Error& error) { return fail(Error{error.module, error.code, "prompt " + std::to_string(prompt + 1) + ": " + error.message}); };
  std::vector<gpu::ChatMessage> messages;
  for (const work::Message& message : job.work.prompts[prompt]) messages.push_back({message.role, message.content});
  gpu::ChatOptions options;
  options.format = loaded_->model.format();
  options.generation_prompt = true;
  options.thinking = job.work.thinking;
  const auto pieces = gpu::render_chat(messages, options);
  if (!pieces) return wrong(pieces.error());
  auto encoded = gpu::encode_chat(*loaded_->encoder, *pieces);
  if (!encoded) return wrong(encoded.error());
  gpu::DecodeRequest request;
  request.prompt = std::move(encoded->tokens);
  const std::size_t room = loaded_->limits.positions > request.prompt.size() ? loaded_->limits.positions - request.prompt.size() : 0;
  if (room == 0) {
    return wrong(Error{error_module<GpuError>, static_cast<std::uint16_t>(GpuError::too_large),
                       "it has " + std::to_string(request.prompt.size()) + " tokens, and the model takes " + std::to_string(loaded_->limits.positions) + " with its answer"});
  }
  request.tokens_max = std::min<std::size_t>(job.work.tokens_max == 0 ? room : job.work.tokens_max, room);
  request.end_tokens = loaded_->model.ends();
  request.stop = job.work.stop;
  request.sampling.temperature = job.work.temperature;
  request.sampling.top_p = job.work.top_p;
  request.sampling.top_k = job.work.top_k;
  request.sampling.seed = gpu::noise(job.work.seed, prompt);
  if (job.labels) request.constraint = gpu::LabelSet::start(job.labels);
  if (job.json) request.constraint = job.json->start();
  return request;
}

void Generator::take(const gpu::DecodeEvent& event) {
  const auto at = std::find_if(jobs_.begin(), jobs_.end(), [&event](const auto& job) { return job->open.contains(event.request); });
  if (at == jobs_.end()) return;
  Job& job = **at;
  const std::size_t prompt = job.open.at(event.request);
  if (event.token) job.log_p[event.request] += static_cast<double>(event.token->log_p);
  if (!event.text.empty()) emit(job.context, EventKind::delta, event.text, {{"prompt", number(prompt)}});
  if (!event.finish) return;
  const gpu::DecodeFinish& finish = *event.finish;
  emit(job.context, EventKind::answer, reason_name(finish.reason),
       {{"prompt", number(prompt)}, {"prompt_tokens", number(finish.usage.prompt_tokens)}, {"cached_prompt_tokens", number(finish.usage.cached_prompt_tokens)},
        {"completion_tokens", number(finish.usage.completion_tokens)}, {"log_probability", job.log_p[event.request]},
        {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - job.begin).count()}});
  if (finish.reason == gpu::FinishReason::error && job.error.empty()) job.error = "prompt " + std::to_string(prompt + 1) + ": " + finish.error;
  job.log_p.erase(event.request);
  job.open.erase(event.request);
}

void Generator::end_job(std::size_t at, Result<void> result) {
  const std::unique_ptr<Job> job = std::move(jobs_[at]);
  jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(at));
  for (const auto& [id, prompt] : job->open) (void)loaded_->engine->cancel(id);
  job->context.end(std::move(result));
}

void Generator::cancel_stopped() {
  for (const auto& job : jobs_) {
    if (!job->context.stopping()) continue;
    for (const auto& [id, prompt] : job->open) (void)loaded_->engine->cancel(id);
  }
}

}  // namespace outlast::worker
