// Runs of students as a worker does them, and what they tell.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "apps/outlast-gpu-worker/job.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::worker {

struct Recorded final : JobContext {
  void emit(work::Event event) override { events.push_back(std::move(event)); }
  [[nodiscard]] bool stopping() const override { return ++asked == stops_when_asked; }
  void end(Result<void>) override {}
  std::optional<Joined> join(const std::string&) override { return std::nullopt; }
  [[nodiscard]] double figure(work::EventKind kind, std::string_view name) const {
    double value = -1;
    for (const work::Event& event : events) {
      if (event.kind == kind) value = event.figure(name);
    }
    return value;
  }
  std::vector<work::Event> events;
  int stops_when_asked = 0;  // so often; 0: never
  mutable int asked = 0;
};

// A folder with a tokenizer, samples and a model that has learned a little of them.
class School {
 public:
  School() {
    write("tokenizer.json", gpu::tokenizer_json(tokenizer_.tokenizer->model()));
    write("train.jsonl", chat + "}\n");
    work::Train train = lesson("teacher", {});
    train.shape.layers = 2;
    REQUIRE_FALSE(refusal(train));
  }

  [[nodiscard]] work::Train lesson(const std::string& output, work::Distillation how) const {
    work::Train train;
    train.shape = {16, 32, 1, 2, 1, 8};
    train.tokenizer = path("tokenizer.json");
    train.data = path("train.jsonl");
    train.output = path(output);
    train.steps = 3;
    train.batch_samples = 2;
    train.rows = 64;
    train.positions = 64;
    train.rate = 1e-2;
    train.schedule = "constant";
    train.distillation = std::move(how);
    return train;
  }
  // What the run says when it fails; nothing where it does not.
  std::optional<std::string> refusal(const work::Train& train) {
    context = {};
    const auto done = worker::train(train, *device_, context, {});
    if (done) return std::nullopt;
    CHECK(is(done.error(), gpu::GpuError::invalid));
    return done.error().message;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.path(name); }

  const std::string chat = R"({"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "the rat"}])";
  Recorded context;

 private:
  const gpu::ScratchFolder folder_;
  const gpu::SmallTokenizer tokenizer_;
  const std::unique_ptr<gpu::CpuDevice> device_ = std::move(*gpu::CpuDevice::make(1));
};

inline bool says(const std::optional<std::string>& refusal, const std::string& words) { return refusal && refusal->find(words) != std::string::npos; }

}  // namespace outlast::worker
