// Runs of a student with a teacher, as a worker does them.
#include "gpu/tokenizer/tokenizer_model.hpp"
#include "tests/worker/school.hpp"

namespace outlast::worker::distil_job_test {

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
  how.cross_entropy = 1;
  CHECK(says(refusal(how), "counts for nothing"));
  how = {good.teacher, "skew-kl", 2, 1, 0.5};
  CHECK(says(refusal(how), "compares the teacher with itself"));
  work::Train train = school.lesson("student", good);
  gpu::TokenizerModel other = gpu::small_model();
  other.added.push_back({static_cast<gpu::TokenId>(gpu::Tokenizer(other).size()), "<extra>", true, false});
  school.write("other.json", gpu::tokenizer_json(other));
  train.tokenizer = school.path("other.json");
  CHECK(says(school.refusal(train), "none to the teacher and '<extra>' to the student"));
}

}  // namespace outlast::worker::distil_job_test
