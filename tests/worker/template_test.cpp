// What becomes of the chat template of the model that a student began from.
#include <nlohmann/json.hpp>

#include "apps/outlast-gpu-worker/generator.hpp"
#include "gpu/tokenizer/known_templates.hpp"
#include "tests/worker/school.hpp"

namespace outlast::worker::template_test {
namespace {

using nlohmann::json;

json config_of(const School& school, const std::string& folder) {
  std::ifstream file(school.path(folder + "/tokenizer_config.json"));
  return json::parse(file);
}

bool told(const Recorded& context) {
  return std::any_of(context.events.begin(), context.events.end(), [](const work::Event& event) {
    return event.kind == work::EventKind::note && event.text.find("is not one that Outlast renders (it says '[INST] ')") != std::string::npos;
  });
}

const std::string own(gpu::template_of(gpu::ChatFormat::qwen3));

}  // namespace

TEST_CASE("a template that Outlast renders is copied to the student, and nothing is told", "[worker]") {
  School school;
  CHECK(config_of(school, "teacher")["chat_template"] == own);
  const std::string of_their_own = own + "{# theirs #}";
  school.write("teacher/chat_template.jinja", of_their_own);
  work::Train train = school.lesson("student", {});
  train.model = school.path("teacher");
  CHECK_FALSE(school.refusal(train));
  CHECK_FALSE(told(school.context));
  std::ifstream file(school.path("student/chat_template.jinja"));
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == of_their_own);
}

TEST_CASE("another template is told of, and the student has the one that it was taught with", "[worker]") {
  School school;
  const std::string another = "[INST] {{ messages[0].content }}";
  json config = config_of(school, "teacher");
  config["model_max_length"] = 77;
  SECTION("in a file of its own, which counts before the other") {
    school.write("teacher/chat_template.jinja", another);
  }
  SECTION("in the tokenizer's configuration") { config["chat_template"] = another; }
  SECTION("among others there") { config["chat_template"] = {{{"name", "tool_use"}, {"template", own}}, {{"name", "default"}, {"template", another}}}; }
  school.write("teacher/tokenizer_config.json", config.dump());
  work::Train train = school.lesson("student", {});
  train.model = school.path("teacher");
  CHECK_FALSE(school.refusal(train));
  CHECK(told(school.context));
  CHECK_FALSE(std::filesystem::exists(school.path("student/chat_template.jinja")));
  config["chat_template"] = own;
  CHECK(config_of(school, "student") == config);
  const auto device = std::move(*gpu::CpuDevice::make(1));
  const auto evaluates = [&](const std::string& model) {
    Recorded context;
    REQUIRE(worker::evaluate({school.path(model), school.path("train.jsonl"), 64, 64}, *device, context));
    return told(context);
  };
  CHECK(evaluates("teacher"));
  CHECK_FALSE(evaluates("student"));
  Generator generator(*device);
  work::Generate generate;
  generate.model = school.path("teacher");
  generate.prompts = {{{"user", "the cat"}}};
  generate.tokens_max = 1;
  Recorded context;
  REQUIRE(generator.run(generate, context));
  CHECK(told(context));
  train = school.lesson("taught", {school.path("teacher"), "forward-kl", 2, 0, 0.5});
  CHECK_FALSE(school.refusal(train));
  CHECK(told(school.context));
}

TEST_CASE("a tokenizer's configuration that is no JSON is named", "[worker]") {
  School school;
  school.write("teacher/tokenizer_config.json", "{");
  const auto device = std::move(*gpu::CpuDevice::make(1));
  Recorded context;
  const auto done = worker::evaluate({school.path("teacher"), school.path("train.jsonl"), 64, 64}, *device, context);
  REQUIRE_FALSE(done);
  CHECK(done.error().message.find("tokenizer_config.json is not a JSON object") != std::string::npos);
}

}  // namespace outlast::worker::template_test
