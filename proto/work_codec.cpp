#include "proto/work_codec.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "proto/codec_wire.hpp"
#include "proto/work.capnp.h"

namespace outlast::work {
namespace {

using wire::bound;
using wire::string_of;
using wire::text_of;
using wire::Unfit;

capnp::Text::Reader path_of(const std::string& path) { return text_of(path, path_bytes_max); }
std::string read_path(capnp::Text::Reader path) { return string_of(path, path_bytes_max); }

template <class List>
void write_words(List out, const std::vector<std::string>& words) {
  for (unsigned i = 0; i < out.size(); ++i) out.set(i, text_of(words[i], word_bytes_max));
}
std::vector<std::string> read_words(capnp::List<capnp::Text>::Reader in, std::size_t count_max, const char* what) {
  bound(in.size(), count_max, what);
  std::vector<std::string> words;
  for (const auto word : in) words.push_back(string_of(word, word_bytes_max));
  return words;
}
unsigned count_of(std::size_t count, std::size_t count_max, const char* what) {
  bound(count, count_max, what);
  return static_cast<unsigned>(count);
}

void write(const Train& train, schema::Train::Builder out) {
  out.setModel(path_of(train.model));
  auto shape = out.initShape();
  shape.setHidden(train.shape.hidden);
  shape.setIntermediate(train.shape.intermediate);
  shape.setLayers(train.shape.layers);
  shape.setHeads(train.shape.heads);
  shape.setKvHeads(train.shape.kv_heads);
  shape.setHeadDim(train.shape.head_dim);
  out.setTokenizer(path_of(train.tokenizer));
  out.setData(path_of(train.data));
  out.setEvaluation(path_of(train.evaluation));
  out.setOutput(path_of(train.output));
  out.setSteps(train.steps);
  out.setEpochs(train.epochs);
  out.setBatchSamples(train.batch_samples);
  out.setRows(train.rows);
  out.setPositions(train.positions);
  out.setRate(train.rate);
  out.setSchedule(text_of(train.schedule, word_bytes_max));
  out.setWarmUpSteps(train.warm_up_steps);
  out.setDecaySteps(train.decay_steps);
  out.setWeightDecay(train.weight_decay);
  out.setClip(train.clip);
  out.setSeed(train.seed);
  out.setRecompute(train.recompute);
  out.setEvaluateEvery(train.evaluate_every);
  out.setSaveEvery(train.save_every);
  out.setPatience(train.patience);
  out.setResume(train.resume);
  out.setLoraRank(train.lora_rank);
  out.setLoraAlpha(train.lora_alpha);
  write_words(out.initLoraTargets(count_of(train.lora_targets.size(), lora_targets_max, "targets of LoRA")), train.lora_targets);
  auto distillation = out.initDistillation();
  distillation.setTeacher(path_of(train.distillation.teacher));
  distillation.setLoss(text_of(train.distillation.loss, word_bytes_max));
  distillation.setTemperature(train.distillation.temperature);
  distillation.setMix(train.distillation.mix);
  distillation.setCrossEntropy(train.distillation.cross_entropy);
  auto ranks = out.initRanks();
  ranks.setCount(train.ranks.count);
  ranks.setAddress(text_of(train.ranks.address, word_bytes_max));
  ranks.setPort(train.ranks.port);
  ranks.setSecret(text_of(train.ranks.secret, word_bytes_max));
}

Train read(schema::Train::Reader in) {
  const auto shape = in.getShape();
  Train train;
  train.model = read_path(in.getModel());
  train.shape = {shape.getHidden(), shape.getIntermediate(), shape.getLayers(), shape.getHeads(), shape.getKvHeads(), shape.getHeadDim()};
  train.tokenizer = read_path(in.getTokenizer());
  train.data = read_path(in.getData());
  train.evaluation = read_path(in.getEvaluation());
  train.output = read_path(in.getOutput());
  train.steps = in.getSteps();
  train.epochs = in.getEpochs();
  train.batch_samples = in.getBatchSamples();
  train.rows = in.getRows();
  train.positions = in.getPositions();
  train.rate = in.getRate();
  train.schedule = string_of(in.getSchedule(), word_bytes_max);
  train.warm_up_steps = in.getWarmUpSteps();
  train.decay_steps = in.getDecaySteps();
  train.weight_decay = in.getWeightDecay();
  train.clip = in.getClip();
  train.seed = in.getSeed();
  train.recompute = in.getRecompute();
  train.evaluate_every = in.getEvaluateEvery();
  train.save_every = in.getSaveEvery();
  train.patience = in.getPatience();
  train.resume = in.getResume();
  train.lora_rank = in.getLoraRank();
  train.lora_alpha = in.getLoraAlpha();
  train.lora_targets = read_words(in.getLoraTargets(), lora_targets_max, "targets of LoRA");
  const auto distillation = in.getDistillation();
  train.distillation = {read_path(distillation.getTeacher()), string_of(distillation.getLoss(), word_bytes_max), distillation.getTemperature(), distillation.getMix(),
                        distillation.getCrossEntropy()};
  const auto ranks = in.getRanks();
  train.ranks = {ranks.getCount(), string_of(ranks.getAddress(), word_bytes_max), ranks.getPort(), string_of(ranks.getSecret(), word_bytes_max)};
  return train;
}

void write(const Evaluate& evaluate, schema::Evaluate::Builder out) {
  out.setModel(path_of(evaluate.model));
  out.setData(path_of(evaluate.data));
  out.setRows(evaluate.rows);
  out.setPositions(evaluate.positions);
}
Evaluate read(schema::Evaluate::Reader in) { return {read_path(in.getModel()), read_path(in.getData()), in.getRows(), in.getPositions()}; }

void write(const Generate& generate, schema::Generate::Builder out) {
  out.setModel(path_of(generate.model));
  auto prompts = out.initPrompts(count_of(generate.prompts.size(), prompts_max, "prompts"));
  for (unsigned i = 0; i < prompts.size(); ++i) {
    const auto& messages = generate.prompts[i];
    auto list = prompts[i].initMessages(count_of(messages.size(), messages_max, "messages of a prompt"));
    for (unsigned m = 0; m < list.size(); ++m) {
      list[m].setRole(text_of(messages[m].role, word_bytes_max));
      list[m].setContent(text_of(messages[m].content, text_bytes_max));
    }
  }
  out.setTokensMax(generate.tokens_max);
  out.setTemperature(generate.temperature);
  out.setTopP(generate.top_p);
  out.setTopK(generate.top_k);
  out.setSeed(generate.seed);
  write_words(out.initStop(count_of(generate.stop.size(), stops_max, "stop strings")), generate.stop);
  write_words(out.initLabels(count_of(generate.labels.size(), labels_max, "labels")), generate.labels);
  out.setJsonSchema(text_of(generate.json_schema, text_bytes_max));
  out.setThinking(generate.thinking);
}

Generate read(schema::Generate::Reader in) {
  Generate generate;
  generate.model = read_path(in.getModel());
  bound(in.getPrompts().size(), prompts_max, "prompts");
  for (const auto prompt : in.getPrompts()) {
    bound(prompt.getMessages().size(), messages_max, "messages of a prompt");
    auto& messages = generate.prompts.emplace_back();
    for (const auto message : prompt.getMessages())
      messages.push_back({string_of(message.getRole(), word_bytes_max), string_of(message.getContent(), text_bytes_max)});
  }
  generate.tokens_max = in.getTokensMax();
  generate.temperature = in.getTemperature();
  generate.top_p = in.getTopP();
  generate.top_k = in.getTopK();
  generate.seed = in.getSeed();
  generate.stop = read_words(in.getStop(), stops_max, "stop strings");
  generate.labels = read_words(in.getLabels(), labels_max, "labels");
  generate.json_schema = string_of(in.getJsonSchema(), text_bytes_max);
  generate.thinking = in.getThinking();
  return generate;
}

// A kind of its own for what an earlier version would pass over.
schema::Train::Builder init_train(const Train& train, schema::Start::Builder out) {
  if (train.ranks.count > 0) return out.initTrainRank();
  if (!train.distillation.loss.empty()) return out.initDistil();
  return train.lora_rank == 0 ? out.initTrain() : out.initTrainAdapter();
}

void write(const Start& start, schema::Start::Builder out) {
  if (const auto* const train = std::get_if<Train>(&start)) write(*train, init_train(*train, out));
  if (const auto* const evaluate = std::get_if<Evaluate>(&start)) write(*evaluate, out.initEvaluate());
  if (const auto* const generate = std::get_if<Generate>(&start)) write(*generate, out.initGenerate());
}
Start read(schema::Start::Reader in) {
  switch (in.which()) {
    case schema::Start::TRAIN: return read(in.getTrain());
    case schema::Start::EVALUATE: return read(in.getEvaluate());
    case schema::Start::GENERATE: return read(in.getGenerate());
    case schema::Start::TRAIN_ADAPTER: return read(in.getTrainAdapter());
    case schema::Start::DISTIL: return read(in.getDistil());
    case schema::Start::TRAIN_RANK: return read(in.getTrainRank());
  }
  throw Unfit{FrameError::unknown_kind, "work of a kind that this version does not know"};
}

void write(const Job& job, schema::Job::Builder out) { out.setId(job.id); }
Job read(schema::Job::Reader in) { return {in.getId()}; }

void write(const Next& next, schema::Next::Builder out) {
  out.setJob(next.job);
  out.setAfter(next.after);
  out.setWaitMs(next.wait_ms);
}
Next read(schema::Next::Reader in) { return {in.getJob(), in.getAfter(), std::min(in.getWaitMs(), wait_ms_max)}; }

void write(const Events& events, schema::Events::Builder out) {
  out.setFirst(events.first);
  auto list = out.initEvents(count_of(events.events.size(), events_max, "events"));
  for (unsigned i = 0; i < list.size(); ++i) {
    const Event& event = events.events[i];
    list[i].setKind(static_cast<std::uint16_t>(event.kind));
    list[i].setText(text_of(event.text, text_bytes_max));
    auto figures = list[i].initFigures(count_of(event.figures.size(), figures_max, "figures"));
    for (unsigned f = 0; f < figures.size(); ++f) {
      figures[f].setName(text_of(event.figures[f].name, word_bytes_max));
      figures[f].setValue(event.figures[f].value);
    }
    list[i].setErrorModule(text_of(event.error_module, word_bytes_max));
    list[i].setErrorCode(event.error_code);
  }
  out.setEnded(events.ended);
}

Events read(schema::Events::Reader in) {
  Events events;
  events.first = in.getFirst();
  bound(in.getEvents().size(), events_max, "events");
  for (const auto one : in.getEvents()) {
    Event& event = events.events.emplace_back();
    const std::uint16_t kind = one.getKind();
    event.kind = kind > static_cast<std::uint16_t>(last_event_kind) ? EventKind::note : static_cast<EventKind>(kind);
    event.text = string_of(one.getText(), text_bytes_max);
    bound(one.getFigures().size(), figures_max, "figures");
    for (const auto figure : one.getFigures()) event.figures.push_back({string_of(figure.getName(), word_bytes_max), figure.getValue()});
    event.error_module = string_of(one.getErrorModule(), word_bytes_max);
    event.error_code = one.getErrorCode();
  }
  events.ended = in.getEnded();
  return events;
}

void write(const Status& status, schema::Status::Builder out) {
  out.setMemoryBytes(status.memory_bytes);
  out.setMemoryFreeBytes(status.memory_free_bytes);
  out.setTemperatureC(status.temperature_c);
  out.setRunning(status.running);
  out.setWaiting(status.waiting);
  out.setSoftware(text_of(status.software, word_bytes_max));
}
Status read(schema::Status::Reader in) {
  return {in.getMemoryBytes(), in.getMemoryFreeBytes(), in.getTemperatureC(), in.getRunning(), in.getWaiting(), string_of(in.getSoftware(), word_bytes_max)};
}

template <class Root, class Message>
Result<FramePtr> encode_with(const Message& message) {
  return wire::encode_frame<Root>(body_bytes_max, [&message](typename Root::Builder out) { write(message, out); });
}

template <class Root, class Message>
Result<Message> decode_with(std::span<const std::byte> bytes) {
  return wire::decode_frame<Root, Message>(bytes, body_bytes_max, [](typename Root::Reader in) { return read(in); });
}

}  // namespace

double Event::figure(std::string_view name) const {
  const auto at = std::find_if(figures.begin(), figures.end(), [name](const Figure& one) { return one.name == name; });
  return at == figures.end() ? std::numeric_limits<double>::quiet_NaN() : at->value;
}

Result<FramePtr> encode(const Start& start) { return encode_with<schema::Start>(start); }
Result<FramePtr> encode(const Job& job) { return encode_with<schema::Job>(job); }
Result<FramePtr> encode(const Next& next) { return encode_with<schema::Next>(next); }
Result<FramePtr> encode(const Events& events) { return encode_with<schema::Events>(events); }
Result<FramePtr> encode(const Status& status) { return encode_with<schema::Status>(status); }

Result<Start> decode_start(std::span<const std::byte> bytes) { return decode_with<schema::Start, Start>(bytes); }
Result<Job> decode_job(std::span<const std::byte> bytes) { return decode_with<schema::Job, Job>(bytes); }
Result<Next> decode_next(std::span<const std::byte> bytes) { return decode_with<schema::Next, Next>(bytes); }
Result<Events> decode_events(std::span<const std::byte> bytes) { return decode_with<schema::Events, Events>(bytes); }
Result<Status> decode_status(std::span<const std::byte> bytes) { return decode_with<schema::Status, Status>(bytes); }

}  // namespace outlast::work
