// Decoding on a CUDA device: that it says what its trainer would, and that a step which is recorded once says so each time.
#include "tests/gpu/decode_fixture.hpp"
#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_decoding_test {
namespace {

std::unique_ptr<Device> another_cuda() { return need(make_cuda_device(0)); }

// Answers of as many requests, all asked at once; each of another length, so that the steps' sizes change as they end.
std::vector<Heard> answers_of(DecodeEngine& engine, const Tokenizer& tokenizer, std::size_t requests) {
  EventListener listener;
  std::vector<RequestId> ids;
  for (std::size_t i = 0; i < requests; ++i) {
    DecodeRequest request;
    request.prompt = random_prompt(tokenizer, 5 + 7 * i, 100 + i);
    request.tokens_max = 6 + 5 * i;
    ids.push_back(need(engine.submit(std::move(request))));
  }
  listener.run(engine);
  std::vector<Heard> heard;
  for (const RequestId id : ids) heard.push_back(listener.all.at(id));
  return heard;
}

TEST_CASE("CUDA: an engine's log-probabilities are its trainer's", "[gpu][cuda]") {
  if (Twins::find() == nullptr) return;
  const Architecture architecture = GENERATE(Architecture::qwen3, Architecture::qwen2);
  SmallModel model(architecture, another_cuda());
  const auto engine = model.engine(small_limits());
  const auto heard = answers_of(*engine, *model.small.tokenizer, 4);
  for (std::size_t i = 0; i < heard.size(); ++i) {
    auto tokens = random_prompt(*model.small.tokenizer, 5 + 7 * i, 100 + i);
    const std::size_t prompt = tokens.size();
    tokens.insert(tokens.end(), heard[i].tokens.begin(), heard[i].tokens.end());
    const auto expected = model.trainers_log_p(tokens, prompt);
    REQUIRE(expected.size() == heard[i].log_p.size());
    REQUIRE(expected.size() == 6 + 5 * i);
    for (std::size_t at = 0; at < expected.size(); ++at) CHECK(heard[i].log_p[at] == Approx(expected[at]).margin(0.1));  // rounded to bf16 on the way
  }
}

TEST_CASE("CUDA: steps that are launched from a graph say what they said when they were recorded", "[gpu][cuda]") {
  if (Twins::find() == nullptr) return;
  SmallModel model(Architecture::qwen3, another_cuda());
  DecodeLimits limits = small_limits();
  limits.rows = 128;  // prompts at once
  const auto first = answers_of(*model.engine(limits), *model.small.tokenizer, 4);
  const auto engine = model.engine(limits);
  for (int round = 0; round < 4; ++round) {
    CAPTURE(round);
    const auto again = answers_of(*engine, *model.small.tokenizer, 4);
    for (std::size_t i = 0; i < first.size(); ++i) {
      REQUIRE(again[i].log_p.size() == first[i].log_p.size());
      // A device may round otherwise in a step of another size: where two tokens are as likely, the other one may be said.
      for (std::size_t at = 0; at < first[i].log_p.size(); ++at) {
        CHECK(again[i].log_p[at] == Approx(first[i].log_p[at]).margin(0.1));
        if (again[i].tokens[at] != first[i].tokens[at]) break;
      }
    }
  }
}

TEST_CASE("CUDA: what repeats is called, then recorded, then launched with the numbers of the day", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  Device& device = twins->cuda();
  const Loaded from(device, std::vector<float>(1'000, 1));
  const Loaded to(device, std::vector<float>(1'000));
  int called = 0;
  const auto repeats = device.make_repeats();
  const auto work = [&] {
    ++called;
    device.copy(to, from);
    return to.array();
  };
  for (int round = 0; round < 5; ++round) {
    const std::vector<float> today(1'000, static_cast<float>(round));
    device.upload(from, std::as_bytes(std::span(today)));
    CHECK(need(numbers_of<float>(device, repeats->run(7, work))) == today);
  }
  CHECK(called == 2);
  // Another step has a graph of its own.
  CHECK(need(numbers_of<float>(device, repeats->run(8, work))).front() == 4);
  CHECK(called == 3);
}

TEST_CASE("CUDA: a graph is made anew when the device's scratch memory has moved", "[gpu][cuda]") {
  if (Twins::find() == nullptr) return;
  const auto device = another_cuda();
  const Loaded numbers(*device, std::vector<float>(100, 2));
  const Loaded sum(*device, std::vector<float>(1));
  int called = 0;
  const auto repeats = device->make_repeats();
  const auto squares = [&] {
    return repeats->run(1, [&] {
      ++called;
      device->fill_zero(sum);
      device->add_square_sum(sum, numbers);
      return sum.array();
    });
  };
  for (int round = 0; round < 3; ++round) CHECK(need(numbers_of<float>(*device, squares())).front() == 400);
  CHECK(called == 2);
  // A wide norm's gradients take more of it.
  constexpr std::size_t width = 4'096;
  const Loaded x(*device, std::vector<std::uint16_t>(width));
  const Loaded d_x(*device, std::vector<std::uint16_t>(width));
  const Loaded d_weight(*device, std::vector<float>(width));
  const Loaded scale(*device, std::vector<float>(1));
  device->run(RmsNormBackward{d_x, d_weight, x, x, scale, x, width});
  for (int round = 0; round < 3; ++round) CHECK(need(numbers_of<float>(*device, squares())).front() == 400);
  CHECK(called == 4);
}

}  // namespace
}  // namespace outlast::gpu::cuda_decoding_test
