// outlast sample-task: samples to try students with.
#include <filesystem>
#include <set>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/sample_task.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

struct SampleTaskOptions {
  std::string folder;
  std::size_t samples = 4'000;
  std::size_t held_out = 500;
  std::uint64_t seed = 1;
};

constexpr unsigned file_mode = 0644;
constexpr std::uint64_t held_out_seed = 0x9E37'79B9'7F4A'7C15ULL;  // other messages than those to learn from

std::string sample_line(const LabelledMessage& one) {
  std::string line;
  JsonWriter json(line);
  json.begin_object().key("messages").begin_array();
  json.begin_object().key("role").string("user").key("content").string(one.message).end_object();
  json.begin_object().key("role").string("assistant").key("content").string(one.label).end_object();
  json.end_array().end_object();
  return line + "\n";
}

Result<void> run(const GlobalOptions& global, const SampleTaskOptions& options) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(options.folder, error);
  if (error) return fail(CliError::failed, "cannot make " + options.folder + ": " + error.message());
  std::set<std::string> learned;
  std::string train;
  for (const LabelledMessage& one : make_sample_task(options.samples, options.seed)) {
    learned.insert(one.message);
    train += sample_line(one);
  }
  std::string held_out;
  std::size_t count = 0;
  // What it has learned by heart is no test.
  for (std::uint64_t seed = options.seed ^ held_out_seed; count < options.held_out; ++seed) {
    for (const LabelledMessage& one : make_sample_task(options.held_out, seed)) {
      if (count == options.held_out || !learned.insert(one.message).second) continue;
      held_out += sample_line(one);
      ++count;
    }
  }
  std::string labels;
  for (const std::string_view label : sample_task_labels()) labels += std::string(label) + "\n";
  for (const auto& [name, content] : {std::pair{"train.jsonl", &train}, std::pair{"held-out.jsonl", &held_out}, std::pair{"labels.txt", &labels}}) {
    const auto written = storage::write_file_durably((fs::path(options.folder) / name).string(), *content, file_mode);
    if (!written) return fail(CliError::failed, written.error().message);
  }
  if (global.json) {
    std::string line;
    JsonWriter json(line);
    json.begin_object().key("folder").string(options.folder).key("samples").number(std::uint64_t{options.samples}).key("held_out").number(std::uint64_t{options.held_out}).end_object();
    print(line + "\n");
    return {};
  }
  print(std::to_string(options.samples) + " customers' messages of 20 kinds are in " + options.folder + "/train.jsonl, " + std::to_string(options.held_out) +
        " others in held-out.jsonl.\nTeach a student: outlast train " + options.folder + "/train.jsonl --held-out " + options.folder + "/held-out.jsonl --to student\n");
  return {};
}

}  // namespace

void add_sample_task_command(CommandLine& line) {
  auto options = std::make_shared<SampleTaskOptions>();
  CLI::App* app = line.add_command(line.app, "sample-task", "writes samples of a narrow task, to try students with", [&line, options] { return run(line.options, *options); });
  app->add_option("folder", options->folder, "where they go")->required()->type_name("FOLDER");
  app->add_option("--samples", options->samples, "to learn from")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app->add_option("--held-out", options->held_out, "to test with")->check(CLI::Range(1, 100'000))->capture_default_str();
  app->add_option("--seed", options->seed, "another seed gives other messages")->capture_default_str();
}

}  // namespace outlast::apps
