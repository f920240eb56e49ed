// Runs of a student with a teacher, as a worker does them.
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

#include "apps/outlast-gpu-worker/job.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/tokenizer/tokenizer_model.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::worker::distil_job_test {
namespace {

struct Recorded final : JobContext {
  void emit(work::Event event) override { events.push_back(std::move(event)); }
  [[nodiscard]] bool stopping() const override { return false; }
  void end(Result<void>) override {}
  std::optional<Joined> join(const std::string&) override { return std::nullopt; }
  [[nodiscard]] double figure(work::EventKind kind, std::string_view name) const {
    double value = -1;
    for (const work::Event& event : events) {
      if (event.kind == kind) value = event.figure(name);
    }
    return value;
  }
  std::vector<work::Event> events;
};

// A folder with a tokenizer, samples and a model that has learned a little of them.
class School {
 public:
  School() {
    write("tokenizer.json", gpu::tokenizer_json(tokenizer_.tokenizer->model()));
    write("train.jsonl", chat + "}\n");
    work::Train train = lesson("teacher", {});
    train.shape.layers = 2;
    REQUIRE_FALSE(refusal(train));
  }

  [[nodiscard]] work::Train lesson(const std::string& output, work::Distillation how) const {
    work::Train train;
    train.shape = {16, 32, 1, 2, 1, 8};
    train.tokenizer = path("tokenizer.json");
    train.data = path("train.jsonl");
    train.output = path(output);
    train.steps = 3;
    train.batch_samples = 2;
    train.rows = 64;
    train.positions = 64;
    train.rate = 1e-2;
    train.schedule = "constant";
    train.distillation = std::move(how);
    return train;
  }
  // What the run says when it fails; nothing where it does not.
  std::optional<std::string> refusal(const work::Train& train) {
    context = {};
    const auto done = worker::train(train, *device_, context);
    if (done) return std::nullopt;
    CHECK(is(done.error(), gpu::GpuError::invalid));
    return done.error().message;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.path(name); }

  const std::string chat = R"({"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "the rat"}])";
  Recorded context;

 private:
  const gpu::ScratchFolder folder_;
  const gpu::SmallTokenizer tokenizer_;
  const std::unique_ptr<gpu::CpuDevice> device_ = std::move(*gpu::CpuDevice::make(1));
};

bool says(const std::optional<std::string>& refusal, const std::string& words) { return refusal && refusal->find(words) != std::string::npos; }

}  // namespace

TEST_CASE("a student learns of a teacher's folder, and its plan counts the teacher", "[worker]") {
  School school;
  const work::Distillation how{school.path("teacher"), std::string(GENERATE("forward-kl", "reverse-kl", "jsd", "skew-kl")), 2, 0, 0.5};
  CHECK_FALSE(school.refusal(school.lesson("student", how)));
  CHECK(school.context.figure(work::EventKind::step, "step") == 3);
  using work::EventKind;
  const double parts = school.context.figure(EventKind::plan, "weights_bytes") + school.context.figure(EventKind::plan, "gradients_bytes") +
                       school.context.figure(EventKind::plan, "optimizer_bytes") + school.context.figure(EventKind::plan, "activations_bytes");
  const double of_teacher = school.context.figure(EventKind::plan, "teacher_bytes");
  CHECK(of_teacher > 4 * school.context.figure(EventKind::plan, "teacher_parameters"));
  CHECK(school.context.figure(EventKind::plan, "memory_bytes") == parts + of_teacher);
  work::Train adapter = school.lesson("adapted", how);
  adapter.model = school.path("teacher");
  adapter.lora_rank = 2;
  CHECK_FALSE(school.refusal(adapter));
  CHECK(school.context.figure(EventKind::plan, "trained_parameters") < school.context.figure(EventKind::plan, "parameters"));
}

TEST_CASE("a run of another teacher is not gone on with", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {school.path("teacher"), "forward-kl", 2, 0, 0.5});
  CHECK_FALSE(school.refusal(train));
  work::Train other = school.lesson("other", {});
  other.shape.layers = 2;
  other.seed = 9;
  CHECK_FALSE(school.refusal(other));
  train.resume = true;
  CHECK_FALSE(school.refusal(train));
  train.distillation.teacher = other.output;
  CHECK(says(school.refusal(train), "another teacher"));
  train.distillation = {};
  CHECK(says(school.refusal(train), "other settings"));
}

TEST_CASE("what samples say of a teacher is learned where a loss is asked for, and looked at only then", "[worker]") {
  School school;
  const work::Distillation how{"", "forward-kl", 1, 0, 0.5};
  CHECK(says(school.refusal(school.lesson("none", how)), "no line of " + school.path("train.jsonl") + " has what a teacher said"));
  school.write("train.jsonl", school.chat + R"(, "teacher": [null]})" + "\n");
  const auto refused = school.refusal(school.lesson("none", how));
  REQUIRE(says(refused, "line 1: its 'teacher' has 1 entries, and "));
  CHECK_FALSE(school.refusal(school.lesson("plain", {})));  // as if the line said nothing
  const int count = std::stoi(refused->substr(refused->find(" and ") + 5));
  std::string entries = "null";
  for (int i = 1; i < count; ++i) entries += R"(, {"tokens": [65, 66], "logprobs": [-0.2, -2]})";
  school.write("train.jsonl", school.chat + R"(, "teacher": [)" + entries + "]}\n" + school.chat + "}\n");
  CHECK_FALSE(school.refusal(school.lesson("student", how)));
  work::Distillation flat = how;
  flat.temperature = 2;
  CHECK(says(school.refusal(school.lesson("flat", flat)), "temperature 1"));
}

TEST_CASE("a lesson that cannot be is refused", "[worker]") {
  School school;
  const work::Distillation good{school.path("teacher"), "forward-kl", 2, 0, 0.5};
  const auto refusal = [&school](const work::Distillation& how) { return school.refusal(school.lesson("student", how)); };
  work::Distillation how = good;
  how.loss = "hinge";
  CHECK(says(refusal(how), "forward-kl, reverse-kl, jsd or skew-kl, and 'hinge'"));
  how.loss.clear();
  CHECK(says(refusal(how), "'' is none of them"));
  how = good;
  how.mix = 0.5;
  CHECK(says(refusal(how), "beta of jsd"));
  how = good;
  how.temperature = 0;
  CHECK(says(refusal(how), "temperature"));
  how = good;
  how.cross_entropy = 1.5;
  CHECK(says(refusal(how), "shares are from 0 to 1"));
  work::Train train = school.lesson("student", good);
  gpu::TokenizerModel other = gpu::small_model();
  other.added.push_back({static_cast<gpu::TokenId>(gpu::Tokenizer(other).size()), "<extra>", true, false});
  school.write("other.json", gpu::tokenizer_json(other));
  train.tokenizer = school.path("other.json");
  CHECK(says(school.refusal(train), "none to the teacher and '<extra>' to the student"));
}

}  // namespace outlast::worker::distil_job_test
