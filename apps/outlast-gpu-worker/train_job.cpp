#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "apps/outlast-gpu-worker/best_student.hpp"
#include "apps/outlast-gpu-worker/job.hpp"
#include "apps/outlast-gpu-worker/run_lock.hpp"
#include "gpu/collective/rendezvous_client.hpp"
#include "gpu/collective/roll.hpp"
#include "gpu/collective/sockets.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/lora_adapter.hpp"
#include "gpu/model/model_folder.hpp"
#include "gpu/train/elastic_trainer.hpp"
#include "gpu/train/teacher_model.hpp"

namespace outlast::worker {
namespace {

namespace fs = std::filesystem;
using gpu::GpuError;
using work::EventKind;

constexpr std::uint32_t vocabulary_multiple = 64;  // of a new model's: matrices of such sizes are faster
constexpr std::size_t checkpoints_kept = 2;
constexpr double new_model_range = 0.02;
constexpr double steps_max = 1e15;  // of epochs: a double counts them exactly
constexpr double temperature_interval_s = 1;
constexpr std::size_t steps_kept_max = 256;  // more than can be on their way to whoever listens

// What is learned beside a model; rank 0: nothing, but the model itself. Its bounds by the model: gpu::check_lora().
Result<gpu::LoraOptions> lora_of(const work::Train& work) {
  if (work.lora_rank == 0) {
    if (work.lora_alpha == 0 && work.lora_targets.empty()) return gpu::LoraOptions{};
    return fail(GpuError::invalid, "LoRA's alpha and targets go with a rank above 0");
  }
  if (work.model.empty()) return fail(GpuError::invalid, "LoRA learns beside a model: give the one to begin from");
  auto targets = gpu::parse_lora_targets(work.lora_targets);
  if (!targets) return fail(std::move(targets.error()));
  return gpu::LoraOptions{work.lora_rank, work.lora_alpha == 0 ? 2.0 * work.lora_rank : work.lora_alpha, *targets};
}

// What is learned of a teacher; without a loss nothing, but what the samples say. Its bounds: gpu::Trainer::make().
Result<gpu::LossShape> loss_of(const work::Distillation& how) {
  using gpu::LossKind;
  constexpr std::array<std::pair<std::string_view, LossKind>, 4> kinds{
      {{"forward-kl", LossKind::forward_kl}, {"reverse-kl", LossKind::reverse_kl}, {"jsd", LossKind::jsd}, {"skew-kl", LossKind::skew_kl}}};
  if (how == work::Distillation{}) return gpu::LossShape{};
  const auto* const kind = std::find_if(kinds.begin(), kinds.end(), [&how](const auto& one) { return one.first == how.loss; });
  if (kind == kinds.end()) return fail(GpuError::invalid, "a teacher is learned by the loss forward-kl, reverse-kl, jsd or skew-kl, and '" + how.loss + "' is none of them");
  if (how.mix != 0 && kind->second != LossKind::jsd && kind->second != LossKind::skew_kl)
    return fail(GpuError::invalid, how.loss + " has neither the beta of jsd nor the alpha of skew-kl");
  if (how.cross_entropy == 1) return fail(GpuError::invalid, "where the samples' own tokens are the whole loss (cross-entropy 1), the teacher counts for nothing: lower it, or learn without one");
  if (kind->second == LossKind::skew_kl && how.mix == 1)
    return fail(GpuError::invalid, "skew-kl with alpha 1 compares the teacher with itself, and nothing is learned of it: lower alpha");
  // What a teacher said of a few tokens cannot be made flatter: the rest of its distribution is not known.
  if (how.teacher.empty() && how.temperature != 1) return fail(GpuError::invalid, "what samples say of a teacher is of temperature 1; another needs the teacher itself");
  return gpu::LossShape{kind->second, static_cast<float>(how.temperature), static_cast<float>(how.mix), static_cast<float>(how.cross_entropy)};
}

// A new model's configuration, by its shape and its tokenizer.
Result<gpu::ModelFolder> new_model(const work::Train& work) {
  auto read = gpu::load_tokenizer(work.tokenizer);
  if (!read) return fail(std::move(read.error()));
  gpu::ModelFolder model;
  model.tokenizer = std::make_shared<const gpu::Tokenizer>(std::move(*read));
  if (const auto good = gpu::check_chat_tokens(*model.tokenizer, gpu::ChatFormat::qwen3); !good) return fail(good.error());
  gpu::ModelConfig& config = model.config;
  const auto size = static_cast<std::uint32_t>(model.tokenizer->size());
  config.vocabulary = (size + vocabulary_multiple - 1) / vocabulary_multiple * vocabulary_multiple;
  config.hidden = work.shape.hidden;
  config.intermediate = work.shape.intermediate;
  config.layers = work.shape.layers;
  config.heads = work.shape.heads;
  config.kv_heads = work.shape.kv_heads;
  config.head_dim = work.shape.head_dim;
  config.positions = std::max<std::uint32_t>(work.positions, 1);
  config.initializer_range = new_model_range;
  config.dtype = gpu::Dtype::f32;
  config.eos_tokens = {*model.tokenizer->added("<|im_end|>")};
  if (const auto end = model.tokenizer->added("<|endoftext|>")) config.eos_tokens.push_back(*end);
  config.bos_token = config.eos_tokens.back();
  model.sampling.eos_tokens = config.eos_tokens;
  model.sampling.temperature = 0;  // a narrow task has one right answer
  if (const auto good = gpu::check_model_config(config); !good) return fail(good.error());
  return model;
}

std::uint64_t steps_of(const work::Train& work, std::size_t samples) {
  if (work.steps != 0 || !(work.epochs > 0) || work.batch_samples == 0) return work.steps;
  return static_cast<std::uint64_t>(std::clamp(std::ceil(work.epochs * number(samples) / work.batch_samples), 1.0, steps_max));
}

Result<gpu::TrainOptions> options_of(const work::Train& work, const gpu::ModelFolder& model, std::uint64_t steps) {
  const auto schedule = gpu::parse_schedule(work.schedule);
  if (!schedule) return fail(GpuError::invalid, "the schedule '" + work.schedule + "' is none; there are constant, cosine and wsd");
  if (steps == 0) return fail(GpuError::invalid, "a run has at least one step");
  if (!(work.rate > 0) || !std::isfinite(work.rate)) return fail(GpuError::invalid, "the learning rate is a number above 0");
  if (!(work.weight_decay >= 0) || !std::isfinite(work.weight_decay) || !(work.clip >= 0) || !std::isfinite(work.clip))
    return fail(GpuError::invalid, "the weight decay and the norm to clip at are numbers from 0 on");
  gpu::TrainOptions options;
  options.rows = work.rows;
  options.batch_samples = work.batch_samples;
  options.keep = work.recompute ? gpu::Keep::inputs : gpu::Keep::everything;
  options.schedule = {*schedule, work.rate, 0.1, work.warm_up_steps, work.decay_steps, steps};
  options.decay = work.weight_decay;
  options.clip = work.clip;
  options.seed = work.seed;
  options.tokens = model.tokenizer->size();
  return options;
}

// One run, from what was asked to the student on disk; or a rank of it, of which the first alone evaluates, writes and tells.
class Run {
 public:
  Run(const work::Train& work, gpu::Device& device, JobContext& context, const ConnectRanks& connect_ranks)
      : work_(work), device_(device), context_(context), connect_ranks_(connect_ranks) {}

  Result<void> go() {
    if (Result<void> ready = prepare(); !ready) return ready;
    if (Result<void> begun = begin(); !begun) return begun;
    const auto whole = trainer_->run(steps_);
    if (!whole) return fail(whole.error());
    if (!*whole) return fail(GpuError::cancelled, "stopped after step " + std::to_string(steps_done()) + " of " + std::to_string(steps_));
    return {};
  }

 private:
  Result<void> prepare() {
    if (Result<void> good = check_sizes(work_.rows, work_.positions); !good) return good;
    if (work_.batch_samples == 0 || work_.batch_samples > batch_samples_max)
      return fail(GpuError::invalid, "a step has 1 to " + std::to_string(batch_samples_max) + " samples");
    auto lora = lora_of(work_);
    if (!lora) return fail(std::move(lora.error()));
    lora_ = *lora;
    const auto loss = loss_of(work_.distillation);
    if (!loss) return fail(loss.error());
    loss_ = *loss;
    if (Result<void> found = find_ranks(); !found) return found;
    checkpoints_ = (fs::path(work_.output) / "checkpoints").string();
    if (Result<void> good = check_output(); !good) return good;
    auto model = work_.model.empty() ? new_model(work_) : gpu::read_model_folder(work_.model);
    if (!model) return fail(std::move(model.error()));
    model_ = std::move(*model);
    if (Result<void> good = gpu::check_lora(model_.config, lora_); !good) return good;
    if (Result<void> good = prepare_teacher(); !good) return good;
    return read_data();
  }

  Result<void> check_output() const {
    if (work_.resume) return {};
    if (fs::exists(fs::path(work_.output) / "model.safetensors")) return fail(GpuError::invalid, work_.output + " has a model already; choose another folder");
    if (fs::exists(checkpoints_) && !fs::is_empty(checkpoints_))
      return fail(GpuError::invalid, checkpoints_ + " has checkpoints of an earlier run; go on with --resume, or choose another output");
    return {};
  }

  // Only when all that can be refused is: a run that does not begin leaves nothing.
  Result<void> take_output() {
    auto lock = RunLock::take(work_.output, work_.ranks.secret);
    if (!lock) return fail(std::move(lock.error()));
    lock_ = std::move(*lock);
    return check_output();  // a run that has ended since may have filled it
  }

  Result<void> find_ranks() {
    const work::Ranks& ranks = work_.ranks;
    if (ranks.count == 0) return {};
    if (ranks.count > gpu::ranks_max) return fail(GpuError::invalid, "a run has at most " + std::to_string(gpu::ranks_max) + " ranks");
    // What ranks say to each other is not encrypted.
    if (!gpu::is_loopback(ranks.address)) return fail(GpuError::unsupported, "the ranks of a run are on one machine, and meet at 127.0.0.1");
    auto client = gpu::RendezvousClient::make(ranks.address, ranks.port, ranks.secret);
    if (!client) return fail(std::move(client.error()));
    rendezvous_ = std::move(*client);
    auto connect = connect_ranks_(*rendezvous_);
    if (!connect) return fail(std::move(connect.error()));
    connect_ = std::move(*connect);
    return {};
  }

  // Without its weights.
  Result<void> prepare_teacher() {
    if (work_.distillation.teacher.empty()) return {};
    auto teacher = gpu::read_model_folder(work_.distillation.teacher);
    if (!teacher) return fail(std::move(teacher.error()));
    if (Result<void> same = gpu::check_same_tokens(*teacher->tokenizer, *model_.tokenizer); !same) return same;
    if (teacher->format() != model_.format()) return fail(GpuError::invalid, "the teacher has another chat template than the student: one is of Qwen3, the other of Qwen2.5");
    teacher_ = std::move(teacher->config);
    teachers_foreign_template_ = std::move(teacher->foreign_template);
    return {};
  }

  Result<void> read_data() {
    const auto encoder = gpu::TokenEncoder::make(model_.tokenizer);
    if (!encoder) return fail(encoder.error());
    gpu::SampleOptions how{model_.format(), std::min<std::size_t>(work_.positions, work_.rows), 0};
    if (!work_.evaluation.empty()) {
      auto held_out = gpu::read_samples(work_.evaluation, **encoder, how);
      if (!held_out) return fail(std::move(held_out.error()));
      held_out_ = std::move(*held_out);
    }
    const bool samples_teach = loss_.kind != gpu::LossKind::cross_entropy && !teacher_;
    if (samples_teach) how.teacher_tokens = model_.tokenizer->size();
    auto data = gpu::read_samples(work_.data, **encoder, how);
    if (!data) return fail(std::move(data.error()));
    data_ = std::move(*data);
    top_k_ = gpu::top_k_of(data_.samples);
    if (samples_teach && top_k_ == 0)
      return fail(GpuError::invalid, "no line of " + work_.data + " has what a teacher said, which " + work_.distillation.loss + " compares with: give --teacher, or no --loss");
    return {};
  }

  Result<void> begin() {
    steps_ = steps_of(work_, data_.samples.size());
    auto options = options_of(work_, model_, steps_);
    if (!options) return fail(std::move(options.error()));
    options->positions = gpu::longest_of(held_out_.samples);
    options->lora = lora_;
    options->loss = loss_;
    options->teacher = teacher_;
    tell_plan(*options);
    if (const auto fits = check(*options); !fits) return fits;  // before memory is taken for weights
    if (Result<void> taken = take_output(); !taken) return taken;
    gpu::ElasticTrainer::Job job{device_, model_.config, [this] { return first_weights(); }, data_.samples, *options};
    if (teacher_) job.teacher = [this] { return read_weights(work_.distillation.teacher, *teacher_); };
    const std::uint64_t evaluate_every = held_out_.samples.empty() ? 0 : work_.evaluate_every;
    auto trainer = gpu::ElasticTrainer::make(std::move(job), {rendezvous_.get(), connect_}, {checkpoints_, work_.save_every, checkpoints_kept, evaluate_every, rank_patience}, events());
    if (!trainer) return fail(std::move(trainer.error()));
    trainer_ = std::move(*trainer);
    return {};
  }

  gpu::ElasticEvents events() {
    gpu::ElasticEvents events;
    events.formed = [this](const gpu::Generation& generation, gpu::Origin origin, std::uint64_t step) { formed(generation, origin, step); };
    events.stepped = [this](const gpu::StepReport& report) {
      if (is_first()) return tell_step(report);
      told_by_another_.push_back(report);
      if (told_by_another_.size() > steps_kept_max) told_by_another_.pop_front();
    };
    events.wants_stop = [this] { return context_.stopping(); };
    events.evaluate = [this] { return next_after_evaluation(); };
    events.finish = [this] { return finish(); };
    events.saved = [this] { emit(context_, EventKind::checkpoint, checkpoints_, {{"step", number(steps_done())}}); };
    return events;
  }

  Result<std::vector<float>> first_weights() const {
    if (work_.model.empty()) return gpu::random_weights(model_.config, gpu::ParameterLayout(model_.config), work_.seed);
    return read_weights(work_.model, model_.config);
  }

  static Result<std::vector<float>> read_weights(const std::string& folder, const gpu::ModelConfig& config) {
    const auto files = gpu::WeightFiles::open(folder);
    if (!files) return fail(files.error());
    return gpu::load_weights(gpu::ParameterLayout(config), **files);
  }

  [[nodiscard]] bool has_lora() const { return lora_.rank > 0; }
  [[nodiscard]] double trained_parameters() const { return number(has_lora() ? gpu::lora_parameters(model_.config, lora_) : model_.config.parameters()); }
  // An adapter is kept as precisely as it is learned, whatever the model is.
  [[nodiscard]] gpu::Dtype best_dtype() const { return has_lora() ? gpu::Dtype::f32 : model_.config.dtype; }

  [[nodiscard]] std::size_t ranks() const { return std::max<std::size_t>(work_.ranks.count, 1); }
  [[nodiscard]] bool is_first() const { return generation_.rank == 0; }
  [[nodiscard]] std::uint64_t steps_done() const { return trainer_->trainer().steps_done(); }
  [[nodiscard]] gpu::TrainMemory memory_of(const gpu::TrainOptions& options) const {
    return gpu::train_memory(model_.config, options, std::max(gpu::longest_of(data_.samples), options.positions), top_k_, device_.compute_dtype(), ranks());
  }

  Result<void> check(const gpu::TrainOptions& options) const {
    if (Result<void> fits = gpu::check_fits(model_.config, options, std::max(gpu::longest_of(data_.samples), options.positions), top_k_, device_, ranks()); !fits) return fits;
    if (device_.name() != "cpu") return {};
    // Ranks on CPUs have the machine's memory in common.
    const std::uint64_t each = memory_of(options).total();
    const std::uint64_t free = device_.memory().free_bytes;
    if (each * ranks() <= free) return {};
    return fail(GpuError::too_large, std::to_string(ranks()) + " ranks take " + std::to_string(each >> 20) + " MiB each and the machine has " + std::to_string(free >> 20) +
                                         " MiB free; " + std::to_string(free / each) + " fit");
  }

  void tell_plan(const gpu::TrainOptions& options) const {
    const std::size_t longest = std::max(gpu::longest_of(data_.samples), options.positions);
    const gpu::TrainMemory memory = memory_of(options);
    std::size_t tokens = 0;
    for (const gpu::Sample& sample : data_.samples) tokens += sample.tokens.size();
    const double parameters = number(model_.config.parameters());
    std::vector<work::Figure> figures{
        {"parameters", parameters}, {"trained_parameters", trained_parameters()}, {"samples", number(data_.samples.size())}, {"tokens", number(tokens)}, {"longest_tokens", number(longest)},
        {"cut_samples", number(data_.cut + held_out_.cut)}, {"held_out_samples", number(held_out_.samples.size())}, {"steps", number(steps_)},
        {"memory_bytes", number(memory.total())}, {"weights_bytes", number(memory.weights)}, {"gradients_bytes", number(memory.gradients)},
        {"optimizer_bytes", number(memory.optimizer)}, {"activations_bytes", number(memory.activations)},
        {"bytes_per_parameter", number(memory.total() - memory.activations - memory.teacher) / parameters},
        {"bytes_per_token", number(memory.activations) / number(options.rows)}, {"free_bytes", number(device_.memory().free_bytes)}};
    if (ranks() > 1) figures.insert(figures.end(), {{"ranks", number(ranks())}, {"copies_bytes", number(memory.copies)}});
    if (teacher_) figures.insert(figures.end(), {{"teacher_bytes", number(memory.teacher)}, {"teacher_parameters", number(teacher_->parameters())}});
    emit(context_, EventKind::plan, device_.name(), std::move(figures));
  }

  void formed(const gpu::Generation& generation, gpu::Origin origin, std::uint64_t step) {
    generation_ = generation;
    if (!is_first()) return;
    // The first rank before may have died before it was heard: whoever listens knows which of these are news.
    for (const gpu::StepReport& report : std::exchange(told_by_another_, {})) {
      if (origin != gpu::Origin::copies || report.step <= step) tell_step(report);
    }
    const bool begins = generation.number == 1;
    if (begins) {
      tell_template(context_, work_.model, model_.foreign_template);
      tell_template(context_, work_.distillation.teacher, teachers_foreign_template_);
    }
    if (begins && origin == gpu::Origin::beginning) {
      forget_best(checkpoints_);
      best_is_known_ = true;
    }
    if (!(begins ? work_.resume : origin != gpu::Origin::copies)) return;
    emit(context_, EventKind::note, origin == gpu::Origin::checkpoint ? "goes on after step " + std::to_string(step) : checkpoints_ + " has no checkpoint yet: begins anew", {});
  }

  void tell_step(const gpu::StepReport& done) {
    const gpu::DeviceMemory memory = device_.memory();
    std::vector<work::Figure> figures{{"step", number(done.step)}, {"steps", number(steps_)}, {"loss", done.loss}, {"rate", done.rate}, {"gradient_norm", done.gradient_norm},
                                      {"tokens", number(done.rows)}, {"seconds", done.seconds}, {"tokens_per_second", number(done.rows) / done.seconds},
                                      {"flops_per_second", done.flops / done.seconds}, {"memory_bytes", number(memory.total_bytes - memory.free_bytes)}};
    if (const double peak = peak_for(done.flops / done.seconds); peak > 0) figures.push_back({"mfu", done.flops / done.seconds / peak});
    if (const auto celsius = temperature_after(done.seconds)) figures.push_back({"temperature_c", *celsius});
    emit(context_, EventKind::step, {}, std::move(figures));
  }

  // Of all ranks. A processor's is measured in a moment, in which others may have had it: a step that beats it is the better measure.
  double peak_for(double flops_per_second) {
    const double of_device = device_.peak_flops() * number(generation_.ranks);
    if (device_.name() != "cpu") return of_device;
    best_flops_per_second_ = std::max(best_flops_per_second_, flops_per_second);
    return std::max(of_device, best_flops_per_second_);
  }

  // Read once a second: a machine of many cores has as many sensors, and a step may take a few milliseconds.
  std::optional<float> temperature_after(double seconds) {
    temperature_age_s_ += seconds;
    if (temperature_age_s_ < temperature_interval_s) return temperature_;
    temperature_age_s_ = 0;
    return temperature_ = device_.temperature_c();
  }

  Result<gpu::Next> next_after_evaluation() {
    if (Result<void> known = know_best(); !known) return fail(std::move(known.error()));
    const auto evaluated = evaluate_now();
    if (!evaluated) return fail(evaluated.error());
    if (!*evaluated) return gpu::Next::stop;
    const std::uint64_t without_better = steps_done() / work_.evaluate_every - std::min(best_.step, steps_done()) / work_.evaluate_every;
    if (work_.patience == 0 || without_better < work_.patience) return gpu::Next::step;
    emit(context_, EventKind::note, "ended early: " + std::to_string(without_better) + " evaluations without a better one", {{"step", number(steps_done())}});
    return gpu::Next::end;
  }

  // Another rank, or an earlier command, may have found it.
  Result<void> know_best() {
    if (best_is_known_ || held_out_.samples.empty()) return {};
    auto best = load_best(checkpoints_, gpu::ParameterLayout(model_.config, lora_));
    if (!best) return fail(std::move(best.error()));
    best_ = std::move(*best);
    best_is_known_ = true;
    return {};
  }

  // False: it was stopped, and counts as not made.
  Result<bool> evaluate_now() {
    if (held_out_.samples.empty() || evaluated_at_ == steps_done()) return true;
    const auto report = trainer_->trainer().evaluate(held_out_.samples, follow_evaluation(context_, {{"step", number(steps_done())}}));
    if (!report && is(report.error(), GpuError::cancelled)) return false;
    if (!report) return fail(report.error());
    evaluated_at_ = steps_done();
    // Right answers are what a narrow task is about; the loss tells students apart that have as many.
    const bool better = report->exact > best_.exact || (report->exact == best_.exact && report->loss < best_.loss);
    emit(context_, EventKind::evaluation, {},
         {{"step", number(steps_done())}, {"loss", report->loss}, {"exact", report->exact}, {"token_accuracy", report->tokens},
          {"samples", number(report->samples)}, {"best", better ? 1.0 : 0.0}});
    if (!better) return true;
    auto weights = trainer_->trainer().weights();
    if (!weights) return fail(std::move(weights.error()));
    best_ = {steps_done(), report->exact, report->loss, std::move(*weights)};
    return save_best(checkpoints_, best_dtype(), gpu::ParameterLayout(model_.config, lora_), best_).map([] { return true; });
  }

  // The weights of the best evaluation, or of the last step where there was none.
  Result<gpu::Next> finish() {
    if (Result<void> known = know_best(); !known) return fail(std::move(known.error()));
    const auto evaluated = evaluate_now();
    if (!evaluated) return fail(evaluated.error());
    if (!*evaluated) return gpu::Next::stop;
    if (best_.weights.empty()) {
      auto weights = trainer_->trainer().weights();
      if (!weights) return fail(std::move(weights.error()));
      best_ = {steps_done(), best_.exact, best_.loss, std::move(*weights)};
    }
    if (Result<void> written = write_student(); !written) return fail(std::move(written.error()));
    const auto count = [](double value) { return std::to_string(static_cast<std::uint64_t>(value)); };
    const double parameters = number(model_.config.parameters());
    std::string text = "the student of step " + std::to_string(best_.step) + " is in " + work_.output;
    if (has_lora()) text += ", its adapter in " + adapter_folder() + ": " + count(trained_parameters()) + " parameters were trained beside " + count(parameters);
    emit(context_, EventKind::note, std::move(text),
         {{"step", number(best_.step)}, {"steps_done", number(steps_done())}, {"parameters", parameters}, {"trained_parameters", trained_parameters()}});
    return gpu::Next::end;
  }

  [[nodiscard]] std::string adapter_folder() const { return (fs::path(work_.output) / "adapter").string(); }

  // With LoRA the adapter too, which is merged into the weights for the student.
  Result<void> write_student() {
    if (!has_lora()) return gpu::write_model_folder(work_.output, model_, best_.weights, work_.model);
    if (Result<void> saved = gpu::save_adapter(adapter_folder(), model_.config, lora_, best_.weights, work_.model); !saved) return saved;
    auto weights = read_weights(work_.model, model_.config);
    if (!weights) return fail(std::move(weights.error()));
    gpu::merge_adapter(model_.config, lora_, best_.weights, *weights);
    return gpu::write_model_folder(work_.output, model_, *weights, work_.model);
  }

  const work::Train& work_;
  gpu::Device& device_;
  JobContext& context_;
  const ConnectRanks& connect_ranks_;
  gpu::ModelFolder model_;
  gpu::LoraOptions lora_;
  gpu::LossShape loss_;
  std::optional<gpu::ModelConfig> teacher_;
  std::string teachers_foreign_template_;
  gpu::SampleFile data_;
  std::size_t top_k_ = 0;  // of what samples say of a teacher
  gpu::SampleFile held_out_;
  std::unique_ptr<gpu::RendezvousClient> rendezvous_;  // with several ranks
  gpu::ElasticTrainer::Connect connect_;
  gpu::Generation generation_;
  std::unique_ptr<gpu::ElasticTrainer> trainer_;
  std::uint64_t steps_ = 0;
  std::string checkpoints_;
  std::unique_ptr<RunLock> lock_;
  Best best_;
  bool best_is_known_ = false;
  std::deque<gpu::StepReport> told_by_another_;  // the newest steps of when this was not the first rank
  double best_flops_per_second_ = 0;
  std::optional<float> temperature_;
  double temperature_age_s_ = temperature_interval_s;
  std::optional<std::uint64_t> evaluated_at_;
};

}  // namespace

Result<void> train(const work::Train& work, gpu::Device& device, JobContext& context, const ConnectRanks& connect_ranks) {
  return Run(work, device, context, connect_ranks).go();
}

}  // namespace outlast::worker
