#include <catch2/catch.hpp>

#include "gpu/files/model_config.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu::model_config_test {
namespace {

ModelConfig qwen3(std::uint32_t hidden, std::uint32_t intermediate, std::uint32_t layers, std::uint32_t heads, bool tied) {
  ModelConfig config;
  config.vocabulary = 151'936;
  config.hidden = hidden;
  config.intermediate = intermediate;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.positions = 40'960;
  config.tied = tied;
  config.bos_token = 151'643;
  config.eos_tokens = {151'645};
  return config;
}

TEST_CASE("published models have as many parameters as is published", "[gpu]") {
  CHECK(qwen3(1024, 3072, 28, 16, true).parameters() == 596'049'920);
  CHECK(qwen3(2048, 6144, 28, 16, true).parameters() == 1'720'574'976);
  CHECK(qwen3(2560, 9728, 36, 32, true).parameters() == 4'022'468'096);
  CHECK(qwen3(4096, 12288, 36, 32, false).parameters() == 8'190'735'360);
}

TEST_CASE("a configuration is read back as it was written", "[gpu]") {
  ModelConfig config = qwen3(1024, 3072, 28, 16, true);
  auto read = parse_model_config(model_config_json(config));
  REQUIRE(read);
  CHECK(*read == config);
  config.architecture = Architecture::qwen2;
  config.heads = 8;
  config.eos_tokens = {1, 2};
  config.dtype = Dtype::f32;
  read = parse_model_config(model_config_json(config));
  REQUIRE(read);
  CHECK(*read == config);
}

TEST_CASE("a model without a first token has none when it is written", "[gpu]") {
  ModelConfig config = qwen3(1024, 3072, 28, 16, true);
  config.bos_token.reset();
  const std::string text = model_config_json(config);
  CHECK(text.find(R"("bos_token_id":null)") != std::string::npos);
  const auto read = parse_model_config(text);
  REQUIRE(read);
  CHECK_FALSE(read->bos_token);
}

TEST_CASE("older and newer spellings mean the same", "[gpu]") {
  const std::string base = R"({"model_type":"qwen3","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,)"
                           R"("num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"max_position_embeddings":64,)";
  const auto old = parse_model_config(base + R"("rope_theta":5000,"torch_dtype":"float32","eos_token_id":3})");
  const auto now = parse_model_config(base + R"("rope_parameters":{"rope_theta":5000.0,"rope_type":"default"},"dtype":"float32","eos_token_id":[3]})");
  REQUIRE(old);
  REQUIRE(now);
  CHECK(*old == *now);
  CHECK(old->rope_theta == 5000);
}

TEST_CASE("what this build would run in another way is refused, with the key", "[gpu]") {
  const std::string good = model_config_json(qwen3(1024, 3072, 28, 16, true));
  struct Case {
    std::string what;
    std::string by;
    GpuError error;
  };
  const std::vector<Case> cases{
      {"\"model_type\":\"qwen3\"", "\"model_type\":\"llama\"", GpuError::unsupported},
      {"\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\"", GpuError::unsupported},
      {"\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}", GpuError::unsupported},
      {"\"use_sliding_window\":false", "\"use_sliding_window\":true", GpuError::unsupported},
      {"\"attention_bias\":false", "\"attention_bias\":true", GpuError::unsupported},
      {"\"torch_dtype\":\"bfloat16\"", "\"torch_dtype\":\"int8\"", GpuError::unsupported},
      {"\"use_cache\":true", "\"quantization_config\":{}", GpuError::unsupported},
      {"\"hidden_size\":1024,", "", GpuError::malformed},
      {"\"hidden_size\":1024", "\"hidden_size\":-1", GpuError::malformed},
      {"\"hidden_size\":1024", "\"hidden_size\":1e30", GpuError::malformed},
      {"\"hidden_size\":1024", "\"hidden_size\":4294967297", GpuError::malformed},
      {"\"hidden_size\":1024", "\"hidden_size\":1024,\"hidden_size\":2048", GpuError::malformed},
      {"\"num_key_value_heads\":8", "\"num_key_value_heads\":7", GpuError::malformed},
      {"\"head_dim\":128", "\"head_dim\":127", GpuError::malformed},
      {"\"eos_token_id\":151645", "\"eos_token_id\":\"end\"", GpuError::malformed},
      {"\"tie_word_embeddings\":true", "\"tie_word_embeddings\":1", GpuError::malformed},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what, one.by);
    std::string json = good;
    const std::size_t at = json.find(one.what);
    REQUIRE(at != std::string::npos);
    const auto read = parse_model_config(json.replace(at, one.what.size(), one.by));
    REQUIRE_FALSE(read);
    INFO(read.error().message);
    CHECK(is(read.error(), one.error));
    CHECK(read.error().message.starts_with("config.json"));
  }
  CHECK_FALSE(parse_model_config("{"));
  CHECK_FALSE(parse_model_config("[]"));
}

TEST_CASE("Qwen2.5 has its head's size from its width, and biases", "[gpu]") {
  const auto read = parse_model_config(
      R"({"model_type":"qwen2","vocab_size":8,"hidden_size":16,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":4,)"
      R"("num_key_value_heads":2,"tie_word_embeddings":true})");
  REQUIRE(read);
  CHECK(read->head_dim == 4);
  CHECK(read->has_qkv_bias());
  CHECK_FALSE(read->has_qk_norm());
}

TEST_CASE("a model's wishes for sampling are read, and greedy ones mean temperature 0", "[gpu]") {
  const auto read = parse_sampling_config(R"({"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.95,"eos_token_id":[151645,151643]})");
  REQUIRE(read);
  CHECK(read->temperature == 0.6);
  CHECK(read->top_k == 20);
  CHECK(read->eos_tokens == std::vector<std::uint32_t>{151'645, 151'643});
  CHECK(*parse_sampling_config(sampling_config_json(*read)) == *read);
  CHECK(parse_sampling_config("{}")->temperature == 0);
  CHECK_FALSE(parse_sampling_config(R"({"do_sample":true,"temperature":-1})"));
}

}  // namespace
TEST_CASE("a Qwen2 model whose heads are not as wide as usual keeps their width", "[gpu]") {
  ModelConfig config;
  config.architecture = Architecture::qwen2;
  config.vocabulary = 320;
  config.hidden = 16;
  config.intermediate = 32;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.positions = 64;
  const auto again = parse_model_config(model_config_json(config));
  REQUIRE(again);
  CHECK(*again == config);
}

}  // namespace outlast::gpu::model_config_test
