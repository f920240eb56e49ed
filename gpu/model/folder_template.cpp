#include "gpu/model/folder_template.hpp"

#include <filesystem>

#include <simdjson.h>

#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;

constexpr std::size_t template_bytes_max = 1U << 20;
constexpr std::size_t config_bytes_max = 16U << 20;
constexpr const char* member = "chat_template";

// One text, or a list of templates by their names.
std::optional<std::string> template_in(const dom::element& config) {
  std::string_view text;
  if (config[member].get(text) == SUCCESS) return std::string(text);
  dom::array named;
  if (config[member].get(named) != SUCCESS) return std::nullopt;
  for (const dom::element one : named) {
    std::string_view name;
    if (one["name"].get(name) == SUCCESS && name == "default" && one["template"].get(text) == SUCCESS) return std::string(text);
  }
  return std::nullopt;
}

Result<dom::element> parsed(dom::parser& parser, std::string_view text) {
  dom::element config;
  if (parser.parse(text.data(), text.size()).get(config) != SUCCESS || !config.is_object()) return malformed("tokenizer_config.json is not a JSON object");
  return config;
}

}  // namespace

Result<std::optional<std::string>> read_folder_template(const std::string& folder) {
  const std::filesystem::path place(folder);
  if (const auto file = place / "chat_template.jinja"; std::filesystem::exists(file))
    return read_whole_file(file.string(), template_bytes_max).map([](std::string text) { return std::optional<std::string>(std::move(text)); });
  const auto file = place / "tokenizer_config.json";
  if (!std::filesystem::exists(file)) return std::optional<std::string>();
  const auto text = read_whole_file(file.string(), config_bytes_max);
  if (!text) return fail(text.error());
  dom::parser parser;
  const auto config = parsed(parser, *text);
  if (!config) return malformed(folder + ": " + config.error().message);
  return template_in(*config);
}

Result<std::string> with_template(std::string_view tokenizer_config, std::string_view chat_template) {
  dom::parser parser;
  const auto config = parsed(parser, tokenizer_config);
  if (!config) return fail(config.error());
  std::string text;
  JsonWriter json(text);
  json.begin_object();
  for (const auto& [key, value] : dom::object(*config)) {
    if (key != member) json.key(key).raw(simdjson::minify(value));
  }
  json.key(member).string(chat_template).end_object();
  return text;
}

}  // namespace outlast::gpu
