#include "tests/gpu/decode_fixture.hpp"

#include "gpu/decode/json_constraint.hpp"
#include "gpu/decode/label_constraint.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/tokenizer/unicode.hpp"

namespace outlast::gpu::decode_engine_test {
namespace {

constexpr double log_p_tolerance = 1e-4;

DecodeRequest request_of(std::vector<TokenId> prompt, std::size_t tokens_max) {
  DecodeRequest request;
  request.prompt = std::move(prompt);
  request.tokens_max = tokens_max;
  return request;
}

struct Asked {
  std::vector<TokenId> prompt;
  std::size_t tokens_max = 0;
  SamplingOptions sampling;
};

// Prompts of all sizes, some with a beginning in common; greedy and sampled.
std::vector<Asked> mixed_requests(const Tokenizer& tokenizer) {
  std::vector<Asked> all;
  const auto common = random_prompt(tokenizer, 23, 1);
  for (std::size_t i = 0; i < 14; ++i) {
    Asked one;
    one.prompt = random_prompt(tokenizer, 1 + noise(5, i) % 40, 100 + i);
    if (i % 3 == 0) one.prompt.insert(one.prompt.begin(), common.begin(), common.end());
    one.tokens_max = 1 + noise(6, i) % 30;
    one.sampling.seed = i;
    if (i % 4 == 1) one.sampling.temperature = 0.8;
    if (i % 4 == 3) one.sampling = {1.2, 0.9, 20, i, 0};
    all.push_back(std::move(one));
  }
  return all;
}

std::vector<Heard> answers_of(DecodeEngine& engine, const std::vector<Asked>& all) {
  EventListener listener;
  std::vector<RequestId> ids;
  for (const Asked& one : all) {
    DecodeRequest request = request_of(one.prompt, one.tokens_max);
    request.sampling = one.sampling;
    ids.push_back(need(engine.submit(std::move(request))));
  }
  listener.run(engine);
  std::vector<Heard> heard;
  for (const RequestId id : ids) heard.push_back(listener.all.at(id));
  return heard;
}

std::vector<Heard> answers_alone(SmallModel& model, const std::vector<Asked>& all) {
  std::vector<Heard> heard;
  DecodeLimits limits = small_limits();
  limits.rows = limits.positions;  // a prompt at once
  for (const Asked& one : all) heard.push_back(answers_of(*model.engine(limits), {one}).front());
  return heard;
}

void check_log_p(SmallModel& model, const Asked& asked, const Heard& heard) {
  auto tokens = asked.prompt;
  tokens.insert(tokens.end(), heard.tokens.begin(), heard.tokens.end());
  const auto expected = model.trainers_log_p(tokens, asked.prompt.size());
  REQUIRE(expected.size() == heard.log_p.size());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(expected[i] - heard.log_p[i]) < log_p_tolerance);
}

TEST_CASE("an engine's answers and log-probabilities are those of each request alone and of the trainer", "[gpu][decode]") {
  const Architecture architecture = GENERATE(Architecture::qwen3, Architecture::qwen2);
  const std::size_t threads = GENERATE(1U, 2U);
  CAPTURE(static_cast<int>(architecture), threads);
  SmallModel model(architecture, threads);
  const auto all = mixed_requests(*model.small.tokenizer);
  const auto alone = answers_alone(model, all);
  for (std::size_t i = 0; i < all.size(); ++i) check_log_p(model, all[i], alone[i]);

  DecodeLimits limits = small_limits();
  SECTION("in chunks of few rows") { limits.rows = 5; }
  SECTION("in wide steps") { limits.rows = 64; }
  SECTION("with so few pages that requests give way") { limits.pages = 24; }
  SECTION("with pages of one row") {
    limits.page_rows = 1;
    limits.pages = 96;
  }
  const auto engine = model.engine(limits);
  const auto together = answers_of(*engine, all);
  const auto again = answers_of(*engine, all);  // from what the prefix cache has
  if (limits.pages == 24) CHECK(engine->statistics().preemptions > 0);
  CHECK(engine->statistics().prefix_tokens > 0);
  CHECK(engine->statistics().pages_used == 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    for (const Heard& heard : {together[i], again[i]}) {
      CHECK(heard.tokens == alone[i].tokens);
      CHECK(heard.text == alone[i].text);
      REQUIRE(heard.finish);
      CHECK(heard.finish->reason == FinishReason::length);
      CHECK(heard.finish->usage.prompt_tokens == all[i].prompt.size());
      CHECK(heard.finish->usage.completion_tokens == all[i].tokens_max);
      check_log_p(model, all[i], heard);
    }
  }
}

TEST_CASE("a greedy answer is the same where the device chooses and where the sampler does", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  Asked greedy;
  greedy.prompt = random_prompt(*model.small.tokenizer, 9, 1);
  greedy.tokens_max = 20;
  Asked told = greedy;
  told.sampling.top_log_p = 1;  // of all logits
  Asked of_one = greedy;
  of_one.sampling = {0.7, 1, 1, 3, 0};
  const auto chosen = answers_of(*engine, {greedy, of_one});
  const auto sampled = answers_of(*engine, {told, greedy});
  for (const Heard& heard : {chosen[1], sampled[0], sampled[1]}) {
    CHECK(heard.tokens == chosen[0].tokens);
    REQUIRE(heard.log_p.size() == chosen[0].log_p.size());
    for (std::size_t i = 0; i < heard.log_p.size(); ++i) CHECK(heard.log_p[i] == Approx(chosen[0].log_p[i]).margin(1e-5));  // rows were computed beside others
  }
}

TEST_CASE("requests that run share the beginning of their prompts", "[gpu][decode]") {
  SmallModel model;
  DecodeLimits limits = small_limits();
  limits.rows = 32;
  const auto engine = model.engine(limits);
  EventListener listener;
  const auto prompt = random_prompt(*model.small.tokenizer, 41, 1);
  const RequestId first = need(engine->submit(request_of(prompt, 30)));
  for (int i = 0; i < 4; ++i) REQUIRE(engine->step(listener.sink));
  const std::size_t used = engine->statistics().pages_used;
  const RequestId second = need(engine->submit(request_of(prompt, 3)));
  REQUIRE(engine->step(listener.sink));
  CHECK(engine->statistics().pages_used == used + 1);  // 40 of 41 tokens were there
  listener.run(*engine);
  CHECK(listener.all.at(first).finish->usage.cached_prompt_tokens == 0);
  CHECK(listener.all.at(second).finish->usage.cached_prompt_tokens == 40);
  const auto& tokens = listener.all.at(first).tokens;
  CHECK(listener.all.at(second).tokens == std::vector<TokenId>(tokens.begin(), tokens.begin() + 3));
}

TEST_CASE("ids beyond the tokenizer's are never produced, whatever is asked for", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  std::vector<Asked> all;
  for (std::uint64_t seed = 0; seed < 20; ++seed) all.push_back({{1, 2, 3}, 20, {100, 1, 0, seed, 0}});
  for (const Heard& heard : answers_of(*engine, all)) {
    for (const TokenId token : heard.tokens) CHECK(token < model.small.tokenizer->size());
  }
}

TEST_CASE("an answer ends at an end token, which is told, and before a stop string, which is not", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  const auto whole = answers_of(*engine, {{{5, 6, 7}, 24, {}}}).front();
  EventListener listener;
  DecodeRequest ends = request_of({5, 6, 7}, 24);
  ends.end_tokens = {whole.tokens[4]};
  const std::size_t first = static_cast<std::size_t>(std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[4]) - whole.tokens.begin());
  const RequestId by_token = need(engine->submit(std::move(ends)));
  DecodeRequest stops = request_of({5, 6, 7}, 24);
  const std::string stop = whole.text.substr(whole.text.size() / 2, 3);
  stops.stop = {"never in it", stop};
  const RequestId by_string = need(engine->submit(std::move(stops)));
  listener.run(*engine);
  const Heard& ended = listener.all.at(by_token);
  CHECK(ended.finish->reason == FinishReason::stop);
  CHECK(ended.tokens == std::vector<TokenId>(whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(first) + 1));
  CHECK(ended.finish->usage.completion_tokens == first + 1);
  const Heard& stopped = listener.all.at(by_string);
  CHECK(stopped.finish->reason == FinishReason::stop);
  CHECK(stopped.text == whole.text.substr(0, whole.text.find(stop)));
}

TEST_CASE("text comes in whole characters, however tokens cut them", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    DecodeRequest request = request_of({1, 2, 3}, 40);
    request.sampling = {100, 1, 0, seed, 0};
    const RequestId id = need(engine->submit(std::move(request)));
    std::vector<TokenId> tokens;
    std::string text;
    while (!engine->idle()) {
      REQUIRE(engine->step([&](const DecodeEvent& event) {
        CHECK(event.request == id);
        std::string copy;
        CHECK(valid_utf8(event.text, copy) == event.text);
        if (event.token) tokens.push_back(event.token->token);
        text += event.text;
      }));
    }
    CHECK(text == model.small.tokenizer->decode(tokens, false));
  }
}

TEST_CASE("a request that is cancelled says so once, and its pages are free", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  EventListener listener;
  std::vector<RequestId> ids;
  for (std::uint64_t i = 0; i < 7; ++i) ids.push_back(need(engine->submit(request_of(random_prompt(*model.small.tokenizer, 20, i), 40))));
  for (int i = 0; i < 8; ++i) REQUIRE(engine->step(listener.sink));
  CHECK(engine->statistics().running == 4);
  CHECK(engine->cancel(ids[0]));
  CHECK_FALSE(engine->cancel(ids[0]));
  CHECK(engine->cancel(ids[6]));  // it waits still
  // And from within a step: itself, and one whose turn comes.
  bool done = false;
  REQUIRE(engine->step([&](const DecodeEvent& event) {
    listener.sink(event);
    if (done || event.request != ids[1]) return;
    done = true;
    CHECK(engine->cancel(ids[1]));
    CHECK(engine->cancel(ids[2]));
  }));
  CHECK(done);
  listener.run(*engine);
  for (const std::size_t i : {0U, 1U, 2U, 6U}) CHECK(listener.all.at(ids[i]).finish->reason == FinishReason::cancelled);
  for (const std::size_t i : {3U, 4U, 5U}) CHECK(listener.all.at(ids[i]).finish->reason == FinishReason::length);
  CHECK(engine->statistics().pages_used == 0);
}

TEST_CASE("what cannot be served is refused with the numbers", "[gpu][decode]") {
  SmallModel model;
  DecodeLimits limits = small_limits();
  limits.pages = 10;
  limits.waiting = 2;
  const auto engine = model.engine(limits);
  const auto refused = [&](DecodeRequest request, GpuError error, const std::string& part) {
    const auto id = engine->submit(std::move(request));
    REQUIRE(!id);
    CHECK(is(id.error(), error));
    CAPTURE(id.error().message);
    CHECK(id.error().message.find(part) != std::string::npos);
  };
  refused(request_of({}, 4), GpuError::invalid, "prompt");
  refused(request_of({1}, 0), GpuError::invalid, "answer");
  refused(request_of({100'000}, 4), GpuError::invalid, "token");
  refused(request_of({1}, 96), GpuError::too_large, "at most 96 fit");
  refused(request_of(std::vector<TokenId>(30, 1), 12), GpuError::too_large, "the cache holds 40 tokens");
  DecodeRequest hot = request_of({1}, 4);
  hot.sampling.temperature = -1;
  refused(std::move(hot), GpuError::invalid, "temperature");
  DecodeRequest empty = request_of({1}, 4);
  empty.stop = {""};
  refused(std::move(empty), GpuError::invalid, "stop string");
  TokenizerModel more = small_model();
  more.added.push_back({static_cast<TokenId>(more.size()), "<|more|>", true, false});
  const SmallTokenizer other(std::move(more));
  DecodeRequest foreign = request_of({1}, 4);
  foreign.constraint = LabelSet::start(need(LabelSet::make({"a"}, other.tokenizer, std::make_shared<const TokenTrie>(*other.tokenizer))));
  refused(std::move(foreign), GpuError::invalid, "vocabulary");
  need(engine->submit(request_of(std::vector<TokenId>(30, 1), 11)));  // 40 tokens in the cache, the last is never in it
  need(engine->submit(request_of({1}, 1)));
  refused(request_of({1}, 1), GpuError::overloaded, "2 requests wait");
  EventListener listener;
  listener.run(*engine);
  CHECK(listener.all.size() == 2);
  CHECK(listener.all.begin()->second.tokens.size() == 11);

  DecodeLimits huge = small_limits();
  huge.pages = std::size_t{1} << 28;
  const auto none = DecodeEngine::make(*model.device, model.config, model.weights, model.small.tokenizer, huge);
  REQUIRE(!none);
  CHECK(is(none.error(), GpuError::too_large));
  CHECK(none.error().message.find("tokens fits") != std::string::npos);
}

TEST_CASE("memory is known before it is taken", "[gpu][decode]") {
  SmallModel model;
  const DecodeLimits limits = small_limits();
  const DecodeMemory memory = decode_memory(model.config, limits, Dtype::f32);
  CHECK(memory.cache == 2ULL * 2 * 64 * 4 * 16 * 4);  // keys and values, layers, pages, rows, kv_width, bytes
  CHECK(memory.activations > 0);
}

TEST_CASE("broken weights fail their requests and not the engine", "[gpu][decode]") {
  SmallModel model;
  const auto engine = model.engine(small_limits());
  model.weights.norm.as<float>()[3] = NAN;
  const auto heard = answers_of(*engine, {{{1, 2}, 4, {}}, {{1, 2, 3}, 4, {}}});
  for (const Heard& one : heard) {
    CHECK(one.finish->reason == FinishReason::error);
    CHECK(one.finish->error.find("logits") != std::string::npos);
    CHECK(one.tokens.empty());
  }
  model.weights.norm.as<float>()[3] = 1;
  CHECK(answers_of(*engine, {{{9, 8}, 4, {}}}).front().tokens.size() == 4);
}

TEST_CASE("constrained answers are what they must be, next to answers that are free", "[gpu][decode]") {
  SmallModel model;
  const auto trie = std::make_shared<const TokenTrie>(*model.small.tokenizer);
  const TokenId end = *model.small.tokenizer->added("<|im_end|>");
  const auto labels = need(LabelSet::make({"the cat", "the rat", "the"}, model.small.tokenizer, trie));
  JsonTexts texts(need(compile_json_schema(R"({"type":"object","properties":{"kind":{"enum":["cat","rat"]},"sure":{"type":"boolean"}},"required":["kind","sure"]})")),
                  model.small.tokenizer, trie);
  const auto engine = model.engine(small_limits());
  EventListener listener;
  std::vector<RequestId> chosen;
  std::vector<RequestId> objects;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    for (const bool json : {false, true}) {
      DecodeRequest request = request_of({1, 2, 3}, 60);
      request.end_tokens = {end};
      request.sampling = {5, 1, 0, seed, 2};
      request.constraint = json ? texts.start() : LabelSet::start(labels);
      (json ? objects : chosen).push_back(need(engine->submit(std::move(request))));
    }
    if (seed % 5 == 0) need(engine->submit(request_of({4, 5}, 9)));
  }
  listener.run(*engine);
  for (const RequestId id : chosen) {
    const Heard& heard = listener.all.at(id);
    CHECK((heard.text == "the cat" || heard.text == "the rat" || heard.text == "the"));
    CHECK(heard.finish->reason == FinishReason::stop);
    CHECK((heard.tokens.back() == end) == (heard.text == "the"));  // the others can only end there
    std::vector<TokenId> all{1, 2, 3};
    all.insert(all.end(), heard.tokens.begin(), heard.tokens.end());
    const auto expected = model.trainers_log_p(all, 3);
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(expected[i] - heard.log_p[i]) < log_p_tolerance);
  }
  for (const RequestId id : objects) {
    const Heard& heard = listener.all.at(id);
    CAPTURE(heard.text);
    CHECK(heard.finish->reason == FinishReason::stop);
    std::string tight;
    std::copy_if(heard.text.begin(), heard.text.end(), std::back_inserter(tight), [](char c) { return std::string_view(" \n\t\r").find(c) == std::string_view::npos; });
    CHECK((tight == R"({"kind":"cat","sure":true})" || tight == R"({"kind":"rat","sure":true})" || tight == R"({"kind":"cat","sure":false})" ||
           tight == R"({"kind":"rat","sure":false})"));
  }
}

TEST_CASE("a vocabulary that cannot spell what has to come fails the request", "[gpu][decode]") {
  SmallModel model;
  // An added token stands where the vocabulary would spell z, and those never come.
  TokenizerModel lacking = model.small.tokenizer->model();
  const auto z = std::find(lacking.tokens.begin(), lacking.tokens.end(), "z") - lacking.tokens.begin();
  lacking.added.push_back({static_cast<TokenId>(z), "z", false, false});
  const auto tokenizer = std::make_shared<const Tokenizer>(std::move(lacking));
  const auto trie = std::make_shared<const TokenTrie>(*tokenizer);
  const auto labels = need(LabelSet::make({"az"}, tokenizer, trie));
  const auto engine = need(DecodeEngine::make(*model.device, model.config, model.weights, tokenizer, small_limits()));
  DecodeRequest request = request_of({1}, 10);
  request.constraint = LabelSet::start(labels);
  const RequestId id = need(engine->submit(std::move(request)));
  EventListener listener;
  listener.run(*engine);
  CHECK(listener.all.at(id).text == "a");
  CHECK(listener.all.at(id).finish->reason == FinishReason::error);
  CHECK(listener.all.at(id).finish->error.find("vocabulary") != std::string::npos);
}

}  // namespace
}  // namespace outlast::gpu::decode_engine_test
