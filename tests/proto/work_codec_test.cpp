#include "proto/work_codec.hpp"

#include <cmath>

#include <capnp/serialize.h>
#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "proto/frame.hpp"
#include "proto/work.capnp.h"

namespace outlast::work::work_codec_test {
namespace {

Train some_training() {
  Train train;
  train.model = "/models/qwen";
  train.shape = {64, 192, 2, 4, 2, 16};
  train.tokenizer = "/t/tokenizer.json";
  train.data = "/t/train.jsonl";
  train.evaluation = "/t/held-out.jsonl";
  train.output = "/t/student";
  train.steps = 12;
  train.epochs = 1.5;
  train.batch_samples = 32;
  train.rows = 4'096;
  train.positions = 512;
  train.rate = 3e-4;
  train.schedule = "cosine";
  train.warm_up_steps = 7;
  train.decay_steps = 3;
  train.weight_decay = 0.1;
  train.clip = 1;
  train.seed = 99;
  train.recompute = true;
  train.evaluate_every = 4;
  train.save_every = 5;
  train.patience = 2;
  train.resume = true;
  train.lora_rank = 16;
  train.lora_alpha = 24;
  train.lora_targets = {"q_proj", "v_proj"};
  train.distillation = {"/models/large", "skew-kl", 2, 0.1, 0.25};
  return train;
}

Generate some_generation() {
  Generate generate;
  generate.model = "/models/qwen";
  generate.prompts = {{{"system", "be short"}, {"user", "hello"}}, {}, {{"user", "a\nb"}}};
  generate.tokens_max = 16;
  generate.temperature = 0.7;
  generate.top_p = 0.9;
  generate.top_k = 40;
  generate.seed = 3;
  generate.stop = {"\n\n", "###"};
  generate.labels = {"refund", "praise"};
  generate.json_schema = R"({"type": "object"})";
  generate.thinking = true;
  return generate;
}

Events some_events() {
  Events events;
  events.first = 41;
  events.events = {{EventKind::step, "", {{"loss", 0.25}, {"step", 3}}, "", 0}, {EventKind::failed, "the disk is full", {}, "gpu", 1}};
  events.ended = true;
  return events;
}

}  // namespace

TEST_CASE("work that a worker is asked for is what was asked", "[proto][work]") {
  Train adapter = some_training();
  adapter.distillation = {};
  Train plain = adapter;
  plain.lora_rank = 0;
  Train rank = some_training();
  rank.ranks = {4, "127.0.0.1", 4'711, "a secret"};
  for (const Start& start : {Start(some_training()), Start(plain), Start(adapter), Start(rank), Start(Evaluate{"/m", "/d", 128, 64}), Start(some_generation())}) {
    const auto frame = encode(start);
    REQUIRE(frame);
    const auto decoded = decode_start((*frame)->bytes());
    REQUIRE(decoded);
    CHECK(*decoded == start);
  }
}

TEST_CASE("what a worker says is what it said", "[proto][work]") {
  const auto frame = encode(some_events());
  REQUIRE(frame);
  const auto events = decode_events((*frame)->bytes());
  REQUIRE(events);
  CHECK(*events == some_events());
  CHECK(events->events[0].figure("loss") == 0.25);
  CHECK(std::isnan(events->events[0].figure("rate")));
  CHECK(decode_job((*encode(Job{7}))->bytes())->id == 7);
  CHECK(*decode_next((*encode(Next{1, 2, 3}))->bytes()) == Next{1, 2, 3});
  CHECK(decode_next((*encode(Next{1, 2, 4'000'000'000U}))->bytes())->wait_ms == wait_ms_max);
  Status status;
  status.memory_bytes = 1 << 20;
  status.running = 4;
  status.software = "outlast";
  const auto told = decode_status((*encode(status))->bytes());
  REQUIRE(told);
  CHECK(told->memory_bytes == status.memory_bytes);
  CHECK(told->running == 4);
  CHECK(std::isnan(told->temperature_c));
}

TEST_CASE("an event of a kind that came later reads as a note", "[proto][work]") {
  Events events = some_events();
  events.events[0].kind = static_cast<EventKind>(500);
  const auto decoded = decode_events((*encode(events))->bytes());
  REQUIRE(decoded);
  CHECK(decoded->events[0].kind == EventKind::note);
}

TEST_CASE("training of an adapter, by a teacher, and on several ranks, are work of their own kinds, which a worker that knows none refuses", "[proto][work]") {
  const auto kind_of = [](const Train& train) {
    const auto frame = *encode(Start(train));
    const AlignedBytes aligned(frame->bytes());
    capnp::FlatArrayMessageReader reader(kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()));
    return reader.getRoot<schema::Start>().which();
  };
  Train train = some_training();
  CHECK(kind_of(train) == schema::Start::DISTIL);
  train.lora_rank = 0;
  CHECK(kind_of(train) == schema::Start::DISTIL);
  train.distillation.teacher.clear();  // what it said stands in the samples
  CHECK(kind_of(train) == schema::Start::DISTIL);
  train.distillation = {};
  CHECK(kind_of(train) == schema::Start::TRAIN);
  train.lora_rank = 8;
  CHECK(kind_of(train) == schema::Start::TRAIN_ADAPTER);
  train.ranks.count = 2;
  CHECK(kind_of(train) == schema::Start::TRAIN_RANK);
}

TEST_CASE("work beyond its limits is refused by both sides", "[proto][work]") {
  const auto too_large = [](const Start& start) {
    const auto frame = encode(start);
    return !frame && is(frame.error(), FrameError::too_large);
  };
  Train train = some_training();
  train.data.assign(path_bytes_max + 1, 'x');
  CHECK(too_large(train));
  train = some_training();
  train.lora_targets.resize(lora_targets_max + 1);
  CHECK(too_large(train));
  train.lora_targets = {std::string(word_bytes_max + 1, 'x')};
  CHECK(too_large(train));
  train = some_training();
  train.distillation.teacher.assign(path_bytes_max + 1, 'x');
  CHECK(too_large(train));
  train = some_training();
  train.distillation.loss.assign(word_bytes_max + 1, 'x');
  CHECK(too_large(train));
  train = some_training();
  train.ranks.secret.assign(word_bytes_max + 1, 'x');
  CHECK(too_large(train));
  Generate generate = some_generation();
  generate.prompts.resize(prompts_max + 1);
  CHECK(too_large(generate));
  generate = some_generation();
  generate.labels.assign(labels_max + 1, "x");
  CHECK(too_large(generate));
  generate = some_generation();
  generate.stop.assign(1, std::string(word_bytes_max + 1, 'x'));
  CHECK(too_large(generate));
  generate = some_generation();
  generate.prompts.assign(8, {{"user", std::string(text_bytes_max, 'x')}});
  CHECK(too_large(generate));  // all together
  Events events = some_events();
  events.events.resize(events_max + 1);
  CHECK(is(encode(events).error(), FrameError::too_large));
}

TEST_CASE("bytes that are no work are refused, whatever they are", "[proto][work]") {
  const auto frame = encode(GENERATE(Start(some_generation()), Start(some_training())));
  REQUIRE(frame);
  const std::vector<std::byte> good((*frame)->bytes().begin(), (*frame)->bytes().end());
  for (std::size_t size = 0; size < good.size(); size += 8) CHECK_FALSE(decode_start(std::span(good).first(size)));
  Random random(5);
  for (int round = 0; round < 2'000; ++round) {
    std::vector<std::byte> bytes = good;
    for (int i = 0; i < 4; ++i) bytes[random.below(bytes.size())] = static_cast<std::byte>(random.below(256));
    (void)decode_start(bytes);
    (void)decode_events(bytes);
    (void)decode_status(bytes);
  }
}

}  // namespace outlast::work::work_codec_test
