#include "gpu/train/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/lora_adapter.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu {
namespace {

constexpr float temperature_max = 100;  // beyond, a distribution is flat in single precision

DecoderLimits limits_of(const TrainOptions& options, std::size_t positions) {
  DecoderLimits limits;
  limits.rows = options.rows;
  limits.loss_rows = options.rows;
  limits.chunk_rows = std::min(options.chunk_rows, options.rows);
  limits.positions = positions;
  limits.keep = options.keep;
  limits.lora = options.lora;
  limits.teacher_head = options.teacher.has_value();
  return limits;
}

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1U << 20) - 1) >> 20) + " MiB"; }

std::size_t tokens_of(const TrainOptions& options, const ModelConfig& config) { return options.tokens == 0 ? config.vocabulary : options.tokens; }

Result<void> check_options(const TrainOptions& options, const ModelConfig& config) {
  const auto share = [](float value) { return value >= 0 && value <= 1; };
  if (options.batch_samples == 0 || options.rows == 0 || options.chunk_rows == 0)
    return fail(GpuError::invalid, "a step has at least one sample, one token and one row of logits");
  if (options.tokens > config.vocabulary)
    return fail(GpuError::invalid, "the tokenizer has " + std::to_string(options.tokens) + " tokens and the model " + std::to_string(config.vocabulary));
  if (!(options.loss.temperature > 0 && options.loss.temperature <= temperature_max) || !share(options.loss.mix) || !share(options.loss.cross_entropy))
    return fail(GpuError::invalid, "a loss's temperature is above 0 and at most 100, and its shares are from 0 to 1");
  if (options.teacher && options.loss.kind == LossKind::cross_entropy)
    return fail(GpuError::invalid, "a teacher goes with a loss that compares distributions");
  if (options.teacher && options.teacher->vocabulary < tokens_of(options, config))
    return fail(GpuError::invalid, "the teacher has " + std::to_string(options.teacher->vocabulary) + " tokens and the student " + std::to_string(tokens_of(options, config)));
  return check_lora(config, options.lora);
}

// Of all that is learned: two files of as many samples are told apart.
std::uint64_t hash_of(std::span<const Sample> samples) {
  std::uint64_t hash = samples.size();
  const auto mix = [&hash](std::uint64_t value) { hash = mixed(hash ^ value); };
  for (const Sample& sample : samples) {
    mix(sample.tokens.size());
    for (const std::int32_t token : sample.tokens) mix(static_cast<std::uint64_t>(token));
    for (const float weight : sample.weights) mix(__builtin_bit_cast(std::uint32_t, weight));
    for (const TopTokens& top : sample.teacher) {
      for (const std::int32_t token : top.tokens) mix(static_cast<std::uint64_t>(token));
      for (const float log_p : top.log_p) mix(__builtin_bit_cast(std::uint32_t, log_p));
    }
  }
  return hash;
}

std::uint64_t hash_of(std::span<const float> weights) {
  std::uint64_t hash = weights.size();
  for (const float weight : weights) hash = mixed(hash ^ __builtin_bit_cast(std::uint32_t, weight));
  return hash;
}

}  // namespace

std::string TrainOptions::fingerprint() const {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("batch_samples").number(std::uint64_t{batch_samples}).key("rows").number(std::uint64_t{rows});
  json.key("schedule").number(static_cast<unsigned>(schedule.kind)).key("peak").real(schedule.peak).key("least_share").real(schedule.least_share);
  json.key("warm_up_steps").number(schedule.warm_up_steps).key("decay_steps").number(schedule.decay_steps).key("steps").number(schedule.steps);
  json.key("decay").real(decay).key("beta1").real(beta1).key("beta2").real(beta2).key("epsilon").real(epsilon).key("clip").real(clip);
  json.key("seed").number(seed).key("loss").number(static_cast<unsigned>(loss.kind)).key("temperature").real(static_cast<double>(loss.temperature));
  json.key("tokens").number(std::uint64_t{tokens});
  json.key("mix").real(static_cast<double>(loss.mix)).key("cross_entropy").real(static_cast<double>(loss.cross_entropy));
  if (lora.rank > 0) {
    json.key("lora").begin_object().key("rank").number(lora.rank).key("alpha").real(lora.alpha).key("targets").begin_array();
    for (const LoraTarget target : lora_targets) {
      if (lora.has(target)) json.string(name_of(target));
    }
    json.end_array().end_object();
  }
  if (teacher) json.key("teacher").raw(model_config_json(*teacher));
  json.end_object();
  return text;
}

TrainMemory train_memory(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, Dtype compute,
                         std::size_t ranks) {
  const std::uint64_t count = ParameterLayout(config, options.lora).count();
  TrainMemory memory;
  if (options.lora.rank > 0) memory.weights = ParameterLayout(config).count() * size_of(compute);
  memory.weights += count * 4 + (compute == Dtype::f32 ? 0 : count * size_of(compute));
  memory.gradients = count * 4;
  memory.optimizer = (count + ranks - 1) / ranks * 8;
  memory.copies = BuddyCopies::bytes_of(count, ranks);
  memory.activations = Decoder::bytes_of(config, limits_of(options, positions), compute) + BatchOnDevice::bytes_of(options.rows, top_k);
  if (options.teacher) memory.teacher = TeacherModel::bytes_of(*options.teacher, options.rows, positions, compute);
  return memory;
}

Result<void> check_fits(const ModelConfig& config, const TrainOptions& options, std::size_t positions, std::size_t top_k, const Device& device,
                        std::size_t ranks) {
  const std::uint64_t free = device.memory().free_bytes;
  const auto memory_of = [&](const TrainOptions& how) { return train_memory(config, how, positions, top_k, device.compute_dtype(), ranks); };
  const TrainMemory memory = memory_of(options);
  if (memory.total() <= free) return {};
  std::string text = "the run takes " + mib(memory.total()) + " (weights " + mib(memory.weights) + ", gradients " + mib(memory.gradients) + ", optimizer " +
                     mib(memory.optimizer) + ", activations " + mib(memory.activations) + (ranks > 1 ? ", copies " + mib(memory.copies) : "") +
                     (options.teacher ? ", teacher " + mib(memory.teacher) : "") + ") and " + device.name() + " has " + mib(free) + " free; ";
  TrainOptions smaller = options;
  smaller.keep = Keep::inputs;
  while (smaller.rows / 2 >= positions && memory_of(smaller).total() > free) smaller.rows /= 2;
  if (memory_of(smaller).total() <= free) {
    text += "it fits with recomputation and micro-batches of " + std::to_string(smaller.rows) + " tokens";
  } else if (memory.total() - memory.teacher <= free) {
    text += "a smaller teacher fits";
  } else if (memory.total() - memory.teacher - memory.activations > free) {
    text += "weights, gradients and optimizer alone take " + mib(memory.total() - memory.teacher - memory.activations) + ": a smaller model fits";
  } else {
    text += "shorter samples or a smaller model fit";
  }
  return fail(GpuError::too_large, std::move(text));
}

Trainer::Trainer(Device& device, const ModelConfig& config, std::span<const Sample> samples, const TrainOptions& options, Collective* ranks)
    : device_(device), config_(config), samples_(samples), options_(options), layout_(config, options.lora), ranks_(ranks),
      plan_(layout_, config.layers, ranks == nullptr ? 0 : ranks->rank(), ranks == nullptr ? 1 : ranks->ranks()),
      order_(samples.size(), options.seed), positions_(std::max(longest_of(samples), options.positions)), data_hash_(hash_of(samples)) {}

Trainer::~Trainer() = default;

Result<std::unique_ptr<Trainer>> Trainer::make(Device& device, const ModelConfig& config, std::span<const float> weights, std::span<const Sample> samples,
                                               const TrainOptions& options, Collective* ranks,
                                               std::span<const float> teacher) {
  if (samples.empty()) return fail(GpuError::invalid, "there are no samples to learn from");
  if (Result<void> good = check_options(options, config); !good) return fail(std::move(good.error()));
  const std::size_t positions = std::max(longest_of(samples), options.positions);
  if (Result<void> good = check_samples(samples, tokens_of(options, config), options.rows); !good) return fail(std::move(good.error()));
  if (Result<void> fits = check_fits(config, options, positions, top_k_of(samples), device, ranks == nullptr ? 1 : ranks->ranks()); !fits) return fail(std::move(fits.error()));
  std::unique_ptr<Trainer> trainer(new Trainer(device, config, samples, options, ranks));
  check(weights.size() == ParameterLayout(config).count(), "weights are of the model's layout");
  if (Result<void> allocated = trainer->allocate(weights, teacher); !allocated) return fail(std::move(allocated.error()));
  return trainer;
}

Result<void> Trainer::allocate(std::span<const float> weights, std::span<const float> teacher) {
  const std::size_t count = layout_.count();
  const bool has_copy = device_.compute_dtype() != Dtype::f32;
  for (auto* const memory : {&weights_, &gradients_}) {
    auto made = device_.allocate(count, Dtype::f32);
    if (!made) return fail(std::move(made.error()));
    *memory = std::move(*made);
  }
  if (Result<void> allocated = allocate_shard(); !allocated) return allocated;
  auto norm = device_.allocate(1, Dtype::f32);
  if (!norm) return fail(std::move(norm.error()));
  norm_ = std::move(*norm);
  if (has_copy) {
    auto made = device_.allocate(count, device_.compute_dtype());
    if (!made) return fail(std::move(made.error()));
    working_ = std::move(*made);
  }
  auto batch = BatchOnDevice::make(device_, options_.rows, top_k_of(samples_));
  if (!batch) return fail(std::move(batch.error()));
  batch_ = std::move(*batch);
  auto decoder = Decoder::make(device_, config_, limits_of(options_, positions_));
  if (!decoder) return fail(std::move(decoder.error()));
  decoder_ = std::move(*decoder);
  const Array in_use = has_copy ? working_->array() : weights_->array();
  if (options_.lora.rank == 0) {
    weight_views_ = view_weights(config_, layout_, in_use);
    gradient_views_ = view_weights(config_, layout_, gradients_->array());
  } else {
    auto frozen = upload_weights(device_, weights);
    if (!frozen) return fail(std::move(frozen.error()));
    frozen_ = std::move(*frozen);
    frozen_hash_ = hash_of(weights);
    weight_views_ = view_adapter(config_, options_.lora, layout_, in_use, view_weights(config_, ParameterLayout(config_), frozen_->array()));
    gradient_views_ = view_adapter(config_, options_.lora, layout_, gradients_->array());
  }
  if (options_.teacher) {
    auto made = TeacherModel::make(device_, *options_.teacher, teacher, options_.rows, positions_);
    if (!made) return fail(std::move(made.error()));
    teacher_ = std::move(*made);
    teacher_hash_ = hash_of(teacher);
  }
  put_beginning(weights);
  return {};
}

Result<void> Trainer::allocate_shard() {
  for (auto* const memory : {&first_, &second_}) {
    memory->reset();
    auto made = device_.allocate(plan_.shard_count(), Dtype::f32);
    if (!made) return fail(std::move(made.error()));
    *memory = std::move(*made);
  }
  if (plan_.ranks() == 1) return {};
  auto copies = BuddyCopies::make(device_, layout_, config_.layers, *ranks_);
  if (!copies) return fail(std::move(copies.error()));
  copies_ = std::move(*copies);
  queue_ = std::make_unique<CollectiveQueue>(*ranks_);
  return {};
}

void Trainer::put_weights(std::span<const float> weights) {
  device_.upload(weights_->array(), std::as_bytes(weights));
  if (working_) device_.copy(working_->array(), weights_->array());
}

void Trainer::put_beginning(std::span<const float> weights) {
  if (options_.lora.rank == 0) put_weights(weights);
  else put_weights(random_adapter(config_, options_.lora, options_.seed));
}

void Trainer::restart(std::span<const float> weights) {
  check(weights.size() == ParameterLayout(config_).count(), "weights are of the model's layout");
  put_beginning(weights);
  for (auto* const moment : {&first_, &second_}) device_.fill_zero((*moment)->array());
  step_ = 0;
  if (copies_) copies_->forget();
}

Result<StepReport> Trainer::step(const std::function<bool()>& wants_stop) {
  const auto begin = std::chrono::steady_clock::now();
  if (Result<void> kept = keep_copies(); !kept) return fail(std::move(kept.error()));
  StepReport report;
  report.step = step_ + 1;
  report.rate = rate_at(options_.schedule, report.step);
  double weight_sum = 0;
  const auto chosen = choose(weight_sum);
  Sums sums;
  if (Result<void> added = add_gradients(chosen, weight_sum, sums); !added) return fail(std::move(added.error()));
  if (Result<void> added = add_square_of_gradient(sums); !added) return fail(std::move(added.error()));
  if (wants_stop && wants_stop()) sums.stops = 1;
  if (Result<void> summed = sum_over_ranks(sums); !summed) return fail(std::move(summed.error()));
  report.loss = sums.loss;
  report.gradient_norm = std::sqrt(sums.square);
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
    return fail(GpuError::invalid, "step " + std::to_string(report.step) + ": the loss is " + std::to_string(report.loss) + " and the gradient's norm " +
                                       std::to_string(report.gradient_norm) + "; a lower rate, more warm-up or other data may help");
  }
  const bool clips = options_.clip > 0 && report.gradient_norm > options_.clip;
  if (Result<void> updated = update(report.rate, clips ? static_cast<float>(options_.clip / report.gradient_norm) : 1.0F); !updated)
    return fail(std::move(updated.error()));
  ++step_;
  if (Result<void> kept = keep_copies(); !kept) return fail(std::move(kept.error()));
  report.stops = sums.stops > 0;
  report.rows = static_cast<std::size_t>(sums.rows);
  report.loss_rows = static_cast<std::size_t>(sums.loss_rows);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double of_model = (options_.lora.rank == 0 ? 6.0 : 4.0) * static_cast<double>(config_.matmul_parameters());
  const double of_adapter = 6.0 * static_cast<double>(lora_parameters(config_, options_.lora));
  report.flops = (of_model + of_adapter) * sums.rows + 12.0 * config_.layers * config_.q_width() * sums.attended;
  if (teacher_) report.flops += teacher_->flops(sums.rows, sums.attended);
  return report;
}

// Each sample goes to the rank that has the fewest tokens so far: every rank finds the same, and the batch is as without ranks.
std::vector<const Sample*> Trainer::choose(double& weight_sum) const {
  std::vector<const Sample*> own;
  std::vector<std::size_t> tokens(plan_.ranks(), 0);
  for (std::size_t i = 0; i < options_.batch_samples; ++i) {
    const Sample& sample = samples_[order_.sample_at(step_ * options_.batch_samples + i)];
    weight_sum += sample.weight_sum();
    const auto least = std::min_element(tokens.begin(), tokens.end());
    *least += sample.tokens.size();
    if (least - tokens.begin() == static_cast<std::ptrdiff_t>(plan_.rank())) own.push_back(&sample);
  }
  return own;
}

Result<void> Trainer::add_gradients(std::span<const Sample* const> samples, double weight_sum, Sums& sums) {
  device_.fill_zero(gradients_->array());
  const auto micro_batches = pack(samples, options_.rows, static_cast<float>(1 / weight_sum));
  Decoder::LayerDone send_layer;
  if (queue_) send_layer = [this](std::size_t layer) { send_gradients_of_layer(layer); };
  for (std::size_t number = 0; number < micro_batches.size(); ++number) {
    const MicroBatch& micro = micro_batches[number];
    batch_->load(micro);
    const LossBatch loss = loss_of_batch();
    const bool is_last = number + 1 == micro_batches.size();
    const Array losses = decoder_->loss_and_gradients(weight_views_, gradient_views_, batch_->batch(), loss, is_last ? send_layer : nullptr);
    const auto of_rows = numbers_of<float>(device_, losses);
    if (!of_rows) return fail(of_rows.error());
    for (std::size_t i = 0; i < of_rows->size(); ++i) sums.loss += static_cast<double>((*of_rows)[i]) * static_cast<double>(micro.weights[i]);
    sums.rows += static_cast<double>(micro.tokens.size());
    sums.loss_rows += static_cast<double>(micro.loss_rows.size());
    for (std::size_t i = 0; i + 1 < micro.begins.size(); ++i) {
      const double size = micro.begins[i + 1] - micro.begins[i];
      sums.attended += size * size / 2;
    }
  }
  if (!queue_) return {};
  // A rank without a sample has nothing to add, and takes part.
  for (std::size_t layer = config_.layers; micro_batches.empty() && layer-- > 0;) send_layer(layer);
  send_bucket(plan_.embedding());
  return queue_->wait();
}

// Of the numbers that this rank steps.
Result<void> Trainer::add_square_of_gradient(Sums& sums) {
  device_.fill_zero(norm_->array());
  for (const ShardPlan::Bucket& bucket : plan_.buckets()) device_.add_square_sum(norm_->array(), gradients_->array().part(bucket.own.begin, bucket.own.count));
  const auto square = numbers_of<float>(device_, norm_->array());
  if (!square) return fail(square.error());
  sums.square = static_cast<double>(square->front());
  return {};
}

LossBatch Trainer::loss_of_batch() {
  LossBatch loss = batch_->loss();
  loss.tokens = tokens_of(options_, config_);
  loss.shape = options_.loss;
  if (teacher_) loss.teacher = teacher_->look_at(batch_->batch(), loss.rows);
  return loss;
}

Result<void> Trainer::update(double rate, float gradient_scale) {
  for (const ShardPlan::Bucket& bucket : plan_.buckets()) {
    update_bucket(bucket, rate, gradient_scale);
    if (queue_ && bucket.whole.count > 0) queue_->all_gather(weights_->array().part(bucket.whole.begin, bucket.whole.count));
  }
  if (queue_) {
    if (Result<void> gathered = queue_->wait(); !gathered) return gathered;
    if (working_) device_.copy(working_->array(), weights_->array());
  }
  return device_.synchronize();
}

void Trainer::update_bucket(const ShardPlan::Bucket& bucket, double rate, float gradient_scale) {
  for (const Parameter& parameter : layout_.parameters()) {
    const std::size_t begin = std::max(parameter.offset, bucket.own.begin);
    const std::size_t end = std::min(parameter.offset + parameter.count, bucket.own.begin + bucket.own.count);
    if (begin >= end) continue;
    const auto view = [begin, end](const std::unique_ptr<Memory>& memory) { return memory ? memory->array().part(begin, end - begin) : Array{}; };
    const auto moment = [&bucket, begin, end](const std::unique_ptr<Memory>& memory) {
      return memory->array().part(bucket.shard + begin - bucket.own.begin, end - begin);
    };
    AdamW one{view(weights_), view(working_), view(gradients_), moment(first_), moment(second_)};
    one.rate = static_cast<float>(rate);
    one.beta1 = static_cast<float>(options_.beta1);
    one.beta2 = static_cast<float>(options_.beta2);
    one.epsilon = static_cast<float>(options_.epsilon);
    one.decay = parameter.decays ? static_cast<float>(options_.decay) : 0.0F;
    one.gradient_scale = gradient_scale;
    one.step = step_ + 1;
    device_.run(one);
  }
}

Result<EvalReport> Trainer::evaluate(std::span<const Sample> samples, const EvalProgress& progress) {
  const std::size_t tokens = tokens_of(options_, config_);
  if (Result<void> good = check_samples(samples, tokens, std::min(options_.rows, positions_)); !good) return fail(std::move(good.error()));
  return evaluate_samples(device_, *decoder_, weight_views_, *batch_, tokens, options_.rows, samples, progress);
}

Result<std::vector<float>> Trainer::weights() { return numbers_of<float>(device_, weights_->array()); }

}  // namespace outlast::gpu
