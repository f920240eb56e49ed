// What a student learns of a teacher: of its own head, and of what samples say that it said.
#include <cmath>
#include <filesystem>

#include "gpu/gpu_error.hpp"
#include "gpu/model/lora_adapter.hpp"
#include "gpu/train/teacher_model.hpp"
#include "gpu/train/trainer.hpp"
#include "tests/gpu/rank_threads.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/small_tokenizer.hpp"
#include "tests/gpu/train_run.hpp"

namespace outlast::gpu::teacher_test {
namespace {

ModelConfig smaller() {
  ModelConfig config = tiny();
  config.layers = 1;
  config.intermediate = 16;
  return config;
}

// What a run of tiny() knows when it is done.
const std::vector<float>& learned_weights() {
  static const std::vector<float> weights = [] {
    TrainRun run;
    run.go(150);
    return need(run.trainer->weights());
  }();
  return weights;
}

TrainOptions taught(LossKind kind = LossKind::forward_kl, float mix = 0, TrainOptions options = quick()) {
  options.loss = {kind, 2, mix, 0};
  options.teacher = tiny();
  return options;
}

// A student of a teacher of tiny()'s shape.
struct Class : TrainRun {
  explicit Class(const TrainOptions& options = taught(), const ModelConfig& config = smaller(), const std::vector<float>& weights = weights_of(smaller()),
                 const std::vector<float>& teacher = learned_weights(), std::size_t threads = 1)
      : TrainRun(options, threads, weights, config, teacher) {}
};

TEST_CASE("a student that is its teacher has nothing to learn of it", "[gpu][teacher]") {
  const auto kind = GENERATE(LossKind::forward_kl, LossKind::reverse_kl, LossKind::jsd, LossKind::skew_kl);
  Class lesson(taught(kind, 0.3F), tiny(), learned_weights());
  const StepReport report = need(lesson.trainer->step());
  CHECK(std::abs(report.loss) < 1e-5);
  CHECK(report.gradient_norm < 1e-4);
}

TEST_CASE("a smaller student comes to say what its teacher says", "[gpu][teacher]") {
  const auto kind = GENERATE(LossKind::forward_kl, LossKind::reverse_kl, LossKind::jsd, LossKind::skew_kl);
  Class lesson(taught(kind, 0.3F));
  CHECK(need(lesson.trainer->evaluate(lesson.samples)).exact < 0.1);
  const auto losses = lesson.go(150);
  CHECK(losses.back() < losses.front() / 5);
  CHECK(need(lesson.trainer->evaluate(lesson.samples)).exact > 0.9);  // of labels that its loss has never seen
}

TEST_CASE("a teacher's run that goes on from a checkpoint is the run that never stopped, to the bit", "[gpu][teacher]") {
  TrainOptions options = taught();
  options.loss.cross_entropy = 0.5F;
  if (GENERATE(false, true)) options.lora = {4, 8};
  const ScratchFolder folder;
  Class whole(options);
  const auto losses = whole.go(9);
  Class first(options);
  first.go(4);
  REQUIRE(first.trainer->save(folder.path()));
  Class second(options);
  REQUIRE(need(second.trainer->resume(folder.path())));
  CHECK(std::vector<double>(losses.begin() + 4, losses.end()) == second.go(5));
  CHECK(need(second.trainer->weights()) == need(whole.trainer->weights()));
}

TEST_CASE("a checkpoint of another teacher, of another loss or of no teacher is refused", "[gpu][teacher]") {
  const ScratchFolder folder;
  Class run;
  run.go(1);
  REQUIRE(run.trainer->save(folder.path()));
  const auto refusal = [&folder](Trainer& trainer) {
    const auto resumed = trainer.resume(folder.path());
    REQUIRE_FALSE(resumed);
    CHECK(is(resumed.error(), GpuError::invalid));
    return resumed.error().message;
  };
  auto other = learned_weights();
  other[0] += 1;
  CHECK(refusal(*Class(taught(), smaller(), weights_of(smaller()), other).trainer).find("another teacher") != std::string::npos);
  CHECK(refusal(*Class(taught(LossKind::reverse_kl)).trainer).find("other settings") != std::string::npos);
  auto device = need(CpuDevice::make(1));
  TrainOptions alone = taught();
  alone.teacher.reset();
  const auto samples = counting(50);
  CHECK(refusal(*need(Trainer::make(*device, smaller(), weights_of(smaller()), samples, alone))).find("other settings: teacher is none") != std::string::npos);
}

TEST_CASE("an adapter learns of a teacher", "[gpu][teacher][lora]") {
  TrainOptions options = taught();
  options.lora = {16, 32};
  options.schedule.peak = 3e-2;
  Class lesson(options, tiny(), weights_of(tiny()));
  const auto losses = lesson.go(150);
  CHECK(losses.back() < 0.8 * losses.front());  // of a random model, whose head stays as it is
  CHECK(need(lesson.trainer->weights()).size() == ParameterLayout(tiny(), options.lora).count());
}

TEST_CASE("ranks, micro-batches, recomputation and threads change nothing of a lesson but rounding", "[gpu][teacher][collective]") {
  const auto reference = Class().go(6);
  const auto close = [&reference](const std::vector<double>& losses) {
    REQUIRE(losses.size() == reference.size());
    for (std::size_t i = 0; i < losses.size(); ++i) CHECK(losses[i] == Approx(reference[i]).epsilon(1e-4));
  };
  TrainOptions options = taught();
  options.rows = 13;
  options.chunk_rows = 3;
  options.keep = Keep::inputs;
  close(Class(options, smaller(), weights_of(smaller()), learned_weights(), 2).go(6));
  learned_weights();  // made before the ranks' threads ask for it
  const auto of_ranks = on_ranks(2, [](Collective& ranks) -> std::vector<double> {
    const auto samples = counting(50);
    const auto device = CpuDevice::make(1);
    if (!device) return {};
    const auto trainer = Trainer::make(**device, smaller(), weights_of(smaller()), samples, taught(), &ranks, learned_weights());
    std::vector<double> losses;
    for (int i = 0; trainer && i < 6; ++i) {
      const auto report = (*trainer)->step();
      losses.push_back(report ? report->loss : NAN);
    }
    return losses;
  });
  for (const auto& losses : of_ranks) close(losses);
}

TEST_CASE("padding behind the tokenizer's tokens, and as much of it as there is, plays no part", "[gpu][teacher]") {
  ModelConfig padded = tiny();
  padded.vocabulary = 48;
  const ParameterLayout layout(padded);
  const ParameterLayout of_tiny(tiny());
  auto teacher = random_weights(padded, layout, 7);
  for (const Parameter& parameter : of_tiny.parameters()) {
    std::copy_n(learned_weights().begin() + static_cast<std::ptrdiff_t>(parameter.offset), parameter.count,
                teacher.begin() + static_cast<std::ptrdiff_t>(layout.find(parameter.name).offset));
  }
  TrainOptions options = taught();
  options.tokens = 40;
  options.teacher = padded;
  CHECK(need(Class(options, tiny(), learned_weights(), teacher).trainer->step()).loss < 1e-5);
}

TEST_CASE("a teacher's memory is part of the run's, and one that does not fit is refused with the numbers", "[gpu][teacher]") {
  TrainOptions alone = taught();
  alone.teacher.reset();
  const TrainMemory without = train_memory(smaller(), alone, 16, 0, Dtype::f32);
  const TrainMemory with = train_memory(smaller(), taught(), 16, 0, Dtype::f32);
  CHECK(without.teacher == 0);
  CHECK(with.teacher == TeacherModel::bytes_of(tiny(), 48, 16, Dtype::f32));
  CHECK(with.teacher > ParameterLayout(tiny()).count() * 4);
  CHECK(with.total() - with.activations == without.total() - without.activations + with.teacher);
  CHECK(with.activations - without.activations == 16 * 40 * 4);  // its logits
  CHECK(TeacherModel::bytes_of(tiny(), 48, 16, Dtype::bf16) < with.teacher);
  TrainOptions huge = taught();
  huge.teacher->hidden = 1U << 19;
  huge.teacher->intermediate = 1U << 19;
  auto device = need(CpuDevice::make(1));
  const auto refused = check_fits(smaller(), huge, 16, 0, *device);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), GpuError::too_large));
  CHECK(refused.error().message.find(", teacher ") != std::string::npos);
  CHECK(refused.error().message.find("a smaller teacher fits") != std::string::npos);
}

TEST_CASE("a teacher that cannot teach is refused", "[gpu][teacher]") {
  auto device = need(CpuDevice::make(1));
  const auto samples = counting(3);
  const auto refusal = [&](const TrainOptions& options) {
    const auto made = Trainer::make(*device, smaller(), weights_of(smaller()), samples, options, nullptr, learned_weights());
    REQUIRE_FALSE(made);
    return made.error().message;
  };
  CHECK(refusal(taught(LossKind::cross_entropy)).find("compares distributions") != std::string::npos);
  TrainOptions options = taught();
  options.teacher->vocabulary = 39;
  CHECK(refusal(options).find("the teacher has 39 tokens and the student 40") != std::string::npos);
  options = taught();
  options.loss.temperature = 101;
  CHECK(refusal(options).find("temperature") != std::string::npos);
}

TEST_CASE("tokenizers that differ are told by the first token that does", "[gpu][teacher][tokenizer]") {
  const SmallTokenizer small;
  CHECK(check_same_tokens(*small.tokenizer, *SmallTokenizer().tokenizer));
  const auto refusal = [](const Tokenizer& teacher, const Tokenizer& student) {
    const auto same = check_same_tokens(teacher, student);
    REQUIRE_FALSE(same);
    CHECK(is(same.error(), GpuError::invalid));
    return same.error().message;
  };
  TokenizerModel longer = small_model();
  const std::size_t size = small.tokenizer->size();
  longer.added.push_back({static_cast<TokenId>(size), "<extra>", true, false});
  const SmallTokenizer extended(std::move(longer));
  CHECK(refusal(*extended.tokenizer, *small.tokenizer).find("token " + std::to_string(size) + " is '<extra>' to the teacher and none to the student") != std::string::npos);
  CHECK(refusal(*small.tokenizer, *extended.tokenizer).find("is none to the teacher") != std::string::npos);
  TokenizerModel renamed = small_model();
  renamed.added.front().text = "<other>";
  const TokenId id = renamed.added.front().id;
  const SmallTokenizer other(std::move(renamed));
  CHECK(refusal(*other.tokenizer, *small.tokenizer).find("token " + std::to_string(id) + " is '<other>' to the teacher and '") != std::string::npos);
}

// The teacher's whole distribution at temperature 1, as a sample would have it.
void add_what_is_said(Sample& sample, const std::vector<float>& weights) {
  auto device = need(CpuDevice::make(1));
  const ModelConfig config = tiny();
  DecoderLimits limits;
  limits.rows = limits.loss_rows = limits.chunk_rows = sample.tokens.size();
  limits.positions = sample.tokens.size();
  limits.trains = false;
  auto decoder = need(Decoder::make(*device, config, limits));
  const Loaded loaded(*device, weights);
  const PackedBatch batch(*device, {sample.tokens}, sample.weights);
  const auto logits = numbers_of(decoder->logits(view_weights(config, ParameterLayout(config), loaded), batch.batch, batch.loss.rows, config.vocabulary));
  sample.teacher.resize(sample.tokens.size());
  std::size_t next = 0;
  for (std::size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) continue;
    const float* const row = logits.data() + next++ * config.vocabulary;
    float sum = 0;
    for (std::size_t token = 0; token < config.vocabulary; ++token) sum += std::exp(row[token]);
    for (std::size_t token = 0; token < config.vocabulary; ++token) {
      sample.teacher[i].tokens.push_back(static_cast<std::int32_t>(token));
      sample.teacher[i].log_p.push_back(row[token] - std::log(sum));
    }
  }
}

TEST_CASE("what samples say of every token teaches what the teacher itself would", "[gpu][teacher]") {
  TrainOptions options = taught(GENERATE(LossKind::forward_kl, LossKind::reverse_kl));
  options.loss.temperature = 1;
  const auto reference = Class(options).go(5);
  options.teacher.reset();
  auto samples = counting(50);
  for (Sample& sample : samples) add_what_is_said(sample, learned_weights());
  auto device = need(CpuDevice::make(1));
  auto trainer = need(Trainer::make(*device, smaller(), weights_of(smaller()), samples, options));
  for (const double loss : reference) CHECK(need(trainer->step()).loss == Approx(loss).epsilon(1e-3));
}

TEST_CASE("what a line says of a teacher is read, or refused with the reason", "[gpu][teacher]") {
  const auto read = need(parse_teacher_line(R"({"teacher": [{"tokens": [3, 9], "logprobs": [-0.1, -3]}, null, {"tokens": [0], "logprobs": [-1e300]}]})", 10));
  REQUIRE(read.size() == 3);
  CHECK(read[0].tokens == std::vector<std::int32_t>{3, 9});
  CHECK(read[0].log_p == std::vector<float>{-0.1F, -3});
  CHECK(read[1].tokens.empty());
  CHECK(std::isfinite(read[2].log_p[0]));
  CHECK(need(parse_teacher_line(R"({"messages": []})", 10)).empty());
  CHECK(need(parse_teacher_line(R"({"teacher": null})", 10)).empty());
  const auto refusal = [](const std::string& teacher) {
    const auto line = parse_teacher_line(R"({"teacher": )" + teacher + "}", 10);
    REQUIRE_FALSE(line);
    CHECK(is(line.error(), GpuError::malformed));
    return line.error().message;
  };
  const std::string good = R"({"tokens": [1], "logprobs": [-1]})";
  CHECK(refusal("[").find("not JSON") != std::string::npos);
  CHECK(refusal("\"gpt\"").find("no array") != std::string::npos);
  CHECK(refusal("[]").find("empty") != std::string::npos);
  CHECK(refusal("[" + good + ", 7]").find("entry 2 of its 'teacher' lacks an array") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1]}])").find("'logprobs'") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1, 2], "logprobs": [-1]}])").find("has 2 tokens and 1 logprobs") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [], "logprobs": []}])").find("has 0 tokens") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [10], "logprobs": [-1]}])").find("no id below 10") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [-1], "logprobs": [-1]}])").find("no id below 10") != std::string::npos);
  CHECK(refusal(R"([{"tokens": ["a"], "logprobs": [-1]}])").find("no id below 10") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1, 2, 1], "logprobs": [-1, -1, -1]}])").find("token 1 twice") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1], "logprobs": ["-1"]}])").find("no number") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1], "logprobs": [0.5]}])").find("more than 1") != std::string::npos);
  CHECK(refusal(R"([{"tokens": [1, 2], "logprobs": [-0.1, -0.1]}])").find("more than 1") != std::string::npos);
  std::string many = "[0";
  std::string numbers = "[-9";
  for (std::size_t i = 0; i < top_tokens_max; ++i) {
    many += ",1";
    numbers += ",-9";
  }
  CHECK(refusal(R"([{"tokens": )" + many + R"(], "logprobs": )" + numbers + "]}]").find("1 to 1024") != std::string::npos);
}

TEST_CASE("what a teacher said stands at the tokens that bear loss, and has to be of as many", "[gpu][teacher]") {
  const SmallTokenizer small;
  const ScratchFolder folder;
  const std::string chat = R"({"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "there"}])";
  const auto read = [&](const std::string& lines, std::size_t teacher_tokens) {
    REQUIRE(write_whole_file(folder.path("train.jsonl"), lines));
    return read_samples(folder.path("train.jsonl"), *small.encoder, {ChatFormat::qwen3, 256, teacher_tokens});
  };
  const std::size_t size = small.tokenizer->size();
  const std::size_t loss_rows = need(read(chat + "}\n", size)).samples[0].loss_rows();
  std::string entries;
  for (std::size_t i = 0; i < loss_rows; ++i) entries += (i == 0 ? "" : ",") + (R"({"tokens":[)" + std::to_string(i) + R"(],"logprobs":[-0.5]})");
  const std::string taught_line = chat + R"(, "teacher": [)" + entries + "]}\n";
  const Sample sample = need(read(taught_line, size)).samples[0];
  REQUIRE(sample.teacher.size() == sample.tokens.size());
  std::int32_t next = 0;
  for (std::size_t i = 0; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) CHECK(sample.teacher[i].tokens.empty());
    else CHECK(sample.teacher[i].tokens == std::vector<std::int32_t>{next++});
  }
  CHECK(top_k_of(std::vector{sample}) == 1);
  CHECK(need(read(taught_line, 0)).samples[0].teacher.empty());  // nobody asked
  const auto more = read(chat + "}\n\n" + chat + R"(, "teacher": [null,)" + entries + "]}\n", size);
  REQUIRE_FALSE(more);
  CHECK(more.error().message.find("line 3: its 'teacher' has " + std::to_string(loss_rows + 1) + " entries, and " + std::to_string(loss_rows) + " tokens bear loss") !=
        std::string::npos);
  const auto bad = read(chat + "}\n" + chat + R"(, "teacher": [7]})" + "\n", size);
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message.find("line 2: entry 1 of its 'teacher'") != std::string::npos);
}

}  // namespace
}  // namespace outlast::gpu::teacher_test
