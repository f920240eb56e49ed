#include "gpu/model/model_folder.hpp"

#include <algorithm>
#include <filesystem>

#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/folder_template.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/tokenizer/known_templates.hpp"

namespace outlast::gpu {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t config_bytes_max = 1U << 20;
constexpr std::size_t copied_bytes_max = tokenizer_file_bytes_max;
constexpr const char* tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                           "vocab.json",     "merges.txt"};
constexpr const char* template_file = "chat_template.jinja";
// With the file, which a parser of text does not know.
Failure within(const fs::path& path, const Error& error) { return fail(Error{error.module, error.code, path.string() + ": " + error.message}); }

std::string tokenizer_config_json(ChatFormat format) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("tokenizer_class").string("Qwen2Tokenizer").key("eos_token").string("<|im_end|>").key("pad_token").string("<|endoftext|>");
  json.key("add_bos_token").boolean(false).key("add_prefix_space").boolean(false).key("chat_template").string(template_of(format)).end_object();
  return text;
}

Result<void> write_tokenizer(const fs::path& folder, const ModelFolder& model) {
  if (Result<void> done = write_whole_file((folder / "tokenizer.json").string(), tokenizer_json(model.tokenizer->model())); !done) return done;
  return write_whole_file((folder / "tokenizer_config.json").string(), tokenizer_config_json(model.format()));
}

Result<void> copy_file(const fs::path& folder, const fs::path& like, const char* name) {
  if (!fs::exists(like / name)) return {};
  const auto content = read_whole_file((like / name).string(), copied_bytes_max);
  if (!content) return fail(content.error());
  return write_whole_file((folder / name).string(), *content);
}

// Its template in place of another's.
Result<void> write_template(const fs::path& folder, ChatFormat format) {
  const std::string file = (folder / "tokenizer_config.json").string();
  if (!fs::exists(file)) return write_whole_file(file, tokenizer_config_json(format));
  const auto copied = read_whole_file(file, copied_bytes_max);
  if (!copied) return fail(copied.error());
  const auto changed = with_template(*copied, template_of(format));
  if (!changed) return fail(Error{changed.error().module, changed.error().code, file + ": " + changed.error().message});
  return write_whole_file(file, *changed);
}

Result<void> copy_tokenizer(const fs::path& folder, const fs::path& like, const ModelFolder& model) {
  for (const char* const name : tokenizer_files) {
    if (Result<void> done = copy_file(folder, like, name); !done) return done;
  }
  return model.foreign_template.empty() ? copy_file(folder, like, template_file) : write_template(folder, model.format());
}

}  // namespace

std::vector<std::uint32_t> ModelFolder::ends() const {
  std::vector<std::uint32_t> ends = sampling.eos_tokens.empty() ? config.eos_tokens : sampling.eos_tokens;
  if (const auto turn = tokenizer->added("<|im_end|>"); turn && std::find(ends.begin(), ends.end(), *turn) == ends.end()) ends.push_back(*turn);
  return ends;
}

Result<ModelFolder> read_model_folder(const std::string& folder) {
  const fs::path place(folder);
  ModelFolder model;
  const fs::path config_file = place / "config.json";
  const auto config_text = read_whole_file(config_file.string(), config_bytes_max);
  if (!config_text) return fail(config_text.error());
  const auto config = parse_model_config(*config_text);
  if (!config) return within(config_file, config.error());
  model.config = *config;
  if (const fs::path file = place / "generation_config.json"; fs::exists(file)) {
    const auto text = read_whole_file(file.string(), config_bytes_max);
    if (!text) return fail(text.error());
    const auto sampling = parse_sampling_config(*text);
    if (!sampling) return within(file, sampling.error());
    model.sampling = *sampling;
  }
  auto tokenizer = load_tokenizer((place / "tokenizer.json").string());
  if (!tokenizer) return fail(std::move(tokenizer.error()));
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(*tokenizer));
  if (model.tokenizer->size() > model.config.vocabulary) {
    return fail(GpuError::invalid, folder + ": the tokenizer has " + std::to_string(model.tokenizer->size()) + " tokens and the model " +
                                       std::to_string(model.config.vocabulary) + "; they are not of one model");
  }
  if (const auto good = check_chat_tokens(*model.tokenizer, model.format()); !good) return within(place / "tokenizer.json", good.error());
  const auto own_template = read_folder_template(folder);
  if (!own_template) return fail(own_template.error());
  if (*own_template) model.foreign_template = foreign_part(**own_template, model.format()).value_or("");
  return model;
}

Result<void> write_model_folder(const std::string& folder, const ModelFolder& model, std::span<const float> weights, const std::string& like) {
  const fs::path place(folder);
  std::error_code error;
  fs::create_directories(place, error);
  if (error) return fail(GpuError::io, "cannot make " + folder + ": " + error.message());
  if (Result<void> done = write_whole_file((place / "config.json").string(), model_config_json(model.config)); !done) return done;
  if (Result<void> done = write_whole_file((place / "generation_config.json").string(), sampling_config_json(model.sampling)); !done) return done;
  const bool copies = !like.empty() && fs::exists(fs::path(like) / "tokenizer.json");
  if (Result<void> done = copies ? copy_tokenizer(place, like, model) : write_tokenizer(place, model); !done) return done;
  return save_weights(folder, model.config, ParameterLayout(model.config), weights);
}

}  // namespace outlast::gpu
