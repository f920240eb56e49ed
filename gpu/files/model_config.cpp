#include "gpu/files/model_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <simdjson.h>

#include "core/json_writer.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;

constexpr std::size_t config_bytes_max = 4U << 20;
constexpr std::uint32_t size_max = 1U << 20;  // of any one dimension
constexpr std::uint32_t layers_max = 1'024;
constexpr std::size_t eos_tokens_max = 64;

// Reads keys of one JSON object, and keeps the first thing that is wrong.
class Fields {
 public:
  Fields(const dom::element& object, std::string file) : object_(object), file_(std::move(file)) {}

  [[nodiscard]] bool has(std::string_view key) const {
    dom::element value;
    return object_[key].get(value) == SUCCESS && !value.is_null();
  }
  std::uint32_t whole(std::string_view key, std::uint32_t least, std::uint32_t most) {
    std::uint64_t number = 0;
    if (!has(key)) return wrong(key, "is missing"), least;
    if (object_[key].get(number) != SUCCESS || number < least || number > most)
      wrong(key, "is not a number from " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<std::uint32_t>(number);
  }
  double real(std::string_view key, double otherwise, double least, double most) {
    double number = otherwise;
    if (!has(key)) return otherwise;
    if (object_[key].get(number) != SUCCESS || !(number >= least && number <= most))
      wrong(key, "is not a number from " + std::to_string(least) + " to " + std::to_string(most));
    return number;
  }
  bool flag(std::string_view key, bool otherwise) {
    bool value = otherwise;
    if (has(key) && object_[key].get(value) != SUCCESS) wrong(key, "is neither true nor false");
    return value;
  }
  std::string text(std::string_view key) {
    std::string_view value;
    if (has(key) && object_[key].get(value) != SUCCESS) wrong(key, "is not a text");
    return std::string(value);
  }
  // One number or a list of them.
  std::vector<std::uint32_t> ids(std::string_view key, std::uint32_t below) {
    std::vector<std::uint32_t> found;
    if (!has(key)) return found;
    const auto add = [this, key, below, &found](const dom::element& value) {
      std::uint64_t id = 0;
      if (value.get(id) != SUCCESS || id >= below || found.size() == eos_tokens_max) wrong(key, "is not a token id, or a list of them, below " + std::to_string(below));
      else found.push_back(static_cast<std::uint32_t>(id));
    };
    dom::array list;
    if (object_[key].get(list) != SUCCESS) {
      add(object_[key].value());
      return found;
    }
    for (const dom::element one : list) add(one);
    return found;
  }
  // This build knows the key with one meaning only.
  void only(bool good, std::string_view key, const std::string& why) {
    if (!good && !error_) error_ = fail(GpuError::unsupported, file_ + ": '" + std::string(key) + "' " + why).value();
  }
  void wrong(std::string_view key, const std::string& why) {
    if (!error_) error_ = fail(GpuError::malformed, file_ + ": '" + std::string(key) + "' " + why).value();
  }
  void no_repeats() {
    std::set<std::string_view> seen;
    for (const auto& [key, value] : dom::object(object_)) {
      if (!seen.insert(key).second) wrong(key, "stands there twice");
    }
  }
  [[nodiscard]] Result<void> done() const {
    if (error_) return fail(*error_);
    return {};
  }
  [[nodiscard]] const dom::element& object() const { return object_; }

 private:
  const dom::element object_;
  const std::string file_;
  std::optional<Error> error_;
};

Result<dom::element> parse_object(dom::parser& parser, std::string_view json, const std::string& file) {
  if (json.size() > config_bytes_max) return fail(GpuError::too_large, file + " has more than " + std::to_string(config_bytes_max) + " bytes");
  dom::element root;
  const auto parsed = parser.parse(json.data(), json.size()).get(root);
  if (parsed != SUCCESS) return fail(GpuError::malformed, file + " is not JSON: " + simdjson::error_message(parsed));
  if (!root.is_object()) return fail(GpuError::malformed, file + " is not a JSON object");
  return root;
}

void read_rope(Fields& fields, ModelConfig& config) {
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    dom::element scaling;
    if (!fields.has(key) || fields.object()[key].get(scaling) != SUCCESS) continue;
    if (!scaling.is_object()) return fields.wrong(key, "is not an object");
    Fields inner(scaling, "config.json: " + std::string(key));
    std::string type = inner.text("rope_type");
    if (type.empty()) type = inner.text("type");
    fields.only(type.empty() || type == "default", key, "asks for '" + type + "'; this build knows the plain rotary embedding");
    config.rope_theta = inner.real("rope_theta", config.rope_theta, 1, 1e12);
    if (!inner.done()) fields.wrong(key, "has a rope_theta that is no number from 1 to 10^12");
  }
}

void read_dtype(Fields& fields, ModelConfig& config) {
  std::string dtype = fields.text("dtype");
  if (dtype.empty()) dtype = fields.text("torch_dtype");
  if (dtype.empty() || dtype == "bfloat16") config.dtype = Dtype::bf16;
  else if (dtype == "float32") config.dtype = Dtype::f32;
  else if (dtype == "float16") config.dtype = Dtype::f16;
  else fields.only(false, "dtype", "is '" + dtype + "'; this build reads float32, bfloat16 and float16");
}

}  // namespace

std::uint64_t ModelConfig::matmul_parameters() const {
  const std::uint64_t attention = std::uint64_t{hidden} * (q_width() + 2ULL * kv_width()) + std::uint64_t{q_width()} * hidden;
  const std::uint64_t feed_forward = 3ULL * hidden * intermediate;
  return layers * (attention + feed_forward) + std::uint64_t{vocabulary} * hidden;
}

std::uint64_t ModelConfig::parameters() const {
  std::uint64_t small = 2ULL * hidden;
  if (has_qk_norm()) small += 2ULL * head_dim;
  if (has_qkv_bias()) small += q_width() + 2ULL * kv_width();
  const std::uint64_t table = tied ? 0 : std::uint64_t{vocabulary} * hidden;
  return matmul_parameters() + layers * small + hidden + table;
}

Result<void> check_model_config(const ModelConfig& config) {
  const auto invalid = [](std::string why) { return fail(GpuError::invalid, std::move(why)); };
  const auto sized = [](std::uint32_t size) { return size > 0 && size <= size_max; };
  if (!sized(config.vocabulary) || !sized(config.hidden) || !sized(config.intermediate) || !sized(config.heads) || !sized(config.head_dim) ||
      config.layers == 0 || config.layers > layers_max || config.positions == 0) {
    return invalid("every size of a model is from 1 to " + std::to_string(size_max) + ", and it has 1 to " + std::to_string(layers_max) + " layers");
  }
  if (config.kv_heads == 0 || config.heads % config.kv_heads != 0)
    return invalid("the " + std::to_string(config.heads) + " attention heads are not a multiple of the " + std::to_string(config.kv_heads) + " key-value heads");
  if (config.head_dim % 2 != 0) return invalid("a head of " + std::to_string(config.head_dim) + " cannot be rotated: an even size can");
  if (std::uint64_t{config.heads} * config.head_dim > size_max) return invalid("the heads together are wider than " + std::to_string(size_max));
  return {};
}

Result<ModelConfig> parse_model_config(std::string_view json) {
  dom::parser parser;
  const auto root = parse_object(parser, json, "config.json");
  if (!root) return fail(root.error());
  Fields fields(*root, "config.json");
  fields.no_repeats();
  ModelConfig config;
  const std::string type = fields.text("model_type");
  if (type == "qwen2") config.architecture = Architecture::qwen2;
  else fields.only(type == "qwen3", "model_type", "is '" + type + "'; this build runs qwen3 and qwen2");
  fields.only(!fields.has("quantization_config"), "quantization_config", "is there; this build reads plain weights");
  config.vocabulary = fields.whole("vocab_size", 1, size_max);
  config.hidden = fields.whole("hidden_size", 1, size_max);
  config.intermediate = fields.whole("intermediate_size", 1, size_max);
  config.layers = fields.whole("num_hidden_layers", 1, layers_max);
  config.heads = fields.whole("num_attention_heads", 1, size_max);
  config.kv_heads = fields.has("num_key_value_heads") ? fields.whole("num_key_value_heads", 1, size_max) : config.heads;
  if (fields.has("head_dim")) config.head_dim = fields.whole("head_dim", 2, size_max);
  else if (config.architecture == Architecture::qwen3) config.head_dim = 128;  // what transformers takes
  else if (config.heads > 0 && config.hidden % config.heads == 0) config.head_dim = config.hidden / config.heads;
  else fields.wrong("hidden_size", "is not a multiple of num_attention_heads, and there is no head_dim");
  config.positions = fields.has("max_position_embeddings") ? fields.whole("max_position_embeddings", 1, std::numeric_limits<std::int32_t>::max()) : 32'768;
  config.rope_theta = fields.real("rope_theta", 1e4, 1, 1e12);
  read_rope(fields, config);
  config.norm_epsilon = fields.real("rms_norm_eps", 1e-6, 0, 1);
  config.initializer_range = fields.real("initializer_range", 0.02, 0, 1);
  config.tied = fields.flag("tie_word_embeddings", false);
  read_dtype(fields, config);
  const std::string activation = fields.text("hidden_act");
  fields.only(activation.empty() || activation == "silu", "hidden_act", "is '" + activation + "'; these models have silu");
  fields.only(!fields.flag("use_sliding_window", false), "use_sliding_window", "is true; this build attends to all that came before");
  fields.only(!fields.flag("attention_bias", false), "attention_bias", "is true; Qwen3 has none");
  fields.only(fields.real("attention_dropout", 0, 0, 1) == 0, "attention_dropout", "is not 0");
  const auto bos = fields.ids("bos_token_id", std::numeric_limits<std::uint32_t>::max());
  if (!bos.empty()) config.bos_token = bos.front();
  config.eos_tokens = fields.ids("eos_token_id", std::numeric_limits<std::uint32_t>::max());
  if (Result<void> read = fields.done(); !read) return fail(std::move(read.error()));
  if (Result<void> good = check_model_config(config); !good) return fail(GpuError::malformed, "config.json: " + good.error().message);
  return config;
}

std::string model_config_json(const ModelConfig& config) {
  const bool qwen3 = config.architecture == Architecture::qwen3;
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("architectures").begin_array().string(qwen3 ? "Qwen3ForCausalLM" : "Qwen2ForCausalLM").end_array();
  json.key("model_type").string(qwen3 ? "qwen3" : "qwen2").key("vocab_size").number(config.vocabulary);
  json.key("hidden_size").number(config.hidden).key("intermediate_size").number(config.intermediate);
  json.key("num_hidden_layers").number(config.layers).key("num_attention_heads").number(config.heads);
  json.key("num_key_value_heads").number(config.kv_heads);
  // Qwen2's own files have none; `transformers` takes it where it is there.
  if (qwen3 || config.head_dim * config.heads != config.hidden) json.key("head_dim").number(config.head_dim);
  if (qwen3) json.key("attention_bias").boolean(false);
  json.key("max_position_embeddings").number(config.positions).key("rope_theta").real(config.rope_theta).key("rope_scaling").null();
  json.key("rms_norm_eps").real(config.norm_epsilon).key("initializer_range").real(config.initializer_range);
  json.key("hidden_act").string("silu").key("attention_dropout").real(0).key("use_sliding_window").boolean(false);
  json.key("tie_word_embeddings").boolean(config.tied).key("use_cache").boolean(true);
  json.key("torch_dtype").string(config.dtype == Dtype::f32 ? "float32" : config.dtype == Dtype::f16 ? "float16" : "bfloat16");
  json.key("bos_token_id");
  if (config.bos_token) json.number(*config.bos_token);
  else json.null();
  json.key("eos_token_id");
  if (config.eos_tokens.empty()) {
    json.null();
  } else if (config.eos_tokens.size() == 1) {
    json.number(config.eos_tokens.front());
  } else {
    json.begin_array();
    for (const std::uint32_t id : config.eos_tokens) json.number(id);
    json.end_array();
  }
  json.end_object();
  return text;
}

Result<SamplingConfig> parse_sampling_config(std::string_view json) {
  dom::parser parser;
  const auto root = parse_object(parser, json, "generation_config.json");
  if (!root) return fail(root.error());
  Fields fields(*root, "generation_config.json");
  fields.no_repeats();
  SamplingConfig config;
  config.temperature = fields.real("temperature", 1, 0, 100);
  if (!fields.flag("do_sample", false)) config.temperature = 0;
  config.top_p = fields.real("top_p", 1, 0, 1);
  config.top_k = fields.has("top_k") ? fields.whole("top_k", 0, size_max) : 0;
  config.eos_tokens = fields.ids("eos_token_id", std::numeric_limits<std::uint32_t>::max());
  if (Result<void> read = fields.done(); !read) return fail(std::move(read.error()));
  return config;
}

std::string sampling_config_json(const SamplingConfig& config) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("do_sample").boolean(config.temperature > 0);
  if (config.temperature > 0) json.key("temperature").real(config.temperature).key("top_p").real(config.top_p).key("top_k").number(config.top_k);
  if (!config.eos_tokens.empty()) {  // `transformers` takes the last of a list
    json.key("eos_token_id").begin_array();
    for (const std::uint32_t id : config.eos_tokens) json.number(id);
    json.end_array();
  }
  json.end_object();
  return text;
}

}  // namespace outlast::gpu
