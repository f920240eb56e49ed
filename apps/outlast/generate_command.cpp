// outlast generate: answers of a student on this machine.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/number_options.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/text_file.hpp"
#include "apps/outlast/work_display.hpp"
#include "apps/outlast/worker_calls.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t top_k_max = 1'000'000;
constexpr std::size_t input_bytes_max = 16U << 20;

struct GenerateCommand {
  work::Generate generate;
  std::vector<std::string> words;
  std::string system;
  std::string prompts_file;
  std::string labels_file;
  std::string schema_file;
  WorkerChoice worker;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

Result<void> read_inputs(GenerateCommand& command) {
  work::Generate& generate = command.generate;
  std::vector<std::string> questions;
  if (!command.prompts_file.empty()) {
    auto text = read_text_file(command.prompts_file, input_bytes_max);
    if (!text) return fail(std::move(text.error()));
    questions = lines_of(*text);
  } else {
    std::string question;
    for (const std::string& word : command.words) question += (question.empty() ? "" : " ") + word;
    questions.push_back(std::move(question));
  }
  if (questions.empty() || questions.front().empty()) return fail(CliError::usage, "there is no prompt; give one, or --prompts FILE with one a line ('-' reads stdin)");
  if (questions.size() > work::prompts_max)
    return fail(CliError::failed, std::to_string(questions.size()) + " prompts are too many for one call; at most " + std::to_string(work::prompts_max));
  for (std::string& question : questions) {
    auto& messages = generate.prompts.emplace_back();
    if (!command.system.empty()) messages.push_back({"system", command.system});
    messages.push_back({"user", std::move(question)});
  }
  if (!command.labels_file.empty()) {
    auto text = read_text_file(command.labels_file, input_bytes_max);
    if (!text) return fail(std::move(text.error()));
    auto labels = lines_of(*text);
    std::erase_if(labels, [](const std::string& label) { return label.find_first_not_of(" \t") == std::string::npos; });
    if (labels.empty()) return fail(CliError::usage, command.labels_file + " has no label; write one a line, or leave out --labels to let the answer be anything");
    generate.labels.insert(generate.labels.end(), labels.begin(), labels.end());
  }
  if (!command.schema_file.empty()) {
    auto text = read_text_file(command.schema_file, input_bytes_max);
    if (!text) return fail(std::move(text.error()));
    if (text->find_first_not_of(" \t\r\n") == std::string::npos)
      return fail(CliError::usage, command.schema_file + " is empty; write a JSON schema, or leave out --json-schema to let the answer be anything");
    generate.json_schema = std::move(*text);
  }
  return {};
}

// Answers as they come where there is one; else each whole, in the order of the prompts.
class Answers {
 public:
  Answers(std::size_t count, bool json) : texts_(count), ends_(count), json_(json) {}

  void take(const work::Event& event) {
    if (event.kind == work::EventKind::note) return (void)std::fprintf(stderr, "%s\n", printable(event.text).c_str());
    const double number = event.figure("prompt");
    if (!(number >= 0) || number >= static_cast<double>(texts_.size())) return;
    const auto prompt = static_cast<std::size_t>(number);
    if (event.kind == work::EventKind::delta) {
      texts_[prompt] += event.text;
      if (!json_ && texts_.size() == 1) print(stdout_is_terminal() ? printable(event.text, true) : event.text);
    } else if (event.kind == work::EventKind::answer) {
      ends_[prompt] = event;
      done_ += 1;
      tokens_ += event.figure("completion_tokens");
      seconds_ = event.figure("seconds");
      tell();
    }
  }
  void summarise() const {
    if (json_ || done_ == 0) return;
    std::fprintf(stderr, "%s\n", dim_summary().c_str());
  }

 private:
  void tell() {
    for (; told_ < texts_.size() && ends_[told_]; ++told_) {
      if (json_) print(line_of(told_));
      else if (texts_.size() == 1) print("\n");
      else print((stdout_is_terminal() ? printable(texts_[told_], true) : texts_[told_]) + "\n");
    }
  }
  [[nodiscard]] std::string line_of(std::size_t prompt) const {
    const work::Event& end = *ends_[prompt];
    std::string text;
    JsonWriter json(text);
    json.begin_object().key("prompt").number(std::uint64_t{prompt}).key("text").string(texts_[prompt]).key("finish_reason").string(end.text);
    for (const work::Figure& figure : end.figures) {
      if (figure.name != "prompt") json.key(figure.name).real(figure.value);
    }
    json.end_object();
    return text + "\n";
  }
  [[nodiscard]] std::string dim_summary() const {
    char rate[64];
    (void)std::snprintf(rate, sizeof rate, "%.0f", tokens_ / std::max(seconds_, 1e-9));
    return count_text(tokens_) + " tokens in " + duration_text(seconds_) + ", " + rate + " tokens/s";
  }

  std::vector<std::string> texts_;
  std::vector<std::optional<work::Event>> ends_;
  const bool json_;
  std::size_t told_ = 0;
  std::size_t done_ = 0;
  double tokens_ = 0;
  double seconds_ = 0;
};

Result<void> run(const GlobalOptions& global, GenerateCommand command) {
  work::Generate& generate = command.generate;
  generate.model = fs::absolute(generate.model).lexically_normal().string();
  if (command.worker.name.empty() && !fs::exists(fs::path(generate.model) / "config.json")) return fail(CliError::not_found, generate.model + " has no config.json: it is not a model's folder");
  if (Result<void> read = read_inputs(command); !read) return read;
  Interrupts interrupts;
  auto worker = find_worker(global, command.worker, interrupts);
  if (!worker) return fail(std::move(worker.error()));
  Answers answers(generate.prompts.size(), global.json);
  Result<void> done = run_work(**worker, generate, interrupts, [&answers](const work::Event& event) { answers.take(event); });
  answers.summarise();
  if (!done && interrupts.came()) return fail(CliError::interrupted, done.error().message);
  return done;
}

}  // namespace

void add_generate_command(CommandLine& line) {
  auto command = std::make_shared<GenerateCommand>();
  CLI::App* app = line.add_command(line.app, "generate", "answers of a student on this machine", [&line, command] { return run(line.options, *command); });
  work::Generate& generate = command->generate;
  generate.tokens_max = 256;
  app->add_option("model", generate.model, "its folder")->required()->type_name("FOLDER");
  app->add_option("prompt", command->words, "what is asked");
  app->add_option("--prompts", command->prompts_file, "one prompt a line, answered together; '-' reads stdin")->type_name("FILE");
  app->add_option("--system", command->system, "the system message of each");
  app->add_option("--max-tokens", generate.tokens_max, "of an answer")->check(whole_number(1, 131'072))->capture_default_str();
  app->add_option("--temperature", generate.temperature, "0: the likeliest token each time")->check(real_number(0, 10))->capture_default_str();
  app->add_option("--top-p", generate.top_p, "only the likeliest tokens of this mass")->check(real_number(0, 1))->capture_default_str();
  app->add_option("--top-k", generate.top_k, "only so many of the likeliest tokens; 0: all")->check(whole_number(0, top_k_max))->capture_default_str();
  app->add_option("--seed", generate.seed, "the same seed gives the same answers")->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()))->capture_default_str();
  app->add_option("--stop", generate.stop, "ends an answer where it would say this; may be repeated")->allow_extra_args(false);
  CLI::Option* label = app->add_option("--label", generate.labels, "the answer is one of these labels; may be repeated")->allow_extra_args(false);
  CLI::Option* labels = app->add_option("--labels", command->labels_file, "likewise, one a line")->type_name("FILE");
  app->add_option("--json-schema", command->schema_file, "the answer is JSON that is valid by this schema")->excludes(label)->excludes(labels)->type_name("FILE");
  app->add_flag("--thinking", generate.thinking, "lets a Qwen3 model think first");
  add_worker_options(*app, command->worker);
}

}  // namespace outlast::apps
