// outlast tokenizer train: a byte-level BPE of one's own text.
#include "apps/outlast/tokenizer_command.hpp"

#include <filesystem>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/work_display.hpp"
#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/tokenizer/tokenizer_trainer.hpp"
#include "gpu/train/sample.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t line_bytes_max = 16U << 20;

Failure failed(const std::string& file, const Error& error) {
  return fail(CliError::failed, error.message.starts_with(file) ? error.message : file + ": " + error.message);
}

// Line by line, so that a file may be larger than memory: no word goes on after a line's end.
Result<void> add_file(gpu::TokenizerTrainer& trainer, const std::string& file, std::size_t& bytes) {
  if (!std::filesystem::is_regular_file(file)) return fail(CliError::not_found, file + " is not a file");
  gpu::LineReader lines(file, line_bytes_max);
  std::string line;
  for (std::size_t number = 1;; ++number) {
    const auto more = lines.next(line);
    if (!more) return failed(file, more.error());
    if (!*more) return {};
    bytes += line.size() + 1;
    if (!file.ends_with(".jsonl")) {
      if (Result<void> added = trainer.add(line + "\n"); !added) return failed(file, added.error());
      continue;
    }
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto chat = gpu::parse_chat_line(line);
    if (!chat) return fail(CliError::failed, file + ", line " + std::to_string(number) + ": " + chat.error().message);
    for (const gpu::ChatMessage& message : *chat) {
      if (Result<void> added = trainer.add(message.content); !added) return failed(file, added.error());
    }
  }
}

Result<void> run(const GlobalOptions& global, const TokenizerOptions& options) {
  const auto size = train_tokenizer(options, nullptr);
  if (!size) return fail(size.error());
  if (!global.json) {
    print(options.to + ": " + std::to_string(size->tokens) + " tokens from " + bytes_text(static_cast<double>(size->bytes)) + " of text\n");
    return {};
  }
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("file").string(options.to).key("tokens").number(std::uint64_t{size->tokens}).key("bytes").number(std::uint64_t{size->bytes}).end_object();
  print(text + "\n");
  return {};
}

}  // namespace

Result<TokenizerSize> train_tokenizer(const TokenizerOptions& options, const std::function<void(std::size_t, std::size_t)>& progress) {
  gpu::TrainerOptions how;
  how.vocabulary = options.vocabulary;
  how.count_min = options.count_min;
  how.added = gpu::chat_tokens();
  const auto trainer = gpu::TokenizerTrainer::make(std::move(how));
  if (!trainer) return fail(CliError::failed, trainer.error().message);
  TokenizerSize size;
  for (const std::string& file : options.files) {
    if (Result<void> added = add_file(**trainer, file, size.bytes); !added) return fail(std::move(added.error()));
  }
  if (size.bytes == 0) return fail(CliError::failed, "there is no text to make a tokenizer of");
  const gpu::TokenizerModel model = (*trainer)->finish(progress);
  size.tokens = model.size();
  if (Result<void> written = gpu::write_whole_file(options.to, gpu::tokenizer_json(model)); !written) return failed(options.to, written.error());
  return size;
}

void add_tokenizer_command(CommandLine& line) {
  CLI::App* group = line.add_group("tokenizer", "makes tokenizers");
  auto options = std::make_shared<TokenizerOptions>();
  options->vocabulary = 4'096;
  CLI::App* train = line.add_command(*group, "train", "makes a byte-level BPE from text", [&line, options] { return run(line.options, *options); });
  train->add_option("files", options->files, "text, or samples as .jsonl")->required()->type_name("FILE");
  train->add_option("--to", options->to, "the tokenizer.json that is written")->required()->type_name("FILE");
  train->add_option("--vocabulary", options->vocabulary, "tokens, the 256 bytes among them")->check(CLI::Range(256, 1'000'000))->capture_default_str();
  train->add_option("--count-min", options->count_min, "pairs that are rarer are not merged")->check(CLI::PositiveNumber)->capture_default_str();
}

}  // namespace outlast::apps
