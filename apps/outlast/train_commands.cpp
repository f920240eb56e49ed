// outlast train | eval: a student on this machine, by a worker that lives as long as the command.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/number_options.hpp"
#include "apps/outlast/rank_workers.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/tokenizer_command.hpp"
#include "apps/outlast/work_display.hpp"
#include "apps/outlast/worker_calls.hpp"

namespace outlast::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t vocabulary_of_new = 2'048;
constexpr std::uint64_t steps_max = 1'000'000'000'000;
constexpr double epochs_max = 1e6;
constexpr std::uint64_t patience_max = 1'000'000;
constexpr double default_temperature = 2;
constexpr double default_beta = 0.5;
constexpr double default_alpha = 0.1;
constexpr double default_cross_entropy = 0.5;

struct TrainCommand {
  work::Train train;
  std::string size = "tiny";
  std::optional<double> temperature;
  std::optional<double> beta;
  std::optional<double> alpha;
  std::optional<double> cross_entropy;
  std::size_t ranks = 0;             // 0: not given
  std::vector<std::string> devices;  // of the ranks
  WorkerChoice worker;
};

struct EvaluateCommand {
  work::Evaluate evaluate;
  WorkerChoice worker;
  double least = -1;
};

const std::map<std::string, work::Shape>& sizes() {
  static const std::map<std::string, work::Shape> known{
      {"tiny", {64, 192, 2, 4, 2, 16}},        // some 0.1 M parameters without the embedding
      {"small", {256, 768, 6, 8, 4, 32}},      // 4 M
      {"medium", {512, 1'536, 8, 8, 4, 64}},   // 25 M
  };
  return known;
}

// The worker runs elsewhere: paths are from the root, and on another machine only it knows what is there.
bool is_elsewhere(const WorkerChoice& worker) { return !worker.name.empty(); }
std::string absolute(const std::string& path) { return path.empty() ? path : fs::absolute(path).lexically_normal().string(); }

Result<void> check_paths(const work::Train& train) {
  for (const std::string& path : {train.data, train.evaluation, train.tokenizer}) {
    if (!path.empty() && !fs::is_regular_file(path)) return fail(CliError::not_found, path + " is not a file");
  }
  if (!train.model.empty() && !fs::exists(fs::path(train.model) / "config.json"))
    return fail(CliError::not_found, train.model + " has no config.json: it is not a model's folder");
  if (const std::string& teacher = train.distillation.teacher; !teacher.empty() && !fs::exists(fs::path(teacher) / "config.json"))
    return fail(CliError::not_found, teacher + " has no config.json: it is not a model's folder");
  if (!train.resume && fs::exists(fs::path(train.output) / "model.safetensors"))
    return fail(CliError::failed, train.output + " has a model already; choose another folder");
  return {};
}

// What is learned of a teacher, if anything is. An option that the loss does not have is refused.
Result<void> choose_loss(TrainCommand& command) {
  work::Distillation& how = command.train.distillation;
  if (how.loss.empty() && !how.teacher.empty()) how.loss = "forward-kl";
  if (command.beta && how.loss != "jsd") return fail(CliError::usage, "--beta goes with --loss jsd");
  if (command.alpha && how.loss != "skew-kl") return fail(CliError::usage, "--alpha goes with --loss skew-kl");
  if (how.loss.empty()) {
    if (command.cross_entropy) return fail(CliError::usage, "--cross-entropy goes with --teacher, or with --loss where the samples have what a teacher said");
    return {};
  }
  how.temperature = how.teacher.empty() ? 1 : command.temperature.value_or(default_temperature);
  if (how.loss == "jsd") how.mix = command.beta.value_or(default_beta);
  if (how.loss == "skew-kl") how.mix = command.alpha.value_or(default_alpha);
  how.cross_entropy = command.cross_entropy.value_or(default_cross_entropy);
  return {};
}

// A new student without a tokenizer gets its teacher's, or one of its own, made of what it is to learn.
Result<void> give_tokenizer(TrainCommand& command) {
  work::Train& train = command.train;
  if (!train.model.empty() || !train.tokenizer.empty()) return {};
  if (!train.distillation.teacher.empty()) {
    train.tokenizer = (fs::path(train.distillation.teacher) / "tokenizer.json").string();
    return {};
  }
  if (is_elsewhere(command.worker)) return fail(CliError::usage, "with --worker a new student needs --tokenizer (make one with 'outlast tokenizer train'), or --model to begin from");
  std::error_code error;
  fs::create_directories(train.output, error);
  if (error) return fail(CliError::failed, "cannot make " + train.output + ": " + error.message());
  train.tokenizer = (fs::path(train.output) / "tokenizer.json").string();
  if (train.resume && fs::exists(train.tokenizer)) return {};
  return train_tokenizer({{train.data}, train.tokenizer, vocabulary_of_new, 2}, nullptr).map([](const TokenizerSize&) {});
}

// One for each rank.
Result<std::vector<std::string>> devices_of(const TrainCommand& command) {
  const bool are_named = !command.devices.empty();
  if (is_elsewhere(command.worker) && (are_named || command.ranks > 0))
    return fail(CliError::usage, "the ranks of a run are processes of this machine, and --worker is another place: leave out " + std::string(are_named ? "--devices" : "--ranks") + " or --worker");
  const std::vector<std::string> devices = are_named ? command.devices : std::vector<std::string>(std::max<std::size_t>(command.ranks, 1), command.worker.device);
  if (devices.size() > local_ranks_max) return fail(CliError::usage, "a run has at most " + std::to_string(local_ranks_max) + " ranks on one machine");
  for (const std::string& device : devices) {
    if ((device == "cpu") != (devices.front() == "cpu")) return fail(CliError::usage, "the ranks of a run have devices of one kind: all cpu, or each a CUDA device");
    if (device != "cpu" && std::count(devices.begin(), devices.end(), device) > 1)
      return fail(CliError::usage, "a CUDA device has one rank, and " + device + " would have several: name one for each, as in --devices cuda:0,cuda:1");
  }
  return devices;
}

Result<void> teach(const GlobalOptions& global, const TrainCommand& command, const std::vector<std::string>& devices, Interrupts& interrupts) {
  WorkDisplay display(global.json);
  const auto show = [&display](const work::Event& event) { display.show(event); };
  if (devices.size() > 1) {
    auto workers = RankWorkers::start(devices, command.worker.threads, command.worker.log_file, interrupts);
    if (!workers) return fail(std::move(workers.error()));
    return (*workers)->run(command.train, show);
  }
  WorkerChoice choice = command.worker;
  choice.device = devices.front();
  auto worker = find_worker(global, choice, interrupts);
  if (!worker) return fail(std::move(worker.error()));
  return run_work(**worker, command.train, interrupts, show);
}

Result<void> run_train(const GlobalOptions& global, TrainCommand command) {
  work::Train& train = command.train;
  const auto devices = devices_of(command);
  if (!devices) return fail(devices.error());
  if (Result<void> chosen = choose_loss(command); !chosen) return chosen;
  for (std::string* const path : {&train.model, &train.tokenizer, &train.data, &train.evaluation, &train.output, &train.distillation.teacher}) *path = absolute(*path);
  train.shape = train.model.empty() ? sizes().at(command.size) : work::Shape{};
  if (!is_elsewhere(command.worker)) {
    if (Result<void> good = check_paths(train); !good) return good;
  }
  if (Result<void> given = give_tokenizer(command); !given) return given;
  Interrupts interrupts;
  Result<void> done = teach(global, command, *devices, interrupts);
  if (!done && interrupts.came()) return fail(CliError::interrupted, done.error().message + "; go on with the same command and --resume");
  const std::string where = is_elsewhere(command.worker) ? " --worker " + command.worker.name : "";
  if (done && !global.json) print("try it: outlast generate " + command.train.output + " \"…\"" + where + "\n");
  return done;
}

std::string report_table(const work::Event& report) {
  Table table({{"samples", Table::Align::right}, {"right", Table::Align::right}, {"tokens right", Table::Align::right}, {"loss", Table::Align::right}, {"took", Table::Align::right}});
  char loss[32];
  (void)std::snprintf(loss, sizeof loss, "%.4f", report.figure("loss"));
  table.add({count_text(report.figure("samples")), percent_text(report.figure("exact")), percent_text(report.figure("token_accuracy")), loss, duration_text(report.figure("seconds"))});
  return table.text();
}

Result<void> run_evaluate(const GlobalOptions& global, EvaluateCommand command) {
  work::Evaluate& evaluate = command.evaluate;
  evaluate.model = absolute(evaluate.model);
  evaluate.data = absolute(evaluate.data);
  const bool here = !is_elsewhere(command.worker);
  if (here && !fs::exists(fs::path(evaluate.model) / "config.json")) return fail(CliError::not_found, evaluate.model + " has no config.json: it is not a model's folder");
  if (here && !fs::is_regular_file(evaluate.data)) return fail(CliError::not_found, evaluate.data + " is not a file");
  Interrupts interrupts;
  auto worker = find_worker(global, command.worker, interrupts);
  if (!worker) return fail(std::move(worker.error()));
  work::Event report;
  WorkDisplay display(false);  // JSON is the report alone
  Result<void> done = run_work(**worker, evaluate, interrupts, [&](const work::Event& event) {
    if (event.kind == work::EventKind::evaluation) report = event;
    else if (event.kind != work::EventKind::evaluating || !global.json) display.show(event);
  });
  display.end_progress();
  if (!done && interrupts.came()) return fail(CliError::interrupted, done.error().message);
  if (!done) return done;
  if (!global.json) display.show_cut(report);
  print(global.json ? event_json(report) : report_table(report));
  const double exact = report.figure("exact");
  if (!(exact >= command.least)) return fail(CliError::differs, percent_text(exact) + " are right, and --at-least wants " + percent_text(command.least));
  return {};
}

void add_distillation_options(CLI::App& app, TrainCommand& command) {
  work::Distillation& how = command.train.distillation;
  CLI::Option* teacher = app.add_option("--teacher", how.teacher, "folder of a model with the student's tokenizer, whose distribution the student learns; a new student gets its tokenizer")->type_name("FOLDER");
  app.add_option("--loss", how.loss, "what a teacher is learned by: forward-kl (without this), reverse-kl, jsd or skew-kl; without --teacher the samples have what a teacher said")
      ->check(CLI::IsMember({"forward-kl", "reverse-kl", "jsd", "skew-kl"}));
  app.add_option("--temperature", command.temperature, "of both distributions where they are compared; without it 2")->check(real_number(0.01, 100.0))->needs(teacher);
  app.add_option("--beta", command.beta, "of jsd, from 0 (forward-kl) to 1 (reverse-kl); without it 0.5")->check(real_number(0.0, 1.0));
  app.add_option("--alpha", command.alpha, "of skew-kl: so much of the teacher is mixed into the student; without it 0.1")->check(real_number(0.0, 1.0));
  app.add_option("--cross-entropy", command.cross_entropy, "the share of the loss that is the samples' own tokens, from 0 to 1; without it 0.5")->check(real_number(0.0, 1.0));
}

void add_train(CommandLine& line) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App* app = line.add_command(line.app, "train", "teaches a student what samples say", [&line, command] { return run_train(line.options, *command); });
  work::Train& train = command->train;
  train.batch_samples = 32;
  train.rows = 4'096;
  train.positions = 1'024;
  train.rate = 3e-3;
  train.schedule = "cosine";
  train.warm_up_steps = 20;
  train.weight_decay = 0.1;
  train.clip = 1;
  train.seed = 1;
  train.epochs = 10;
  train.save_every = 500;
  app->add_option("samples", train.data, R"(one JSON object a line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]})")->required()->type_name("FILE");
  app->add_option("--to", train.output, "folder of the student, and of its checkpoints")->required()->type_name("FOLDER");
  CLI::Option* held_out = app->add_option("--held-out", train.evaluation, "samples that it never learns from, to choose the best by")->type_name("FILE");
  CLI::Option* model = app->add_option("--model", train.model, "folder of a Qwen3 or Qwen2.5 model to begin from; without it a new student")->type_name("FOLDER");
  app->add_option("--size", command->size, "of a new student: tiny, small or medium")->check(CLI::IsMember({"tiny", "small", "medium"}))->excludes(model)->capture_default_str();
  app->add_option("--tokenizer", train.tokenizer, "tokenizer.json of a new student; without it one is made of the samples")->excludes(model)->type_name("FILE");
  app->add_option("--epochs", train.epochs, "passes over the samples")->check(real_number_above(0, epochs_max))->capture_default_str();
  app->add_option("--steps", train.steps, "instead of --epochs")->check(whole_number(1, steps_max));
  app->add_option("--batch", train.batch_samples, "samples of a step")->check(whole_number(1, 65'536))->capture_default_str();
  app->add_option("--rows", train.rows, "tokens that are computed at once; less takes less memory")->check(whole_number(16, 1'048'576))->capture_default_str();
  app->add_option("--positions", train.positions, "tokens of the longest sample; longer ones lose their beginning")->check(whole_number(8, 131'072))->capture_default_str();
  app->add_option("--rate", train.rate, "the highest learning rate; some 1e-5 for a model that knows much")->check(real_number_above(0, 10))->capture_default_str();
  app->add_option("--schedule", train.schedule, "constant, cosine or wsd (warm-up, stable, decay)")->check(CLI::IsMember({"constant", "cosine", "wsd"}))->capture_default_str();
  app->add_option("--warm-up", train.warm_up_steps, "steps to the highest rate")->check(whole_number(0, steps_max))->capture_default_str();
  app->add_option("--decay-steps", train.decay_steps, "last steps of wsd")->check(whole_number(0, steps_max));
  app->add_option("--weight-decay", train.weight_decay, "of AdamW")->check(real_number(0, 100))->capture_default_str();
  app->add_option("--clip", train.clip, "the gradient's largest norm; 0: none")->check(real_number(0, 1e6))->capture_default_str();
  app->add_option("--seed", train.seed, "of the order of samples and of new weights")->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()))->capture_default_str();
  CLI::Option* rank = app->add_option("--lora-rank", train.lora_rank, "learns an adapter of this rank (LoRA) instead of all weights of --model: 8 or 16")->check(whole_number(1, 1'024))->needs(model);
  app->add_option("--lora-alpha", train.lora_alpha, "the adapter counts alpha / rank times; without it twice the rank")->check(real_number(1e-6, 65'536.0))->needs(rank);
  app->add_option("--lora-targets", train.lora_targets, "of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj; without it all")
      ->delimiter(',')
      ->check(CLI::IsMember({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}))
      ->needs(rank)
      ->type_name("NAMES");
  add_distillation_options(*app, *command);
  app->add_flag("--recompute", train.recompute, "computes activations again instead of keeping them: less memory, a third more time");
  CLI::Option* every = app->add_option("--eval-every", train.evaluate_every, "steps between evaluations; 0: at the end")->check(whole_number(0, steps_max))->needs(held_out);
  app->add_option("--save-every", train.save_every, "steps between checkpoints; 0: at the end")->check(whole_number(0, steps_max))->capture_default_str();
  app->add_option("--patience", train.patience, "ends after so many evaluations without a better one")->check(whole_number(1, patience_max))->needs(held_out)->needs(every);
  app->add_flag("--resume", train.resume, "goes on from the newest checkpoint, with as many ranks as you like");
  add_worker_options(*app, command->worker);
  CLI::Option* ranks = app->add_option("--ranks", command->ranks, "processes of this machine that learn together, each from its share of every batch; they divide the processors where --threads is not given")
                           ->check(whole_number(1, local_ranks_max));
  app->add_option("--devices", command->devices, "one rank on each: cuda:0,cuda:1")->delimiter(',')->excludes(ranks)->excludes(app->get_option("--device"))->type_name("DEVICES");
}

void add_evaluate(CommandLine& line) {
  auto command = std::make_shared<EvaluateCommand>();
  CLI::App* app = line.add_command(line.app, "eval", "how often a student says what samples say", [&line, command] { return run_evaluate(line.options, *command); });
  command->evaluate.rows = 4'096;
  command->evaluate.positions = 4'096;
  app->add_option("model", command->evaluate.model, "its folder")->required()->type_name("FOLDER");
  app->add_option("samples", command->evaluate.data, "as for train")->required()->type_name("FILE");
  app->add_option("--rows", command->evaluate.rows, "tokens that are computed at once")->check(whole_number(16, 1'048'576))->capture_default_str();
  app->add_option("--positions", command->evaluate.positions, "tokens of the longest sample")->check(whole_number(8, 131'072))->capture_default_str();
  app->add_option("--at-least", command->least, "fails with exit code 6 where a smaller share is right: 0.95")->check(real_number(0.0, 1.0));
  add_worker_options(*app, command->worker);
}

}  // namespace

void add_train_commands(CommandLine& line) {
  add_train(line);
  add_evaluate(line);
}

}  // namespace outlast::apps
